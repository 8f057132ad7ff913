package nixproot

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
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
		n, err := cacheSettings{bindings: []cacheBinding{
			{URL: "https://b.example.org:8443/x", Username: "deploy", Password: `pass "word" \`},
			{Netrc: "machine c login u password p\n"},
		}}.forNix(scratch, []string{"https://T0KEN@a.example.org", "https://u:p%20q@d.example.org"}, lookup)
		Expect(err).NotTo(HaveOccurred())
		Expect(read(n.NetrcFile)).To(Equal(`machine a.example.org login "T0KEN" password ""
machine d.example.org login "u" password "p q"
machine b.example.org login "deploy" password "pass \"word\" \\"
machine c login "u" password "p"
machine own login "me" password "mine"
`))
	})

	it("logs Nix in where a netrc logs this program in: ports, default, machines without a login, macros", func() {
		for _, c := range []struct {
			netrc, url, written, header string
		}{
			{"machine h:8443 login u password p", "https://h:8443/x", `machine h login "u" password "p"`, ""},
			{"machine [::1]:80 login u password p", "http://[::1]", `machine ::1 login "u" password "p"`, ""},
			{"default login u password #p", "http://h:1", "machine h login \"u\" password \"#p\"\ndefault login \"u\" password \"#p\"", ""},
			{"machine h\nmachine o\nmachine h password p", "https://h", `machine h login "" password "p"`, ""},
			{"macdef x\nmachine h login no password no\n\nmachine h login u password \"a b\"", "https://h",
				`machine h login "u" password "a b"`, ""},
			{"machine h:1 login u password p\nmachine h:2 login v password q", "https://h:2 https://h:1",
				`machine h login "v" password "q"`, "Basic dTpw"},
			{"machine h login u password p\nmachine h:2 login v password q", "https://o", `machine h login "u" password "p"`, ""},
			{"machine H login u password p\nmachine h login v password q", "https://h", `machine h login "u" password "p"`, ""},
		} {
			Expect(os.WriteFile(own, []byte(c.netrc), 0o600)).To(Succeed())
			n, err := cacheSettings{}.forNix(scratch, strings.Fields(c.url), lookup)
			Expect(err).NotTo(HaveOccurred())
			Expect(read(n.NetrcFile)).To(Equal(c.written+"\n"), c.netrc)
			if c.header == "" {
				Expect(n.Authorization).To(BeEmpty(), c.netrc)
			} else {
				Expect(n.Authorization).To(Equal(map[string]string{"https://h:1": c.header}))
			}
		}
	})

	it("has the login of a cache at a link-local address beside its URL, as Nix asks that by another", func() {
		Expect(os.WriteFile(own, []byte("machine fe80::1%eth0 login u password p"), 0o600)).To(Succeed())
		for _, login := range []string{"", "u:p@"} {
			n, err := cacheSettings{}.forNix(scratch, []string{"http://" + login + "[fe80::1%25eth0]:80", "http://[fe80::2%25eth0]"}, lookup)
			Expect(err).NotTo(HaveOccurred())
			Expect(n.Authorization).To(Equal(map[string]string{"http://[fe80::1%25eth0]:80": "Basic dTpw"}))
		}
	})

	it("gives Nix the tokens of bindings, each for its own origin, and their authorities", func() {
		n, err := cacheSettings{bindings: []cacheBinding{
			{URL: "https://Cache.example.org/team", Token: "t0ken", CACertificate: "PEM"},
			{URL: "http://plain.example.org", Token: "other"}, {URL: "s3://bucket", Token: "useless"},
		}}.forNix(scratch, []string{
			"https://cache.example.org:443/team?trusted=true", "https://cache.example.org:8443", "https://plain.example.org",
			"https://u:p@cache.example.org", "http://plain.example.org?priority=1", "s3://bucket",
		}, func(string) string { return "" })
		Expect(err).NotTo(HaveOccurred())
		Expect(n.Authorization).To(Equal(map[string]string{
			"https://cache.example.org:443/team": "Bearer t0ken", "http://plain.example.org?priority=1": "Bearer other",
		}))
		Expect(n.Authorities).To(Equal([]string{"PEM"}))
	})

	it("logs Nix in at each cache as this program does, also at one beside that of a binding", func() {
		s := cacheSettings{bindings: []cacheBinding{
			{URL: "https://h/a", Username: "u", Password: "a"}, {URL: "https://h/a/b", Username: "u", Password: "b"},
		}}
		urls := []string{"https://h/a/b/c", "https://h/a/x", "https://h/beside"}
		n, err := s.forNix(scratch, urls, lookup)
		Expect(err).NotTo(HaveOccurred())
		Expect(read(n.NetrcFile)).To(HavePrefix(`machine h login "u" password "b"` + "\n"))
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("u:a"))
		Expect(n.Authorization).To(Equal(map[string]string{"https://h/a/x": basic, "https://h/beside": basic}))
		for _, url := range urls {
			login, ok, err := cache.LoginFor(s.options(nil), url)
			Expect(err).NotTo(HaveOccurred())
			Expect(ok).To(BeTrue())
			Expect(login.Password).To(Equal(map[bool]string{true: "b", false: "a"}[url == urls[0]]), url)
		}
	})

	it("shows nothing of a URL that is none", func() {
		_, err := cacheSettings{}.forNix(scratch, []string{"https://u:s3cret@host:port"}, lookup)
		Expect(err).To(HaveOccurred())
		Expect(err.Error()).NotTo(ContainSubstring("s3cret"))
	})
}

func TestALoginOfAnyCharactersIsQuotedForCurl(t *testing.T) {
	RegisterTestingT(t)
	netrc := curlNetrc{}
	Expect(netrc.add("h", cache.NetrcEntry{Login: `a\"` + "\n\r\tb", Password: "p"})).To(BeTrue())
	Expect(netrc.add("", cache.NetrcEntry{Login: "x", Password: ""})).To(BeTrue())
	Expect(netrc.String()).To(Equal(`machine h login "a\\\"\n\r\tb" password "p"` + "\n" + `default login "x" password ""` + "\n"))
}

func TestAHostOfANetrcIsTakenWholeOrNotAtAll(t *testing.T) {
	RegisterTestingT(t)
	for machine, host := range map[string]string{"h": "h", "[::1]": "::1", "::1": "::1", "h:80": "", "[::1]:80": ""} {
		got, ok := wholeHost(machine)
		Expect([]any{got, ok}).To(Equal([]any{host, host != ""}), machine)
	}
}
