package nixinstall_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

	it("keeps what the last evaluation used, and where that is too much then nothing", func() {
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
		kept, err := toolchain.ReadDrv(appDrv)
		Expect(err).NotTo(HaveOccurred())

		left, err := toolchain.Collect(ctx, r.Used, 1<<30)
		Expect(err).NotTo(HaveOccurred())
		Expect(left).To(BeNumerically("<", 16<<20), "Nix keeps 8 MB in reserve")
		for _, p := range old {
			Expect(there(p)).To(BeFalse())
		}
		for _, p := range slices.Concat(r.Used, kept.InputSrcs) {
			Expect(there(p)).To(BeTrue(), p.String())
		}
		r, err = evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		isApp(r)

		left, err = toolchain.Collect(ctx, r.Used, 0)
		Expect(err).NotTo(HaveOccurred())
		Expect(left).To(BeNumerically("<=", 8192))
		r, err = evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		isApp(r)
	})

	it("keeps what was fetched to be read and not to be evaluated, as long as a derivation is made from it", func() {
		c := newBinaryCache(t)
		toolchain := nix(t, func(s *nixinstall.Settings) {
			s.Substituters, s.TrustedPublicKeys = []string{c.url()}, []string{c.publicKey()}
		})
		words := filepath.Join(t.TempDir(), "words")
		Expect(os.Mkdir(words, 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(words, "text"), []byte("hello"), 0o644)).To(Succeed())
		of := func(expression string) nixinstall.Result {
			t.Helper()
			dir := t.TempDir()
			Expect(os.WriteFile(filepath.Join(dir, "default.nix"), []byte(`let
				words = derivation { name = "words"; system = builtins.currentSystem; builder = "/bin/sh"; };
				in `+expression), 0o644)).To(Succeed())
			source, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{})
			Expect(err).NotTo(HaveOccurred())
			r, err := toolchain.Evaluate(ctx, nixinstall.Request{Source: source})
			Expect(err).NotTo(HaveOccurred())
			return r
		}
		p := of("words").Outputs[0].Path
		c.add(p, words)
		reads := func(push string) nixinstall.Result {
			return of(`derivation { name = builtins.readFile "${words}/text"; push = "` + push + `"; src = words;
				system = builtins.currentSystem; builder = "/bin/sh"; }`)
		}
		for _, push := range []string{"one", "two", "three"} {
			r := reads(push)
			Expect(r.Derivations[0].Name).To(Equal("hello"))
			_, err := toolchain.Collect(ctx, r.Used, 1<<30)
			Expect(err).NotTo(HaveOccurred())
			Expect(os.RemoveAll(filepath.Join(c.dir, p.HashPart()+".narinfo"))).To(Succeed()) // it is fetched once
		}
	})

	it("starts afresh when what was kept is damaged", func() {
		var state string
		var lines []string
		toolchain := nix(t, withNixpkgs(t), func(s *nixinstall.Settings) {
			state = s.State
			s.Log = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
		})
		for name, text := range map[string]string{
			"db.sqlite": "not what it was", "schema": "not what it was", "schema of a newer Nix": "11",
		} {
			_, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
			Expect(err).NotTo(HaveOccurred())
			db := filepath.Join(state, "root/nix/var/nix/db")
			Expect(os.Remove(filepath.Join(db, "db.sqlite-wal"))).To(Or(Succeed(), MatchError(os.ErrNotExist)))
			file, _, _ := strings.Cut(name, " ")
			Expect(os.WriteFile(filepath.Join(db, file), []byte(text), 0o644)).To(Succeed())
			lines = nil
			r, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
			Expect(err).NotTo(HaveOccurred())
			isApp(r)
			Expect(lines).To(ContainElement(ContainSubstring("is damaged")), name)
		}
	})
}
