package nixproot

import (
	"bytes"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/buildpacks/libcnb/v2"
	. "github.com/onsi/gomega"
	"github.com/paketo-buildpacks/libpak/v2"
	"github.com/sclevine/spec"
)

func TestBindings(t *testing.T) { spec.Run(t, "bindings", testBindings) }

func testBindings(t *testing.T, _ spec.G, it spec.S) {
	const key = "hydra.example.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
	it.Before(func() { RegisterTestingT(t) })

	binding := func(secret map[string]string) libcnb.Bindings {
		return libcnb.Bindings{
			{Name: "db", Type: "postgresql", Secret: map[string]string{"uri": "x"}},
			{Name: "mine", Type: "Nix-Binary-Cache", Secret: secret},
		}
	}

	read := func(bindings libcnb.Bindings) (serviceBindings, error) {
		return sortBindings(bindings, []libpak.BuildModuleDependency{{Checksum: "sha256:00ff"}})
	}

	it("reads a private cache and says which bindings are for others", func() {
		all, err := read(binding(map[string]string{
			"url": "https://cache.example.org", "public-key": key, "username": "u", "password": "p",
		}))
		Expect(err).NotTo(HaveOccurred())
		Expect(all).To(Equal(serviceBindings{
			Caches: []cacheBinding{{
				Name: "mine", URL: "https://cache.example.org", PublicKeys: key, Username: "u", Password: "p",
			}},
			Unused: []string{`"db" is of type "postgresql", which is not for this buildpack`},
		}))
	})

	it("reads several caches of one binding, with its login for each", func() {
		authority := certificate()
		all, err := read(binding(map[string]string{
			"url": "https://a.example.org\nhttps://b, https://c.example.org/x", "public-key": key, "token": "t",
			"ca-certificate": authority,
		}))
		Expect(err).NotTo(HaveOccurred())
		Expect(all.Caches).To(Equal([]cacheBinding{
			{Name: "mine", URL: "https://a.example.org", PublicKeys: key, Token: "t", CACertificate: authority},
			{Name: "mine", URL: "https://b", Token: "t"}, {Name: "mine", URL: "https://c.example.org/x", Token: "t"},
		}))
	})

	it("reads certificates under whatever names they have", func() {
		text := certificate()
		all, err := read(libcnb.Bindings{{Name: "ca", Type: "CA-Certificates", Secret: map[string]string{"b.pem": text, "a": text}}})
		Expect(err).NotTo(HaveOccurred())
		Expect(all).To(Equal(serviceBindings{Caches: []cacheBinding{
			{Name: "ca", CACertificate: text}, {Name: "ca", CACertificate: text},
		}}))
		_, err = read(libcnb.Bindings{{Name: "ca", Type: "ca-certificates", Secret: map[string]string{"a.pem": "hunter2"}}})
		Expect(err).To(MatchError(`the service binding "ca" of type ca-certificates has "a.pem", which holds no certificate in PEM form (BEGIN CERTIFICATE); ` +
			`convert it (openssl x509 -inform der) or leave it out`))
		_, err = read(binding(map[string]string{"url": "https://a.example.org", "ca-certificate": "hunter2"}))
		Expect(err).To(MatchError(`the service binding "mine" of type nix-binary-cache has a ca-certificate that holds no certificate in ` +
			`PEM form (BEGIN CERTIFICATE); convert it (openssl x509 -inform der) or leave it out`))
	})

	it("reads the older layout, links of Kubernetes included", func() {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"metadata/kind": "nix-binary-cache\n", "metadata/provider": "x", "secret/..data/url": "https://a.example.org\n",
			"secret/..data/token": "t\n", "public-key": key,
		} {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, "old", name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, "old", name), []byte(text), 0o644)).To(Succeed())
		}
		for _, name := range []string{"url", "token"} {
			Expect(os.Symlink("..data/"+name, filepath.Join(dir, "old/secret", name))).To(Succeed())
		}
		bindings, err := libcnb.NewBindingsFromPath(dir)
		Expect(err).NotTo(HaveOccurred())
		bindings, err = withOldLayouts(t.Context(), bindings)
		Expect(err).NotTo(HaveOccurred())
		all, err := read(bindings)
		Expect(err).NotTo(HaveOccurred())
		Expect(all).To(Equal(serviceBindings{Caches: []cacheBinding{
			{Name: "old", URL: "https://a.example.org", Token: "t", PublicKeys: key}}}))
	})

	it("fails where the files of the layout before cannot be read, and takes a binding without any as it is", func() {
		dir := t.TempDir()
		Expect(os.MkdirAll(filepath.Join(dir, "metadata"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "metadata/kind"), []byte("nix-binary-cache"), 0o644)).To(Succeed())
		given := libcnb.Bindings{{Name: "old", Path: dir}}
		all, err := withOldLayouts(t.Context(), given)
		Expect(err).NotTo(HaveOccurred())
		Expect(all[0].Type).To(Equal("nix-binary-cache"))
		Expect(all[0].Secret).To(BeEmpty())
		secret := filepath.Join(dir, "secret")
		for _, make := range []func() error{
			func() error { return os.MkdirAll(filepath.Join(secret, "directory"), 0o755) },
			func() error { return os.WriteFile(secret, nil, 0o644) },
		} {
			Expect(make()).To(Succeed())
			_, err = withOldLayouts(t.Context(), given)
			Expect(err).To(MatchError(ContainSubstring(`reading the service binding "old"`)))
			Expect(os.RemoveAll(secret)).To(Succeed())
		}
		Expect(os.WriteFile(secret, nil, 0o644)).To(Succeed())
		t.Chdir(dir) // which is no binding's
		for _, other := range []libcnb.Binding{
			{Name: "typed", Type: "x", Path: dir}, {Name: "nowhere"}, {Name: "a file", Path: filepath.Join(dir, "secret")},
		} {
			all, err := withOldLayouts(t.Context(), libcnb.Bindings{other})
			Expect(err).NotTo(HaveOccurred())
			Expect(all[0]).To(Equal(other))
		}
	})

	it("reads files of the layout before up to a MiB", func() {
		dir := t.TempDir()
		Expect(os.MkdirAll(filepath.Join(dir, "metadata"), 0o755)).To(Succeed())
		for size, want := range map[int]bool{1 << 20: true, 1<<20 + 1: false} {
			Expect(os.WriteFile(filepath.Join(dir, "metadata/kind"), bytes.Repeat([]byte("x"), size), 0o644)).To(Succeed())
			_, err := withOldLayouts(t.Context(), libcnb.Bindings{{Name: "old", Path: dir}})
			Expect(err == nil).To(Equal(want), "%d: %v", size, err)
		}
	})

	it("names what has no type, nearly the right one, or maps what nobody downloads", func() {
		all, err := read(libcnb.Bindings{
			{Name: "a", Secret: map[string]string{"url": "https://a", "password": "hunter2"}}, {Name: "b", Type: "nix-cache"},
			{Name: "c", Type: "dependency-mapping", Secret: map[string]string{"abcd": "https://x"}},
			{Name: "d", Type: "dependency-mapping", Secret: map[string]string{"00ff": "https://x"}},
			{Name: "e", Type: "dependency-mirror", Secret: map[string]string{"default": "https://x"}},
			{Name: "f", Type: "ca-certificates"}, {Name: "g", Type: "dependency-mirror"},
			{Name: "h", Type: "CA-Certificate"}, {Name: "i", Type: "dependency-mappings"},
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(all).To(Equal(serviceBindings{Unused: []string{
			`"a" has no file "type", which says what it is for: here nix-binary-cache, ca-certificates or dependency-mapping`,
			`"b" is of type "nix-cache"; binary caches are of type nix-binary-cache`,
			`"c" maps nothing that this buildpack downloads`,
			`"f" is of type ca-certificates and has no certificate`, `"g" is of type dependency-mirror and names no mirror`,
			`"h" is of type "CA-Certificate", which is not for this buildpack; did you mean ca-certificates?`,
			`"i" is of type "dependency-mappings", which is not for this buildpack; did you mean dependency-mapping?`,
		}}))
	})

	it("accepts a token, or a netrc without a URL", func() {
		_, err := read(binding(map[string]string{"url": "https://c", "token": "t"}))
		Expect(err).NotTo(HaveOccurred())
		all, err := read(binding(map[string]string{"netrc": "machine c login u password p"}))
		Expect(err).NotTo(HaveOccurred())
		Expect(all.Caches).To(Equal([]cacheBinding{{Name: "mine", Netrc: "machine c login u password p"}}))
	})

	it("refuses what would silently do nothing, without showing a secret", func() {
		for _, c := range []struct {
			secret  map[string]string
			message string
		}{
			{map[string]string{"url": "https://c", "pasword": "hunter2"}, `has "pasword"; it may have url`},
			{map[string]string{"url": "https://c", "password": "hunter2"}, "needs both username and password"},
			{map[string]string{"url": "https://c", "token": "hunter2", "username": "u", "password": "hunter2"}, "leave one of them out"},
			{map[string]string{"netrc": "c hunter2"}, "names no machine"},
			{map[string]string{"netrc": "# machine c login u password hunter2"}, "names no machine"},
			{map[string]string{"url": "https://c", "token": "hunter2\nX-Other: y"}, "has a token with a line break"},
			{map[string]string{"url": "https://c", "username": "u:hunter2", "password": "x"}, "has a username with a colon"},
			{map[string]string{"url": "u:hunter2@c"}, `parsing cache URL "u:hidden"`},
			{map[string]string{"url": "https://c", "TOKEN": "hunter2", "token": "x"}, `has both "TOKEN" and "token"`},
			{map[string]string{"token": "hunter2"}, "has no url; add a file of that name"},
			{map[string]string{"url": "https://u:hunter2@a.example.org", "token": "hunter2"}, "has a login in its url and another beside it; leave"},
			{map[string]string{"url": "https://b.example.org https://u:hunter2@a.example.org", "username": "u", "password": "hunter2"},
				"has a login in its url and another beside it; leave"},
			{map[string]string{"url": "https://a.example.org s3://b", "token": "hunter2"}, "has a login for an s3:// url, which takes AWS's own alone"},
			{map[string]string{"url": "S3://b", "username": "u", "password": "hunter2"}, "AWS_SECRET_ACCESS_KEY"},
			{map[string]string{"url": "https://c", "token": ""}, `has an empty "token", as from a secret that is not set; give it its value`},
			{map[string]string{"url": "https://c", "Username": "", "password": ""}, `has an empty "Username"`},
			{map[string]string{"url": "https://c", "username": "u", "password": ""}, `has an empty "password"`},
			{map[string]string{"url": "https://c", "netrc": ""}, `has an empty "netrc"`},
			{map[string]string{"url": "//a:hunter2@example.org/x"}, "it is no URL, or one without a scheme; a cache looks like https://"},
			{map[string]string{"url": "ssh://a:hunter2@example.org/x"}, "begins with none of https://"},
		} {
			_, err := read(binding(c.secret))
			Expect(err).To(MatchError(ContainSubstring(c.message)))
			Expect(err.Error()).NotTo(ContainSubstring("hunter2"))
		}
	})
}

// TestOfMirrorsOnlyAddressesAreTaken refuses what libpak would pass over, or crash at.
func TestOfMirrorsOnlyAddressesAreTaken(t *testing.T) {
	g := NewWithT(t)
	for text, want := range map[string]bool{
		"": true, "https://mirror.example.org/{originalHost}": true, "file:///mirror": true, "https://a,skip-path=/b": true,
		"skip-path=/b,mirror=https://a": true, "https%3A%2F%2Fa": true, "HTTPS://a": true,
		"ftp:/x": false, "hunter2": false, "http://a": false, "a b": false, "skip-path=/b": false, "mirror=": false, "https://[": false,
	} {
		_, err := sortBindings(libcnb.Bindings{{Name: "m", Type: mirrorType, Secret: map[string]string{"default": text}}}, nil)
		all := errors.Join(err, checkMirrors([]string{"A=x", "BP_DEPENDENCY_MIRROR_GITHUB_COM=" + text}))
		if want {
			g.Expect(all).NotTo(HaveOccurred(), text)
			continue
		}
		g.Expect(all).To(MatchError(`the service binding "m" of type dependency-mirror has "default", which is no URL that begins with `+
			"https:// or file://, as a mirror's does\nBP_DEPENDENCY_MIRROR_GITHUB_COM is no URL that begins with https:// or file://, as a mirror's does"), text)
	}
}

// certificate is an authority's, in PEM form.
func certificate() string {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}
