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

// testOrdinary compares with what an ordinary Nix 2.34.8 at /nix gave.
func testOrdinary(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	derivation := func(name, more string) string {
		return `(derivation { name = "` + name + `"; system = "x86_64-linux"; builder = "/bin/sh"; ` + more + ` })`
	}
	flake := func(value string) string {
		return `{ outputs = { self }: { packages.x86_64-linux.default = ` + value + `; }; }`
	}
	pipe := `[ (derivation { name = "p"; system = "x86_64-linux"; builder = "/bin/sh";  }) ] |> builtins.head`
	time := derivation("t", `v = builtins.toJSON (builtins.fromTOML "a = 1979-05-27T07:32:00Z");`)

	it("takes what an ordinary Nix takes", func() {
		for what, c := range map[string]struct {
			files    map[string]string
			request  nixinstall.Request
			variable string
			want     []string
		}{
			"the elements of a list, sets and functions, too": {
				files: map[string]string{"default.nix": `[ ({ a ? 1 }: ` + derivation("fn", "") + `) [ { x = ` + derivation("b", "") +
					`; } [ ({}: ` + derivation("c", "") + `) ] ] ]`},
				want: []string{"8z8gcxcnk5wbqv00xrwlq1dfyc73ybfq-fn", "dsvph895is8lh67mkss2l0hk90ps1lgb-b", "da6fcnz4xrhzr6ns54r6kfa1l4iif357-c"},
			},
			"a flake in a directory with a blank": {
				files: map[string]string{"flake.nix": "{ outputs = { self, ... }: { packages.x86_64-linux.default = derivation { name = \"root\"; " +
					"system = \"x86_64-linux\"; builder = \"/bin/sh\";  }; }; }",
					"a/b c/flake.nix": "{ outputs = { self, ... }: { packages.x86_64-linux.default = derivation { name = \"svc\"; " +
						"system = \"x86_64-linux\"; builder = \"/bin/sh\"; src = self; }; }; }"},
				request: nixinstall.Request{Flake: ".?dir=a/b%20c"},
				want:    []string{"xm21yz2dgwc0239mjc2x7frrqvmy7avv-svc"},
			},
			"pipe operators": {
				files: map[string]string{"default.nix": pipe}, variable: "extra-experimental-features = pipe-operators # and no more",
				want: []string{"zrv0sp6jp27s1dfcdpri5hims4s88c02-p"},
			},
			"pipe operators in a flake": {
				files:   map[string]string{"flake.nix": flake(`[ ` + derivation("d", "") + ` ] |> builtins.head`)},
				request: nixinstall.Request{Flake: "."}, variable: "max-jobs = 4\nexperimental-features = flakes nix-command pipe-operators",
				want: []string{"nrb4avj6pm8s9wv5zqyxn1zf91648msi-d"},
			},
			"pipe operators in an argument": {
				files: map[string]string{"default.nix": "{ d }: d"}, request: nixinstall.Request{ArgExprs: map[string]string{"d": pipe}},
				variable: "extra-experimental-features = no-such-feature pipe-operators", want: []string{"zrv0sp6jp27s1dfcdpri5hims4s88c02-p"},
			},
			"times in TOML": {
				files: map[string]string{"default.nix": time}, variable: "extra-experimental-features = parse-toml-timestamps",
				want: []string{"acc9i5lpgabksvnffik301drmv3ldj1g-t"},
			},
			"hashes by BLAKE3": {
				files:    map[string]string{"default.nix": derivation("t", `v = builtins.hashString "blake3" "x";`)},
				variable: "extra-experimental-features = blake3-hashes", want: []string{"bgb8lmgdvn7mmfyivzx18pxnp3zlk6gn-t"},
			},
		} {
			r, err := evaluateOrdinary(t, c.files, c.request, c.variable)
			Expect(err).NotTo(HaveOccurred(), what)
			var drvs []string
			for _, d := range r.Derivations {
				drvs = append(drvs, d.Drv.Base())
			}
			for i := range c.want {
				c.want[i] += ".drv"
			}
			Expect(drvs).To(Equal(c.want), what)
		}
	})

	// As flake-compat does it: a default.nix that reads the lock file, fetches what it locks, and calls the flake's function.
	it("gives for a flake called by its default.nix what it gives for the flake", func() {
		files := map[string]string{
			"flake.nix": `{
  inputs.dep = { url = "path:./dep"; flake = false; };
  outputs = { self, dep }: {
    packages.x86_64-linux.default = derivation {
      name = "app"; system = "x86_64-linux"; builder = "/bin/sh"; src = self.outPath; word = builtins.readFile (dep + "/word");
    };
  };
}`,
			"dep/word": "from the input",
			"flake.lock": `{"nodes": {
  "dep": {"flake": false, "locked": {"path": "./dep", "type": "path"}, "original": {"path": "./dep", "type": "path"}, "parent": []},
  "root": {"inputs": {"dep": "dep"}}}, "root": "root", "version": 7}`,
			"default.nix": `{ src ? ./. }:
let
  lock = builtins.fromJSON (builtins.readFile (src + "/flake.lock"));
  source = builtins.path { path = src; name = "source"; };
  inputOf = name:
    let locked = lock.nodes.${lock.nodes.${lock.root}.inputs.${name}}.locked; in
    builtins.fetchTree (locked // { path = toString src + "/" + locked.path; });
  flake = import (source + "/flake.nix");
  outputs = flake.outputs (builtins.mapAttrs (name: _: inputOf name) flake.inputs // { self = { outPath = source; }; });
in outputs.packages.${builtins.currentSystem}.default`,
		}
		byFlake, err := evaluateOrdinary(t, files, nixinstall.Request{Flake: "."}, "")
		Expect(err).NotTo(HaveOccurred())
		byFile, err := evaluateOrdinary(t, files, nixinstall.Request{}, "")
		Expect(err).NotTo(HaveOccurred())
		Expect(byFile.Derivations).To(HaveLen(1))
		Expect(byFile.Derivations[0].Drv).To(Equal(byFlake.Derivations[0].Drv))
	})

	it("says as an ordinary Nix which feature is off", func() {
		for text, variable := range map[string]string{
			pipe: "experimental-features = pipe-operators\nexperimental-features = flakes", // the last one counts
			time: "extra-experimental-features = pipe-operators",
		} {
			_, err := evaluateOrdinary(t, map[string]string{"default.nix": text}, nixinstall.Request{}, variable)
			if text == pipe {
				Expect(err).To(MatchError(ContainSubstring("experimental Nix feature 'pipe-operators' is disabled")))
			} else {
				Expect(err).To(MatchError(ContainSubstring("Dates and times are not supported")))
			}
		}
	})
}

func evaluateOrdinary(t *testing.T, files map[string]string, r nixinstall.Request, variable string) (nixinstall.Result, error) {
	t.Helper()
	toolchain := nix(t, func(s *nixinstall.Settings) {
		if variable != "" {
			s.Environment = append(s.Environment, "NIX_CONFIG="+variable)
		}
	})
	dir := t.TempDir()
	for name, text := range files {
		Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
	}
	var err error
	r.Source, err = toolchain.AddSource(context.Background(), dir, nixinstall.SourceOptions{})
	Expect(err).NotTo(HaveOccurred())
	return toolchain.Evaluate(context.Background(), r)
}

func TestFeatures(t *testing.T) {
	for variable, want := range map[string][]string{
		"": nil,
		"extra-experimental-features = pipe-operators nix-command unheard-of pipe-operators":            {"pipe-operators"},
		"experimental-features = flakes pipe-operators\nextra-experimental-features = fetch-closure\n":  {"fetch-closure", "pipe-operators"},
		"experimental-features = pipe-operators\nexperimental-features = # none":                        nil,
		"experimental-features=pipe-operators":                                                          nil, // which Nix calls a syntax error
		"extra-experimental-features = external-builders daemon-trust-override configurable-impure-env": nil,
	} {
		NewWithT(t).Expect(nixinstall.Features([]string{"NIX_CONFIG=" + variable})).To(HaveExactElements(toAny(want)...), variable)
	}
}

func toAny(words []string) []any {
	var all []any
	for _, w := range words {
		all = append(all, w)
	}
	return all
}
