package cache

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// logins knows which authorization goes to which origin, and to nobody else.
type logins struct {
	byOrigin map[string][]login // by "scheme://host:port", in the order they were given
	netrc    Netrc
	trusted  map[string]bool // origins the user named as caches, where netrc holds also without TLS
}

// login is the Authorization header for a cache and what lies below its path.
type login struct{ path, header string }

// covers reports whether the login is for a path.
func (l login) covers(path string) bool {
	rest, below := strings.CutPrefix(path, l.path)
	return below && (rest == "" || rest[0] == '/')
}

// origin is the scheme, host and port of a URL in one canonical form.
func origin(u *url.URL) string {
	scheme := strings.ToLower(u.Scheme)
	return scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), portOf(u))
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "http") {
		return "80"
	}
	return "443"
}

// newLogins gathers logins; one in a URL wins over a binding's, which wins over netrc.
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
		l.trusted[origin(a.base)] = true
		if a.user != nil {
			password, _ := a.user.Password()
			l.set(a.base, basic(a.user.Username(), password))
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
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil
	}
	switch {
	case c.Token != "":
		l.set(u, "Bearer "+c.Token)
	case c.Username != "" || c.Password != "":
		l.set(u, basic(c.Username, c.Password))
	}
	return nil
}

// set gives a cache its login, which replaces an earlier one of the same cache.
func (l *logins) set(u *url.URL, header string) {
	o, path := origin(u), strings.TrimRight(u.Path, "/")
	others := slices.DeleteFunc(l.byOrigin[o], func(other login) bool { return other.path == path })
	l.byOrigin[o] = append(others, login{path: path, header: header})
}

// given is the login of the cache that a URL lies below, of the innermost one where caches lie in one another. What
// lies below none, such as a NAR beside its cache, takes the first login of its host.
func (l *logins) given(u *url.URL) string {
	all := l.byOrigin[origin(u)]
	if len(all) == 0 {
		return ""
	}
	best := all[0]
	for _, each := range all[1:] {
		if each.covers(u.Path) && (!best.covers(u.Path) || len(each.path) > len(best.path)) {
			best = each
		}
	}
	return best.header
}

// header is the Authorization for a URL, or "".
func (l *logins) header(u *url.URL) string {
	if h := l.given(u); h != "" {
		return h
	}
	if e, ok := l.netrc.For(u, l.trusted[origin(u)]); ok {
		return basic(e.Login, e.Password)
	}
	return ""
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// authorizer adds the login of each request's own origin, on every hop of a redirect anew.
type authorizer struct {
	logins *logins
	next   http.RoundTripper
}

func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	h := a.logins.header(req.URL)
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
