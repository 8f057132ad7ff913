package integration_test

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/integration"
)

// TestArm64Families is TestFamilies for 64-bit ARM: every family's compilers and programs are arm64 programs, which QEMU
// runs where the machine is another. What relocates them is this machine's program, told that the image is for arm64.
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
	w := &familyWorld{engineWorld: &engineWorld{parts: p, ctx: t.Context(), images: images}}
	must(w.makeImage("fa-" + arch))
	w.run(t)
}
