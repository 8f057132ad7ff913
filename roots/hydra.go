package roots

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// ErrNoRevision says that Hydra cannot be asked for a source whose commit is not known.
var ErrNoRevision = errors.New("asking Hydra: the revision of this source is not known, as neither a .git nor " +
	"the platform says it")

// askHydra takes the outputs of the builds that Hydra made of this revision.
func (f Finder) askHydra(ctx context.Context) (Result, error) {
	target, err := hydra.ParseJob(f.Settings.HydraJob)
	if err != nil {
		return Result{}, err
	}
	if f.revision() == "" {
		return Result{}, ErrNoRevision
	}
	client, closeConnections, err := f.hydraClient()
	if err != nil {
		return Result{}, err
	}
	defer closeConnections()
	resolution, err := client.Resolve(ctx, hydra.Query{
		Project: target.Project, Jobset: target.Jobset, Jobs: target.Jobs,
		Revision: f.revision(), System: f.Settings.System, GitURL: f.gitURL(), Wait: f.Settings.HydraWait,
	})
	if err != nil {
		return Result{}, err
	}
	roots := Result{Revision: resolution.Revision}
	for _, build := range resolution.Builds {
		f.Log("%s: build %d, %s", text.Short(build.Job), build.ID, text.Short(build.NixName))
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
		return Result{}, fmt.Errorf("asking Hydra: evaluation %d has no outputs for %s", resolution.Eval.ID, f.Settings.HydraJob)
	}
	return roots, f.checkServed(ctx, client, resolution, roots)
}

// checkServed looks whether the caches have what Hydra has built. What is found is remembered for the closure, so
// that this costs no request.
func (f Finder) checkServed(ctx context.Context, client *hydra.Client, r *hydra.Resolution, roots Result) error {
	caches, err := f.Caches()
	if err != nil {
		return err
	}
	absent, err := lookUp(ctx, caches.Lookup, roots.All())
	if err != nil {
		return err
	}
	e := lacking(fmt.Sprintf("evaluation %d of %s", r.Eval.ID, redact.Text(client.URL())), roots.All(), absent)
	if e == nil {
		return f.checkSigned(ctx, caches, roots)
	}
	build := slices.IndexFunc(r.Builds, func(b hydra.Build) bool {
		return slices.Contains(slices.Collect(maps.Values(b.Outputs)), e.Missing[0])
	})
	builtThere := func(context.Context, *NotCachedError) []Finding {
		return f.builtThere(ctx, client, r.Builds[build], e.Missing[0], e)
	}
	return f.look(ctx, e, builtThere, f.configured)
}

// UnsignedRootError is a path that Hydra names and whose only proof is its content address. That proves which contents
// the path has, and it was Hydra that chose the path: whoever can write to it would choose what runs in the image.
type UnsignedRootError struct {
	Path storepath.Path
	// Hydra and Cache are the URLs of who named it and who has it, redacted.
	Hydra, Cache string
}

func (e *UnsignedRootError) Error() string {
	return fmt.Sprintf("asking Hydra: %s is what %s names, and lacks a signature by a trusted key in %s: "+
		"that it is content-addressed says nothing of who made it", e.Path, e.Hydra, e.Cache)
}

// checkSigned makes sure that a trusted key signed the roots, where signatures are required.
func (f Finder) checkSigned(ctx context.Context, caches *cache.Set, roots Result) error {
	for _, p := range roots.All() {
		found, err := caches.Lookup(ctx, p)
		if err != nil {
			return err
		}
		if caches.RequiresSigs() && found.ProvesItself() {
			return &UnsignedRootError{Path: p, Hydra: redact.Text(f.Settings.HydraURL), Cache: found.CacheURL}
		}
	}
	return nil
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
func (f Finder) hydraClient() (client *hydra.Client, closeConnections func(), err error) {
	options := hydra.Options{
		URL: f.Settings.HydraURL, UserAgent: f.Servers.UserAgent, Log: f.Log,
		Timeout: 2 * f.Servers.Stall, // Hydra's database is slow: an answer may take twice as long as a download may stand still
	}
	transport, err := cache.NewTransport(f.Servers)
	if err != nil {
		return nil, nil, fmt.Errorf("asking Hydra: %w", err)
	}
	options.Transport = transport
	if login, ok := f.login(); ok {
		options.Username, options.Password, options.Token = login.Username, login.Password, login.Token
	}
	client, err = hydra.New(options)
	return client, transport.Close, err
}

// login is what a cache at Hydra's address would get, nothing where the address cannot be read.
func (f Finder) login() (cache.Credential, bool) {
	login, ok, err := cache.LoginFor(f.Servers, f.Settings.HydraURL)
	return login, ok && err == nil
}

// hydraStore asks Hydra itself, where it is a binary cache, for what Hydra has built, whoever signed that: nothing of it is
// fetched. A build's JSON does not change when its outputs are garbage-collected.
func (f Finder) hydraStore(ctx context.Context, p storepath.Path) (*cache.Found, error) {
	options := f.Servers
	options.URLs, options.Keys, options.RequireSigs = []string{f.Settings.HydraURL}, nil, false
	options.Log, options.Wrap = silent, hydra.NewSessions(options.UserAgent).Wrap
	own, err := cache.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	defer own.Close()
	return own.Lookup(ctx, p)
}
