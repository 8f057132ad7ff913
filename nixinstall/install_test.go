package nixinstall_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testInstall(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	var dir string

	it.Before(func() {
		RegisterTestingT(t)
		parent, err := os.MkdirTemp("", "n")
		Expect(err).NotTo(HaveOccurred())
		dir = filepath.Join(parent, "nix")
	})

	it.After(func() {
		Expect(nar.RemoveAll(filepath.Dir(dir))).To(Succeed())
	})

	runs := func(toolchain nixinstall.Toolchain) {
		t.Helper()
		state := stateDir(t)
		source, err := toolchain.With(nixinstall.Settings{State: state, System: system}).
			AddSource(ctx, testdata(t, "jobs"), nixinstall.SourceOptions{Name: "git-export"})
		Expect(err).NotTo(HaveOccurred())
		Expect(source).To(BeEquivalentTo("/nix/store/5r6561n3fz7s033smcs9j4563mnl2mpm-git-export"))
	}

	it("installs a release, sheds it down to its pack and restores it from there", func() {
		broken := t.TempDir() // no program of the machine is run
		Expect(os.WriteFile(filepath.Join(broken, "xz"), []byte("#!/bin/sh\nexit 1\n"), 0o755)).To(Succeed())
		t.Setenv("PATH", broken+":"+os.Getenv("PATH"))
		toolchain, err := nixinstall.Install(ctx, tarball(t), dir, nixinstall.InstallOptions{Log: t.Logf})
		Expect(err).NotTo(HaveOccurred())
		Expect(toolchain.Metadata.Prefix).To(Equal(dir))
		Expect(filepath.Base(tarball(t))).To(ContainSubstring("nix-" + toolchain.Metadata.Version))
		Expect(toolchain.Metadata.Release).To(MatchRegexp("^[0-9a-f]{64}$"))
		runs(toolchain)

		Expect(toolchain.Shed()).To(Succeed())
		Expect(names(dir)).To(ConsistOf("toolchain.json", "toolchain.nar.zst"))

		again, err := nixinstall.Restore(ctx, dir)
		Expect(err).NotTo(HaveOccurred())
		Expect(again.Metadata).To(Equal(toolchain.Metadata))
		runs(again)
	})

	it("restores after a build that was killed while it unpacked", func() {
		toolchain, err := nixinstall.Install(ctx, tarball(t), dir, nixinstall.InstallOptions{})
		Expect(err).NotTo(HaveOccurred())
		Expect(os.Remove(filepath.Join(dir, "unpacked"))).To(Succeed())
		Expect(nar.RemoveAll(filepath.Join(dir, toolchain.Metadata.Program))).To(Succeed())
		again, err := nixinstall.Restore(ctx, dir)
		Expect(err).NotTo(HaveOccurred())
		runs(again)
	})

	it("ends at once when it is told to, unpacking, relocating or packing, and leaves nothing to restore", func() {
		began := time.Now()
		_, err := nixinstall.Install(ctx, tarball(t), dir, nixinstall.InstallOptions{})
		Expect(err).NotTo(HaveOccurred())
		whole := time.Since(began)
		const moments = 7
		for i := range moments {
			told, tell := context.WithCancel(ctx)
			var at time.Time
			timer := time.AfterFunc(whole*time.Duration(i)/moments, func() { at = time.Now(); tell() })
			_, err := nixinstall.Install(told, tarball(t), dir, nixinstall.InstallOptions{})
			if timer.Stop(); err == nil && i > 0 {
				tell() // it was faster than the first, and done when it was told
				continue
			}
			t.Logf("told after %d/%d of %v, it ended after %v: %.100v", i, moments, whole.Round(time.Millisecond),
				time.Since(at).Round(time.Millisecond), err)
			Expect(time.Since(at)).To(BeNumerically("<", busy.Limit(5*time.Second)))
			Expect(err).To(MatchError(context.Canceled))
			_, err = nixinstall.Restore(ctx, dir)
			var stale *nixinstall.StaleError
			Expect(errors.As(err, &stale)).To(BeTrue(), "%v", err)
		}
	})

	it("does not restore what was altered, made for another place or never there", func() {
		stale := func(reason string) {
			t.Helper()
			_, err := nixinstall.Restore(ctx, dir)
			var staleErr *nixinstall.StaleError
			Expect(errors.As(err, &staleErr)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(ContainSubstring(reason)))
		}
		stale("there is none")
		toolchain, err := nixinstall.Install(ctx, tarball(t), dir, nixinstall.InstallOptions{})
		Expect(err).NotTo(HaveOccurred())
		Expect(toolchain.Shed()).To(Succeed())

		pack := filepath.Join(dir, "toolchain.nar.zst")
		good, err := os.ReadFile(pack)
		Expect(err).NotTo(HaveOccurred())
		for _, at := range []int{100, len(good) / 2, len(good) - 8} {
			bad := append([]byte{}, good...)
			bad[at] ^= 0x40
			Expect(os.WriteFile(pack, bad, 0o644)).To(Succeed())
			_, err := nixinstall.Restore(ctx, dir)
			Expect(err).To(HaveOccurred())
			Expect(names(dir)).To(ConsistOf("toolchain.json", "toolchain.nar.zst"))
		}
		Expect(os.WriteFile(pack, good[:len(good)/3], 0o644)).To(Succeed())
		stale("toolchain.nar.zst")

		elsewhere := filepath.Join(filepath.Dir(dir), "other")
		Expect(os.Rename(dir, elsewhere)).To(Succeed())
		dir = elsewhere
		stale("it was made for")
		Expect(os.WriteFile(filepath.Join(dir, "toolchain.json"), []byte("{"), 0o644)).To(Succeed())
		stale("cannot be read")
	})

	it("refuses a tarball with another hash and leaves nothing", func() {
		_, err := nixinstall.Install(ctx, tarball(t), dir,
			nixinstall.InstallOptions{SHA256: strings.Repeat("0", 64)})
		Expect(err).To(MatchError(MatchRegexp("sha256 is [0-9a-f]{64}, want 0{64}")))
		Expect(names(dir)).To(BeEmpty())
	})

	it("refuses a truncated tarball and leaves nothing", func() {
		data, err := os.ReadFile(tarball(t))
		Expect(err).NotTo(HaveOccurred())
		short := filepath.Join(t.TempDir(), filepath.Base(tarball(t)))
		Expect(os.WriteFile(short, data[:len(data)/2], 0o644)).To(Succeed())
		_, err = nixinstall.Install(ctx, short, dir, nixinstall.InstallOptions{})
		Expect(err).To(MatchError(io.ErrUnexpectedEOF))
		Expect(names(dir)).To(BeEmpty())
	})

	it("says which directory is too long to be relocated to", func() {
		long := filepath.Join(dir, strings.Repeat("long/", 12))
		_, err := nixinstall.Install(ctx, tarball(t), long, nixinstall.InstallOptions{})
		var tooLong *relocate.TooLongError
		Expect(errors.As(err, &tooLong)).To(BeTrue(), "%v", err)
		Expect(tooLong.Dir).To(Equal(long))
	})

	it("stops when it is told to and leaves nothing", func() {
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		_, err := nixinstall.Install(cancelled, tarball(t), dir, nixinstall.InstallOptions{})
		Expect(err).To(MatchError(context.Canceled))
		Expect(names(dir)).To(BeEmpty())
	})
}

func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	Expect(err).NotTo(HaveOccurred())
	var list []string
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}
