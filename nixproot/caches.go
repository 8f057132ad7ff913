package nixproot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// userAgent names this buildpack to the servers it asks.
const userAgent = "nix-hydra-buildpack"

// cacheSettings are the binary caches with everything that goes along with them, from settings and bindings.
type cacheSettings struct {
	urls        []string
	keys        narinfo.Keys
	requireSigs bool
	bindings    []CacheBinding
	concurrency int
	stall       time.Duration // see Config.StallTimeout
	// sessions are those with private Hydras among the caches.
	sessions *hydra.Sessions
}

// gatherCaches joins the settings with the service bindings. Caches of bindings are asked first: they are the
// user's own.
func gatherCaches(config Config, bindings []CacheBinding) (cacheSettings, error) {
	s := cacheSettings{
		keys: slices.Clone(config.TrustedKeys), requireSigs: config.RequireSigs,
		bindings: bindings, concurrency: cmp.Or(config.Concurrency, closure.DefaultDownloads()), stall: config.StallTimeout,
		sessions: hydra.NewSessions(userAgent),
	}
	for _, b := range bindings {
		keys, err := narinfo.ParseKeys(b.PublicKeys)
		if err != nil {
			return s, fmt.Errorf("reading public-key of the service binding %q: %w", b.Name, err)
		}
		s.keys = append(s.keys, keys...)
		if b.URL != "" {
			s.urls = append(s.urls, b.URL)
		}
	}
	for _, u := range config.Substituters {
		if !slices.Contains(s.urls, u) {
			s.urls = append(s.urls, u)
		}
	}
	return s, nil
}

// options are what package cache wants to know. The logins of bindings are for their own caches and no other port or
// scheme of the same host, so they do not stand in its netrc.
func (s cacheSettings) options(log func(string, ...any)) cache.Options {
	o := cache.Options{
		URLs: s.urls, Keys: s.keys, RequireSigs: s.requireSigs, Concurrency: s.concurrency,
		UserAgent: userAgent, Log: log, Netrc: s.netrc(), Credentials: s.logins(), Retry: cache.RetryPolicy{Stall: s.stall},
	}
	if s.sessions != nil {
		o.Wrap = s.sessions.Wrap
	}
	for _, b := range s.bindings {
		if b.CACertificate != "" {
			o.RootCAs = append(o.RootCAs, cache.Authorities{
				Source: fmt.Sprintf("the service binding %q", b.Name), PEM: []byte(b.CACertificate),
			})
		}
	}
	return o
}

// logins are those of the bindings that stand in no netrc.
func (s cacheSettings) logins() []cache.Credential {
	var logins []cache.Credential
	for _, b := range s.bindings {
		if b.Username != "" || b.Token != "" {
			logins = append(logins, cache.Credential{URL: b.URL, Username: b.Username, Password: b.Password, Token: b.Token})
		}
	}
	return logins
}

// netrc is the text of the bindings' netrc files.
func (s cacheSettings) netrc() string {
	var text strings.Builder
	for _, b := range s.bindings {
		if b.Netrc != "" {
			text.WriteString(strings.TrimSpace(b.Netrc) + "\n")
		}
	}
	return text.String()
}

// withLogin adds a login to each request to the origin of u, and to no other.
func withLogin(u *url.URL, login, password string) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if origin(r.URL) == origin(u) {
				r = r.Clone(r.Context())
				r.SetBasicAuth(login, password)
			}
			return next.RoundTrip(r)
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// writeNetrc writes a file for this user's eyes only; "" where there is nothing to write.
func writeNetrc(file, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("writing netrc: %w", err)
	}
	return file, nil
}

// netrcLogin writes a login as curl reads it, and with it Nix (curl: lib/netrc.c): words in quotes may have spaces, and
// be empty.
func netrcLogin(host, username, password string) string {
	word := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
	return fmt.Sprintf("machine %s login \"%s\" password \"%s\"\n", host, word.Replace(username), word.Replace(password))
}

// forNix are some of the caches as Nix may have them. Nix writes the URLs that it asks into its state, which is kept,
// and believes a cache whose URL says trusted=true: neither logins nor that are left in them. Logins go into a private
// netrc file, with those of bindings and the user's own netrc; tokens, which netrc has no word for, go beside the URLs.
func (s cacheSettings) forNix(scratch string, urls []string, lookup func(string) string) (nixinstall.Settings, error) {
	n := nixinstall.Settings{
		TrustedPublicKeys: s.keyStrings(), RequireSigs: s.requireSigs, Tokens: map[string]string{},
		Through: map[string]func(http.RoundTripper) http.RoundTripper{},
	}
	own, err := cache.OwnNetrc(lookup)
	if err != nil {
		return n, err
	}
	netrc := append(cache.ParseNetrc(s.netrc()), cache.ParseNetrc(own)...)
	var logins strings.Builder
	ported := map[string]cache.NetrcEntry{} // by host
	for _, given := range urls {
		u, err := url.Parse(given)
		if err != nil {
			return n, errors.New("giving the binary caches to Nix: one of their addresses is no URL")
		}
		token := s.tokenFor(u)
		if u.User != nil {
			password, _ := u.User.Password()
			logins.WriteString(netrcLogin(u.Hostname(), u.User.Username(), password))
			u.User, token = nil, ""
		}
		u.RawQuery = withoutTrust(u.RawQuery)
		plain := u.String()
		n.Substituters = append(n.Substituters, plain)
		if token != "" {
			n.Tokens[plain] = token
		}
		// curl knows no ports in a netrc file, so it gets such an entry for the host, where another has not taken that.
		if e, ok := netrc.For(u, true); ok && token == "" && net.ParseIP(e.Machine) == nil && strings.Contains(e.Machine, ":") {
			switch first, taken := ported[u.Hostname()]; {
			case !taken:
				ported[u.Hostname()] = e
				logins.WriteString(netrcLogin(u.Hostname(), e.Login, e.Password))
			case first.Login != e.Login || first.Password != e.Password:
				n.Through[plain] = withLogin(u, e.Login, e.Password)
			}
		}
		if s.sessions != nil {
			if wrap, ok := s.sessions.LoggedIn(u); ok {
				n.Through[plain] = wrap
			}
		}
	}
	for _, b := range s.bindings {
		if b.Username != "" {
			logins.WriteString(netrcLogin(hostOf(b.URL), b.Username, b.Password))
		}
		if b.CACertificate != "" {
			n.Authorities = append(n.Authorities, b.CACertificate)
		}
	}
	if own != "" {
		own += "\n"
	}
	n.NetrcFile, err = writeNetrc(filepath.Join(scratch, "netrc"), logins.String()+s.netrc()+own)
	return n, err
}

// tokenFor is the token of the binding for a cache's scheme, host and port, where these are of the web.
func (s cacheSettings) tokenFor(u *url.URL) string {
	if scheme := strings.ToLower(u.Scheme); scheme != "http" && scheme != "https" {
		return ""
	}
	for _, b := range s.bindings {
		if own, err := url.Parse(b.URL); err == nil && b.Token != "" && origin(own) == origin(u) {
			return b.Token
		}
	}
	return ""
}

// origin is a URL's scheme, host and port in one form.
func origin(u *url.URL) string {
	port := u.Port()
	switch {
	case port == "" && strings.EqualFold(u.Scheme, "https"):
		port = "443"
	case port == "" && strings.EqualFold(u.Scheme, "http"):
		port = "80"
	}
	return strings.ToLower(u.Scheme + "://" + u.Hostname() + ":" + port)
}

// withoutTrust drops from a URL's query what would have Nix believe the cache without a signature.
func withoutTrust(query string) string {
	settings := slices.DeleteFunc(strings.Split(query, "&"), func(setting string) bool {
		name, _, _ := strings.Cut(setting, "=")
		name, err := url.QueryUnescape(name)
		return err != nil || name == "trusted"
	})
	return strings.Join(settings, "&")
}

// open opens the set of caches.
func (s cacheSettings) open(ctx context.Context, log func(string, ...any)) (*cache.Set, error) {
	return cache.Open(ctx, s.options(log))
}

// keyStrings are the trusted keys as Nix's configuration has them.
func (s cacheSettings) keyStrings() []string {
	var keys []string
	for _, key := range s.keys {
		keys = append(keys, key.String())
	}
	return keys
}

// hostOf is a URL's host name without the port, "" where it has none.
func hostOf(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
