package nixinstall_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testArguments(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	const text = `{ name, config ? { }, greet ? n: "", ... }: derivation {
		name = name + (config.suffix or "") + greet "you"; system = "x86_64-linux"; builder = "/bin/sh"; }`
	evaluateWith := func(r nixinstall.Request, change ...func(*nixinstall.Settings)) (nixinstall.Result, error) {
		t.Helper()
		dir := t.TempDir()
		for name, text := range map[string]string{
			"default.nix": text, "nix/config.nix": `{ suffix = "-configured" + baseNameOf (dirOf (toString ./.)); }`,
			"license.nix": `{ license }: derivation { name = "x"; system = "x"; builder = "x"; } // { meta = { inherit license; }; }`,
			"path.nix":    "derivation { name = (import <dep>).name; system = builtins.currentSystem; builder = \"/bin/sh\"; }",
		} {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
		}
		toolchain := nix(t, change...)
		var err error
		r.Source, err = toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		return toolchain.Evaluate(ctx, r)
	}

	it("takes of meta.license what has an SPDX identifier, whatever else stands there", func() {
		for expr, want := range map[string][]string{
			`{ spdxId = "MIT"; }`: {"MIT"}, `"MIT"`: {}, `7`: {}, `throw "x"`: {}, `{ spdxId = throw "x"; }`: {}, `x: x`: {},
			`[ { spdxId = "MIT"; } "GPL" { } (throw "x") null { spdxId = 7; } [ ] { spdxId = "0BSD"; } ]`: {"MIT", "0BSD"},
		} {
			r, err := evaluateWith(nixinstall.Request{File: "license.nix", ArgExprs: map[string]string{"license": expr}})
			Expect(err).NotTo(HaveOccurred(), expr)
			Expect(r.Outputs[0].Licenses).To(Equal(want), expr)
		}
	})

	it("gives expressions to who asks for them, as nix-build --arg", func() {
		for expr, want := range map[string]string{
			`{ suffix = "-a"; }`:                                                       "app-a",
			`rec { a = "-b"; suffix = "${a}"; } # (comment`:                            "app-b",
			`let x = { suffix = "/./x"; }; in { suffix = "-" + baseNameOf x.suffix; }`: "app-x",
			`{ suffix = builtins.readFile (builtins.toFile "a" "-c"); }`:               "app-c",
		} {
			r, err := evaluateWith(nixinstall.Request{Args: map[string]string{"name": "app"},
				ArgExprs: map[string]string{"config": expr}})
			Expect(err).NotTo(HaveOccurred(), expr)
			Expect(r.Derivations[0].Name).To(Equal(want), expr)
		}
		r, err := evaluateWith(nixinstall.Request{Args: map[string]string{"name": "text"}, ArgExprs: map[string]string{
			"name": `"expression"`, "greet": `n: "-${n}"`, "unused": "throw ''never read''"}})
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Derivations[0].Name).To(Equal("expression-you"))
	})

	it("finds the paths of an expression in the source, at their place in the store", func() {
		for _, expr := range []string{"import ./nix/config.nix", "(import(./nix/config.nix))", "import ./. { name = 1; }//import ./nix/config.nix"} {
			r, err := evaluateWith(nixinstall.Request{Args: map[string]string{"name": "app"},
				ArgExprs: map[string]string{"config": expr}})
			Expect(err).NotTo(HaveOccurred(), expr)
			Expect(r.Derivations[0].Name).To(MatchRegexp(`^app-configured[0-9a-z]{32}-source$`), expr)
		}
		r, err := evaluateWith(nixinstall.Request{Args: map[string]string{"name": "app"},
			ArgExprs: map[string]string{"config": `import "${./nix}/config.nix"`}})
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Derivations[0].Name).To(Equal("app-configuredstore"))
	})

	it("names the argument that is no expression, and not what it holds", func() {
		for _, expr := range []string{"{ secret = 1", ") (secret", `"secret`, ""} {
			_, err := evaluateWith(nixinstall.Request{Args: map[string]string{"name": "app"},
				ArgExprs: map[string]string{"config": expr}})
			var failed *nixinstall.EvalError
			Expect(errors.As(err, &failed)).To(BeTrue(), "%v", err)
			Expect(err.Error()).To(And(ContainSubstring("argument config is no Nix expression: "),
				Not(ContainSubstring("secret"))), expr)
		}
	})

	it("takes a flake reference in the search path", func() {
		tarball := archive("dep/default.nix", `{ name = "from-a-flake-reference"; }`)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(tarball) }))
		defer server.Close()
		r, err := evaluateWith(nixinstall.Request{File: "path.nix"}, func(s *nixinstall.Settings) {
			s.NixPath = []string{"dep=flake:" + server.URL + "/dep.tar.gz"}
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Derivations[0].Name).To(Equal("from-a-flake-reference"))

		_, err = evaluateWith(nixinstall.Request{File: "path.nix"}, func(s *nixinstall.Settings) {
			s.NixPath = []string{"dep=flake:nixpkgs"}
			s.Environment = append(s.Environment, "https_proxy=http://127.0.0.1:1")
		})
		Expect(err).To(MatchError(ContainSubstring("flake-registry.json")), "as an ordinary Nix it asks the registry")
	})
}
