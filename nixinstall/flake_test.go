package nixinstall_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// repository is a git repository with a submodule, as a platform checks it out, and ordinaryFlakes are the derivations
// that an ordinary Nix 2.34.8 gave for references to it (git+file:///…/repository?dir=svc#x), committed as ordinaryRev.
var (
	repository = map[string]string{
		"flake.nix":     repositoryFlake("x"),
		"svc/flake.nix": repositoryFlake("svc"),
		".gitmodules":   "[submodule \"sub\"]\n\tpath = sub\n\turl = https://example.org/module\n",
		"sub/f":         "hello\n",
	}
	ordinaryFlakes = map[string]string{
		".#x":                         "/nix/store/03p3z3ankr7l95rl2msk5kyi832fkxmi-x.drv",
		".":                           "/nix/store/03p3z3ankr7l95rl2msk5kyi832fkxmi-x.drv",
		"./flake.nix#x":               "/nix/store/03p3z3ankr7l95rl2msk5kyi832fkxmi-x.drv",
		".?submodules=0":              "/nix/store/03p3z3ankr7l95rl2msk5kyi832fkxmi-x.drv",
		".?shallow=1#x":               "/nix/store/03p3z3ankr7l95rl2msk5kyi832fkxmi-x.drv",
		".?rev=" + ordinaryRev + "#x": "/nix/store/03p3z3ankr7l95rl2msk5kyi832fkxmi-x.drv",
		".?dir=svc#x":                 "/nix/store/y15zff7v9n79i285p6hnavhdn6nqlwh3-svc.drv",
		"./svc#x":                     "/nix/store/y15zff7v9n79i285p6hnavhdn6nqlwh3-svc.drv",
		"git+file:.?dir=svc#x":        "/nix/store/y15zff7v9n79i285p6hnavhdn6nqlwh3-svc.drv",
		".?submodules=1#x":            "/nix/store/vm7rjbdrjrq0mb8wb7ca8y8hba6f92qk-x.drv",
		".?submodules=1&dir=svc#x":    "/nix/store/86v6d668494bjhj0dg5p7x1nclcd44a3-svc.drv",
		"git+file:%2E?dir=svc#x":      "/nix/store/y15zff7v9n79i285p6hnavhdn6nqlwh3-svc.drv",
		"path:./svc#x":                "/nix/store/8nmwb087r3yvami2f7df89c80g3y56fx-svc.drv", // its time is a directory's own
	}
)

const (
	ordinaryRev  = "e4b4d11a8e1c46920240450d553e10928394e5f0"
	ordinaryTime = 1700000000
)

func repositoryFlake(name string) string {
	return `{ outputs = { self }: { packages.x86_64-linux = rec { x = derivation { name = "` + name +
		`"; system = "x86_64-linux"; builder = "/bin/sh";
  outputs = [ "out" "dev" ]; src = self; date = self.lastModifiedDate; rev = self.rev or "none"; }; default = x; }; }; }
`
}

func testEvaluateFlakes(t *testing.T, _ spec.G, it spec.S) {
	// What `nix eval git+file:…` gave for testdata/flake committed as rev.
	const (
		rev          = "060a61ce2fb1aaf1de0fc227595226dcf44bb70b"
		lastModified = 1709618828
		app          = "/nix/store/aqllsymms7ihs32fnia4hgz0y8kfkdxz-app"
		server       = "/nix/store/4rl985li7i8wmygg9ksb0yif28c4z5vm-server"
	)
	it.Before(func() { RegisterTestingT(t) })

	it("gives the paths that Nix gives for the git repository", func() {
		for _, c := range []struct {
			flake string
			attrs []string
			attr  string
			want  []string
		}{
			{".", nil, "packages.x86_64-linux.default", []string{app}},
			{".#server", nil, "packages.x86_64-linux.server", []string{server}},
			{".", []string{"server", "default"}, "packages.x86_64-linux.server", []string{server, app}},
			{".#hydraJobs.app.x86_64-linux", nil, "hydraJobs.app.x86_64-linux", []string{app}},
			{".#hydraJobs", nil, "hydraJobs.app.x86_64-linux", []string{app}},
			{".#.packages.x86_64-linux.server", nil, "packages.x86_64-linux.server", []string{server}},
		} {
			r, err := evaluate(t, nix(t), "flake",
				nixinstall.Request{Flake: c.flake, Attrs: c.attrs, Rev: rev, LastModified: lastModified})
			Expect(err).NotTo(HaveOccurred(), c.flake)
			Expect(r.Derivations[0].Attr).To(Equal(c.attr), c.flake)
			var got []string
			for _, o := range r.Outputs {
				got = append(got, o.Path.String())
			}
			Expect(got).To(Equal(c.want), c.flake)
		}
	})

	it("says what a flake has instead of an attribute that it lacks", func() {
		_, err := evaluate(t, nix(t), "flake", nixinstall.Request{Flake: ".#sever"})
		var missing *nixinstall.MissingAttrError
		Expect(errors.As(err, &missing)).To(BeTrue(), "%v", err)
		Expect(missing.Have).To(Equal([]string{"default", "server"}))
	})

	it("follows the lock file and writes none", func() {
		toolchain := nix(t)
		dir := filepath.Join(t.TempDir(), "flake")
		Expect(os.CopyFS(dir, os.DirFS(testdata(t, "flake")))).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "flake.nix"),
			[]byte(`{ inputs.other.url = "https://127.0.0.1:1/other.tar.gz"; outputs = { self, other }: { }; }`),
			0o644)).To(Succeed())
		source, err := toolchain.AddSource(context.Background(), dir, nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		_, err = toolchain.Evaluate(context.Background(), nixinstall.Request{Source: source, Flake: "."})
		var evalErr *nixinstall.EvalError
		Expect(errors.As(err, &evalErr)).To(BeTrue(), "%v", err)
		Expect(evalErr).To(MatchError("evaluating flake.lock: flake.lock does not hold the input other, so that tomorrow's build " +
			"could be another"))
		Expect(evalErr.Unlocked).To(BeTrue())
	})

	it("wants a directory of the source, as it was pushed", func() {
		for bad, says := range map[string]string{
			"github:NixOS/nixpkgs#hello":    "want a directory of the source",
			"../x#y":                        "not inside the source",
			"/etc#x":                        "not inside the source",
			".?dir=../x":                    "not inside the source",
			"./dep?dir=dep":                 "name a directory",
			".?ref=main":                    "another source than the one that was pushed",
			".?rev=" + rev:                  "the source's is not known",
			"path:.?submodules=1":           "a flake of path: has no submodules",
			".#%zz":                         "reading what follows #",
			".#default^doc":                 `there is no output "doc"`,
			".#packages.\"x86_64-linux^out": "quote",
		} {
			_, err := evaluate(t, nix(t), "flake", nixinstall.Request{Flake: bad})
			Expect(err).To(MatchError(ContainSubstring(says)), bad)
		}
	})

	// tree writes the files of a source.
	tree := func(files map[string]string) string {
		t.Helper()
		dir := t.TempDir()
		for name, text := range files {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
		}
		return dir
	}
	in := func(dir string, r nixinstall.Request) (nixinstall.Result, error) {
		t.Helper()
		toolchain := nix(t)
		source, err := toolchain.AddSource(context.Background(), dir, nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		r.Source = source
		return toolchain.Evaluate(context.Background(), r)
	}
	drvOf := func(dir, flake string) string {
		t.Helper()
		r, err := in(dir, nixinstall.Request{Flake: flake, Rev: ordinaryRev, LastModified: ordinaryTime})
		Expect(err).NotTo(HaveOccurred(), flake)
		Expect(r.Derivations).To(HaveLen(1))
		return r.Derivations[0].Drv.String()
	}

	it("takes a reference's query as Nix takes it for the git repository", func() {
		dir := tree(repository)
		for flake, want := range ordinaryFlakes {
			Expect(drvOf(dir, flake)).To(Equal(want), flake)
		}
	})

	it("finds the flake of a directory as Nix does: where links lead, and upwards", func() {
		flake := func(name string) string {
			return `{ outputs = { self }: { packages.x86_64-linux.x = derivation { name = "` + name +
				`"; system = "x86_64-linux"; builder = "/bin/sh"; src = self; }; }; }` + "\n"
		}
		dir := tree(map[string]string{"flake.nix": flake("root"), "svc/flake.nix": flake("svc"), "svc/deep/f": "hello\n", "lib/f": "hello\n"})
		Expect(os.Symlink("svc", filepath.Join(dir, "l"))).To(Succeed())
		Expect(os.Symlink("../svc/deep", filepath.Join(dir, "lib/d"))).To(Succeed())
		const root, svc = "/nix/store/8y320nq1v0lkyk25c3v5r8dngca7fyqs-root.drv", "/nix/store/c85v2bc4y0zvxaz90vv54dp4d1j4gmm8-svc.drv"
		for reference, want := range map[string]string{".": root, "./lib": root, "./l": svc, "./svc/deep": svc, "./lib/d": svc,
			"./svc/flake.nix": svc, "./l?shallow=1": svc, "lib/../svc": svc} {
			Expect(drvOf(dir, reference+"#x")).To(Equal(want), reference)
		}
		Expect(os.Symlink("/etc", filepath.Join(dir, "out"))).To(Succeed())
		for _, reference := range []string{"./out", "./none", "git+file:.?dir=lib", "path:./lib"} {
			_, err := in(dir, nixinstall.Request{Flake: reference + "#x"})
			Expect(err).To(HaveOccurred(), reference)
		}
	})

	it("takes the outputs that are named after ^", func() {
		dir := tree(repository)
		for flake, want := range map[string][]string{".#x": {"out"}, ".#x^dev": {"dev"}, ".#x^*": {"dev", "out"}, ".^dev": {"dev"},
			".#x^out,dev": {"out", "dev"}} {
			r, err := in(dir, nixinstall.Request{Flake: flake})
			Expect(err).NotTo(HaveOccurred(), flake)
			Expect(r.Derivations[0].Install).To(Equal(want), flake)
		}
	})

	it("is evaluated purely, as Hydra does it: what is not in the flake or its lock file is not there", func() {
		flake := func(text string) map[string]string {
			return map[string]string{"flake.nix": `{ outputs = { self }: { packages.x86_64-linux.default = derivation {
				name = "x${` + text + `}"; system = "x86_64-linux"; builder = "/bin/sh"; }; }; }`}
		}
		dir := tree(flake(`builtins.getEnv "NIXPKGS_ALLOW_UNFREE" + builtins.getEnv "HOME"`))
		toolchain := nix(t, func(s *nixinstall.Settings) { s.Environment = append(s.Environment, "NIXPKGS_ALLOW_UNFREE=1") })
		source, err := toolchain.AddSource(context.Background(), dir, nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		r, err := toolchain.Evaluate(context.Background(), nixinstall.Request{Source: source, Flake: "."})
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Derivations[0].Name).To(Equal("x"))
		Expect(r.Used).To(ContainElement(source))
		for text, says := range map[string]string{
			"builtins.currentSystem":                            "attribute 'currentSystem' missing",
			"toString builtins.currentTime":                     "attribute 'currentTime' missing",
			`builtins.readFile "/etc/hostname"`:                 "'/etc/hostname' is forbidden in pure evaluation mode; a flake is evaluated purely",
			`builtins.fetchTarball "https://127.0.0.1:1/x.tgz"`: "requires a 'sha256' argument",
			`builtins.fetchGit "https://127.0.0.1:1/x"`:         "doesn't fetch unlocked input",
			`throw "by its place"`:                              "evaluating flake.nix:2:16: by its place",
		} {
			_, err := in(tree(flake(text)), nixinstall.Request{Flake: "."})
			Expect(err).To(MatchError(ContainSubstring(says)), text)
			Expect(err.Error()).NotTo(ContainSubstring("/root/nix/store"), text)
			var failed *nixinstall.EvalError
			Expect(errors.As(err, &failed)).To(BeTrue())
			Expect(failed.Pure).To(Equal(!strings.Contains(text, "throw")), "%v", err)
		}
	})

	it("calls nothing on the way to an attribute, as Nix does not", func() {
		dir := tree(map[string]string{"flake.nix": `{ outputs = { self }: { __functor = _: { system }: { };
			packages.x86_64-linux = { __functor = _: throw "called"; default = derivation { name = "x"; system = "x86_64-linux";
				builder = "/bin/sh"; } // { __functor = _: { needed }: { }; }; }; }; }`})
		for _, flake := range []string{".", ".#default"} {
			r, err := in(dir, nixinstall.Request{Flake: flake})
			Expect(err).NotTo(HaveOccurred(), flake)
			Expect(r.Derivations[0].Name).To(Equal("x"))
		}
	})

	it("takes what an app runs, where a flake has apps only", func() {
		dir := tree(map[string]string{"flake.nix": `{ outputs = { self }: let
			drv = n: derivation { name = n; system = "x86_64-linux"; builder = "/bin/sh"; outputs = [ "out" "bin" ];
				version = "2.0"; };
			app = p: { type = "app"; program = p; };
			in { apps.x86_64-linux = { default = app "${drv "shop"}/bin/serve"; tool = app "${(drv "tool").bin}/libexec/tool";
				script = app "${self}/run.sh"; }; }; }`})
		r, err := in(dir, nixinstall.Request{Flake: "."})
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Outputs).To(HaveLen(1))
		shop := r.Derivations[0]
		Expect(shop.Name).To(Equal("shop"))
		Expect(shop.Attr).To(Equal("apps.x86_64-linux.default"))
		Expect(r.Outputs[0]).To(Equal(nixinstall.Output{Attr: shop.Attr, Path: shop.Outputs["out"],
			MainProgram: "serve", Drv: shop.Drv}))

		r, err = in(dir, nixinstall.Request{Flake: ".#tool", Attrs: []string{"default"}})
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Outputs).To(HaveLen(2))
		Expect(r.Outputs[0].Path).To(Equal(r.Derivations[0].Outputs["bin"]))
		Expect(r.Outputs[0].MainProgram).To(BeEmpty(), "it is not in bin")

		_, err = in(dir, nixinstall.Request{Flake: ".#script"})
		Expect(err).To(MatchError(ContainSubstring("is in no derivation's output")))
		_, err = in(dir, nixinstall.Request{Flake: ".#other"})
		var missing *nixinstall.MissingAttrError
		Expect(errors.As(err, &missing)).To(BeTrue(), "%v", err)
		Expect(missing.Have).To(Equal([]string{"default", "script", "tool"}))
	})
}
