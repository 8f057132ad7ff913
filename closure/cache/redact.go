package cache

import (
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// harmless are the query parameters that may be shown: Nix's store settings and harmonia's NAR hash. The value of
// any other parameter could be a signature or a token.
var harmless = map[string]bool{
	"priority": true, "region": true, "endpoint": true, "profile": true, "scheme": true, "compression": true,
	"want-mass-query": true, "trusted": true, "hash": true, "addressing-style": true,
}

// loginInValue finds what may be a login even in a harmless parameter, such as an endpoint.
var loginInValue = regexp.MustCompile(`@|%40`)

// redact is a URL fit for logs: without user name and password, and with the values of unknown parameters hidden.
func redact(u *url.URL) string {
	clean := *u
	clean.User = nil
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

var urlInText = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+`)

// Redact gives a text with every URL in it fit for logs: without user name and password, and with the values of
// parameters that are not known to be harmless hidden.
func Redact(text string) string { return redactText(text) }

// shownName is a name that a cache made up, fit for logs: quoted where it has blanks or what moves a terminal's cursor.
func shownName(name string) string {
	name = clip(name)
	odd := func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar }
	if strings.ContainsFunc(name, odd) {
		return strconv.Quote(name)
	}
	return name
}

// shownText is a sentence of somebody else's, fit for logs: in one line and without what moves a terminal's cursor.
func shownText(text string) string {
	text = strings.Join(strings.Fields(clip(redactText(text))), " ")
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// redactText redacts every URL inside a text, such as an error of net/http.
func redactText(s string) string {
	return urlInText.ReplaceAllStringFunc(s, func(found string) string {
		u, err := url.Parse(found)
		if err != nil {
			scheme, _, _ := strings.Cut(found, "://")
			return scheme + "://(unreadable URL)"
		}
		return redact(u)
	})
}

// redactError keeps an error's identity for errors.Is and errors.As while its text shows no secret.
func redactError(err error) error {
	if err == nil {
		return nil
	}
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	text := redactText(err.Error())
	if text == err.Error() {
		return err
	}
	return &redactedError{text: text, cause: err}
}

type redactedError struct {
	text  string
	cause error
}

func (e *redactedError) Error() string        { return e.text }
func (e *redactedError) Is(target error) bool { return errors.Is(e.cause, target) }
func (e *redactedError) As(target any) bool   { return errors.As(e.cause, target) }
