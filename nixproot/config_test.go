package nixproot_test

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

const testKey = "hydra.example.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="

func testConfig(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	read := func(env map[string]string) (nixproot.Config, error) {
		return nixproot.ReadConfig(func(name string) (string, bool) { v, ok := env[name]; return v, ok }, "amd64")
	}

	it("asks cache.nixos.org with its own key when nothing is set", func() {
		c, err := read(nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Substituters).To(Equal([]string{"https://cache.nixos.org"}))
		Expect(c.TrustedKeys).To(HaveLen(1))
		Expect(c.TrustedKeys[0].Name).To(Equal("cache.nixos.org-1"))
		Expect(c.RequireSigs).To(BeTrue())
		Expect(c.RemoveSource).To(BeFalse())
		Expect(c.Engine).To(Equal("auto"))
		Expect(c.System).To(Equal("x86_64-linux"))
	})

	it("asks several extra caches beside the default one, each once", func() {
		c, err := read(map[string]string{
			"NIX_EXTRA_BINARY_CACHE":     "http://a:3000 https://b, https://cache.nixos.org",
			"BP_NIX_TRUSTED_PUBLIC_KEYS": testKey,
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Substituters).To(Equal([]string{"https://cache.nixos.org", "http://a:3000", "https://b"}))
		Expect(c.TrustedKeys).To(HaveLen(2))
	})

	it("trusts the default cache's key only where that cache is asked", func() {
		c, err := read(map[string]string{"BP_NIX_SUBSTITUTERS": "https://own", "BP_NIX_TRUSTED_PUBLIC_KEYS": testKey})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Substituters).To(Equal([]string{"https://own"}))
		Expect(c.TrustedKeys).To(HaveLen(1))
		Expect(c.TrustedKeys[0].Name).To(Equal("hydra.example.org-1"))
	})

	it("reads attributes under the new and the old name", func() {
		c, err := read(map[string]string{"NIX_ATTRIBUTES": "web, worker tool"})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Attrs).To(Equal([]string{"web", "worker", "tool"}))
		c, err = read(map[string]string{"NIX_ATTRIBUTES": "old", "BP_NIX_ATTRS": "new"})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Attrs).To(Equal([]string{"new"}))
	})

	it("reads numbers, and leaves what is not set to the machine", func() {
		for text, n := range map[string]int{"1": 1, "7": 7, "256": 256} {
			c, err := read(map[string]string{"BP_NIX_CONCURRENCY": text})
			Expect(err).NotTo(HaveOccurred())
			Expect(c.Concurrency).To(Equal(n))
		}
		c, err := read(nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Concurrency).To(BeZero())
	})

	it("reads durations, pairs and patterns", func() {
		c, err := read(map[string]string{
			"BP_NIX_HYDRA_URL": "https://hydra/", "BP_NIX_HYDRA_JOB": "p/j/x", "BP_NIX_HYDRA_WAIT": "15m",
			"BP_NIX_ARGS": "a=1 b=two=3", "BP_INCLUDE_FILES": "public:assets/**",
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.HydraURL).To(Equal("https://hydra"))
		Expect(c.HydraWait).To(Equal(15 * time.Minute))
		Expect(c.Args).To(Equal(map[string]string{"a": "1", "b": "two=3"}))
		Expect(c.IncludeFiles).To(Equal([]string{"public", "assets/**"}))
	})

	it("keeps together what is quoted in an argument's value, and takes every other character as it is", func() {
		c, err := read(map[string]string{
			"BP_NIX_ARGS": `title='two  words' motto="it's \ $HOME" empty= none='' query=a&b;c,d` + "\n" + `mixed=a" "b' 'c`,
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Args).To(Equal(map[string]string{
			"title": "two  words", "motto": `it's \ $HOME`, "empty": "", "none": "", "query": "a&b;c,d", "mixed": "a b c",
		}))
	})

	it("separates search path entries by spaces or commas, and by no colon", func() {
		c, err := read(map[string]string{"BP_NIX_PATH": "nixpkgs=https://a:8443/x.tar.gz, lib=./lib\n."})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.NixPath).To(Equal([]string{"nixpkgs=https://a:8443/x.tar.gz", "lib=./lib", "."}))
	})

	for _, c := range []struct {
		name    string
		env     map[string]string
		message string
	}{
		{"a typo in a switch", map[string]string{"BP_NIX_REQUIRE_SIGS": "flase"}, `BP_NIX_REQUIRE_SIGS is "flase"; it takes true or false`},
		{"an unknown engine", map[string]string{"BP_NIX_ENGINE": "chroot"}, "auto, relocate, native, userns or proot"},
		{"no time for a download, which Nix takes for no limit", map[string]string{"BP_NIX_STALLED_DOWNLOAD_TIMEOUT": "0"}, "a duration such as 90s"},
		{"a date", map[string]string{"SOURCE_DATE_EPOCH": "2026-01-31"}, "it takes seconds since 1970"},
		{"a time before 1970", map[string]string{"SOURCE_DATE_EPOCH": "-1"}, `SOURCE_DATE_EPOCH is "-1"`},
		{"a duration of no unit", map[string]string{"BP_NIX_HYDRA_WAIT": "15"}, "a duration such as 90s"},
		{"a cache without scheme", map[string]string{"NIX_EXTRA_BINARY_CACHE": "cache.example.org"},
			`reading NIX_EXTRA_BINARY_CACHE: parsing cache URL "cache.example.org": it is no URL, or one without a scheme; a cache looks like https://`},
		{"a cache with a port and without scheme", map[string]string{"BP_NIX_SUBSTITUTERS": "cache.example.org:5000"},
			"reading BP_NIX_SUBSTITUTERS: parsing cache URL \"cache.example.org:5000\": it begins with none of https://, http://, s3:// and file://"},
		{"a cache that is reached by SSH", map[string]string{"NIX_EXTRA_BINARY_CACHE": "ssh-ng://build.example.org"}, "begins with none of https://"},
		{"a directory of a file cache that is relative", map[string]string{"NIX_EXTRA_BINARY_CACHE": "file://cache"}, "file:///absolute/path"},
		{"a store path of none", map[string]string{"BP_NIX_STORE_PATH": "/nix/store/x"},
			`reading BP_NIX_STORE_PATH: parsing store path "x": want a 32-character hash, a dash and a name; a store path looks like /nix/store/`},
		{"a store path with a letter that no hash has", map[string]string{"BP_NIX_STORE_PATH": "/nix/store/ec0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c-app"},
			"small letters without e, o, t and u"},
		{"a program of a store path", map[string]string{"BP_NIX_STORE_PATH": "/nix/store/0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c-app/bin/app"},
			"name has the character '/'"},
		{"a derivation", map[string]string{"BP_NIX_STORE_PATH": "/nix/store/0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c-app.drv"},
			"it takes outputs, and this is a derivation: nix-store --query --outputs"},
		{"a Hydra without scheme", map[string]string{"BP_NIX_HYDRA_URL": "hydra.example.org"},
			`BP_NIX_HYDRA_URL is "hydra.example.org"; it takes a URL such as https://`},
		{"a Hydra by IPv6 without brackets", map[string]string{"BP_NIX_HYDRA_URL": "http://2001:db8::1"},
			`BP_NIX_HYDRA_URL is "http://2001:db8::1"; it takes a URL: an IPv6 address stands in brackets there, as in http://[2001:db8::1]:8080`},
		{"a cache by IPv6 without brackets", map[string]string{"BP_NIX_SUBSTITUTERS": "http://me:secret@2001:db8::1:8080/x"},
			`parsing cache URL "…@2001:db8::1:8080/x": an IPv6 address stands in brackets there, as in http://[2001:db8::1]:8080`},
		{"a cache by a zone as a shell has it", map[string]string{"BP_NIX_SUBSTITUTERS": "http://[fe80::1%eth0]:80"},
			"the zone of an IPv6 address begins with %25 there, as in http://[fe80::1%25eth0]:8080"},
		{"a cache by IPv6 without scheme", map[string]string{"BP_NIX_SUBSTITUTERS": "[::1]:8080"},
			`parsing cache URL "[::1]:8080": an IPv6 address stands in brackets there, as in http://[2001:db8::1]:8080`},
		{"a cache by a bare IPv6 address, which begins as a scheme does", map[string]string{"NIX_EXTRA_BINARY_CACHE": "fd00::1"},
			`parsing cache URL "fd00::1": an IPv6 address stands in brackets there, as in http://[2001:db8::1]:8080`},
		{"a bracket that is open", map[string]string{"BP_NIX_SUBSTITUTERS": "http://[::1"}, "as in http://[2001:db8::1]:8080"},
		{"a Hydra by a bare IPv6 address", map[string]string{"BP_NIX_HYDRA_URL": "::1"}, "as in http://[2001:db8::1]:8080"},
		{"a job without a jobset", map[string]string{"BP_NIX_HYDRA_URL": "https://h", "BP_NIX_HYDRA_JOB": "myapp"},
			`reading BP_NIX_HYDRA_JOB: reading job "myapp": want project/jobset/job; a job looks like shop/main/myapp`},
		{"a broken key", map[string]string{"BP_NIX_TRUSTED_PUBLIC_KEYS": "x:y"}, "BP_NIX_TRUSTED_PUBLIC_KEYS"},
		{"an argument of no name", map[string]string{"BP_NIX_ARGS": "a=b c"}, "word 2 of BP_NIX_ARGS is no name=value pair"},
		{"a quote that is open", map[string]string{"BP_NIX_ARGS": "a='b c"}, "a quote ' is not closed"},
		{"half of a Hydra", map[string]string{"BP_NIX_HYDRA_JOB": "a/b/c"}, "does not say which Hydra has it"},
		{"an argument whose name is empty", map[string]string{"BP_NIX_ARGS": "=b"}, "word 1 of BP_NIX_ARGS is no name=value pair"},
		{"a glob that does not parse", map[string]string{"BP_NIX_HARMLESS": "a[/b"}, "reading BP_NIX_HARMLESS: "},
		{"two at once, of which it names the first", map[string]string{"BP_NIX_ARGS": "c", "BP_NIX_HARMLESS": "a[/b", "BP_NIX_ENGINE": "x"},
			"BP_NIX_ARGS"},
		{"a pattern that does not parse", map[string]string{"BP_EXCLUDE_FILES": "public:a["}, `BP_EXCLUDE_FILES is "a["; it takes patterns`},
		{"a number out of range", map[string]string{"BP_NIX_MAX_LAYERS": "0"}, "from 1 to"},
		{"a number too large", map[string]string{"BP_NIX_CONCURRENCY": "257"}, "from 1 to 256"},
	} {
		it("refuses "+c.name+" and says what it takes", func() {
			_, err := read(c.env)
			Expect(err).To(MatchError(ContainSubstring(c.message)))
		})
	}

	it("does not show the password of a URL it refuses", func() {
		for name, value := range map[string]string{
			"NIX_EXTRA_BINARY_CACHE": "://user:secret@host", "BP_NIX_SUBSTITUTERS": "ssh://user:secret@host/x",
			"BP_NIX_HYDRA_URL": "user:secret@host",
		} {
			_, err := read(map[string]string{name: value})
			Expect(err).To(MatchError(ContainSubstring(name)))
			Expect(err.Error()).NotTo(ContainSubstring("secret"))
		}
	})

	it("takes a store path as a shell completes it", func() {
		c, err := read(map[string]string{"BP_NIX_STORE_PATH": "/nix/store/0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c-app/"})
		Expect(err).NotTo(HaveOccurred())
		Expect(c.StorePaths).To(Equal([]storepath.Path{"/nix/store/0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c-app"}))
	})
}
