package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// foreignParts are the parts for another architecture than this machine's. Where its programs do not run here the test
// is left out, and says so.
func foreignParts(t *testing.T, arch string) parts {
	t.Helper()
	RegisterTestingT(t)
	ctx := t.Context()
	var p parts
	var err error
	p.rig, err = rig.Open(rig.Options{Arch: arch})
	must(err)
	if err := errors.Join(p.rig.Docker(ctx), p.rig.Emulated(ctx)); err != nil {
		untested.Skip(t, "%v", err)
	}
	p.pkgs, err = p.rig.Nixpkgs(ctx)
	must(err)
	p.key, err = p.rig.Key(ctx, "hydra.example.org-1")
	must(err)
	return p
}

// TestArm64 does the main job for 64-bit ARM on real parts: pack, the lifecycle, Nix and the app are arm64 programs. On
// another machine QEMU runs them. There it tests the engine "relocate" alone: QEMU's user emulation has no ptrace, which
// PRoot needs, and no user namespaces of an emulated program's own.
func TestArm64(t *testing.T) {
	const arch = "arm64"
	if runtime.GOARCH == arch {
		t.Skip("this machine is arm64: every test of this package is one of it")
	}
	p := &platform{t: t, parts: foreignParts(t, arch)}
	dir, err := workDir()
	must(err)
	p.pack, err = p.parts.rig.Pack(t.Context())
	must(err)
	p.buildpack = filepath.Join(dir, "bundled-"+arch)
	must(p.parts.rig.Buildpack(t.Context(), p.buildpack, rig.BuildpackOptions{}))
	spec.Run(t, "main job", p.testMainJob(arch), spec.Report(report.Terminal{}))
}

func (p *platform) testMainJob(arch string) func(*testing.T, spec.G, spec.S) {
	return func(t *testing.T, _ spec.G, it spec.S) {
		it.Before(func() { RegisterTestingT(t) })

		it("evaluates, substitutes, answers over HTTP as a stranger, ends by SIGTERM, moves nothing again, and verifies", func() {
			ctx := context.Background()
			source, err := p.parts.pkgs.Sample(ctx, "static-site", t.TempDir())
			must(err)
			app, image := builtBy(t, p.parts, source), p.image("arm64")
			log := p.build(image, app.source, app.env(p.parts), p.onScratch)
			Expect(log).To(ContainSubstring("Engine: relocate"))
			machine, err := exec.Command("docker", "image", "inspect", "--format", "{{.Architecture}}", image).Output()
			must(err)
			Expect(strings.TrimSpace(string(machine))).To(Equal(arch))

			Expect(p.page(image, rig.ContainerOptions{Confinement: rig.Hostile, ReadOnly: true})).To(ContainSubstring("<html"))

			port, err := rig.FreePort()
			must(err)
			container := p.start(image, rig.ContainerOptions{Env: map[string]string{"PORT": fmt.Sprint(port)}})
			_, err = rig.Await(ctx, fmt.Sprintf("http://127.0.0.1:%d/", port), time.Minute, func() bool { return container.Running(ctx) })
			must(err)
			code, took, err := container.Stop(ctx)
			must(err)
			t.Logf("docker stop took %v", took)
			Expect(code).To(Equal(0))
			Expect(took).To(BeNumerically("<", busy.Limit(patience)))

			app.server.Reset()
			log = p.build(image, app.source, app.env(p.parts), p.onScratch)
			Expect(log).NotTo(ContainSubstring("Adding layer 'nixproot/nix-hydra:"))
			Expect(app.server.Requests()).To(BeEmpty())

			saved := filepath.Join(t.TempDir(), "image.tar")
			out, err := exec.Command("docker", "save", "--output", saved, image).CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s", out)
			out, err = exec.Command(filepath.Join(p.buildpack, "bin/verify"), "--key", p.parts.key.Public, saved).CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s", out)
		})
	}
}
