package nixproot

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

func TestExplainCaches(t *testing.T) {
	spec.Run(t, "advice", testExplainCaches)
}

func testExplainCaches(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	// says is what is said of a path that one cache gave this answer for.
	says := func(a cache.Answer) string {
		t.Helper()
		a.URL, a.Why = "https://cache.example", "why not"
		err := explain(fmt.Errorf("a step: %w", &cache.NotFoundError{Path: shop, Asked: []cache.Answer{a}}))
		Expect(err).To(MatchError(And(ContainSubstring(shop.String()), ContainSubstring("https://cache.example: why not"))))
		return err.Error()
	}

	it("gives the line to add for a key that is not trusted yet, and the only way around", func() {
		trusted, err := narinfo.ParseKeys(defaultKey)
		Expect(err).NotTo(HaveOccurred())
		Expect(says(cache.Answer{Reason: cache.Untrusted, Keys: []string{"mine-1"}, Trusted: trusted})).To(And(
			ContainSubstring(`BP_NIX_TRUSTED_PUBLIC_KEYS="`+defaultKey+` mine-1:<its public key in base64>"`),
			ContainSubstring("BP_NIX_REQUIRE_SIGS=false is the only way")))
		Expect(says(cache.Answer{Reason: cache.Untrusted})).To(And(ContainSubstring("nix store sign"),
			ContainSubstring("BP_NIX_REQUIRE_SIGS=false is the only way")))
	})

	it("does not say to trust what was altered under a trusted key's name", func() {
		trusted, err := narinfo.ParseKeys(defaultKey)
		Expect(err).NotTo(HaveOccurred())
		Expect(says(cache.Answer{Reason: cache.Untrusted, Keys: []string{trusted[0].Name}, Trusted: trusted})).To(And(
			ContainSubstring("whether the path was altered"), Not(ContainSubstring("BP_NIX"))))
	})

	it("says of a cache at localhost whose that is in a build, and that it may be down as well", func() {
		for _, url := range []string{"http://localhost:5000", "http://127.0.0.1", "https://[::1]:8443/x"} {
			err := explain(&cache.OpenError{Asked: []cache.Answer{{URL: url, Reason: cache.Down}}})
			Expect(err).To(MatchError(And(ContainSubstring("--network host"), ContainSubstring("are up"))), url)
		}
		for _, other := range []cache.Answer{{URL: "https://cache.example", Reason: cache.Down}, {URL: "http://localhost", Reason: cache.Invalid}} {
			Expect(explain(&cache.OpenError{Asked: []cache.Answer{other}})).NotTo(MatchError(ContainSubstring("--network host")))
		}
	})

	it("has the advice on several caches once, and first what is to be done whatever else there is", func() {
		Expect(askedSteps([]cache.Answer{{Reason: cache.Absent}, {Reason: cache.Down}, {Reason: cache.Absent}, {Reason: cache.Untrusted}})).To(HaveExactElements(
			ContainSubstring("nix store sign"), ContainSubstring("are up"), ContainSubstring("NIX_EXTRA_BINARY_CACHE")))
	})

	it("has for each cause what corrects that, and not what corrects another", func() {
		for _, c := range connectionCases {
			text := says(cache.Answer{Reason: cache.Down, Err: fmt.Errorf("asking: %w", c.err)})
			Expect(text).To(And(ContainSubstring(c.want), Not(ContainSubstring(c.not))), "%T", c.err)
		}
	})

	it("has advice on connections only where they lead to a cache, and where that says nothing of the path", func() {
		for _, c := range connectionCases {
			Expect(stepsFor(c.err)).To(BeEmpty(), "%T", c.err)
			for _, reason := range []cache.Reason{cache.Absent, cache.Untrusted} {
				Expect(says(cache.Answer{Reason: reason, Err: c.err})).NotTo(ContainSubstring(c.want), "%T", c.err)
			}
		}
	})

	it("says where logins, proxies and caches are set", func() {
		Expect(says(cache.Answer{Reason: cache.Login})).To(And(ContainSubstring("nix-binary-cache"), ContainSubstring("netrc")))
		Expect(says(cache.Answer{Reason: cache.Down})).To(ContainSubstring("HTTPS_PROXY"))
		Expect(says(cache.Answer{Reason: cache.Absent})).To(And(ContainSubstring("NIX_EXTRA_BINARY_CACHE"), Not(ContainSubstring("private"))))
		Expect(says(cache.Answer{Reason: cache.Absent, Err: fmt.Errorf("not there: %w", &cache.StatusError{Code: 403})})).
			To(ContainSubstring("where the cache is private, give its login"))
		Expect(says(cache.Answer{Reason: cache.Invalid, Err: &cache.StatusError{Code: 403}})).To(ContainSubstring("asks for a login"))
		Expect(explain(&cache.OpenError{Asked: []cache.Answer{{Reason: cache.Login}}})).
			To(MatchError(ContainSubstring("nix-binary-cache")))
		Expect(explain(fmt.Errorf("a step: %w", cache.ErrNoKeys))).To(MatchError(And(
			ContainSubstring("BP_NIX_TRUSTED_PUBLIC_KEYS="), ContainSubstring("BP_NIX_REQUIRE_SIGS=false"))))
	})
}

// connectionCases are errors of the connection to a cache, with words of the advice on them, and of another.
var connectionCases = []struct {
	err       error
	want, not string
}{
	{&net.OpError{Op: "proxyconnect", Net: "tcp", Err: &net.DNSError{IsNotFound: true}}, "correct the proxy's address", "whether a proxy is needed"},
	{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, "correct the host in the cache's URL", "are up"},
	{&net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}, "are up", "correct the host"},
	{unreachable("192.0.2.1", "", syscall.ENETUNREACH), "the build has no IPv4: give the cache's host an address of the other kind (an AAAA record", "are up"},
	{unreachable("2001:db8::1", "", syscall.ENETUNREACH), "the build has no IPv6: give the cache's host an address of the other kind (an A record", "are up"},
	{unreachable("2001:db8::1", "", syscall.EADDRNOTAVAIL), "the build has no IPv6", "are up"},
	{&net.OpError{Op: "proxyconnect", Net: "tcp", Err: unreachable("192.0.2.1", "", syscall.ENETUNREACH)},
		"no IPv4: give the proxy's host an address", "the cache's host"},
	{unreachable("192.0.2.1", "", syscall.EHOSTUNREACH), "are up", "no IPv4"},
	{unreachable("192.0.2.1", "", syscall.EADDRNOTAVAIL), "are up", "no IPv4"},
	{unreachable("fe80::1", "", syscall.EINVAL), "http://[fe80::1%25eth0]:8080", "are up"},
	{unreachable("fe80::1", "none", syscall.EINVAL), "http://[fe80::1%25eth0]:8080", "are up"},
	{&net.OpError{Op: "proxyconnect", Err: unreachable("fe80::1", "", syscall.EINVAL)}, "http://[fe80::1%25eth0]:8080", "correct the proxy's address"},
	{unreachable("2001:db8::1", "", syscall.EINVAL), "are up", "%25"},
	{x509.UnknownAuthorityError{}, "SSL_CERT_FILE", "HTTPS_PROXY"},
	{x509.UnknownAuthorityError{}, "ca-certificate", "HTTPS_PROXY"},
	{x509.HostnameError{}, "the name in the cache's URL", "SSL_CERT_FILE"},
	{x509.CertificateInvalidError{Reason: x509.Expired}, "renewed", "SSL_CERT_FILE"},
	{&cache.SchemeError{TLS: true}, "write https://", "HTTPS_PROXY"},
	{&cache.SchemeError{}, "write http://", "HTTPS_PROXY"},
	{&cache.ProxyError{Code: 407}, "HTTPS_PROXY=http://<user>:<password>@", "whether a proxy is needed"},
	{&cache.StatusError{Code: 407}, "HTTPS_PROXY=http://<user>:<password>@", "netrc"},
	{&cache.ProxyError{Code: 403}, "NO_PROXY", "<password>"},
	{&cache.StatusError{Code: 400, Region: "eu-west-1", S3Code: "X"}, "region=eu-west-1", "AWS_SESSION_TOKEN"},
	{&cache.StatusError{Code: 403, S3Code: "SignatureDoesNotMatch"}, "AWS_SESSION_TOKEN", "netrc"},
	{&cache.StatusError{Code: 403, S3Code: "AccessDenied"}, "give the build AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
	{&cache.StatusError{Code: 404, S3Code: "NoSuchBucket"}, "correct the bucket's name", "AWS_SESSION_TOKEN"},
}

// unreachable is an address to which no connection can be made.
func unreachable(ip, zone string, why syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 443, Zone: zone},
		Err: os.NewSyscallError("connect", why)}
}
