package cache

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/origin"
)

// logins knows which authorization goes to which origin, and to nobody else.
type logins struct {
	byOrigin map[string][]login // by "scheme://host:port", in the order they were given
	netrc    Netrc
	trusted  map[string]bool // origins the user named as caches, where netrc holds also without TLS
}

// login is a credential for a cache and what lies below its path.
type login struct {
	path string
	Credential
}

// covers reports whether the login is for a path.
func (l login) covers(path string) bool {
	rest, below := strings.CutPrefix(path, l.path)
	return below && (rest == "" || rest[0] == '/')
}

// newLogins gathers logins; one in a URL wins over a given one, which wins over netrc.
func newLogins(addresses []*address, given []Credential, netrc string, env func(string) string) (*logins, error) {
	l := &logins{byOrigin: map[string][]login{}, trusted: map[string]bool{}}
	own, err := OwnNetrc(env)
	if err != nil {
		return nil, err
	}
	l.netrc = append(ParseNetrc(netrc), ParseNetrc(own)...)
	for _, c := range given {
		if err := l.add(c); err != nil {
			return nil, err
		}
	}
	for _, a := range addresses {
		if a.base.Scheme != "http" && a.base.Scheme != "https" {
			continue
		}
		l.trusted[origin.Of(a.base)] = true
		if a.user != nil {
			password, _ := a.user.Password()
			l.set(a.base, Credential{Username: a.user.Username(), Password: password})
		}
	}
	return l, nil
}

func (l *logins) add(c Credential) error {
	raw := c.URL
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return fmt.Errorf("reading the credential of a cache: its url is not a URL or host name")
	}
	if u.Scheme == "http" || u.Scheme == "https" {
		l.set(u, c)
	}
	return nil
}

// set gives a cache its login, which replaces an earlier one of the same cache.
func (l *logins) set(u *url.URL, c Credential) {
	if c.Authorization() == "" {
		return
	}
	o, path := origin.Of(u), strings.TrimRight(u.Path, "/")
	others := slices.DeleteFunc(l.byOrigin[o], func(other login) bool { return other.path == path })
	l.byOrigin[o] = append(others, login{path, c})
}

// given is the login of the cache that a URL lies below, of the innermost one where caches lie in one another. What
// lies below none, such as a NAR beside its cache, takes the first login of its host.
func (l *logins) given(u *url.URL) (c Credential, ok bool) {
	all := l.byOrigin[origin.Of(u)]
	if len(all) == 0 {
		return Credential{}, false
	}
	best := all[0]
	for _, each := range all[1:] {
		if each.covers(u.Path) && (!best.covers(u.Path) || len(each.path) > len(best.path)) {
			best = each
		}
	}
	return best.Credential, true
}

// find is the login for a URL, the zero one where there is none.
func (l *logins) find(u *url.URL) Credential {
	if c, ok := l.given(u); ok {
		return c
	}
	e, _ := l.netrc.For(u, l.trusted[origin.Of(u)])
	return Credential{Username: e.Login, Password: e.Password}
}

// Authorization is the header of that name that a credential is sent as, "" of the zero one.
func (c Credential) Authorization() string {
	switch {
	case c.Token != "":
		return "Bearer " + c.Token
	case c.Username != "" || c.Password != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
	}
	return ""
}

// LoginFor is the login that a Set with these options would send to a server whose address the user has named; ok is false where
// there is none.
func LoginFor(o Options, server string) (login Credential, ok bool, err error) {
	o = o.withDefaults()
	named, err := parseAddress(server)
	if err != nil {
		return Credential{}, false, err
	}
	addresses := []*address{named}
	for _, raw := range o.URLs {
		if a, err := parseAddress(raw); err == nil {
			addresses = append(addresses, a)
		}
	}
	all, err := newLogins(addresses, o.Credentials, o.Netrc, o.Getenv)
	if err != nil {
		return Credential{}, false, err
	}
	if login = all.find(named.base); login.Authorization() == "" {
		return Credential{}, false, nil
	}
	login.URL = named.base.String()
	return login, true, nil
}

// authorizer adds the login of each request's own origin, on every hop of a redirect anew.
type authorizer struct {
	logins *logins
	next   http.RoundTripper
}

func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	h := a.logins.find(req.URL).Authorization()
	if h != "" && !signedURL(req.URL) && req.Header.Get("Authorization") == "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", h)
	}
	res, err := a.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := checkLocation(res); err != nil {
		drain(res.Body)
		return nil, err
	}
	return res, nil
}

// signedURL reports whether a URL carries its own authorization, as presigned S3 URLs do; S3 refuses a second one.
func signedURL(u *url.URL) bool {
	q := u.RawQuery
	return strings.Contains(q, "X-Amz-Signature=") || strings.Contains(q, "AWSAccessKeyId=") ||
		strings.Contains(q, "X-Goog-Signature=")
}
