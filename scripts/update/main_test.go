package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// TestUpdateChangesVersionsAndChecksumsAlone rewrites this project's own buildpack.toml: versions and checksums as they are published, and nothing else.
func TestUpdateChangesVersionsAndChecksumsAlone(t *testing.T) {
	g := NewWithT(t)
	text, err := os.ReadFile("../../buildpack.toml")
	g.Expect(err).NotTo(HaveOccurred())
	server := httptest.NewServer(nil)
	defer server.Close()
	before := strings.ReplaceAll(string(text), "https://github.com/proot-me/proot", server.URL+"/proot")
	nix, proot := field(strings.Split(before, header)[1], "version"), field(strings.Split(before, header)[3], "version")
	const program = "\x7fELF program"
	sums := map[string]string{"x86_64": strings.Repeat("ab", 32), "aarch64": strings.Repeat("cd", 32)}
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/NixOS/nix/tags":
			g.Expect(r.Header.Get("Authorization")).To(Equal("Bearer t"))
			fmt.Fprint(w, `[{"name":"2.99.2"},{"name":"2.99.1"},{"name":"latest-release"},{"name":"3.0.0-rc1"},{"name":"2.3"}]`)
		case "/nix/nix-2.99.1/nix-2.99.1-x86_64-linux.tar.xz.sha256":
			g.Expect(r.Header.Get("Authorization")).To(BeEmpty())
			fmt.Fprintln(w, sums["x86_64"])
		case "/nix/nix-2.99.1/nix-2.99.1-aarch64-linux.tar.xz.sha256":
			fmt.Fprint(w, sums["aarch64"])
		case "/api/proot-me/proot/releases":
			fmt.Fprintf(w, `[{"tag_name":"v9.0.0","prerelease":true,"assets":[{"name":"proot","browser_download_url":"x"}]},
				{"tag_name":"v8.1.0","assets":[{"name":"proot","browser_download_url":"%s/proot/releases/download/v8.1.0/proot"}]},
				{"tag_name":"v8.0.0"}]`, server.URL)
		case "/proot/releases/download/v8.1.0/proot":
			fmt.Fprint(w, program)
		default:
			http.NotFound(w, r)
		}
	})
	u := updater{http: server.Client(), token: "t", api: server.URL + "/api", nix: server.URL + "/nix", out: io.Discard}
	after, err := u.text(t.Context(), before)
	g.Expect(err).NotTo(HaveOccurred())
	parts := strings.Split(after, header)
	g.Expect(parts).To(HaveLen(5))
	for i, system := range []string{"x86_64", "aarch64"} {
		g.Expect(field(parts[i+1], "version")).To(Equal("2.99.1"))
		g.Expect(field(parts[i+1], "uri")).To(Equal(server.URL + "/nix/nix-2.99.1/nix-2.99.1-" + system + "-linux.tar.xz"))
		g.Expect(field(parts[i+1], "checksum")).To(Equal("sha256:" + sums[system]))
		g.Expect(parts[i+1]).To(ContainSubstring("pkg:generic/nix@2.99.1?"))
		g.Expect(parts[i+1]).NotTo(ContainSubstring(nix))
	}
	g.Expect(field(parts[3], "checksum")).To(Equal(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(program)))))
	g.Expect(parts[3]).NotTo(ContainSubstring(proot))
	g.Expect(parts[4]).To(Equal(strings.Split(before, header)[4]), "that release has no file for it")
	g.Expect(parts[0]).To(Equal(strings.Split(before, header)[0]))

	again, err := u.text(t.Context(), after)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(again).To(Equal(after))
}

// TestUpdateOfNixIsOnThePageOfSupportedVersions rewrites the row that a test compares with buildpack.toml, so that the pull
// request of an update passes.
func TestUpdateOfNixIsOnThePageOfSupportedVersions(t *testing.T) {
	g, dir := NewWithT(t), t.TempDir()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/tags"):
			fmt.Fprint(w, `[{"name":"2.99.1"}]`)
		case strings.HasSuffix(r.URL.Path, ".sha256"):
			fmt.Fprint(w, strings.Repeat("ab", 32))
		default:
			fmt.Fprint(w, "[]")
		}
	}))
	defer server.Close()
	copied := func(name string) string {
		text, err := os.ReadFile(filepath.Join("../..", name))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
		g.Expect(os.WriteFile(filepath.Join(dir, name), text, 0o644)).To(Succeed())
		return string(text)
	}
	nix, page := nixOf(copied("buildpack.toml")), copied("docs/limits.md")
	u := updater{http: server.Client(), api: server.URL + "/api", nix: server.URL + "/nix", out: io.Discard}
	g.Expect(u.file(t.Context(), filepath.Join(dir, "buildpack.toml"))).To(Succeed())
	after, err := os.ReadFile(filepath.Join(dir, "docs/limits.md"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(after)).To(Equal(strings.Replace(page, "| Nix that evaluates | "+nix+",", "| Nix that evaluates | 2.99.1,", 1)))
	g.Expect(string(after)).NotTo(Equal(page))
}

// TestTextRefuses what is no checksum, and a file that pins nothing.
func TestTextRefuses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tags") {
			fmt.Fprint(w, `[{"name":"2.99.1"}]`)
			return
		}
		fmt.Fprint(w, "<html>not found</html>")
	}))
	defer server.Close()
	u := updater{http: server.Client(), api: server.URL, nix: server.URL + "/nix", out: io.Discard}
	_, err := u.text(t.Context(), header+"\nid = \"nix\"\nversion = \"2.1.0\"\nuri = \"https://x/nix/nix-2.1.0/nix-2.1.0-x86_64-linux.tar.xz\"\n")
	NewWithT(t).Expect(err).To(MatchError(ContainSubstring("holds no checksum")))
	NewWithT(t).Expect(u.file(t.Context(), "main_test.go")).To(MatchError("main_test.go: there is no " + header + " in it"))
}

// TestTagsAndAddressesThatAreNoneAreNotTaken has publishers' answers that would end a text in buildpack.toml, or lead elsewhere.
func TestTagsAndAddressesThatAreNoneAreNotTaken(t *testing.T) {
	g := NewWithT(t)
	for _, tag := range []string{
		"+9.1.0", "9.+1.0", "09.1.0", "9.1.0\n", "9.1.0\"", "9.1.0$(id)", "9.1.-0", "9.1.0.0", "9", "9.1.99999999999", "", "9..0", "٩.1.0",
	} {
		g.Expect(parse(tag)).To(BeNil(), "%q", tag)
	}
	g.Expect(parse("9.10.0")).To(Equal([]int{9, 10, 0}))
	g.Expect(parse("2.3")).To(Equal([]int{2, 3}))

	var address string
	server := httptest.NewServer(nil)
	defer server.Close()
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/proot-me/proot/releases" {
			fmt.Fprint(w, "\x7fELF program")
			return
		}
		g.Expect(json.NewEncoder(w).Encode([]map[string]any{{
			"tag_name": "v5.10.0", "assets": []map[string]string{{"name": "proot", "browser_download_url": address}},
		}})).To(Succeed())
	})
	u := updater{http: server.Client(), api: server.URL, out: io.Discard}
	file := header + "\nid = \"proot\"\nversion = \"5.4.1\"\nuri = \"" + server.URL + "/v5.4.1/proot\"\nchecksum = \"sha256:ab\"\n"
	for _, address = range []string{
		server.URL + "/v5.10.0/proot\"\n[other]\n#", server.URL + "/v5.10.0/proot?x", server.URL + "/other/v5.10.0/proot", "file:///etc/passwd", "",
	} {
		_, err := u.text(t.Context(), file)
		g.Expect(err).To(MatchError(ContainSubstring("want "+server.URL+"/v5.10.0/proot")), address)
	}
	address = server.URL + "/v5.10.0/proot"
	after, err := u.text(t.Context(), file)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(field(after, "uri")).To(Equal(address))
}
