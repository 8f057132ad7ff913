package integration_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// testEvaluation deploys the kinds of expressions that real projects have, from caches and servers on loopback.
func testEvaluation(t *testing.T, _ spec.G, it spec.S) {
	it("deploys the seed's shell.nix: fetchFromGitHub imported from a derivation, <nixpkgs> from the settings", func() {
		w := newWorld(t)
		pin := w.parts.pkgs.Pin
		w.write(map[string]string{
			"shell.nix": fmt.Sprintf(`{ nixpkgs ?
    let
      inherit (import <nixpkgs> {}) fetchFromGitHub;
    in import
        ( fetchFromGitHub
            { owner = "NixOS";
              repo = "nixpkgs";
              rev = "%s";
              sha256 = "%s";
            }
        ) { config.allowUnfree = true; }
}:

let

  inherit (nixpkgs) pkgs;

in pkgs.callPackage ./. {}
`, pin.Rev, pin.SHA256),
			"default.nix": `{ writeShellScriptBin, config }: assert config.allowUnfree;
				writeShellScriptBin "myapp" "echo ${./.} $@"`,
			"Procfile": "web: run_proot.sh myapp",
		})
		w.commit(repository)
		settings := map[string]string{"BP_NIX_PATH": "nixpkgs=" + w.nixpkgsTarball("channel")}
		name := "source"
		outs := w.hydraBuilds(name, "shell.nix")
		w.fails(settings, "imports what a builder has to fetch first: source", "builtins.fetchTarball")
		w.upload(w.parts.pkgs.Source)
		w.deploy(settings, outs...)
		said, err := w.bare.Start(w.ctx, "myapp", "hello")
		must(err)
		Expect(said).To(MatchRegexp(`-` + name + ` hello\n$`))
		processes, err := w.bare.Processes()
		must(err)
		Expect(processes["web"]).To(ContainElement("run_proot.sh myapp"))

		// The pin is changed to a nixpkgs that nobody has built.
		changed := w.nixpkgsTarball("changed")
		w.write(map[string]string{"shell.nix": fmt.Sprintf("import (builtins.fetchTarball { url = %q; }) { }\n",
			changed),
			"deploy.nix": "{ pkgs ? import ./shell.nix }: pkgs.callPackage ./. { config.allowUnfree = true; }"})
		w.git("add", "-A")
		w.git("commit", "-q", "-m", "another nixpkgs")
		w.fails(nil, "What would have to be built: ", "something is fetched whose content is not pinned, at shell.nix:1")
	})

	it("deploys a flake with a lock file, a tarball and a path among its inputs", func() {
		w := newWorld(t)
		w.write(map[string]string{
			"flake.nix": fmt.Sprintf(`{
  inputs.nixpkgs = { url = "%s"; flake = false; };
  inputs.dep.url = "path:./dep";
  outputs = { self, nixpkgs, dep }: {
    packages.%s.default = (import nixpkgs { system = "%[2]s"; }).writeShellScriptBin
      "flaked" "echo ${dep.word} ${self}";
  };
}`, w.nixpkgsTarball("nixpkgs"), w.parts.rig.System()),
			"dep/flake.nix": `{ outputs = { self }: { word = "from the path"; }; }`,
		})
		outs := w.lockedFlakeBuilds()
		w.deploy(nil, outs...)
		w.deploy(map[string]string{"BP_NIX_FLAKE": ".#default"}, outs...)
		w.deploy(map[string]string{"BP_NIX_FILE": "flake.nix", "BP_NIX_ATTRS": "default"}, outs...)
		said, err := w.bare.Start(w.ctx, "flaked")
		must(err)
		Expect(said).To(ContainSubstring("from the path"))
		w.fails(map[string]string{"BP_NIX_FLAKE": ".#nothing"}, `.nothing"`, "it has default")
	})

	it("deploys a flake that knows its own commit", func() {
		w := newWorld(t).write(map[string]string{"flake.nix": `{ outputs = { self }: {
  packages.` + thisSystem(t) + `.default = derivation { name = "knows"; system = "` + thisSystem(t) + `"; builder = "/bin/sh";
    args = [ "-c" "echo ${self.rev} ${self.lastModifiedDate} ${toString self.revCount} > $out" ]; };
}; }`})
		w.commit(repository)
		w.git("commit", "-q", "--allow-empty", "-m", "another")
		store := w.parts.pkgs.Store
		drv, err := store.RunIn(w.ctx, w.source, "nix", "eval", "--raw",
			"git+file://"+w.source+"#packages."+w.parts.rig.System()+".default.drvPath")
		must(err)
		outs, err := w.parts.pkgs.RealiseDrvs(w.ctx, strings.TrimSpace(drv))
		must(err)
		w.upload(outs...)
		w.deploy(nil, outs...)
		must(os.RemoveAll(filepath.Join(w.source, ".git")))
		w.fails(nil, "attribute 'rev' missing")
	})

	it("gives arguments, takes the outputs to install, and says when an attribute is not there", func() {
		w := newWorld(t).write(map[string]string{"default.nix": app, "multi.nix": `let d = derivation { name = "multi";
    system = builtins.currentSystem; builder = "/bin/sh"; outputs = [ "out" "bin" "dev" ];
    args = [ "-c" "echo out > $out; echo bin > $bin; echo dev > $dev" ]; }; in
  d // { meta.outputsToInstall = [ "bin" "out" ]; }`})
		outs := w.hydraBuilds("source", "default.nix", "--argstr", "name", "shop", "--argstr", "version", "2.0")
		w.deploy(map[string]string{"BP_NIX_ARGS": "name=shop version=2.0"}, outs...)
		outs = w.hydraBuilds("source", "multi.nix")
		output := func(name string) string {
			return outs[slices.IndexFunc(outs, func(p string) bool { return strings.HasSuffix(p, "-"+name) })]
		}
		w.deploy(map[string]string{"BP_NIX_FILE": "multi.nix"}, output("multi-bin"), output("multi"))
		w.deploy(map[string]string{"BP_NIX_FILE": "multi.nix", "BP_NIX_ATTRS": "dev"}, output("multi-dev"))
		w.fails(map[string]string{"BP_NIX_ATTRS": "web"}, "a derivation itself", "leave BP_NIX_ATTRS unset")
	})

	it("deploys a job set: this system's jobs, named ones, and without what does not evaluate", func() {
		w := newWorld(t).write(map[string]string{"release.nix": `
{ supportedSystems ? [ "x86_64-linux" "aarch64-linux" ] }: let
  mk = name: system: derivation { inherit name system; builder = "/bin/sh"; args = [ "-c" "echo ${name} > $out" ]; };
  each = name: builtins.listToAttrs (map (s: { name = s; value = mk name s; }) supportedSystems);
in { web = each "web"; tools.admin = each "admin"; broken = throw "not yet"; }`})
		ours := w.parts.rig.System()
		admin := w.hydraBuilds("source", "release.nix", "-A", "tools.admin."+ours)
		web := w.hydraBuilds("source", "release.nix", "-A", "web."+ours)
		o := w.deploy(map[string]string{"BP_NIX_FILE": "release.nix"}, admin[0], web[0])
		Expect(o.Log).To(MatchRegexp(`broken does not evaluate: left out \(release\.nix:\d+:\d+: not yet\)`))
		Expect(o.Log).To(MatchRegexp(`web\.\S+ is for \S+, not for \S+: left out`))
		w.deploy(map[string]string{"BP_NIX_FILE": "release.nix", "NIX_ATTRIBUTES": "web." + ours}, web[0])
		w.fails(map[string]string{"BP_NIX_FILE": "release.nix", "BP_NIX_ATTRS": "wep"}, `there is no "wep"`, "web")
	})

	it("says that the caches have it for another system only, where no Hydra is known", func() {
		ours := newWorld(t).parts.rig.System()
		other := map[string]string{"x86_64-linux": "aarch64-linux", "aarch64-linux": "x86_64-linux"}[ours]
		for _, sources := range []map[string]string{
			{"default.nix": `{ system ? builtins.currentSystem }: derivation { name = "app-1.0"; for = system;
  system = "` + ours + `"; builder = "/bin/sh"; args = [ "-c" "echo $for > $out" ]; }`},
			{"flake.nix": `{ outputs = { self }: { packages = builtins.listToAttrs (map (system: { name = system; value.default =
  import ./default.nix { inherit system; }; }) [ "x86_64-linux" "aarch64-linux" ]); }; }`,
				"default.nix": `{ system }: derivation { name = "app-1.0"; for = system;
  system = "` + ours + `"; builder = "/bin/sh"; args = [ "-c" "echo $for > $out" ]; }`},
		} {
			w := newWorld(t).write(sources)
			w.hydraBuilds("source", "default.nix", "--argstr", "system", other)
			o := w.fails(map[string]string{}, "The reason:", "the caches have app-1.0 for "+other+", not for "+ours,
				"add "+ours+" to the jobset")
			Expect(o.Log).NotTo(ContainSubstring("What may be"))
			downloads, _ := w.server.Traffic(".nar")
			Expect(downloads).To(BeZero())
		}
		w := newWorld(t).write(map[string]string{"flake.nix": `{ outputs = { self }: { packages.` + other + `.default = 1; }; }`})
		w.fails(nil, `there is no "packages.`+ours+`"; it has `+other, "have it give packages."+ours+".default", "add "+ours+" to")
	})

	it("leaves nothing out of a set of packages: what does not evaluate is an error, in Nix's words", func() {
		w := newWorld(t).write(map[string]string{"default.nix": `let mk = name: derivation { inherit name;
  system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo ${name} > $out" ]; }; in
{ worker = mk "worker";
  web = throw "nodejs_14 has been removed"; }`})
		worker := w.hydraBuilds("source", "default.nix", "-A", "worker")
		w.fails(nil, "evaluating default.nix:4:9: nodejs_14 has been removed")
		w.deploy(map[string]string{"BP_NIX_ATTRS": "worker"}, worker...)
	})

	it("evaluates an unchanged source anew where it reads what may have changed, and only there", func() {
		w := newWorld(t).write(map[string]string{"default.nix": `{ word ? import <channel> }: derivation { name = "app";
  system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo ${word} > $out" ]; }`})
		one := w.hydraBuilds("source", "default.nix", "--argstr", "word", "one")
		two := w.hydraBuilds("source", "default.nix", "--argstr", "word", "two")
		dir := t.TempDir()
		server, err := rig.Serve(dir, rig.ServeOptions{})
		must(err)
		t.Cleanup(func() { server.Close() })
		channel := func(word string) {
			must(integration.WriteTree(filepath.Join(dir, "channel"), map[string]string{"default.nix": `"` + word + `"`}))
			must(exec.Command("tar", "-C", dir, "-czf", filepath.Join(dir, "channel.tar.gz"), "channel").Run())
		}
		moving := map[string]string{"BP_NIX_PATH": "channel=" + server.URL + "/channel.tar.gz"}
		channel("one")
		o := w.deploy(moving, one...)
		Expect(o.Log).To(ContainSubstring("evaluates this source anew, as it reads what may change by itself: the search path has"))
		channel("two")
		w.deploy(moving, two...)

		fixed := map[string]string{"BP_NIX_ARGS": "word=one"}
		w.deploy(fixed, one...)
		Expect(w.deploy(fixed, one...).Log).To(ContainSubstring("store paths are taken again"))
		w.write(map[string]string{"default.nix": `{ word ? import (fetchTarball "` + server.URL + `/channel.tar.gz") }:
  import ./app.nix word`, "app.nix": `word: derivation { name = "app"; system = builtins.currentSystem; builder = "/bin/sh";
  args = [ "-c" "echo ${word} > $out" ]; }`})
		w.deploy(nil, two...)
		channel("one")
		o = w.deploy(nil, one...)
		Expect(o.Log).To(ContainSubstring(`default.nix:1: fetchTarball "` + server.URL))
	})

	it("reads what evaluation imports from caches that want a token or a login, also one of a netrc with a port, and of an authority of their own", func() {
		w := newWorld(t).importsWord()
		w.hydraBuilds("source", "default.nix", "-A", "word")
		app := w.hydraBuilds("source", "default.nix", "-A", "app")
		const token, password = "t0ken", `pass "word" \`
		files := http.FileServer(http.Dir(w.cache))
		guarded := func(allowed func(*http.Request) bool) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if !allowed(r) {
					http.Error(rw, "who are you?", http.StatusUnauthorized)
					return
				}
				files.ServeHTTP(rw, r)
			})
		}
		private := func(allowed func(*http.Request) bool) (address, authority string) {
			server := httptest.NewTLSServer(guarded(allowed))
			t.Cleanup(server.Close)
			block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
			return server.URL, string(pem.EncodeToMemory(block))
		}
		first, itsAuthority := private(func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+token })
		loggedIn := func(r *http.Request) bool {
			user, given, _ := r.BasicAuth()
			return user == "deploy" && given == password
		}
		second, anAuthority := private(loggedIn)
		plain := httptest.NewServer(guarded(loggedIn))
		t.Cleanup(plain.Close)
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(password) + `"`
		netrc := "machine elsewhere.example.org login a password b\n" +
			"machine " + strings.TrimPrefix(plain.URL, "http://") + " login deploy password " + quoted + "\n"
		for url, binding := range map[string]map[string]string{
			first:     {"url": first, "token": token, "ca-certificate": itsAuthority},
			second:    {"url": second, "username": "deploy", "password": password, "ca-certificate": anAuthority},
			plain.URL: {"netrc": netrc},
		} {
			binding["type"] = "nix-binary-cache"
			w.bare.Bindings = map[string]map[string]string{"own": binding}
			must(w.bare.NewImage())
			must(w.bare.WithoutCache())
			o := w.deploy(map[string]string{"BP_NIX_SUBSTITUTERS": url, "BP_NIX_ATTRS": "app"}, app...)
			Expect(o.Log).To(ContainSubstring("Fetching word.nix from " + url))
			Expect(o.Log).NotTo(Or(ContainSubstring(token), ContainSubstring("pass ")))
		}
	})

	it("reads what evaluation imports from a private Hydra's own store, logged in", func() {
		w := newWorld(t).importsWord()
		word := w.hydraBuilds("source", "default.nix", "-A", "word")
		app := w.hydraBuilds("source", "default.nix", "-A", "app")
		h := w.hydra(hydratest.Evaluation{})
		h.Private("deploy", "secret")
		w.has(h, w.parts.key, append(word, app...)...)
		w.bare.Bindings = map[string]map[string]string{"hydra": {"type": "nix-binary-cache", "url": h.URL,
			"username": "deploy", "password": "secret"}}
		o := w.deploy(map[string]string{"BP_NIX_SUBSTITUTERS": h.URL, "BP_NIX_ATTRS": "app"}, app...)
		Expect(o.Log).To(ContainSubstring("Fetching word.nix from " + h.URL))
		Expect(o.Log).NotTo(ContainSubstring("secret"))
	})

	it("believes no cache without a signature for saying trusted=true", func() {
		w := newWorld(t).importsWord()
		w.hydraBuilds("source", "default.nix", "-A", "word")
		infos, err := filepath.Glob(filepath.Join(w.cache, "*.narinfo"))
		must(err)
		for _, info := range infos {
			text, err := os.ReadFile(info)
			must(err)
			must(os.WriteFile(info, regexp.MustCompile(`(?m)^Sig: .*\n`).ReplaceAll(text, nil), 0o644))
		}
		trusted := map[string]string{"BP_NIX_SUBSTITUTERS": w.server.URL + "?trusted=true", "BP_NIX_ATTRS": "app"}
		o := w.fails(trusted, "which has to read word.nix", "lacks a signature by a trusted key: it is not signed")
		Expect(o.Log).NotTo(ContainSubstring("Fetching word.nix"))

		trusted["BP_NIX_REQUIRE_SIGS"] = "false"
		w.fails(trusted, "Fetching word.nix", "no binary cache has")
	})

	it("runs the attribute heroku-compile-hook once and leaves it out of PATH", func() {
		w := newWorld(t).write(map[string]string{"deploy.nix": `let mk = name: text: derivation { inherit name text;
    system = builtins.currentSystem; builder = "/bin/sh"; passAsFile = [ "text" ];
    PATH = "/usr/bin:/bin";
    args = [ "-c" "mkdir -p $out/bin; cp $textPath $out/bin/${name}; chmod 755 $out/bin/${name}" ]; };
in {
  web = mk "web" "#!/bin/sh\necho web\n";
  heroku-compile-hook = mk "heroku-compile-hook" "#!/bin/sh\necho the hook runs in $PWD > hooked; cat hooked\n";
}`})
		outs := w.hydraBuilds("source", "deploy.nix", "-A", "web")
		w.hydraBuilds("source", "deploy.nix", "-A", "heroku-compile-hook")
		for _, env := range []map[string]string{nil, {"BP_NIX_ATTRS": "web"}, {"BP_NIX_ATTRS": "web heroku-compile-hook"}} {
			must(w.bare.NewImage())
			o := w.deploy(env, outs...)
			Expect(strings.Count(o.Log, "the hook runs in "+w.bare.App())).To(Equal(1), o.Log)
		}
	})
}

// lockedFlakeBuilds locks the source's flake and builds its default package as Hydra does.
func (w *world) lockedFlakeBuilds() []string {
	w.t.Helper()
	store := w.parts.pkgs.Store
	_, err := store.RunIn(w.ctx, w.source, "nix", "flake", "lock", "path:"+w.source)
	must(err)
	Expect(filepath.Join(w.source, "flake.lock")).To(BeARegularFile())
	drv, err := store.RunIn(w.ctx, w.source, "nix", "eval", "--raw",
		"path:"+w.source+"#packages."+w.parts.rig.System()+".default.drvPath")
	must(err)
	outs, err := w.parts.pkgs.RealiseDrvs(w.ctx, strings.TrimSpace(drv))
	must(err)
	w.upload(outs...)
	return outs
}

// importsWord makes the source an app that imports what has to be built first.
func (w *world) importsWord() *world {
	return w.write(map[string]string{"default.nix": `let mk = name: text: derivation { inherit name;
  system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo '${text}' > $out" ]; };
  word = mk "word.nix" "\"a word\""; in
{ inherit word; app = mk "app" (import word); }`})
}

// thisSystem is this machine's, for expressions that are written before there is a world.
func thisSystem(t *testing.T) string { return realParts(t).rig.System() }

// nixpkgsTarball serves the small nixpkgs as an archive that is what others serve of the real one, and gives its
// address. Another name than "nixpkgs" changes it, so that nothing of it is built.
func (w *world) nixpkgsTarball(name string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	tree := filepath.Join(dir, "nixpkgs-"+name)
	must(os.CopyFS(tree, os.DirFS(w.parts.pkgs.Store.Real(w.parts.pkgs.Source))))
	if name != "nixpkgs" {
		packages := filepath.Join(tree, "debian.nix")
		text, err := os.ReadFile(packages)
		must(err)
		must(os.Chmod(packages, 0o644))
		changed := strings.ReplaceAll(string(text), "builder = repack;", `builder = repack; changed = "`+name+`";`)
		Expect(changed).NotTo(Equal(string(text)))
		must(os.WriteFile(packages, []byte(changed), 0o644))
	}
	out, err := exec.Command("tar", "-C", dir, "-czf", filepath.Join(dir, name+".tar.gz"),
		"nixpkgs-"+name).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
	server, err := rig.Serve(dir, rig.ServeOptions{})
	must(err)
	w.t.Cleanup(func() { server.Close() })
	return server.URL + "/" + name + ".tar.gz"
}
