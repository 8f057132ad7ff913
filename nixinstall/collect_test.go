package nixinstall_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testCollect(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	it("keeps everything while there is room, then what the last evaluation used, then nothing", func() {
		var state string
		toolchain := nix(t, withNixpkgs(t), func(s *nixinstall.Settings) { state = s.State })
		there := func(p storepath.Path) bool {
			_, err := os.Lstat(filepath.Join(state, "root", p.String()))
			return err == nil
		}
		var old []storepath.Path
		for i := range 3 {
			dir := t.TempDir()
			Expect(os.WriteFile(filepath.Join(dir, "big"), []byte(strings.Repeat(fmt.Sprint(i), 1<<20)), 0o644)).To(Succeed())
			p, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{})
			Expect(err).NotTo(HaveOccurred())
			old = append(old, p)
		}
		r, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())

		all, err := toolchain.Collect(ctx, r.Used, 1<<30)
		Expect(err).NotTo(HaveOccurred())
		Expect(all).To(BeNumerically(">", 3<<20))
		Expect(there(old[0])).To(BeTrue())

		left, err := toolchain.Collect(ctx, r.Used, 2<<20)
		Expect(err).NotTo(HaveOccurred())
		Expect(left).To(BeNumerically("<", 2<<20))
		for _, p := range old {
			Expect(there(p)).To(BeFalse())
		}
		for _, p := range r.Used {
			Expect(there(p)).To(BeTrue(), p.String())
		}
		r, err = evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		isApp(r)

		left, err = toolchain.Collect(ctx, r.Used, 1000)
		Expect(err).NotTo(HaveOccurred())
		Expect(left).To(BeNumerically("<=", 8192))
		r, err = evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		isApp(r)
	})
}
