package integration_test

import (
	"path/filepath"
	"runtime"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration"
)

// TestArm64Families is TestFamilies for 64-bit ARM: the compilers and the apps of each family are arm64 programs, which
// QEMU runs where the machine is another. What relocates them is this machine's program, told what the image is for. Each
// family has an image of its own.
func TestArm64Families(t *testing.T) {
	onlyWhereAsked(t)
	const arch = "arm64"
	if runtime.GOARCH == arch {
		t.Skip("this machine is arm64: TestFamilies is this test")
	}
	p := foreignParts(t, arch)
	images, err := p.rig.Images(t.Context())
	must(err)
	dir, err := workDir()
	must(err)
	p.buildpack, err = integration.Package(t.Context(), p.rig, filepath.Join(dir, "buildpack-"+arch))
	must(err)
	for name := range families {
		t.Run(name, func(t *testing.T) {
			RegisterTestingT(t)
			w := &familyWorld{engineWorld: &engineWorld{parts: p, ctx: t.Context(), images: images}}
			must(w.makeImage("a-"+name[:min(4, len(name))], name)) // a short one: store paths become places below it
			w.relocates(t, name)
			Expect(w.intact()).To(BeNumerically(">=", 5))
		})
	}
}
