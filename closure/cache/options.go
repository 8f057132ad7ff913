// Package cache asks binary caches, Nix's substituters, for store paths: which path is where, who signed it, and the
// bytes of its NAR, decompressed and verified while they stream.
//
// The protocol is that of NixOS/nix: src/libstore/binary-cache-store.cc (nix-cache-info, narinfo, the NAR's file),
// http-binary-cache-store.cc, s3-binary-cache-store.cc and filetransfer.cc. Caches that are down, slow or wrong are
// noted and stepped over; what nobody could give is refused with the name of every cache that was asked.
package cache

import (
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

// Options is everything a Set needs to know. Only URLs is mandatory, and Keys unless signatures are turned off.
type Options struct {
	// URLs are the caches as the user wrote them, in order of preference among equal priorities: http://, https://,
	// file:// or s3:// with Nix's settings as query (priority; for s3 also region, endpoint, profile, scheme and
	// addressing-style). A bare absolute path is a file:// cache. User name and password may stand in the URL.
	URLs []string
	// Keys are the trusted public keys. Without RequireSigs they are only used to say who signed a path.
	Keys narinfo.Keys
	// RequireSigs refuses every path that neither a trusted key signed nor its own content address proves.
	RequireSigs bool
	// Credentials are logins from service bindings. Each is sent to its own scheme, host and port only; where there
	// are several for these, to what lies below the path of its URL.
	Credentials []Credential
	// Netrc is the text of netrc files that win over the user's own, which is $NETRC or ~/.netrc and may be missing.
	Netrc string
	// RootCAs are extra certificate authorities in PEM, added to the system's and to those of $NIX_SSL_CERT_FILE and
	// $SSL_CERT_FILE.
	RootCAs [][]byte
	// Concurrency is how many NARs may stream at the same time; 0 means 16, Nix's default.
	Concurrency int
	// UserAgent names the program to the caches; "" means a default.
	UserAgent string
	// Log receives one line per thing worth telling (a cache that is down, the first failure of each kind); nil
	// discards them.
	Log func(format string, args ...any)
	// Retry says what is tried again and how patiently; its zero value means DefaultRetry.
	Retry RetryPolicy
	// XZ chooses the xz decoder: "auto" or "" (the fastest that works here), "go" or "program".
	XZ string
	// DecodeMemory bounds the windows of all decoders together, in bytes; 0 means 4 MiB for each core: two NARs of
	// zstd's default level. Each core may always have a decoder with a window of up to 8 MiB, as xz's default level
	// wants it, and one decoder may always run.
	DecodeMemory int64
	// Wrap may put itself between the requests to HTTP caches, which have their Authorization by then, and the network:
	// for servers that want more of a login than that. Nil leaves it out.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Getenv reads the environment; nil means os.Getenv.
	Getenv func(string) string
}

// Credential is a login for one cache, as a service binding of type nix-binary-cache holds it.
type Credential struct {
	// URL is the cache's URL. A bare host means https.
	URL string
	// Username and Password are sent as Basic authorization.
	Username, Password string
	// Token is sent as Bearer authorization and wins over a password.
	Token string
}

// RetryPolicy is how patient a Set is. Values of zero are replaced by those of DefaultRetry, and so is Jitter where
// all are zero.
type RetryPolicy struct {
	// Attempts is how often a request is made in all before its cache has failed. In a NAR, 256 KiB more of it, or a
	// sixteenth, start it anew.
	Attempts int
	// BaseDelay is the wait before the second attempt; it doubles up to MaxDelay.
	BaseDelay, MaxDelay time.Duration
	// Jitter is the share of a delay, 0 to 1, that is left to chance.
	Jitter float64
	// MaxRetryAfter bounds a server's Retry-After.
	MaxRetryAfter time.Duration
	// Connect, Answer and Stall are how long to wait for a connection, for a whole narinfo or a NAR's first byte, and
	// for the next byte of a NAR.
	Connect, Answer, Stall time.Duration
	// Alone is how long to wait for a NAR's first byte where no other cache has it: a cache that fetches it from
	// elsewhere when it is asked may take its time.
	Alone time.Duration
	// MinRate is what a NAR has to bring, in bytes per second over a time of Stall, where another cache has it too.
	MinRate int64
	// Patience is how long a better cache may stay silent once another one has given a valid answer, and how long a
	// cache may ask to be left in peace before a NAR is fetched from another one.
	Patience time.Duration
	// Greeting is how long Open waits for the other caches once one can be used. They are used from when they answer.
	Greeting time.Duration
	// DownAfter is how many requests in a row must fail, retries included, until a cache is left alone for the run.
	// After as many NARs it is set aside.
	DownAfter int
}

// DefaultRetry is the policy of a build: a dead cache costs seconds, a flapping one is waited for.
func DefaultRetry() RetryPolicy {
	return RetryPolicy{
		Attempts:      5,
		BaseDelay:     250 * time.Millisecond,
		MaxDelay:      10 * time.Second,
		Jitter:        0.5,
		MaxRetryAfter: 60 * time.Second,
		Connect:       15 * time.Second, // as in Nix
		Answer:        15 * time.Second,
		Stall:         30 * time.Second,
		Alone:         300 * time.Second, // Nix's stalled-download-timeout
		MinRate:       4 << 10,
		Patience:      time.Second,
		Greeting:      5 * time.Second,
		DownAfter:     3,
	}
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	d := DefaultRetry()
	if p == (RetryPolicy{}) {
		return d
	}
	p.Attempts = orDefault(p.Attempts, d.Attempts)
	p.BaseDelay = orDefault(p.BaseDelay, d.BaseDelay)
	p.MaxDelay = orDefault(p.MaxDelay, d.MaxDelay)
	p.MaxRetryAfter = orDefault(p.MaxRetryAfter, d.MaxRetryAfter)
	p.Connect = orDefault(p.Connect, d.Connect)
	p.Answer = orDefault(p.Answer, d.Answer)
	p.Stall = orDefault(p.Stall, d.Stall)
	p.Alone = orDefault(p.Alone, d.Alone)
	p.MinRate = orDefault(p.MinRate, d.MinRate)
	p.Patience = orDefault(p.Patience, d.Patience)
	p.Greeting = orDefault(p.Greeting, d.Greeting)
	p.DownAfter = orDefault(p.DownAfter, d.DownAfter)
	return p
}

func (o Options) withDefaults() Options {
	o.Concurrency = orDefault(o.Concurrency, 16)
	o.UserAgent = orDefault(o.UserAgent, "nix-hydra-buildpack")
	o.DecodeMemory = orDefault(o.DecodeMemory, int64(runtime.GOMAXPROCS(0))*4<<20)
	o.Retry = o.Retry.withDefaults()
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	return o
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}
