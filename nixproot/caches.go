package nixproot

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
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
}

// gatherCaches joins the settings with the service bindings. Caches of bindings are asked first: they are the
// user's own.
func gatherCaches(config Config, bindings []CacheBinding) (cacheSettings, error) {
	s := cacheSettings{
		keys: slices.Clone(config.TrustedKeys), requireSigs: config.RequireSigs,
		bindings: bindings, concurrency: cmp.Or(config.Concurrency, closure.DefaultDownloads()),
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

// options are what package cache wants to know. scratch is a private folder for the netrc of bindings.
func (s cacheSettings) options(scratch string, log func(string, ...any)) (cache.Options, error) {
	o := cache.Options{
		URLs: s.urls, Keys: s.keys, RequireSigs: s.requireSigs, Concurrency: s.concurrency,
		UserAgent: userAgent, Log: log,
	}
	for _, b := range s.bindings {
		if b.Username != "" || b.Token != "" {
			o.Credentials = append(o.Credentials, cache.Credential{
				URL: b.URL, Username: b.Username, Password: b.Password, Token: b.Token,
			})
		}
		if b.CACertificate != "" {
			o.RootCAs = append(o.RootCAs, []byte(b.CACertificate))
		}
	}
	netrc, err := s.netrc(scratch)
	o.Netrc = netrc
	return o, err
}

// netrc writes the netrc files of bindings and their logins into one private file, as Nix's netrc-file takes it; ""
// where no binding has any, so that the user's own is read.
func (s cacheSettings) netrc(scratch string) (string, error) {
	var text strings.Builder
	for _, b := range s.bindings {
		if b.Netrc != "" {
			text.WriteString(strings.TrimSpace(b.Netrc) + "\n")
		}
		if b.Username != "" {
			fmt.Fprintf(&text, "machine %s login %s password %s\n", hostOf(b.URL), b.Username, b.Password)
		}
	}
	if text.Len() == 0 {
		return "", nil
	}
	file := filepath.Join(scratch, "netrc")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return "", fmt.Errorf("writing netrc of service bindings: %w", err)
	}
	return file, nil
}

// forNix gives URLs as Nix may have them: without logins, since Nix writes the URLs that it asks into its state, which
// is kept. The logins go into a private netrc file, with those of bindings and the user's own netrc; "" where there are
// none.
func (s cacheSettings) forNix(scratch string, urls []string, lookup func(string) string) (plain []string, netrc string, err error) {
	var text strings.Builder
	for _, given := range urls {
		u, err := url.Parse(given)
		if err != nil || u.User == nil {
			plain = append(plain, given)
			continue
		}
		password, _ := u.User.Password()
		fmt.Fprintf(&text, "machine %s login %s password %s\n", u.Hostname(), u.User.Username(), password)
		u.User = nil
		plain = append(plain, u.String())
	}
	bindings, err := s.netrc(scratch)
	if err != nil {
		return nil, "", err
	}
	own := cmp.Or(lookup("NETRC"), filepath.Join(lookup("HOME"), ".netrc"))
	for _, file := range []string{bindings, own} {
		if contents, err := os.ReadFile(file); err == nil {
			text.Write(append(contents, '\n'))
		}
	}
	if text.Len() == 0 {
		return plain, "", nil
	}
	netrc = filepath.Join(scratch, "nix-netrc")
	if err := os.WriteFile(netrc, []byte(text.String()), 0o600); err != nil {
		return nil, "", fmt.Errorf("writing netrc for Nix: %w", err)
	}
	return plain, netrc, nil
}

// open opens the set of caches.
func (s cacheSettings) open(ctx context.Context, scratch string, log func(string, ...any)) (*cache.Set, error) {
	o, err := s.options(scratch, log)
	if err != nil {
		return nil, err
	}
	return cache.Open(ctx, o)
}

// keyStrings are the trusted keys as Nix's configuration has them.
func (s cacheSettings) keyStrings() []string {
	var keys []string
	for _, key := range s.keys {
		keys = append(keys, key.String())
	}
	return keys
}

// trusts reports whether a key of that name is trusted.
func (s cacheSettings) trusts(name string) bool {
	return slices.ContainsFunc(s.keys, func(key narinfo.PublicKey) bool { return key.Name == name })
}

// hostOf is a URL's host name without the port, "" where it has none.
func hostOf(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
