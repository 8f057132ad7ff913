package nixproot

import (
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
	bindings    []cacheBinding
	stall       time.Duration // see Config.StallTimeout
	// sessions are those with private Hydras among the caches.
	sessions *hydra.Sessions
}

// gatherCaches joins the settings with the service bindings. Caches of bindings are asked first: they are the
// user's own.
func gatherCaches(config Config, bindings []cacheBinding) (cacheSettings, error) {
	s := cacheSettings{
		keys: slices.Clone(config.TrustedKeys), requireSigs: config.RequireSigs,
		bindings: bindings, stall: config.StallTimeout,
		sessions: hydra.NewSessions(userAgent),
	}
	for _, b := range bindings {
		keys, err := narinfo.ParseKeys(b.PublicKeys)
		if err != nil {
			return s, fmt.Errorf("reading public-key of the service binding %q: %w; a key looks like %s", b.Name, err, defaultKey)
		}
		s.keys = append(s.keys, keys...)
		if b.URL != "" && !slices.Contains(s.urls, b.URL) {
			s.urls = append(s.urls, b.URL)
		}
	}
	for _, u := range config.Substituters {
		if !slices.Contains(s.urls, u) {
			s.urls = append(s.urls, u)
		}
	}
	s.keys = withoutTwins(s.keys)
	return s, nil
}

// withoutTwins are keys, each once: a binding may repeat what a setting says, and whoever does trusts nobody else by it.
func withoutTwins(keys narinfo.Keys) narinfo.Keys {
	var all narinfo.Keys
	for _, key := range keys {
		if !slices.ContainsFunc(all, func(k narinfo.PublicKey) bool { return k.String() == key.String() }) {
			all = append(all, key)
		}
	}
	return all
}

// options are those of package cache. The logins of bindings are for their own caches and no other port or
// scheme of the same host, so they do not stand in its netrc.
func (s cacheSettings) options(log func(string, ...any)) cache.Options {
	o := cache.Options{
		URLs: s.urls, Keys: s.keys, RequireSigs: s.requireSigs,
		UserAgent: userAgent, Log: log, Netrc: s.netrc(), Credentials: s.logins(), Stall: s.stall, Getenv: os.Getenv,
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

// forNix are some of the caches as Nix may have them. Nix writes the URLs that it asks into its state, which is kept,
// and trusts a cache whose URL says trusted=true: neither logins nor that are left in them. Logins go into a private
// netrc file. What that format cannot hold goes beside the URLs: tokens, and the second login of a host.
func (s cacheSettings) forNix(scratch string, urls []string, lookup func(string) string) (nixinstall.Settings, error) {
	n := nixinstall.Settings{
		TrustedPublicKeys: s.keyStrings(), RequireSigs: s.requireSigs, Authorization: map[string]string{},
		Wrap: map[string]func(http.RoundTripper) http.RoundTripper{},
	}
	own, err := cache.OwnNetrc(lookup)
	if err != nil {
		return n, err
	}
	file := cache.ParseNetrc(s.netrc() + own)
	logins := curlNetrc{}
	options := s.options(nil)
	options.Getenv = lookup
	for _, given := range urls {
		if err := s.addSubstituter(&n, &logins, options, given); err != nil {
			return n, err
		}
	}
	for _, b := range s.bindings {
		if b.Username != "" {
			logins.add(hostOf(b.URL), cache.NetrcEntry{Login: b.Username, Password: b.Password})
		}
		if b.CACertificate != "" {
			n.Authorities = append(n.Authorities, b.CACertificate)
		}
	}
	for _, e := range file {
		if host, ok := wholeHost(e.Machine); ok {
			logins.add(host, e)
		}
	}
	n.NetrcFile, err = writeNetrc(filepath.Join(scratch, "netrc"), logins.String())
	return n, err
}

// addSubstituter adds a cache for Nix, with what package cache logs in with there.
func (s cacheSettings) addSubstituter(n *nixinstall.Settings, logins *curlNetrc, options cache.Options, given string) error {
	u, err := url.Parse(given)
	if err != nil {
		return errors.New("giving the binary caches to Nix: one of their addresses is no URL")
	}
	login, _, err := cache.LoginFor(options, given)
	if err != nil {
		return fmt.Errorf("giving the binary caches to Nix: %w", err)
	}
	u.User, u.RawQuery = nil, withoutTrust(u.RawQuery)
	plain := u.String()
	n.Substituters = append(n.Substituters, plain)
	zoned := strings.Contains(u.Hostname(), "%") && login.Username+login.Password != "" // which Nix asks by another address
	if login.Token != "" || zoned || !logins.add(u.Hostname(), cache.NetrcEntry{Login: login.Username, Password: login.Password}) {
		n.Authorization[plain] = login.Authorization()
	}
	if s.sessions != nil {
		if wrap, ok := s.sessions.LoggedIn(u); ok {
			n.Wrap[plain] = wrap
		}
	}
	return nil
}

// curlNetrc is a netrc file for curl, which has no ports, takes the first entry of a host even where that has no login,
// and reads nothing after a default entry (curl: lib/netrc.c).
type curlNetrc struct {
	hosts   []string // "" is the default entry
	entries []cache.NetrcEntry
}

// add gives a host its login, and reports false where it has another one.
func (n *curlNetrc) add(host string, e cache.NetrcEntry) bool {
	if e.Login == "" && e.Password == "" || slices.Contains(n.hosts, "") && !slices.Contains(n.hosts, host) {
		return true
	}
	for i, known := range n.hosts {
		if strings.EqualFold(known, host) {
			return n.entries[i].Login == e.Login && n.entries[i].Password == e.Password
		}
	}
	n.hosts, n.entries = append(n.hosts, host), append(n.entries, e)
	return true
}

// String is the file; what is in quotes may have any characters, and be empty.
func (n *curlNetrc) String() string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
	var text strings.Builder
	for i, e := range n.entries {
		machine := "machine " + n.hosts[i]
		if n.hosts[i] == "" {
			machine = "default"
		}
		fmt.Fprintf(&text, "%s login \"%s\" password \"%s\"\n", machine, quote.Replace(e.Login), quote.Replace(e.Password))
	}
	return text.String()
}

// wholeHost is the host of a netrc entry; ok is false where that is for one port of it, which curl cannot tell from others.
func wholeHost(machine string) (host string, ok bool) {
	if _, _, err := net.SplitHostPort(machine); err == nil {
		return "", false
	}
	return strings.TrimSuffix(strings.TrimPrefix(machine, "["), "]"), true
}

// withoutTrust drops from a URL's query what would have Nix trust the cache without a signature.
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
