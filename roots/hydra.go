package roots

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// ErrNoRevision says that Hydra cannot be asked for a source of which nobody tells the commit.
var ErrNoRevision = errors.New("asking Hydra: the revision of this source is not known, as neither a .git nor " +
	"the platform says it")

// askHydra takes the outputs of the builds that Hydra made of this revision.
func (f Finder) askHydra(ctx context.Context) (Set, error) {
	target, err := hydra.ParseJob(f.Settings.HydraJob)
	if err != nil {
		return Set{}, err
	}
	if f.revision() == "" {
		return Set{}, ErrNoRevision
	}
	client, err := f.hydraClient()
	if err != nil {
		return Set{}, err
	}
	resolution, err := client.Resolve(ctx, hydra.Query{
		Project: target.Project, Jobset: target.Jobset, Jobs: target.Jobs,
		Revision: f.revision(), System: f.Settings.System, GitURL: f.gitURL(), Wait: f.Settings.HydraWait,
	})
	if err != nil {
		return Set{}, err
	}
	roots := Set{}
	for _, build := range resolution.Builds {
		f.Log("%s: build %d, %s", build.Job, build.ID, build.NixName)
		for _, output := range installedOutputs(build.Outputs) {
			if slices.Contains(strings.Split(build.Job, "."), HookName) {
				roots.Hook = output
				continue
			}
			if !slices.Contains(roots.Paths, output) {
				roots.Paths = append(roots.Paths, output)
			}
		}
	}
	if len(roots.Paths) == 0 {
		return Set{}, fmt.Errorf("asking Hydra: evaluation %d has no outputs for %s", resolution.Eval, f.Settings.HydraJob)
	}
	return roots, f.checkServed(ctx, client, resolution, roots)
}

// checkServed looks whether the caches have what Hydra has built. What is found is remembered for the closure, so
// that this costs no request.
func (f Finder) checkServed(ctx context.Context, client *hydra.Client, r *hydra.Resolution, roots Set) error {
	caches, err := f.Caches()
	if err != nil {
		return err
	}
	absent, err := lookUp(ctx, caches, roots.All())
	if err != nil || len(absent) == 0 {
		return err
	}
	e := &NotCachedError{Entry: fmt.Sprintf("evaluation %d of %s", r.Eval, redact.Text(client.URL())), HydraAsked: true}
	for _, p := range roots.All() {
		if absent[p] != nil {
			e.Missing = append(e.Missing, p)
		} else {
			e.Have++
		}
	}
	e.Asked = absent[e.Missing[0]].Asked
	if e.Findings = cacheFindings(e.Asked); !e.Proven() {
		e.Findings = append(e.Findings, NotServed{f.hydraStore(ctx, client, e.Missing[0])})
	}
	return e
}

// installedOutputs chooses among a build's outputs, whose meta.outputsToInstall Hydra does not tell: what a user
// environment gets when nothing is said, the programs and else the default output.
func installedOutputs(outputs map[string]storepath.Path) []storepath.Path {
	for _, name := range []string{"bin", "out"} {
		if p, ok := outputs[name]; ok {
			return []storepath.Path{p}
		}
	}
	names := slices.Sorted(maps.Keys(outputs))
	if len(names) == 0 {
		return nil
	}
	return []storepath.Path{outputs[names[0]]}
}

// hydraClient reaches Hydra as the caches are reached.
func (f Finder) hydraClient() (*hydra.Client, error) {
	options := hydra.Options{URL: f.Settings.HydraURL, UserAgent: f.UserAgent, Log: f.Log}
	transport, err := cache.NewTransport(f.Servers)
	if err != nil {
		return nil, fmt.Errorf("asking Hydra: %w", err)
	}
	options.HTTP = &http.Client{Transport: transport}
	if login, ok := f.login(); ok {
		options.Username, options.Password, options.Token = login.Username, login.Password, login.Token
	}
	return hydra.New(options)
}

// login is what a cache at Hydra's address would get; an address that is none has no login.
func (f Finder) login() (cache.Credential, bool) {
	login, ok, err := cache.LoginFor(f.Servers, f.Settings.HydraURL)
	return login, ok && err == nil
}

// hydraStore asks Hydra's own store, where it is a binary cache, for what Hydra has built. A build's JSON does not
// change when its outputs are garbage-collected.
func (f Finder) hydraStore(ctx context.Context, client *hydra.Client, p storepath.Path) HydraStore {
	store := HydraStore{URL: client.URL()}
	own, err := f.ownCache(ctx)
	if err != nil {
		return store
	}
	defer own.Close()
	found, err := own.Lookup(ctx, p)
	var absent *cache.NotFoundError
	switch {
	case err == nil:
		store.State = StoreServes
		for _, sig := range found.Sigs {
			store.Keys = append(store.Keys, sig.Name)
		}
	case errors.As(err, &absent) && !slices.ContainsFunc(absent.Asked, func(a cache.Answer) bool {
		return a.Reason != cache.Absent
	}):
		store.State = StoreCollected
	}
	return store
}

// ownCache opens Hydra itself as a binary cache, whoever signs what it serves: nothing of it is used but to compare.
func (f Finder) ownCache(ctx context.Context) (*cache.Set, error) {
	options := f.Servers
	options.URLs, options.Keys, options.RequireSigs = []string{f.Settings.HydraURL}, nil, false
	options.UserAgent, options.Log, options.Wrap = f.UserAgent, silent, hydra.NewSessions(f.UserAgent).Wrap
	return cache.Open(ctx, options)
}
