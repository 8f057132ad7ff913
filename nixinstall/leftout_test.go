package nixinstall_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// testLeftOut has sets with a member that does not evaluate.
func testLeftOut(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	const mk = `let mk = name: derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; }; in` + "\n"
	ask := func(file, text string, r nixinstall.Request) (nixinstall.Result, error) {
		toolchain := nix(t)
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)).To(Succeed())
		source, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		r.Source = source
		return toolchain.Evaluate(ctx, r)
	}
	attrs := func(r nixinstall.Result) []string {
		var names []string
		for _, d := range r.Derivations {
			names = append(names, d.Attr)
		}
		return names
	}

	it("leaves nothing out of a set that nix-build takes: Nix's own message and its place", func() {
		for text, want := range map[string]string{
			`{ worker = mk "worker"; web = throw "nodejs_14 has been removed"; }`:          "default.nix:2:31: nodejs_14 has been removed",
			`{ web = assert false; mk "web"; worker = mk "worker"; }`:                      "default.nix:2:9: assertion 'false' failed",
			`[ (mk "worker") (throw "gone") ]`:                                             "default.nix:2:18: gone",
			`{ tools = { recurseForDerivations = true; a = mk "a"; b = throw "gone"; }; }`: "default.nix:2:59: gone",
			`{ web = throw "not yet"; }`:                                                   "default.nix:2:9: not yet",
		} {
			_, err := ask("default.nix", mk+text, nixinstall.Request{})
			Expect(err).To(MatchError("evaluating "+want), text)
			var evalErr *nixinstall.EvalError
			Expect(errors.As(err, &evalErr)).To(BeTrue(), "%v", err)
		}
	})

	it("takes what is named, whatever stands beside it", func() {
		r, err := ask("default.nix", mk+`{ worker = mk "worker"; web = throw "gone"; }`,
			nixinstall.Request{Attrs: []string{"worker"}})
		Expect(err).NotTo(HaveOccurred())
		Expect(attrs(r)).To(Equal([]string{"worker"}))
	})

	it("says what of a job set is left out, and what each job says", func() {
		r, err := ask("default.nix", mk+`{
			web.x86_64-linux = mk "web";
			web.aarch64-linux = throw "not for ARM";
			tools.late = mk "late" // { drvPath = throw "too late"; };
			tools.needs = { name, version }: mk name;
		}`, nixinstall.Request{Attrs: []string{""}})
		Expect(err).NotTo(HaveOccurred())
		Expect(attrs(r)).To(Equal([]string{"web.x86_64-linux"}))
		Expect(r.Notes).To(ConsistOf(
			"web.aarch64-linux does not evaluate: left out (default.nix:4:24: not for ARM)",
			"tools.late does not evaluate: left out (default.nix:5:42: too late)",
			"tools.needs does not evaluate: left out (default.nix:6:20: the function at default.nix:6:20 wants arguments "+
				"that have no default and were not given: name, version)",
		))
	})

	it("says it of a flake's job set, too", func() {
		r, err := ask("flake.nix", `{ outputs = { self }:`+mk+`{
			hydraJobs.app.x86_64-linux = mk "app";
			hydraJobs.old.x86_64-linux = throw "not any more";
		}; }`, nixinstall.Request{Flake: ".#hydraJobs"})
		Expect(err).NotTo(HaveOccurred())
		Expect(attrs(r)).To(Equal([]string{"hydraJobs.app.x86_64-linux"}))
		Expect(r.Notes).To(ConsistOf(
			"hydraJobs.old.x86_64-linux does not evaluate: left out (flake.nix:4:33: not any more)"))
	})
}
