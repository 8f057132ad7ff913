package nixinstall_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testEvaluateErrors(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	fails := func(dir string, r nixinstall.Request) *nixinstall.EvalError {
		t.Helper()
		_, err := evaluate(t, nix(t, withNixpkgs(t)), dir, r)
		var evalErr *nixinstall.EvalError
		Expect(errors.As(err, &evalErr)).To(BeTrue(), "%v", err)
		Expect(err.Error()).NotTo(ContainSubstring("\n"))
		Expect(evalErr.Summary).NotTo(MatchRegexp("\x1b|stdin|git-export/"))
		return evalErr
	}

	it("shows a syntax error in the user's file", func() {
		err := fails("app", nixinstall.Request{File: "syntax.nix"})
		Expect(err).To(MatchError("evaluating syntax.nix:3:9: syntax error, unexpected ';'"))
	})

	it("shows what the expression throws, and from where", func() {
		err := fails("app", nixinstall.Request{File: "fails.nix", Attrs: []string{"app"}})
		Expect(err).To(MatchError("evaluating fails.nix:2:29: the number 3 is too large"))
	})

	it("shows nixpkgs' refusal of an unfree package", func() {
		err := fails("app", nixinstall.Request{File: "unfree.nix"})
		Expect(err.Summary).To(Equal("Package 'app-1.0' has an unfree license, refusing to evaluate."))
	})

	it("names a file that is not there, and one outside the source", func() {
		Expect(fails("app", nixinstall.Request{File: "nope.nix"})).
			To(MatchError("evaluating: path 'nope.nix' does not exist"))
		_, err := evaluate(t, nix(t), "app", nixinstall.Request{File: "../../etc/passwd"})
		Expect(err).To(MatchError(ContainSubstring("is not inside the source")))
	})

	it("names the arguments that nobody gave", func() {
		err := fails("jobs", nixinstall.Request{Attrs: []string{"needs"}})
		Expect(err.Summary).To(ContainSubstring("wants an argument that has no default and was not given: name"))
		Expect(err.File).To(Equal("default.nix"))
		Expect(err.Unset).To(Equal([]string{"name"}))

		err = fails("app", nixinstall.Request{File: "default.nix"})
		Expect(err).To(MatchError("evaluating default.nix:1:22: the function at default.nix:1:22 wants arguments that have " +
			"no default and were not given: lib, mkDerivation"))
		Expect(err.Unset).To(Equal([]string{"lib", "mkDerivation"}))
	})

	it("says in one line that a search path has not what is looked for", func() {
		err := fails("app", nixinstall.Request{File: "path.nix"})
		Expect(err.Summary).To(ContainSubstring("file 'nixpkgs' was not found in the Nix search path"))
		Expect(err.Unset).To(BeEmpty())
	})

	it("lists the attributes there are", func() {
		missing := func(attr string) *nixinstall.MissingAttrError {
			t.Helper()
			_, err := evaluate(t, nix(t), "jobs", nixinstall.Request{Attrs: []string{attr}})
			var missingErr *nixinstall.MissingAttrError
			Expect(errors.As(err, &missingErr)).To(BeTrue(), "%v", err)
			return missingErr
		}
		Expect(missing("sever")).To(MatchError(`evaluating attribute "sever": there is no "sever"; it has lib, list, ` +
			`needs, quoted.name, server, tools`))
		Expect(missing("tools.nope.deeper")).To(MatchError(`evaluating attribute "tools.nope.deeper": there is no ` +
			`"tools.nope"; it has migrate, recurseForDerivations`))
		Expect(missing("list.2").Have).To(Equal([]string{"0", "1"}))
		Expect(missing("server.lib").Have).To(ContainElements("bin", "dev"))
		_, err := evaluate(t, nix(t), "jobs", nixinstall.Request{Attrs: []string{"lib.version"}})
		Expect(err).To(MatchError(ContainSubstring("attribute 'lib.version' is string, not a derivation")))
	})

	it("refuses an attribute path that does not parse", func() {
		for _, bad := range []string{`a."b`, "a..b", "a."} {
			_, err := evaluate(t, nix(t), "jobs", nixinstall.Request{Attrs: []string{bad}})
			Expect(err).To(MatchError(ContainSubstring("parsing attribute path")), bad)
		}
	})

	it("builds nothing, and names what it would have to build", func() {
		_, err := evaluate(t, nix(t, withNixpkgs(t)), "app", nixinstall.Request{File: "unserved.nix"})
		var would *nixinstall.WouldBuildError
		Expect(errors.As(err, &would)).To(BeTrue(), "%v", err)
		Expect(would.Names()).To(Equal([]string{"generated-expression"}))
		Expect(err).To(MatchError("evaluating: generated-expression would have to be built, and no substituter has it; " +
			"nothing is compiled here"))
	})

	it("says the same of what only an unreachable, unsigned or empty cache would have had", func() {
		down := httptest.NewServer(http.NotFoundHandler())
		down.Close()
		unsigned := newBinaryCache(t)
		unsigned.add(nixpkgsPath, testdata(t, "nixpkgs"))
		for _, c := range []struct{ url, key, warning string }{
			{down.URL, unsigned.publicKey(), "unable to download"},
			{unsigned.url(), newBinaryCache(t).publicKey(), "not signed by any of the keys"},
			{newBinaryCache(t).url(), unsigned.publicKey(), ""},
		} {
			toolchain := nix(t, func(s *nixinstall.Settings) {
				s.Substituters, s.TrustedPublicKeys = []string{c.url}, []string{c.key}
			})
			_, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
			var would *nixinstall.WouldBuildError
			Expect(errors.As(err, &would)).To(BeTrue(), "%v", err)
			Expect(would.Names()).To(Equal([]string{"source"}))
			if c.warning != "" {
				Expect(would.Warnings).To(ContainElement(ContainSubstring(c.warning)))
			}
		}
	})
}

func testSubstitution(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	it("asks the next cache when one is down, with the credentials of a netrc, and never shows them", func() {
		c := newBinaryCache(t)
		c.add(nixpkgsPath, testdata(t, "nixpkgs"))
		files := http.FileServer(http.Dir(c.dir))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "deploy" || password != "s3cret" {
				http.Error(w, "who?", http.StatusUnauthorized)
				return
			}
			files.ServeHTTP(w, r)
		}))
		defer server.Close()
		down := httptest.NewServer(http.NotFoundHandler())
		down.Close()
		netrc := filepath.Join(t.TempDir(), "netrc")
		Expect(os.WriteFile(netrc, []byte("machine 127.0.0.1 login deploy password s3cret\n"), 0o600)).To(Succeed())
		toolchain := nix(t, func(s *nixinstall.Settings) {
			s.Substituters, s.TrustedPublicKeys = []string{down.URL, server.URL}, []string{c.publicKey()}
			s.NetrcFile = netrc
			s.Log = func(format string, args ...any) {
				for _, arg := range args {
					Expect(arg).NotTo(ContainSubstring("s3cret"))
				}
			}
		})
		r, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		isApp(r)
	})

	it("refuses an altered NAR", func() {
		c := newBinaryCache(t)
		c.add(nixpkgsPath, testdata(t, "nixpkgs"))
		name := filepath.Join(c.dir, "nar", storepath.Path(nixpkgsPath).HashPart()+".nar")
		data, err := os.ReadFile(name)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(name, []byte(strings.Replace(string(data), "25.11", "25.12", 1)), 0o644)).To(Succeed())
		toolchain := nix(t, func(s *nixinstall.Settings) {
			s.Substituters, s.TrustedPublicKeys = []string{c.url()}, []string{c.publicKey()}
		})
		_, err = evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).To(HaveOccurred())
	})

	it("plans what would be fetched and what would be built", func() {
		c := newBinaryCache(t)
		c.add(nixpkgsPath, testdata(t, "nixpkgs"))
		toolchain := nix(t, func(s *nixinstall.Settings) {
			s.Substituters, s.TrustedPublicKeys = []string{c.url()}, []string{c.publicKey()}
		})
		r, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		drvs := []storepath.Path{r.Derivations[0].Drv}
		Expect(toolchain.WouldBuild(ctx, drvs)).To(Equal([]storepath.Path{appDrv}))

		c.add(appOut, testdata(t, "app/message.txt"))
		c.add(appDoc, testdata(t, "app/message.txt"))
		Expect(toolchain.WouldBuild(ctx, drvs)).To(BeEmpty())
	})
}
