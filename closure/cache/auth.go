package cache

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// logins knows which authorization goes to which origin, and to nobody else.
type logins struct {
	byOrigin map[string][]login // by "scheme://host:port", in the order they were given
	netrc    []netrcEntry
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
	own, err := ownNetrc(env)
	if err != nil {
		return nil, err
	}
	l.netrc = append(parseNetrc(netrc), own...)
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
	known := l.trusted[origin(u)]
	for _, e := range l.netrc {
		if e.login == "" && e.password == "" || !e.matches(u, known) {
			continue
		}
		return basic(e.login, e.password)
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

// netrcEntry is one machine of a netrc file; machine "" is the default entry.
type netrcEntry struct{ machine, login, password string }

// matches reports whether the entry's login may go to u. An entry without a port holds for the scheme's own port and
// for caches the user named; without TLS only the latter.
func (e netrcEntry) matches(u *url.URL, known bool) bool {
	if e.machine == "" {
		return known
	}
	if u.Scheme != "https" && !known {
		return false
	}
	host, port, err := net.SplitHostPort(e.machine)
	if err == nil {
		return strings.EqualFold(host, u.Hostname()) && port == portOf(u)
	}
	return strings.EqualFold(e.machine, u.Hostname()) && (known || portOf(u) == "443")
}

// ownNetrc reads the user's own file: $NETRC, else ~/.netrc. It need not be there, nor be readable.
func ownNetrc(env func(string) string) ([]netrcEntry, error) {
	path := env("NETRC")
	if home := env("HOME"); path == "" && home != "" {
		path = filepath.Join(home, ".netrc")
	}
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) || os.IsPermission(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading netrc: %w", err)
	}
	return parseNetrc(string(data)), nil
}

// parseNetrc reads the format of curl and Nix: machine, default, login, password, account and macdef, words that may
// be quoted, comments after "#" at the start of a word. What it does not know it skips.
func parseNetrc(text string) []netrcEntry {
	var entries []netrcEntry
	words := netrcWords(text)
	for i := 0; i < len(words); i++ {
		value := func() string {
			if i+1 < len(words) {
				i++
				return words[i]
			}
			return ""
		}
		switch words[i] {
		case "machine":
			entries = append(entries, netrcEntry{machine: value()})
		case "default":
			entries = append(entries, netrcEntry{})
		case "login", "password", "account":
			word := words[i]
			v := value()
			if len(entries) == 0 {
				continue
			}
			if last := &entries[len(entries)-1]; word == "login" {
				last.login = v
			} else if word == "password" {
				last.password = v
			}
		}
	}
	return entries
}

func netrcWords(text string) []string {
	var words []string
	macro := false
	for line := range strings.Lines(text) {
		if macro = macro && strings.TrimSpace(line) != ""; macro {
			continue
		}
		for rest := strings.TrimSpace(line); rest != "" && rest[0] != '#'; rest = strings.TrimSpace(rest) {
			var word string
			word, rest = netrcWord(rest)
			if word == "macdef" {
				macro = true
				break
			}
			words = append(words, word)
		}
	}
	return words
}

func netrcWord(s string) (word, rest string) {
	if s[0] != '"' {
		i := strings.IndexAny(s, " \t\r\n")
		if i < 0 {
			return s, ""
		}
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
