package nixinstall_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// victimEnv names the toolchain's directory in a process that is killed.
const victimEnv = "NIX_HYDRA_TEST_VICTIM"

func testKilled(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	it("gives the right answer after builds that were killed at any moment", func() {
		parent, err := os.MkdirTemp("", "n")
		Expect(err).NotTo(HaveOccurred())
		defer func() { Expect(nar.RemoveAll(parent)).To(Succeed()) }()
		dir, state := filepath.Join(parent, "nix"), filepath.Join(parent, "state")
		toolchain, err := nixinstall.Install(ctx, tarball(t), dir, nixinstall.InstallOptions{})
		Expect(err).NotTo(HaveOccurred())
		c := newBinaryCache(t)
		c.add(nixpkgsPath, testdata(t, "nixpkgs"))

		for after := 5 * time.Millisecond; after < 1500*time.Millisecond; after = after * 8 / 5 {
			Expect(toolchain.Shed()).To(Succeed())
			victim := exec.Command(os.Args[0], "-test.run=^TestEvaluationToKill$")
			victim.Env = append(os.Environ(), victimEnv+"="+dir, "STATE="+state, "CACHE="+c.url(), "KEY="+c.publicKey())
			victim.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			Expect(victim.Start()).To(Succeed())
			time.Sleep(after)
			_ = victim.Process.Kill()
			_ = victim.Wait()

			again, err := nixinstall.Restore(ctx, dir)
			Expect(err).NotTo(HaveOccurred())
			again = again.With(nixinstall.Settings{
				State: state, RequireSigs: true, System: system, Log: t.Logf,
				Substituters: []string{c.url()}, TrustedPublicKeys: []string{c.publicKey()},
			})
			r, err := evaluate(t, again, "app", nixinstall.Request{File: "shell.nix"})
			Expect(err).NotTo(HaveOccurred(), "killed after %s", after)
			isApp(r)
			if after > 100*time.Millisecond {
				_, err = again.Collect(ctx, nil, 0) // so that the next one is killed in a first evaluation
				Expect(err).NotTo(HaveOccurred())
			}
		}
	})
}

// TestEvaluationToKill is the build that testKilled kills.
func TestEvaluationToKill(t *testing.T) {
	dir := os.Getenv(victimEnv)
	if dir == "" {
		return
	}
	RegisterTestingT(t)
	toolchain, err := nixinstall.Restore(context.Background(), dir)
	Expect(err).NotTo(HaveOccurred())
	toolchain = toolchain.With(nixinstall.Settings{
		State: os.Getenv("STATE"), RequireSigs: true, System: system,
		Substituters: []string{os.Getenv("CACHE")}, TrustedPublicKeys: []string{os.Getenv("KEY")},
	})
	for range 20 {
		_, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
	}
}
