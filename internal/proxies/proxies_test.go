package proxies_test

import (
	"fmt"
	"net/url"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/proxies"
)

func TestSmallLettersWinOverCapitalsAndASchemesOwnProxyOverThatOfAll(t *testing.T) {
	g := NewWithT(t)
	env := map[string]string{}
	proxyOf := func(address string) string {
		u, err := url.Parse(address)
		g.Expect(err).NotTo(HaveOccurred())
		proxy, err := proxies.Variables(func(name string) string { return env[name] }, t.Logf)(u)
		g.Expect(err).NotTo(HaveOccurred())
		if proxy == nil {
			return ""
		}
		return proxy.Host
	}
	g.Expect(proxyOf("https://cache")).To(BeEmpty())
	for _, name := range []string{"ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"} {
		env[name] = "http://" + name
		g.Expect(proxyOf("https://cache")).To(Equal(name))
	}
	g.Expect(proxyOf("http://cache")).To(Equal("all_proxy"))
	for _, name := range []string{"HTTP_PROXY", "http_proxy"} {
		env[name] = "http://" + name
		g.Expect(proxyOf("http://cache")).To(Equal(name))
	}
	env["NO_PROXY"] = "cache"
	g.Expect(proxyOf("http://cache")).To(BeEmpty())
	env["no_proxy"] = "other"
	g.Expect(proxyOf("http://cache")).To(Equal("http_proxy"))
	g.Expect(proxyOf("http://other")).To(BeEmpty())
}

func TestAProxyAtAnIPv6AddressThatIsWrittenOtherwiseIsLeftOutAndNamed(t *testing.T) {
	g := NewWithT(t)
	asked := &url.URL{Scheme: "http", Host: "cache.example.org"}
	for address, want := range map[string]string{
		"http://[fd00::1]:3128": "http://[fd00::1]:3128", "[fd00::1]:3128": "http://[fd00::1]:3128",
		"http://[fe80::1%25eth0]:3128": "http://[fe80::1%25eth0]:3128",
		"http://::1:3128":              "", "http://fd00::1": "", "::1:3128": "", "http://[fe80::1%eth0]:3128": "",
	} {
		log := ""
		env := func(name string) string { return map[string]string{"HTTP_PROXY": address}[name] }
		proxy, err := proxies.Variables(env, func(format string, args ...any) { log = fmt.Sprintf(format, args...) })(asked)
		g.Expect(err).NotTo(HaveOccurred())
		if want == "" {
			g.Expect(proxy).To(BeNil(), address)
			g.Expect(log).To(Equal("the proxy in HTTP_PROXY is not a URL: it is ignored"), address)
			continue
		}
		g.Expect(proxy).To(HaveField("String()", want))
		g.Expect(log).To(BeEmpty())
	}
}
