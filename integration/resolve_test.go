package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

func TestResolve(t *testing.T) {
	suite := spec.New("resolve", spec.Report(report.Terminal{}), spec.Sequential())
	suite("SourceNames", testSourceNames)
	suite("WhyNot", testWhyNot)
	suite("Hydra", testHydra)
	suite("Evaluation", testEvaluation)
	suite.Run(t)
}

const repository = "https://git.example.org/shop.git"

func testSourceNames(t *testing.T, _ spec.G, it spec.S) {
	it("finds the name that Hydra gives to every git input at once, whatever the address", func() {
		w := newWorld(t).write(map[string]string{"default.nix": app, "names.txt": "today"})
		w.commit(repository)
		outs := w.hydraBuilds("source", "default.nix")
		o := w.deploy(nil, outs...)
		Expect(o.Log).To(ContainSubstring(`in a source named "source"`))
		Expect(o.Log).NotTo(ContainSubstring("trying the other names"))
	})

	it("finds git-export under today's rule, and under that of before April 2017", func() {
		for _, drop := range []func(string) bool{today, before2017} {
			w := newWorld(t).write(map[string]string{"default.nix": app, "names.txt": "plain", ".gitignore": "*.o\n",
				"x/.gitkeep": ""})
			w.commit(repository)
			outs := w.builds(w.inStore("git-export", drop), "default.nix")
			Expect(w.deploy(nil, outs...).Log).To(ContainSubstring("trying the other names"))
		}
	})

	it("takes a name from the settings", func() {
		w := newWorld(t).write(map[string]string{"default.nix": app, "names.txt": "settings"})
		outs := w.hydraBuilds("my-name", "default.nix")
		w.deploy(map[string]string{"BP_NIX_SOURCE_NAME": "my-name"}, outs...)
	})
}

func testWhyNot(t *testing.T, _ spec.G, it spec.S) {
	it("names a file that is in the upload and not in git", func() {
		w := newWorld(t).write(map[string]string{"default.nix": app, "why.txt": "extra"})
		w.commit(repository)
		w.hydraBuilds("source", "default.nix")
		w.write(map[string]string{"notes.tmp": "x", "cache/a": "1", "cache/b": "2"})
		w.fails(nil, "The reason:", "in the upload, not in git: cache/, notes.tmp", "the caches have it", "git clean -xd")
	})

	it("names files that are in git and not in the upload, changed ones, and lost modes", func() {
		w := newWorld(t).write(map[string]string{"default.nix": app, "why.txt": "missing", "bin/run*": "#!/bin/sh\n",
			"dos.txt": "a\nb\n",
			"link":    "-> why.txt"})
		w.commit(repository)
		w.hydraBuilds("source", "default.nix")
		must(os.Remove(filepath.Join(w.source, "why.txt")))
		w.fails(nil, "The reason:", "in git, not in the upload: why.txt", "the caches have it", ".slugignore")
		w.write(map[string]string{"why.txt": "changed"})
		w.fails(nil, "The reason:", "different: why.txt", "the caches have it", "commit and push")
		w.write(map[string]string{"why.txt": "missing", "dos.txt": "a\r\nb\r\n"})
		w.fails(nil, "The reason:", "different in line endings: dos.txt", "the caches have it")
		w.write(map[string]string{"dos.txt": "a\nb\n"})
		must(os.Chmod(filepath.Join(w.source, "bin/run"), 0o644))
		w.fails(nil, "The reason:", "executable bit, or no symbolic link any more: bin/run", "the caches have it")
		must(os.Chmod(filepath.Join(w.source, "bin/run"), 0o755))
		must(os.RemoveAll(filepath.Join(w.source, ".git/objects"))) // the index is enough here
		w.write(map[string]string{"extra": ""})
		w.fails(nil, "The reason:", "what Hydra fetches (compared with the index)", "in the upload, not in git: extra", "the caches have it")
	})

	it("says that Hydra is still building it, could not build it, or built it and serves it elsewhere", func() {
		w := newWorld(t).write(map[string]string{"default.nix": app, "why.txt": "hydra"})
		rev := w.commit(repository)
		outs := w.realise(w.inStore("source", today) + "/default.nix")
		h := w.hydra(hydratest.Evaluation{Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: rev}},
			Jobs: []hydratest.Job{{Name: "app", NixName: "app-1.0", Outputs: map[string]string{"out": outs[0]}}}}, "unfinished")
		w.fails(h.env(), "The reason:", "Hydra has not finished building it", "/build/50001",
			"BP_NIX_HYDRA_JOB=shop/main/app",
			"BP_NIX_HYDRA_WAIT=30m")
		h.eval.Build("app").Fail(1, hydratest.Step{Output: outs[0], Status: 1})
		w.fails(h.env(), "The reason:", "Hydra could not build it", "the build returned a non-zero exit code",
			"/build/50001/step/1/log")

		built := w.hydra(hydratest.Evaluation{Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: rev}},
			Jobs: []hydratest.Job{{Name: "app", NixName: "app-1.0", Outputs: map[string]string{"out": outs[0]}}}})
		w.fails(built.env(), "The reason:", "no cache that was asked has it (build 50001 of shop/main/app",
			"garbage-collected from Hydra's own store", "restart the build")
		unsigned := w.hydra(hydratest.Evaluation{
			Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: rev}},
			Jobs:   []hydratest.Job{{Name: "app", NixName: "app-1.0", Outputs: map[string]string{"out": outs[0]}}}})
		w.has(unsigned, nil, outs...)
		w.fails(unsigned.env(), "The reason:", "Hydra serves it itself, without a signature", "binary_cache_secret_key_file")
		w.has(built, w.parts.key, outs...)
		o := w.fails(built.env(), "The reason:", "Hydra serves it itself, signed by "+w.parts.key.Name,
			"NIX_EXTRA_BINARY_CACHE="+built.URL)
		Expect(o.Log).NotTo(ContainSubstring("What may be"))
		w.deploy(map[string]string{"NIX_EXTRA_BINARY_CACHE": built.URL}, outs...)
	})

	it("says that Hydra has built another revision, another system, or nothing of that name", func() {
		w := newWorld(t).write(map[string]string{"default.nix": app, "why.txt": "other"})
		rev := w.commit(repository)
		old := hydratest.Revision("old")
		job := hydratest.Job{Name: "app", NixName: "app-1.0", Outputs: map[string]string{"out": hydratest.StorePath("old",
			"app-1.0")}}
		h := w.hydra(hydratest.Evaluation{Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: old}},
			Jobs: []hydratest.Job{job}})
		w.fails(h.env(), "Hydra has built app-1.0, last from src="+old, "not from "+rev, "BP_NIX_HYDRA_JOB=shop/main/app")
		job.System = "riscv64-linux"
		h = w.hydra(hydratest.Evaluation{Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: rev}},
			Jobs: []hydratest.Job{job}})
		w.fails(h.env(), "The reason:", "Hydra builds app-1.0 for riscv64-linux, not for "+w.parts.rig.System())
		h = w.hydra(hydratest.Evaluation{Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: rev}}})
		w.fails(h.env(), "has never built anything named app-1.0", "add it to the jobset")
	})

	it("tells what Hydra evaluated where its derivation is another, and goes on looking", func() {
		w := newWorld(t).write(map[string]string{"default.nix": `{ flags ? "-O2" }: derivation { name = "shop"; inherit flags;
  system = builtins.currentSystem; builder = "/bin/sh"; src = ./.; args = [ "-c" "echo $flags $src > $out" ]; }`,
			"why.txt": "derivations"})
		rev := w.commit(repository)
		source := w.inStore("source", today)
		drv, err := w.parts.pkgs.Store.Lines(w.ctx, "nix-instantiate", source+"/default.nix", "--argstr", "flags", "-O3")
		must(err)
		outs, err := w.parts.pkgs.RealiseDrvs(w.ctx, drv[0])
		must(err)
		h := w.hydra(hydratest.Evaluation{
			Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: rev}, "flags": {Type: "string", Value: "-O3"}},
			Jobs:   []hydratest.Job{{Name: "shop", NixName: "shop", DrvPath: drv[0], Outputs: map[string]string{"out": outs[0]}}}})
		o := w.fails(h.env(), "Hydra has built this revision, and the two differ", "Hydra's derivation is "+drv[0],
			"what Hydra evaluated: flags=-O3, src="+rev, "BP_NIX_HYDRA_JOB=shop/main/shop")
		Expect(o.Log).NotTo(ContainSubstring("deep clone"))
	})

	it("names a key that is not trusted, and a cache that is down", func() {
		w := newWorld(t).write(map[string]string{"default.nix": app, "why.txt": "key"})
		w.commit(repository)
		w.hydraBuilds("source", "default.nix")
		other, err := w.parts.rig.Key(w.ctx, "other.example.org-1")
		must(err)
		w.fails(map[string]string{"BP_NIX_TRUSTED_PUBLIC_KEYS": other.Public, "NIX_EXTRA_BINARY_CACHE": "http://127.0.0.1:9"},
			"The reason:", "lacks a signature by a trusted key", "BP_NIX_TRUSTED_PUBLIC_KEYS=", w.parts.key.Name)
		o := w.fails(map[string]string{"BP_NIX_SUBSTITUTERS": w.server.URL + "/nowhere http://127.0.0.1:9"})
		Expect(o.Log).To(ContainSubstring("none can be used"))
	})

	it("names the dependency that a cache lacks", func() {
		w := newWorld(t).write(map[string]string{"default.nix": `let mk = name: text: derivation { inherit name text;
  system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo $text > $out" ]; };
in mk "app-dep" "${mk "the-dependency" "x"} ${./why.txt}"`, "why.txt": "dependency"})
		w.commit(repository)
		outs := w.hydraBuilds("source", "default.nix")
		narinfos, err := filepath.Glob(filepath.Join(w.cache, "*.narinfo"))
		must(err)
		for _, file := range narinfos {
			if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "-the-dependency\nURL") {
				must(os.Remove(file))
			}
		}
		w.fails(nil, filepath.Base(outs[0])+" → ", "-the-dependency", "not there", "has not uploaded all",
			"NIX_EXTRA_BINARY_CACHE=https://cache.nixos.org")
	})

	it("names the clock, the environment and the search path", func() {
		w := newWorld(t).write(map[string]string{"default.nix": `derivation { name = "app"; builder = "/bin/sh"; system = "x86_64-linux";
  stamp = toString builtins.currentTime; args = [ "-c" "echo $stamp > $out" ]; }`})
		w.commit(repository)
		w.fails(nil, "The reason:", "evaluating it again a second later gives another path",
			"default.nix:2: builtins.currentTime")
		w.write(map[string]string{"default.nix": `with import <lib>; derivation { name = "app"; system = "x86_64-linux";
  builder = "/bin/sh"; home = builtins.getEnv "DEPLOY"; inherit v; }`, "lib/default.nix": `{ v = "1"; }`})
		w.git("commit", "-q", "-a", "-m", "x")
		w.fails(map[string]string{"BP_NIX_PATH": "lib=./lib"},
			"variables of the environment are read at default.nix:2: builtins.getEnv", "BP_NIX_ARGS=",
			"the search path is used at default.nix:1: <lib>", "jobset's inputs")
	})

	it("says that a jobset's deep clone has a .git that no other checkout has", func() {
		w := newWorld(t).write(map[string]string{"default.nix": app, "why.txt": "deep clone"})
		rev := w.commit(repository)
		outs := w.builds(w.inStore("source", func(string) bool { return false }), "default.nix")
		evaluation := func(options string) hydratest.Evaluation {
			return hydratest.Evaluation{
				Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: rev, Options: options}},
				Jobs:   []hydratest.Job{{Name: "app", NixName: "app-1.0", Outputs: map[string]string{"out": outs[0]}}}}
		}
		o := w.fails(w.hydra(evaluation("main 1")).env(), "input src of the jobset is a deep clone", "BP_NIX_HYDRA_JOB=shop/main/app")
		Expect(o.Log).NotTo(ContainSubstring("submodules"))
		o = w.fails(w.hydra(evaluation("main timeout=3")).env(), "Hydra has built this revision, and the two differ")
		Expect(o.Log).NotTo(ContainSubstring("deep clone"), "the third word is an option")
	})

	it("says which submodules of submodules Hydra leaves out, where they are the reason and nowhere else", func() {
		modules := map[string]string{"default.nix": app, "why.txt": "submodules", "a/b/c/file": "x",
			".gitmodules": "[submodule \"a\"]\n\tpath = a\n", "a/.gitmodules": "[submodule \"b\"]\n\tpath = b/c\n"}
		w := newWorld(t).write(modules)
		must(os.Remove(filepath.Join(w.source, "a/b/c/file")))
		outs := w.hydraBuilds("source", "default.nix")
		w.deploy(nil, outs...)
		w.write(map[string]string{"a/b/c/file": "x"})
		o := w.fails(nil, "The reason:", "the upload is not what Hydra fetches:", "Hydra checks submodules out one level deep", ": a/b/c",
			"Without that difference it is "+filepath.Base(outs[0]), "without --recursive")
		Expect(o.Log).NotTo(ContainSubstring("What may be"))
		w.write(map[string]string{"why.txt": "something else, too"})
		w.fails(nil, "submodules of submodules (Hydra checks", "What may be", "so there is another reason, too")

		w.write(map[string]string{"default.nix": strings.ReplaceAll(app, "${./.}", "${./why.txt}")})
		o = w.fails(nil, "What may be")
		Expect(o.Log).NotTo(ContainSubstring("one level deep"))
	})

	it("names the caches and keys that a flake lists for Nix, with the lines to set", func() {
		system := realParts(t).rig.System()
		w := newWorld(t).write(map[string]string{"why.txt": "configured",
			"flake.nix": `{ nixConfig.extra-substituters = [ "https://flake.example" ];
  nixConfig.extra-trusted-public-keys = [ "flake-1:eA==" ];
  outputs = { self }: { packages.` + system + `.default = import ./app.nix { system = "` + system + `"; }; }; }`,
			"nix.conf": "extra-substituters = https://conf.example\n",
			"app.nix":  `{ system }: derivation { name = "app"; inherit system; builder = "/bin/sh"; args = [ ./. ]; }`})
		w.commit(repository)
		o := w.fails(map[string]string{"NIX_CONFIG": "extra-substituters = https://env.example"},
			"nixConfig of flake.nix, nix.conf, NIX_CONFIG lists what is not obeyed here",
			`NIX_EXTRA_BINARY_CACHE="https://flake.example https://conf.example https://env.example"`, "flake-1:eA==")
		Expect(o.Log).To(ContainSubstring(`BP_NIX_TRUSTED_PUBLIC_KEYS="flake-1:eA=="`))
	})
}
