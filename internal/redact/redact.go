// Package redact hides what may be secret in URLs, in texts of one's own and in those of others.
package redact

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// harmless are the query parameters that may be shown: Nix's store settings and harmonia's NAR hash. The value of
// any other parameter could be a signature or a token.
var harmless = map[string]bool{
	"priority": true, "region": true, "endpoint": true, "profile": true, "scheme": true, "compression": true,
	"want-mass-query": true, "trusted": true, "hash": true, "addressing-style": true,
	// those of flake references
	"dir": true, "ref": true, "rev": true, "submodules": true, "shallow": true, "narHash": true, "host": true,
}

var (
	// loginInValue finds what may be a login even in a harmless parameter, such as an endpoint.
	loginInValue = regexp.MustCompile(`@|%40`)
	inText       = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+`)
	// loginInText finds a login in what looks like a URL and is none.
	loginInText = regexp.MustCompile(`://[^/\s"'<>@]+@`)
)

// URL is a URL without user name and password, and with the values of unknown parameters hidden. The user name of ssh,
// which is no secret, stays.
func URL(u *url.URL) string {
	if IsMisread(u) {
		return u.Scheme + "://hidden"
	}
	if strings.Contains(u.Opaque, "@") { // a login and a host without a scheme before them
		return u.Scheme + ":hidden"
	}
	clean := *u
	if clean.User = nil; u.User != nil && strings.HasSuffix(u.Scheme, "ssh") {
		clean.User = url.User(u.User.Username())
	}
	clean.Fragment, clean.RawFragment = "", ""
	if clean.RawQuery != "" {
		parts := strings.Split(clean.RawQuery, "&")
		for i, part := range parts {
			if name, value, found := strings.Cut(part, "="); found && (!harmless[name] || loginInValue.MatchString(value)) {
				parts[i] = name + "=hidden"
			} else if !found && !harmless[name] {
				parts[i] = "hidden"
			}
		}
		clean.RawQuery = strings.Join(parts, "&")
	}
	return clean.String()
}

// IsMisread reports whether a URL may have a login that was not found in it: a password with one of / ? # in it ends before that,
// and is the host's name or its port.
func IsMisread(u *url.URL) bool {
	rest := u.Path + "?" + u.RawQuery + "#" + u.Fragment
	return strings.Contains(rest, "@") && (u.User != nil || u.Port() != "" && !strings.ContainsAny(u.Host, ".[") && u.Hostname() != "localhost")
}

// Text redacts every URL inside a text, such as an error of net/http.
func Text(s string) string {
	s = inText.ReplaceAllStringFunc(s, func(found string) string {
		u, err := url.Parse(found)
		if err != nil {
			scheme, _, _ := strings.Cut(found, "://")
			return scheme + "://(unreadable URL)"
		}
		return URL(u)
	})
	if !strings.Contains(s, "@") {
		return s
	}
	return loginInText.ReplaceAllStringFunc(s, func(found string) string {
		if user := found[len("://") : len(found)-1]; !strings.Contains(user, ":") {
			return found // the user name of ssh
		}
		return "://"
	})
}

// Error keeps an error's identity for errors.Is and errors.As while its text shows no secret. Of a *url.Error the cause
// alone is left.
func Error(err error) error {
	if err == nil {
		return nil
	}
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	text := Text(err.Error())
	if text == err.Error() {
		return err
	}
	return &redacted{text: text, cause: err}
}

type redacted struct {
	text  string
	cause error
}

func (e *redacted) Error() string        { return e.text }
func (e *redacted) Is(target error) bool { return errors.Is(e.cause, target) }
func (e *redacted) As(target any) bool   { return errors.As(e.cause, target) }
