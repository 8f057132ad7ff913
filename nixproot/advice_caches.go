package nixproot

import (
	"crypto/x509"
	"net"
	"net/http"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
)

func cachesAdvice() []advice {
	return []advice{
		{answer: func(a cache.Answer) facts { return facts{}.when(a.Reason == cache.Untrusted && len(a.Keys) == 0) },
			message: "lacks a signature by a trusted key",
			cause:   "The cache has the path, and nobody signed it.",
			steps:   []string{"have the path signed and uploaded again (nix store sign); " + onlyWay}},
		{answer: func(a cache.Answer) facts {
			if a.Reason != cache.Untrusted || len(a.Keys) == 0 || isAltered(a) {
				return nil
			}
			return facts{"keys": keysWith(a)}
		}, message: "lacks a signature by a trusted key (another key's)",
			cause: "The cache has the path, signed by a key that is not among the trusted ones.",
			steps: []string{`if you trust that key, set BP_NIX_TRUSTED_PUBLIC_KEYS="{keys}"; its public part stands in the cache's settings; ` +
				onlyWay}},
		{answer: func(a cache.Answer) facts { return facts{}.when(a.Reason == cache.Untrusted && isAltered(a)) },
			message: "lacks a signature by a trusted key (under a trusted key's name)",
			cause:   "A key of this name is trusted, and its signature is not of what the cache serves.",
			steps:   []string{"compare the key with that of the cache, and ask who runs it whether the path was altered"}},
		{err: sentinel(cache.ErrNoKeys), message: "no key is trusted",
			cause: "Signatures are required, and there is no key to check them with.",
			steps: []string{`set BP_NIX_TRUSTED_PUBLIC_KEYS="<name>:<base64>" to the caches' public keys`,
				"accept what nobody signed: " + onlyWay}, or: ", or"},
		{answer: answered(cache.Login), message: "401 Unauthorized, 403 Forbidden",
			cause: "The cache wants a login.",
			steps: []string{"give the cache's login as a service binding of type nix-binary-cache with url, username and password, or in a " +
				"netrc file"}},
		{connection: anyOf(where(func(e *cache.ProxyError) bool { return e.Code == http.StatusProxyAuthRequired }),
			where(func(e *cache.StatusError) bool { return e.Code == http.StatusProxyAuthRequired })),
			message: "407 Proxy Authentication Required, the proxy … wants a login",
			cause:   "The proxy in `HTTPS_PROXY` or `HTTP_PROXY` wants a login.",
			steps: []string{"put the proxy's login into its address: HTTPS_PROXY=http://<user>:<password>@<proxy>:<port> (and HTTP_PROXY, for " +
				"caches without TLS), special letters written as %XX"}},
		{connection: is[*cache.ProxyError], message: "the proxy … does not connect",
			cause: "The proxy in `HTTPS_PROXY` refuses to connect to the cache.",
			steps: []string{"see what the proxy in HTTPS_PROXY allows, or leave it out for this cache: NO_PROXY=<the cache's host>"}},
		{connection: proxyDown, err: ofHydra(proxyDown), message: "proxyconnect tcp",
			cause: "The proxy in `HTTPS_PROXY` or `HTTP_PROXY` cannot be reached. In a build, localhost is the build's own container.",
			steps: []string{"correct the proxy's address in HTTPS_PROXY and HTTP_PROXY (of IPv6 in brackets: http://[2001:db8::1]:3128), or " +
				"leave it out for this host: NO_PROXY=<the cache's host, or Hydra's>"}},
		{connection: where(func(e *net.DNSError) bool { return e.IsNotFound }), message: "no such host",
			cause: "The name of the cache's host is unknown where the build runs.",
			steps: []string{"correct the host in the cache's URL; where only a proxy knows it, name that in HTTPS_PROXY (HTTP_PROXY for http://)"}},
		{connection: noNetwork, err: ofHydra(noNetwork),
			message: "network is unreachable, cannot assign requested address (no IPv4, or no IPv6, where the build runs)",
			cause: "The address that the host's name has (a cache's, Hydra's or a proxy's), or that stands in its URL, is an IPv4 or IPv6 " +
				"address, and there is no network for such where the build runs.",
			steps: []string{"the build has no {family}: give {host} an address of the other kind ({record} in DNS), or let the " +
				"build go through a proxy that has both, HTTPS_PROXY (HTTP_PROXY for http://), or run it where there is {family}"}},
		{connection: noZone, err: ofHydra(noZone), message: "invalid argument, of a link-local address (fe80::…) without its zone",
			cause: "A link-local address says nothing without the interface that it is on, by its name where the build runs.",
			steps: []string{"write the interface of the build's machine behind %25 into the URL: http://[{address}%25eth0]:8080, or use an address that is valid beyond " +
				"the link"}},
		{answer: func(a cache.Answer) facts { return facts{}.when(a.Reason == cache.Down && isLoopback(a.URL)) }, more: true,
			message: "connection refused, of a cache at localhost",
			cause:   "In a build, localhost is the build's own container, not the machine that runs pack.",
			steps: []string{"have the build use the machine's network, pack build --network host, or name the machine by an address that " +
				"containers reach"}},
		{connection: with(func(e *cache.StatusError) facts { return facts{"region": e.Region}.when(e.Region != "") }),
			message: "the bucket is in another region",
			cause:   "An `s3://` cache without `?region=` is looked for in us-east-1.",
			steps:   []string{"add the bucket's region to its URL: s3://<bucket>?region={region}"}},
		{connection: where(func(e *cache.StatusError) bool { return e.S3Code == "AccessDenied" }),
			message: "S3 says AccessDenied",
			cause:   "The bucket is private, or has no nix-cache-info.",
			steps: []string{"give the build AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of an account that may read the bucket, in its environment " +
				"(pack build --env)",
				"have everybody read it, and see that it has the file nix-cache-info, which nix copy --to writes"}, or: ", or"},
		{connection: where(func(e *cache.StatusError) bool { return e.S3Code == "NoSuchBucket" }),
			message: "S3 says NoSuchBucket",
			cause:   "There is no bucket of this name where it was looked for.",
			steps:   []string{"correct the bucket's name in the cache's URL, and where it is not Amazon's its ?endpoint="}},
		{connection: where(func(e *cache.StatusError) bool { return e.S3Code != "" }),
			message: "S3 says SignatureDoesNotMatch, S3 says InvalidToken and others",
			cause:   "S3 does not accept the AWS credentials that were found.",
			steps: []string{"see whether AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN belong together (a token left over " +
				"from elsewhere spoils the other two), and whether they are those of the bucket's account"}},
		{connection: is[x509.UnknownAuthorityError], message: "certificate signed by unknown authority",
			cause: "The cache's certificate is signed by an authority that this image does not know.",
			steps: []string{"name a file with the authority's certificate in SSL_CERT_FILE, or put it as ca-certificate into a service " +
				"binding of type nix-binary-cache"}},
		{err: with(func(e *cache.AuthoritiesError) facts { return facts{"source": e.Source} }),
			message: "reading the certificate authorities of …",
			cause:   "A service binding or variable that should hold certificates holds none.",
			steps:   []string{"have {source} hold certificates in PEM form (BEGIN CERTIFICATE), or leave it out"}},
		{connection: is[x509.HostnameError], message: "certificate is valid for …, not …",
			cause: "The cache's certificate is for another name than its URL has.",
			steps: []string{"use the name in the cache's URL that its certificate is for"}},
		{connection: is[x509.CertificateInvalidError], message: "certificate has expired or is not yet valid",
			cause: "The cache's certificate is not valid, or not now.",
			steps: []string{"have the cache's certificate renewed, and see whether the clock of this machine is right"}},
		{connection: where(func(e *cache.SchemeError) bool { return e.TLS }), message: "the server speaks TLS at this port",
			cause: "The cache's URL begins with http://, and its server wants https://.",
			steps: []string{"write https:// in the cache's URL instead of http://"}},
		{connection: is[*cache.SchemeError], message: "the server does not speak TLS at this port",
			cause: "The cache's URL begins with https://, and its server knows http:// only.",
			steps: []string{"write http:// in the cache's URL instead of https://, or the port at which it speaks TLS"}},
		{answer: answered(cache.Down),
			message: "could not be asked, could not be reached, none can be used, no byte arrived in time, too little arrives",
			cause:   "The cache did not answer, answers that too much is asked of it (429, 503), or broke off.",
			steps:   []string{"see whether the caches that could not be reached are up, and whether a proxy is needed (HTTPS_PROXY)"}},
		{answer: answered(cache.Absent), more: true, message: "not there",
			cause: "None of the caches has the path.",
			steps: []string{"name the cache that has it in NIX_EXTRA_BINARY_CACHE, or have Hydra build it for this system"}},
		{answer: func(a cache.Answer) facts {
			forbidden := where(func(e *cache.StatusError) bool { return e.Code == http.StatusForbidden })
			return forbidden(a.Err).when(a.Reason == cache.Absent)
		}, message: "not there: … 403 Forbidden",
			cause: "The cache does not have the path, or is private: some caches say this of every path to who is not logged in.",
			steps: []string{"where the cache is private, give its login as a service binding of type nix-binary-cache or in a netrc file"}},
		{answer: answered(cache.Invalid),
			message: "this is an HTML page, not a narinfo; its narinfo says …; it does not appear to be a binary cache",
			cause:   "What the cache serves for the path is no narinfo, one with a wrong field, or another file than its narinfo promises.",
			steps: []string{"see that the cache's URL is that of a binary cache, then upload the path to it again (nix copy --to …); a page " +
				"in HTML may be one that asks for a login, which belongs into a service binding of type nix-binary-cache or a netrc file"}},
		{err: with[*closure.MissingError](absentReference), more: true, message: "the caches have … and not …, which it refers to",
			cause: "A path's closure was not uploaded whole.",
			steps: []string{"the caches have {root} and not {reference}, which it refers to: whoever uploaded it has not uploaded all of " +
				"its closure, or not yet; upload it whole (nix copy --to …)"}},
		{err: with(func(e *closure.MissingError) facts { return absentReference(e).when(!isDefaultCacheAsked(e)) }),
			message: "the same, of a path that nixpkgs builds unchanged",
			cause:   "`BP_NIX_SUBSTITUTERS` replaces the default cache.",
			steps: []string{"what comes from nixpkgs unchanged is often in the default cache only, which BP_NIX_SUBSTITUTERS leaves out " +
				"here: NIX_EXTRA_BINARY_CACHE=" + defaultCache}},
		{err: is[*closure.LimitError],
			message: "what the caches say of its paths takes more than … bytes, resolving closure: it has more than … paths",
			cause: "The closure is larger than any that is known: 100,000 paths, or some 600,000 references among them. A cache may make " +
				"up paths without end.",
			steps: []string{"compare with what Nix finds (nix path-info --recursive --store <cache> <root> | wc --lines): where that ends, " +
				"leave what the app does not need out of its closure; where it does not, leave the cache out"}},
	}
}
