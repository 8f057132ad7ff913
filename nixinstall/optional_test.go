package nixinstall_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func TestOptionalAttributes(t *testing.T) { spec.Run(t, "OptionalAttributes", testOptional) }

func testOptional(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	const mk = `let mk = name: derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; }; in `
	ask := func(expression string, attrs ...string) (nixinstall.Result, error) {
		toolchain := nix(t)
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "default.nix"), []byte(mk+expression), 0o644)).To(Succeed())
		source, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{})
		Expect(err).NotTo(HaveOccurred())
		return toolchain.Evaluate(ctx, nixinstall.Request{Source: source, Attrs: attrs, Optional: []string{"hook"}})
	}
	attrs := func(r nixinstall.Result) []string {
		var names []string
		for _, o := range r.Outputs {
			names = append(names, o.Attr+"="+o.Path.Name())
		}
		return names
	}

	it("takes an optional attribute that is there, and says nothing of one that is not", func() {
		r, err := ask(`{ app = mk "app"; hook = mk "hook"; }`, "app")
		Expect(err).NotTo(HaveOccurred())
		Expect(attrs(r)).To(Equal([]string{"app=app", "hook=hook"}))
		r, err = ask(`{ app = mk "app"; }`, "app")
		Expect(err).NotTo(HaveOccurred())
		Expect(attrs(r)).To(Equal([]string{"app=app"}))
	})

	it("finds it on a derivation, in a function's result and once in a whole set", func() {
		r, err := ask(`{ name ? "app" }: mk name // { hook = mk "hook"; }`)
		Expect(err).NotTo(HaveOccurred())
		Expect(attrs(r)).To(Equal([]string{"=app", "hook=hook"}))
		r, err = ask(`{ app = mk "app"; hook = mk "hook"; }`)
		Expect(err).NotTo(HaveOccurred())
		Expect(attrs(r)).To(Equal([]string{"app=app", "hook=hook"}))
		r, err = ask(`[ (mk "app") ]`)
		Expect(err).NotTo(HaveOccurred())
		Expect(attrs(r)).To(Equal([]string{"0=app"}))
	})

	it("offers of a derivation what its author gave it, not its inside", func() {
		_, err := ask(`mk "app" // { passthru.tests = 1; tests = 1; }`, "web")
		Expect(err).To(MatchError(MatchRegexp("a derivation itself, with .*tests")))
		Expect(err).NotTo(MatchError(ContainSubstring("drvAttrs")))
		_, err = ask(`mk "app"`, "web")
		Expect(err).To(MatchError(ContainSubstring("a derivation itself")))
	})
}
