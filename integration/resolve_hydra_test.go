package integration_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// testHydra asks a Hydra for what real Nix has built, and never evaluates.
func testHydra(t *testing.T, _ spec.G, it spec.S) {
	var (
		w    *world
		rev  string
		outs []string
	)
	it.Before(func() {
		w = newWorld(t).write(map[string]string{"release.nix": `{
  web = derivation { name = "web"; system = builtins.currentSystem; builder = "/bin/sh";
    args = [ "-c" "echo web > $out" ]; };
  worker = derivation { name = "worker"; system = builtins.currentSystem; builder = "/bin/sh";
    outputs = [ "out" "bin" ]; args = [ "-c" "echo out > $out; echo bin > $bin" ]; };
}`})
		w.bare = bare(t, "h")
		w.bare.Env["BP_NIX_SUBSTITUTERS"] = w.server.URL
		w.bare.Env["BP_NIX_TRUSTED_PUBLIC_KEYS"] = w.parts.key.Public
		rev = w.commit(repository)
		outs = w.hydraBuilds("source", "release.nix")
		Expect(outs).To(HaveLen(3))
	})

	inputs := func(revision string) map[string]hydratest.Input {
		return map[string]hydratest.Input{"src": {URI: repository, Revision: revision},
			"nixpkgs": {URI: "https://github.com/NixOS/nixpkgs.git", Revision: hydratest.Revision("nixpkgs")}}
	}
	jobs := func() []hydratest.Job {
		system := "." + w.parts.rig.System()
		return []hydratest.Job{
			{Name: "web" + system, NixName: "web", Outputs: map[string]string{"out": outs[0]}},
			{Name: "worker" + system, NixName: "worker", Outputs: map[string]string{"out": outs[1], "bin": outs[2]}},
		}
	}
	evaluation := func() hydratest.Evaluation { return hydratest.Evaluation{Inputs: inputs(rev), Jobs: jobs()} }
	nothingEvaluated := func() {
		t.Helper()
		Expect(w.bare.HasLayer("nix")).To(BeFalse(), "a toolchain layer was made")
		Expect(w.bare.HasLayer("eval")).To(BeFalse(), "something was evaluated")
	}

	it("takes the builds of .git's revision, of one given, and of the two words, and makes no toolchain layer", func() {
		h := w.hydra(evaluation())
		w.deploy(h.job("shop/main/worker"), outs[2])
		o := w.deploy(h.job("shop/main/web"), outs[0])
		Expect(o.Log).To(ContainSubstring("build 50001, web"))
		nothingEvaluated()

		must(os.RemoveAll(w.source + "/.git"))
		w.fails(h.job("shop/main/web"), "neither a .git nor the platform says it", "BP_NIX_GIT_REV")
		o = w.deploy(h.job("shop/main/web", "SOURCE_VERSION", rev), outs[0])
		Expect(o.Log).To(ContainSubstring("Revision " + rev + ", as SOURCE_VERSION (Heroku) says"))
		metadata := filepath.Join(w.bare.Layers(), "project-metadata.toml")
		w.bare.Prepare = func(string) error { // as kpack does for a subPath
			return os.WriteFile(metadata, []byte("[source]\ntype = \"git\"\n[source.version]\ncommit = \""+rev+
				"\"\n[source.metadata]\nrepository = \""+repository+"\"\n"), 0o644)
		}
		o = w.deploy(h.job("shop/main/web"), outs[0])
		Expect(o.Log).To(ContainSubstring("Revision " + rev + " of " + repository + ", as project-metadata.toml says"))
		w.bare.Prepare = nil
		w.deploy(h.job("shop/main/web", "BP_NIX_GIT_REV", strings.ToUpper(rev)), outs[0])
		w.deploy(h.job("shop/main/web", "BP_NIX_GIT_REV", rev[:8]), outs[0])
		for _, word := range []string{"latest", "latest-finished"} {
			w.deploy(h.job("shop/main/web", "BP_NIX_GIT_REV", word), outs[0])
		}
		nothingEvaluated()
	})

	it("takes several jobs, and a whole jobset", func() {
		evaluated := evaluation()
		evaluated.Jobs = evaluated.Jobs[:1]
		extra := w.realise("--expr", `derivation { name = "extra"; system = builtins.currentSystem;
			builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }`)
		w.upload(extra...)
		evaluated.Jobs = append(evaluated.Jobs, hydratest.Job{Name: "extra", Outputs: map[string]string{"out": extra[0]}})
		h := w.hydra(evaluated)
		w.deploy(h.job("shop/main/extra web"), extra[0], outs[0])
		w.deploy(h.job("shop/main"), extra[0], outs[0])
		nothingEvaluated()
	})

	it("waits for an evaluation and its builds with lines that link to them", func() {
		h := w.hydra(hydratest.Evaluation{Inputs: inputs(hydratest.Revision("older")), Jobs: []hydratest.Job{{Name: "web"}}})
		w.fails(h.job("shop/main/web"), "none of its 1 evaluations has it", hydratest.Revision("older"), "latest")
		var looks atomic.Int32 // requests come side by side
		var made atomic.Pointer[hydratest.Eval]
		h.OnRequest(func(_ int, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/evals") && looks.Add(1) == 2:
				made.Store(h.Project("shop").Jobset("main").Evaluate(evaluation()))
			case r.URL.Path == "/status": // asked once a build is found unfinished, before a line says so
				made.Load().Succeed()
			}
		})
		o := w.deploy(h.job("shop/main/web", "BP_NIX_HYDRA_WAIT", "2m"), outs[0])
		Expect(o.Log).To(ContainSubstring("waiting for Hydra to evaluate "+rev[:12]), o.Log)
		Expect(o.Log).To(ContainSubstring("/jobset/shop/main"))
		Expect(o.Log).To(MatchRegexp(`waiting for Hydra to build web\S*, which is queued: http://\S+/build/50002`), o.Log)
		nothingEvaluated()
	})

	it("ends with a failed build's status, step and log, and with what is unfinished", func() {
		h := w.hydra(evaluation(), "unfinished")
		w.fails(h.job("shop/main/web"), "is not finished: http://", "/build/50001")
		w.fails(h.job("shop/main/web", "BP_NIX_HYDRA_WAIT", "1s"), "waited 1", "/build/50001")
		h.eval.Build("web."+w.parts.rig.System()).Fail(1, hydratest.Step{Output: hydratest.StorePath("gcc", "libshop-1"),
			Status: 1})
		w.fails(h.job("shop/main/web", "BP_NIX_HYDRA_WAIT", "1m"), "build 50001 of web",
			"the build returned a non-zero exit code",
			"step 1, libshop-1, failed, log: http://")
	})

	it("says clearly what is wrong with a job, a revision, an output or the server", func() {
		h := w.hydra(evaluation())
		w.fails(h.job("shop/main/wep"), `no such job`, "web."+w.parts.rig.System())
		w.fails(h.job("shop/mian/web"), "no such jobset", "main")
		w.fails(h.job("shop/main/web", "BP_NIX_GIT_REV", "main"), "it is the name of a branch or tag, not a commit")
		odd := evaluation()
		odd.Jobs = []hydratest.Job{{Name: "web", Outputs: map[string]string{"out": "/gnu/store/x"}}}
		w.fails(w.hydra(odd).job("shop/main/web"), "which is not a store path")

		h.Private("deploy", "secret")
		w.fails(h.job("shop/main/web"), "it wants a log-in")
		w.bare.Bindings = map[string]map[string]string{"hydra": {"type": "nix-binary-cache", "url": h.URL,
			"username": "deploy", "password": "secret"}}
		o := w.deploy(h.job("shop/main/web"), outs[0])
		Expect(o.Log).NotTo(ContainSubstring("secret"))
		w.bare.Bindings = nil

		site := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/html")
			_, _ = rw.Write([]byte("<html>Welcome</html>"))
		}))
		defer site.Close()
		w.fails(map[string]string{"BP_NIX_HYDRA_URL": site.URL, "BP_NIX_HYDRA_JOB": "shop/main/web"},
			"the server there is not a Hydra")
		nothingEvaluated()
	})

	it("downloads from Hydra itself or from another cache, and says where to when neither is named", func() {
		h := w.hydra(evaluation())
		elsewhere := newWorld(t)
		settings := h.job("shop/main/web", "BP_NIX_SUBSTITUTERS", elsewhere.server.URL)
		w.fails(settings, "The reason:", "Hydra has built it, but no cache that was asked has it",
			"garbage-collected from Hydra's own store")
		h.Store("")
		w.fails(settings, "The reason:", "Hydra has built it, but no cache that was asked has it",
			"name the cache that this Hydra uploads to")
		h.Store(h.store)
		w.has(h, w.parts.key, outs[0])
		w.fails(settings, "Hydra serves it itself, signed by "+w.parts.key.Name, "NIX_EXTRA_BINARY_CACHE="+h.URL)
		settings["NIX_EXTRA_BINARY_CACHE"] = h.URL
		w.deploy(settings, outs[0])
		nothingEvaluated()
	})

	it("downloads from a private Hydra's own store, logged in", func() {
		h := w.hydra(evaluation())
		h.Private("deploy", "secret")
		w.has(h, w.parts.key, outs[0])
		settings := h.job("shop/main/web", "BP_NIX_SUBSTITUTERS", h.URL)
		w.bare.Bindings = map[string]map[string]string{"hydra": {"type": "nix-binary-cache", "url": h.URL,
			"username": "deploy", "password": "secret"}}
		o := w.deploy(settings, outs[0])
		Expect(o.Log).NotTo(ContainSubstring("secret"))
		w.bare.Bindings["hydra"]["password"] = "wrong"
		settings["BP_NIX_HYDRA_JOB"] = "shop/main/worker"
		w.fails(settings, "user name or password is wrong", "Bad username or password.")
		w.bare.Bindings = nil
		nothingEvaluated()
	})

	it("answers within Hydra's pace: slow answers and a restart do not end a build", func() {
		h := w.hydra(evaluation())
		h.Delay(150 * time.Millisecond)
		h.Fail(hydratest.BadGateway())
		w.deploy(h.job("shop/main/web"), outs[0])
	})
}
