package integration_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// world is what stands around a build: a source, somebody who builds it with real Nix, the cache it is uploaded to.
type world struct {
	t      *testing.T
	ctx    context.Context
	parts  parts
	source string
	cache  string
	server *rig.Server
	bare   *integration.Bare
}

// newWorld has an empty source and an empty cache that is served and trusted.
func newWorld(t *testing.T) *world {
	t.Helper()
	RegisterTestingT(t)
	w := &world{t: t, ctx: context.Background(), parts: realParts(t), cache: t.TempDir()}
	dir, err := workDir()
	must(err)
	w.source, err = os.MkdirTemp(dir, "source-")
	must(err)
	must(os.WriteFile(filepath.Join(w.cache, "nix-cache-info"), []byte("StoreDir: /nix/store\nWantMassQuery: 1\n"), 0o644))
	w.server, err = rig.Serve(w.cache, rig.ServeOptions{})
	must(err)
	t.Cleanup(func() { w.server.Close() })
	w.bare = bare(t, "r")
	w.bare.Env["BP_NIX_SUBSTITUTERS"] = w.server.URL
	w.bare.Env["BP_NIX_TRUSTED_PUBLIC_KEYS"] = w.parts.key.Public
	return w
}

func must(err error) {
	Expect(err).WithOffset(1).NotTo(HaveOccurred())
}

// write writes files of the source.
func (w *world) write(files map[string]string) *world {
	w.t.Helper()
	must(integration.WriteTree(w.source, files))
	return w
}

// git runs git in the source.
func (w *world) git(args ...string) string {
	w.t.Helper()
	command := exec.Command("git", args...)
	command.Dir = w.source
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := command.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "git %v: %s", args, out)
	return strings.TrimSpace(string(out))
}

// commit makes the source a checkout of a repository, and gives the commit.
func (w *world) commit(remote string) string {
	w.t.Helper()
	w.git("init", "-q", "-b", "main")
	if remote != "" {
		w.git("remote", "add", "origin", remote)
	}
	w.git("add", "-A")
	w.git("commit", "-q", "-m", "a commit")
	return w.git("rev-parse", "HEAD")
}

// inStore puts what git would give of the source into the store, as Hydra does, without what drop leaves out.
func (w *world) inStore(name string, drop func(base string) bool) string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), name)
	must(os.CopyFS(dir, os.DirFS(w.source)))
	must(filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !drop(entry.Name()) {
			return err
		}
		if err := os.RemoveAll(path); err != nil || !entry.IsDir() {
			return err
		}
		return filepath.SkipDir
	}))
	path, err := w.parts.pkgs.Store.Run(w.ctx, "nix-store", "--add-fixed", "--recursive", "sha256", dir)
	must(err)
	return strings.TrimSpace(path)
}

func today(base string) bool { return base == ".git" }

// before2017 is the rule by which Hydra left out version-control files until April of that year.
func before2017(base string) bool { return strings.HasPrefix(base, ".git") }

// hydraBuilds does what Hydra does with the source: into the store under a name, evaluated there, built, uploaded.
func (w *world) hydraBuilds(name string, args ...string) []string {
	w.t.Helper()
	return w.builds(w.inStore(name, today), args...)
}

// builds builds an expression of a source in the store and uploads what it gives.
func (w *world) builds(source string, args ...string) []string {
	w.t.Helper()
	outs := w.realise(append([]string{source + "/" + args[0]}, args[1:]...)...)
	w.upload(outs...)
	return outs
}

func (w *world) realise(args ...string) []string {
	w.t.Helper()
	outs, err := w.parts.pkgs.Realise(w.ctx, args...)
	must(err)
	return outs
}

// upload writes closures to the cache.
func (w *world) upload(paths ...string) {
	w.t.Helper()
	must(w.parts.pkgs.Store.Cache(w.ctx, w.cache, rig.CacheOptions{Key: w.parts.key, Compression: "none"}, paths...))
}

// deploy builds the source and wants it to succeed with these roots.
func (w *world) deploy(env map[string]string, roots ...string) *integration.Outcome {
	w.t.Helper()
	o, err := w.bare.Build(w.ctx, w.source, env)
	must(err)
	Expect(o.Status).To(Equal(0), o.Log)
	have, err := w.bare.Roots()
	must(err)
	Expect(have).To(Equal(roots), o.Log)
	return o
}

// fails builds the source and wants it to fail with these words.
func (w *world) fails(env map[string]string, words ...string) *integration.Outcome {
	w.t.Helper()
	o, err := w.bare.Build(w.ctx, w.source, env)
	must(err)
	Expect(o.Status).To(Equal(1), o.Log)
	for _, word := range words {
		Expect(o.Log).To(ContainSubstring(word))
	}
	if os.Getenv("SHOW_LOGS") != "" {
		w.t.Log(o.Log)
	}
	return o
}

// app is a project that copies its own directory, whose output says where that was.
const app = `{ name ? "app", version ? "1.0" }:
derivation {
  name = "${name}-${version}"; system = builtins.currentSystem; builder = "/bin/sh";
  args = [ "-c" "echo ${./.} ${version} > $out" ];
}
`

// hydraWorld is a Hydra beside a world.
type hydraWorld struct {
	*hydratest.Server
	store string // the directory of what it has in its own store
	eval  *hydratest.Eval
}

// hydra starts a Hydra that has made one evaluation in shop/main, its builds finished unless told otherwise.
func (w *world) hydra(evaluation hydratest.Evaluation, unfinished ...string) *hydraWorld {
	w.t.Helper()
	h := &hydraWorld{Server: hydratest.New(), store: w.t.TempDir()}
	h.eval = h.Project("shop").Jobset("main").Evaluate(evaluation)
	if len(unfinished) == 0 {
		h.eval.Succeed()
	}
	h.Store(h.store)
	w.t.Cleanup(h.Close)
	return h
}

// has puts store paths into this Hydra's own store.
func (w *world) has(h *hydraWorld, key *rig.Key, paths ...string) {
	w.t.Helper()
	must(w.parts.pkgs.Store.Cache(w.ctx, h.store, rig.CacheOptions{Key: key, Compression: "xz"}, paths...))
}

// job asks this Hydra for builds, and nobody for an evaluation.
func (h *hydraWorld) job(job string, more ...string) map[string]string {
	env := map[string]string{"BP_NIX_HYDRA_URL": h.URL, "BP_NIX_HYDRA_JOB": job}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

// env asks this Hydra only where something is not to be had.
func (h *hydraWorld) env() map[string]string { return map[string]string{"BP_NIX_HYDRA_URL": h.URL} }
