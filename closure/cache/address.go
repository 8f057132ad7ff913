package cache

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// address is one cache as the user named it, taken apart.
type address struct {
	given    string   // with everything in it, for Nix; never shown
	base     *url.URL // without user, settings and trailing slash
	user     *url.Userinfo
	priority *int // ?priority=, nil when not given
	s3       s3Settings
	unknown  []string // settings that mean nothing here
	trusted  bool     // ?trusted=, which here means nothing either
}

// s3Settings are the settings of an s3:// cache, named as in Nix.
type s3Settings struct{ region, endpoint, profile, scheme, style string }

// settings that Nix has for binary caches and that change nothing for somebody who only reads.
var ignoredSettings = map[string]bool{
	"compression": true, "compression-level": true, "parallel-compression": true, "index-debug-info": true,
	"local-nar-cache": true, "path-info-cache-size": true, "secret-key": true, "secret-keys": true,
	"store": true, "system-features": true, "want-mass-query": true, "write-nar-listing": true,
	"narinfo-compression": true, "ls-compression": true, "log-compression": true, "multipart-upload": true,
	"buffer-size": true,
}

// parseAddress reads a cache's URL. Its errors never repeat the URL's secrets.
func parseAddress(raw string) (*address, error) {
	given := raw
	raw = strings.TrimSpace(raw)
	if strings.HasPrefix(raw, "/") {
		raw = "file://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("parsing cache URL: it is not a URL")
	}
	a := &address{given: given, user: u.User}
	if err := a.readSettings(u); err != nil {
		return nil, err
	}
	base := *u
	base.User, base.RawQuery, base.Fragment, base.RawFragment, base.ForceQuery = nil, "", "", "", false
	base.Path, base.RawPath = strings.TrimRight(base.Path, "/"), strings.TrimRight(base.RawPath, "/")
	a.base = &base
	return a, a.check(u)
}

// CheckURL says what keeps a text from being the URL of a binary cache that can be asked here, nil where nothing does. It
// asks nobody. Its errors never repeat the URL's secrets.
func CheckURL(raw string) error {
	_, err := parseAddress(raw)
	return err
}

func (a *address) check(u *url.URL) error {
	switch u.Scheme {
	case "http", "https", "s3":
		if u.Host == "" {
			return fmt.Errorf("parsing cache URL %q: it names no host", redact.URL(u))
		}
		if u.Scheme == "s3" {
			return a.checkEndpoint()
		}
	case "file":
		if u.Host != "" && u.Host != "localhost" || !path.IsAbs(u.Path) {
			return fmt.Errorf("parsing cache URL %q: a file cache is file:///absolute/path", redact.URL(u))
		}
		a.base.Host = ""
	default:
		return fmt.Errorf("parsing cache URL %q: it begins with none of https://, http://, s3:// and file://", redact.URL(u))
	}
	return nil
}

// checkEndpoint refuses what is no host, and a login, which S3 has no use for and which would be shown.
func (a *address) checkEndpoint() error {
	u, err := url.Parse(a.httpBase().String())
	if err != nil || u.User != nil || u.Host == "" || strings.Contains(a.s3.endpoint, "@") {
		return fmt.Errorf("parsing cache URL %q: its endpoint has to be a host (of IPv6 in brackets), perhaps with a scheme and a port, "+
			"and no login: AWS credentials are found the usual way", redact.URL(a.base))
	}
	return nil
}

func (a *address) readSettings(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("parsing cache URL %q: its settings after the question mark are malformed", redact.URL(u))
	}
	for name, values := range query {
		value := values[len(values)-1]
		switch {
		case name == "priority":
			n, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("parsing cache URL %q: priority %q is not a number", redact.URL(u), value)
			}
			a.priority = &n
		case name == "trusted":
			a.trusted = value != "0" && value != "false"
		case u.Scheme == "s3" && a.s3.set(name, value):
		case !ignoredSettings[name]:
			a.unknown = append(a.unknown, name)
		}
	}
	if s := a.s3.scheme; s != "" && !strings.EqualFold(s, "http") && !strings.EqualFold(s, "https") {
		return fmt.Errorf("parsing cache URL %q: scheme is http or https", redact.URL(u))
	}
	return nil
}

func (s *s3Settings) set(name, value string) bool {
	switch name {
	case "region":
		s.region = value
	case "endpoint":
		s.endpoint = value
	case "profile":
		s.profile = value
	case "scheme":
		s.scheme = value
	case "addressing-style":
		s.style = value
	default:
		return false
	}
	return true
}

// resolve finds where a narinfo's URL field points: below the cache, or, when it is absolute, anywhere on HTTP.
func (a *address) resolve(ref string) (*url.URL, error) {
	u, err := url.Parse(ref)
	if err != nil || u.Opaque != "" || ref == "" {
		return nil, fmt.Errorf("URL %q is not a file of the cache", text.Short(redact.Text(ref)))
	}
	if u.IsAbs() {
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("URL %q: only http and https lead out of a cache", text.Short(redact.URL(u)))
		}
		return u, nil
	}
	above := slices.Contains(strings.Split(u.Path, "/"), "..")
	if u.Host != "" || strings.HasPrefix(u.Path, "/") || above {
		if a.base.Scheme != "http" && a.base.Scheme != "https" { // where it may lead anywhere on this machine
			return nil, fmt.Errorf("URL %q leads out of the cache", text.Short(redact.URL(u)))
		}
		return a.base.JoinPath("/").ResolveReference(u), nil
	}
	full := *a.base
	full.Path, full.RawPath = a.base.Path+"/"+u.Path, ""
	if a.base.RawPath != "" || u.RawPath != "" {
		full.RawPath = a.base.EscapedPath() + "/" + u.EscapedPath()
	}
	full.RawQuery = u.RawQuery
	return &full, nil
}

// String is the cache's name in logs.
func (a *address) String() string {
	if a.s3.endpoint != "" {
		return redact.URL(a.base) + "?endpoint=" + a.s3.endpoint
	}
	return redact.URL(a.base)
}

// identity is the same for two addresses of one cache.
func (a *address) identity() string {
	if a.base.Scheme == "s3" {
		return a.httpBase().String()
	}
	return a.base.String()
}
