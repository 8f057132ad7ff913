package nixproot

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
)

func TestCachesForNix(t *testing.T) { spec.Run(t, "caches for Nix", testCachesForNix) }

func testCachesForNix(t *testing.T, _ spec.G, it spec.S) {
	var (
		scratch string
		own     string
	)
	it.Before(func() {
		RegisterTestingT(t)
		scratch, own = t.TempDir(), filepath.Join(t.TempDir(), "netrc")
		Expect(os.WriteFile(own, []byte("machine own login me password mine"), 0o600)).To(Succeed())
	})
	lookup := func(name string) string { return map[string]string{"NETRC": own}[name] }
	read := func(file string) string {
		contents, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		info, err := os.Stat(file)
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o600)))
		return string(contents)
	}

	it("takes out of URLs for Nix what would be kept or believed, and nothing else", func() {
		n, err := cacheSettings{requireSigs: true}.forNix(scratch, []string{
			"https://cache.example.org", "https://a.example.org/x?trusted=true", "http://b:80/?priority=1&trusted=1&x=%2F",
			"s3://bucket?region=eu&%74rusted=true&endpoint=http://minio:9000", "file:///srv/cache?priority=5",
			"https://T0KEN@c.example.org/y?trusted=true",
		}, lookup)
		Expect(err).NotTo(HaveOccurred())
		Expect(n.RequireSigs).To(BeTrue())
		Expect(n.Substituters).To(Equal([]string{
			"https://cache.example.org", "https://a.example.org/x", "http://b:80/?priority=1&x=%2F",
			"s3://bucket?region=eu&endpoint=http://minio:9000", "file:///srv/cache?priority=5", "https://c.example.org/y",
		}))
	})

	it("gives Nix the logins of URLs, bindings and the user, whatever characters they have", func() {
		n, err := cacheSettings{bindings: []CacheBinding{
			{URL: "https://b.example.org:8443/x", Username: "deploy", Password: `pass "word" \`},
			{Netrc: "machine c login u password p\n"},
		}}.forNix(scratch, []string{"https://T0KEN@a.example.org", "https://u:p%20q@d.example.org"}, lookup)
		Expect(err).NotTo(HaveOccurred())
		Expect(read(n.NetrcFile)).To(Equal(`machine a.example.org login "T0KEN" password ""
machine d.example.org login "u" password "p q"
machine b.example.org login "deploy" password "pass \"word\" \\"
machine c login u password p
machine own login me password mine
`))
	})

	it("gives Nix the logins of netrc entries with a port, which curl does not know, each to its own cache", func() {
		n, err := cacheSettings{bindings: []CacheBinding{
			{Netrc: "machine c:8443 login a password b\nmachine c:9443 login x password y\nmachine d:1 login no password no"},
		}}.forNix(scratch, []string{"https://c:8443", "https://c:9443/team", "https://c", "https://d"},
			func(string) string { return "" })
		Expect(err).NotTo(HaveOccurred())
		Expect(read(n.NetrcFile)).To(HavePrefix("machine c login \"a\" password \"b\"\nmachine c:8443 "))
		Expect(n.Through).To(HaveLen(1))
		var asked []string
		transport := n.Through["https://c:9443/team"](roundTripper(func(r *http.Request) (*http.Response, error) {
			user, password, _ := r.BasicAuth()
			asked = append(asked, r.URL.Host+" "+user+password)
			return nil, errors.New("nobody there")
		}))
		for _, u := range []string{"https://c:9443/team/x", "https://c:8443/x", "https://elsewhere/x"} {
			r, err := http.NewRequest(http.MethodGet, u, nil)
			Expect(err).NotTo(HaveOccurred())
			_, err = transport.RoundTrip(r)
			Expect(err).To(HaveOccurred())
		}
		Expect(asked).To(Equal([]string{"c:9443 xy", "c:8443 ", "elsewhere "}))
	})

	it("gives Nix the tokens of bindings, each for its own origin, and their authorities", func() {
		n, err := cacheSettings{bindings: []CacheBinding{
			{URL: "https://Cache.example.org/team", Token: "t0ken", CACertificate: "PEM"},
			{URL: "http://plain.example.org", Token: "other"}, {URL: "s3://bucket", Token: "useless"},
		}}.forNix(scratch, []string{
			"https://cache.example.org:443/team?trusted=true", "https://cache.example.org:8443", "https://plain.example.org",
			"https://u:p@cache.example.org", "http://plain.example.org?priority=1", "s3://bucket",
		}, func(string) string { return "" })
		Expect(err).NotTo(HaveOccurred())
		Expect(n.Tokens).To(Equal(map[string]string{
			"https://cache.example.org:443/team": "t0ken", "http://plain.example.org?priority=1": "other",
		}))
		Expect(n.Authorities).To(Equal([]string{"PEM"}))
	})

	it("shows nothing of a URL that is none", func() {
		_, err := cacheSettings{}.forNix(scratch, []string{"https://u:s3cret@host:port"}, lookup)
		Expect(err).To(HaveOccurred())
		Expect(err.Error()).NotTo(ContainSubstring("s3cret"))
	})
}
