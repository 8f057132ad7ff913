// Package cache asks binary caches, Nix's substituters, for store paths: which path is where, who signed it, and the
// bytes of its NAR, decompressed and verified while they stream.
//
// The protocol is that of NixOS/nix: src/libstore/binary-cache-store.cc (nix-cache-info, narinfo, the NAR's file),
// http-binary-cache-store.cc, s3-binary-cache-store.cc and filetransfer.cc. Caches that are down, slow or wrong are
// noted and stepped over; what nobody could give is refused with the name of every cache that was asked.
package cache

import (
	"cmp"
	"net/http"
	"os"
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
	// Credentials are logins beside those of URLs and netrc files. Each is sent to its own scheme, host and port only;
	// where there are several for these, to what lies below the path of its URL.
	Credentials []Credential
	// Netrc is the text of netrc files that win over the user's own, which is $NETRC or ~/.netrc and may be missing.
	Netrc string
	// RootCAs are extra certificate authorities, added to the system's and to those of $NIX_SSL_CERT_FILE and
	// $SSL_CERT_FILE.
	RootCAs []Authorities
	// UserAgent names the program to the caches; "" is no name.
	UserAgent string
	// Log receives one line per thing worth telling (a cache that is down, the first failure of each kind); nil
	// discards them.
	Log func(format string, args ...any)
	// Stall is how long a NAR may bring less than 4 KiB a second (Nix: stalled-download-timeout); 0 means 30 s. Where no
	// other cache has it, its first byte is waited for ten times as long, as a cache may have to fetch it from elsewhere.
	Stall time.Duration
	// Policy are the other times that caches are waited for.
	Policy Policy
	// Wrap may put itself between the requests to HTTP caches, which have their Authorization by then, and the network:
	// for servers that want more of a login than that. Nil leaves it out.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Getenv reads the environment; nil means os.Getenv.
	Getenv func(string) string

	maxUnsignedSize int64 // tests have less than the constant
}

// maxUnsignedSize is the largest NarSize that is taken from a narinfo without a signature by a trusted key, in bytes, and what
// all NARs under way that only their content addresses prove may come to: a content address proves the contents only
// when all of them have come.
const maxUnsignedSize = 4 << 30

// Authorities are certificates of authorities.
type Authorities struct {
	// Source is where they come from, as errors say it: a variable, or whatever the caller has read them from.
	Source string
	// PEM holds them.
	PEM []byte
}

// Credential is a login for one cache.
type Credential struct {
	// URL is the cache's URL. A bare host means https.
	URL string
	// Username and Password are sent as Basic authorization.
	Username, Password string
	// Token is sent as Bearer authorization and wins over a password.
	Token string
}

func (o Options) withDefaults() Options {
	o.maxUnsignedSize = cmp.Or(o.maxUnsignedSize, maxUnsignedSize)
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	o.Policy = o.Policy.withDefaults()
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	return o
}
