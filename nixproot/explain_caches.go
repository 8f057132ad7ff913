package nixproot

import (
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// cacheFixes are for what caches say, and the connections to them.
func cacheFixes(err error) []string {
	var (
		notFound  *cache.NotFoundError
		reference *closure.MissingError
		unopened  *cache.OpenError
		unfetched *cache.FetchError
		unread    *cache.AuthoritiesError
		limit     *closure.LimitError
	)
	switch {
	case errors.As(err, &limit):
		return adviceOn(topicEndless)
	case errors.As(err, &notFound) && errors.As(err, &reference) && len(reference.Chain) > 1:
		return dependencyFixes(reference, notFound)
	case errors.As(err, &notFound):
		return askedFixes(notFound.Asked)
	case errors.As(err, &unopened):
		return askedFixes(unopened.Asked)
	case errors.As(err, &unfetched):
		return askedFixes(unfetched.Tried)
	case errors.As(err, &unread):
		return adviceOn(topicAuthorities, "source", unread.Source)
	case errors.Is(err, cache.ErrNoKeys):
		return adviceOn(topicNoKeys)
	}
	return nil
}

// askedFixes looks at what each cache said.
func askedFixes(asked []cache.Answer) []string {
	var fixes []string
	for _, reason := range []cache.Reason{cache.Untrusted, cache.Invalid, cache.Login, cache.Down, cache.Absent} {
		for _, a := range asked {
			if a.Reason != reason {
				continue
			}
			for _, fix := range answerFixes(a) {
				if !slices.Contains(fixes, fix) {
					fixes = append(fixes, fix)
				}
			}
		}
	}
	return fixes
}

// answerFixes is for one cache's answer.
func answerFixes(a cache.Answer) []string {
	switch a.Reason {
	case cache.Untrusted:
		return trustFix(a)
	case cache.Absent:
		fixes := adviceOn(topicAbsent)
		if status := (*cache.StatusError)(nil); errors.As(a.Err, &status) && status.Code == http.StatusForbidden {
			fixes = append(fixes, adviceOn(topicPrivate)...)
		}
		return fixes
	}
	if fixes := connectionFix(a.Err); fixes != nil {
		return fixes
	}
	switch a.Reason {
	case cache.Login:
		return adviceOn(topicLogin)
	case cache.Down:
		if u, err := url.Parse(a.URL); err == nil && isLoopback(u.Hostname()) {
			return slices.Concat(adviceOn(topicLoopback), adviceOn(topicDown))
		}
		return adviceOn(topicDown)
	case cache.Invalid:
		return adviceOn(topicInvalid)
	}
	return nil
}

// isLoopback reports whether a host is the machine that asks, which in a build is a container.
func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// connectionFix is for what a server, a proxy or TLS said of a request.
func connectionFix(err error) []string {
	var (
		proxy       *cache.ProxyError
		status      *cache.StatusError
		scheme      *cache.SchemeError
		unknown     x509.UnknownAuthorityError
		host        x509.HostnameError
		certificate x509.CertificateInvalidError
		dial        *net.OpError
		name        *net.DNSError
	)
	switch {
	case errors.As(err, &proxy) && proxy.Code == http.StatusProxyAuthRequired,
		errors.As(err, &status) && status.Code == http.StatusProxyAuthRequired:
		return adviceOn(topicProxyLogin)
	case errors.As(err, &proxy):
		return adviceOn(topicProxy)
	case familyFix(err) != nil:
		return familyFix(err)
	case errors.As(err, &dial) && dial.Op == "proxyconnect":
		return adviceOn(topicProxyDown)
	case errors.As(err, &name) && name.IsNotFound:
		return adviceOn(topicHost)
	case errors.As(err, &status) && status.Region != "":
		return adviceOn(topicRegion, "region", status.Region)
	case errors.As(err, &status) && status.S3Code == "AccessDenied":
		return adviceOn(topicBucketDenied)
	case errors.As(err, &status) && status.S3Code == "NoSuchBucket":
		return adviceOn(topicBucketName)
	case errors.As(err, &status) && status.S3Code != "":
		return adviceOn(topicS3)
	case errors.As(err, &unknown):
		return adviceOn(topicAuthority)
	case errors.As(err, &host):
		return adviceOn(topicHostName)
	case errors.As(err, &certificate):
		return adviceOn(topicExpired)
	case errors.As(err, &scheme) && scheme.TLS:
		return adviceOn(topicTLSPort)
	case errors.As(err, &scheme):
		return adviceOn(topicPlainPort)
	}
	return nil
}

// familyFix is for an address that no connection can be made to where the build runs: there is no network of its family, or
// it is on a link that it does not name. For any other it is nil.
func familyFix(err error) []string {
	address := dialled(err)
	if address == nil {
		return nil
	}
	var (
		silent *hydra.AnswerError
		host   = "the cache's host"
	)
	switch outer := (*net.OpError)(nil); {
	case errors.As(err, &outer) && outer.Op == "proxyconnect":
		host = "the proxy's host"
	case errors.As(err, &silent):
		host = "Hydra's host"
	}
	ipv4 := address.IP.To4() != nil
	unreachable := errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EAFNOSUPPORT) ||
		errors.Is(err, syscall.EADDRNOTAVAIL) && !ipv4 // which also is what a machine without free ports says
	switch {
	case address.IP.IsLinkLocalUnicast() && errors.Is(err, syscall.EINVAL): // also where the zone is none of this machine's
		return adviceOn(topicZone, "address", address.IP.String())
	case unreachable && ipv4:
		return adviceOn(topicFamily, "family", "IPv4", "record", "an AAAA record", "host", host)
	case unreachable:
		return adviceOn(topicFamily, "family", "IPv6", "record", "an A record", "host", host)
	}
	return nil
}

// dialled is the address that a connection could not be made to, nil where that is not what an error is about.
func dialled(err error) *net.TCPAddr {
	for op := (*net.OpError)(nil); errors.As(err, &op); err = op.Err {
		if address, ok := op.Addr.(*net.TCPAddr); ok && op.Op == "dial" {
			return address
		}
	}
	return nil
}

// trustFix is for a path that no trusted key signed, with the line to add.
func trustFix(a cache.Answer) []string {
	if len(a.Keys) == 0 {
		return adviceOn(topicUnsigned)
	}
	var line []string
	for _, key := range a.Trusted {
		if slices.Contains(a.Keys, key.Name) {
			return adviceOn(topicAltered)
		}
		line = append(line, key.String())
	}
	line = append(line, a.Keys[0]+":<its public key in base64>")
	return adviceOn(topicUntrusted, "keys", strings.Join(line, " "))
}

// dependencyFixes are for a closure of which a cache has the root and lacks a reference.
func dependencyFixes(missing *closure.MissingError, why *cache.NotFoundError) []string {
	for _, a := range why.Asked {
		if a.Reason != cache.Absent {
			return askedFixes(why.Asked) // the reference may be there, but not for us
		}
	}
	needed, by := missing.Chain[len(missing.Chain)-1], missing.Chain[len(missing.Chain)-2]
	fixes := adviceOn(topicReference, "root", by.Name(), "reference", needed.Name())
	if !slices.ContainsFunc(why.Asked, func(a cache.Answer) bool { return strings.Contains(a.URL, "cache.nixos.org") }) {
		fixes = append(fixes, adviceOn(topicDefaultCache)...)
	}
	return fixes
}
