package cache

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Set is several binary caches asked as one. It is safe for concurrent use; Close it when the run is over.
type Set struct {
	options Options
	reports []func() Report
	pool    *decompress.Pool
	http    *Transport
	network http.RoundTripper // the same, or what Options.Wrap made of it
	// unproven is what NARs under way that no signature proves may come to, all together: see maxUnsignedSize.
	unproven *semaphore.Weighted

	background context.Context // of probes and look-ups, which may outlive the caller that started them
	stop       context.CancelFunc

	mu       sync.Mutex
	caches   []*substituter // that can be used, best first; replaced when one joins, never changed
	probing  []*substituter // whose nix-cache-info is asked for
	unusable []*substituter // that cannot be used
	lookups  map[storepath.Path]*pending
	failed   map[offer]bool // narinfos whose NAR did not come
}

// offer is what one cache says of one path.
type offer struct {
	cache *substituter
	path  storepath.Path
}

// Open reads nix-cache-info of every cache in parallel. A cache that is down, is no binary cache or has another
// StoreDir is noted and not used; when none is left the error is an *OpenError. One that is slow to answer joins the
// others later. An address that cannot be read, and required signatures without any trusted key (ErrNoKeys), are
// errors in any case.
func Open(ctx context.Context, options Options) (*Set, error) {
	options = options.withDefaults()
	if options.RequireSigs && len(options.Keys) == 0 {
		return nil, ErrNoKeys
	}
	addresses, err := parseAddresses(options)
	if err != nil {
		return nil, err
	}
	s, caches, err := newSet(ctx, options, addresses)
	if err != nil {
		return nil, err
	}
	if err := s.probe(ctx, caches); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// parseAddresses reads all URLs; the same cache named twice is asked once.
func parseAddresses(options Options) ([]*address, error) {
	var all []*address
	seen := map[string]bool{}
	for _, raw := range options.URLs {
		a, err := parseAddress(raw)
		if err != nil {
			return nil, err
		}
		for _, name := range a.unknown {
			options.Log("binary cache %s: setting %q is unknown and ignored", a, text.Short(name))
		}
		if a.trusted && options.RequireSigs {
			options.Log("binary cache %s: setting \"trusted\" is ignored: what it serves has to be signed by a trusted key", a)
		}
		if !seen[a.identity()] {
			seen[a.identity()] = true
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("opening binary caches: none is named")
	}
	return all, nil
}

func newSet(ctx context.Context, options Options, addresses []*address) (*Set, []*substituter, error) {
	logins, err := newLogins(addresses, options.Credentials, options.Netrc, options.Getenv)
	if err != nil {
		return nil, nil, err
	}
	connections, err := NewTransport(options)
	if err != nil {
		return nil, nil, err
	}
	s := &Set{
		options: options, http: connections, network: connections,
		pool: decompress.NewPool(decompress.DefaultMemory()), unproven: semaphore.NewWeighted(options.maxUnsignedSize),
		lookups: map[storepath.Path]*pending{}, failed: map[offer]bool{},
	}
	if options.Wrap != nil {
		s.network = options.Wrap(connections)
	}
	s.background, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	caches := make([]*substituter, len(addresses))
	for i, a := range addresses {
		caches[i] = s.newSubstituter(a, logins)
		caches[i].index = i
		s.reports = append(s.reports, caches[i].report)
	}
	return s, caches, nil
}

func (s *Set) newSubstituter(a *address, logins *logins) *substituter {
	web := func(inner http.RoundTripper) *httpTransport {
		return &httpTransport{
			client: &http.Client{Transport: inner, CheckRedirect: followRedirects},
			logins: logins, userAgent: s.options.UserAgent,
		}
	}
	c := &substituter{
		address: a, policy: s.options.Policy, stall: s.options.Stall, pool: s.pool, log: s.options.Log,
		slots:   make(chan struct{}, LookupsAtOnce),
		limiter: &limiter{policy: s.options.Policy}, probed: make(chan struct{}),
	}
	authorized := &authorizer{logins: logins, next: s.network}
	switch a.base.Scheme {
	case "file":
		c.transport = &fileTransport{web: web(authorized)}
	case "s3":
		base := a.httpBase()
		signer := &s3Signer{
			next: authorized, host: base.Host, region: a.region(), profile: a.s3.profile, log: s.options.Log, now: time.Now,
		}
		c.transport = &s3Transport{bucket: a.base, base: base, web: web(signer)}
	default:
		c.transport = web(authorized)
	}
	return c
}

// LookupsAtOnce is how many narinfos each cache is asked for at the same time: enough to hide a distant cache's latency. More
// wait for their turn, so that a cache in which they do would seem to be slower than another: whoever looks up many paths
// calls Lookup no more often than that at the same time.
const LookupsAtOnce = 64

// Usable gives the URLs, as they were given to Open, of the caches that could be opened, best first. They may hold
// passwords.
func (s *Set) Usable() []string {
	var urls []string
	for _, c := range s.ready() {
		urls = append(urls, c.address.given)
	}
	return urls
}

// RequiresSigs reports whether a path that neither a trusted key signed nor its content address proves is refused.
func (s *Set) RequiresSigs() bool { return s.options.RequireSigs }

// Close ends what is under way and closes the connections.
func (s *Set) Close() error {
	s.stop()
	s.http.Close()
	return nil
}

// Report says what each cache did, in the order of Options.URLs.
func (s *Set) Report() []Report {
	out := make([]Report, len(s.reports))
	for i, report := range s.reports {
		out[i] = report()
	}
	return out
}

// Found is a valid narinfo from a cache, with the signature that was checked.
type Found struct {
	*narinfo.NarInfo
	// CacheURL is the cache it came from, redacted.
	CacheURL string
	// Signature is the one by a trusted key that proves it; the zero one when its content address does, or signatures are
	// off.
	Signature narinfo.Signature

	cache *substituter
	// provesItself says that the NAR's contents have to match the content address, as no signature proves them.
	provesItself bool
}

// ProvesItself reports whether the path's content address, and no signature, proves it.
func (f *Found) ProvesItself() bool { return f.provesItself }
