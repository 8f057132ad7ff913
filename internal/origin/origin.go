// Package origin tells servers apart: a login is for one of them, and for nobody else.
package origin

import (
	"net"
	"net/url"
	"strings"
)

// Of is the scheme, host and port of a URL in one canonical form (RFC 6454, section 6).
func Of(u *url.URL) string {
	return strings.ToLower(u.Scheme) + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), Port(u))
}

// Port is the port of a URL: that of its scheme where none is given, of https where the scheme has another.
func Port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "http") {
		return "80"
	}
	return "443"
}
