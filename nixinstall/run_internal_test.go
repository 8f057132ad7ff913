package nixinstall

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

// scripted is a toolchain whose nix is a script.
func scripted(t *testing.T, script string) Toolchain {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "nix", "bin")
	NewWithT(t).Expect(os.MkdirAll(bin, 0o755)).To(Succeed())
	NewWithT(t).Expect(os.WriteFile(filepath.Join(bin, "nix"), []byte("#!/bin/sh\n"+script), 0o755)).To(Succeed())
	return Toolchain{Dir: dir, Metadata: Metadata{Prefix: dir, Program: "nix"}, settings: Settings{State: t.TempDir()}}
}

// On a busy machine what Nix has written is read later than half a second after its end, which was taken for a failure.
func TestNixHasAnsweredThoughItsOutputIsHeldForAWhile(t *testing.T) {
	g := NewWithT(t)
	toolchain := scripted(t, fmt.Sprintf("echo answer\nsleep %.1f &\n", 3*stopDelay.Seconds()))
	got, err := toolchain.try(context.Background(), command{program: "nix", doing: "evaluating default.nix"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(got.stdout)).To(Equal("answer\n"))
}

func TestNixIsKilledWithWhatItHasStartedWhereItDoesNotStop(t *testing.T) {
	g := NewWithT(t)
	toolchain := scripted(t, "trap '' TERM\nsleep 1000 &\necho $! >\"$0.child\"\nwhile :; do sleep 1000; done\n")
	child := filepath.Join(toolchain.Dir, "nix", "bin", "nix.child")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if text, _ := os.ReadFile(child); len(text) > 0 {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	began := time.Now()
	_, err := toolchain.try(ctx, command{program: "nix", doing: "evaluating default.nix"})
	g.Expect(err).To(MatchError(context.Canceled))
	g.Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(outputDelay)), "nothing holds the output")
	var pid int
	text, err := os.ReadFile(child)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = fmt.Sscan(string(text), &pid)
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func() string {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return string(stat)
	}, "5s").Should(Or(BeEmpty(), ContainSubstring(") Z ")))
}
