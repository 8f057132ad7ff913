package nixinstall_test

import (
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// testPrivateCaches has caches that Nix does not get into by itself.
func testPrivateCaches(t *testing.T, _ spec.G, it spec.S) {
	const secret = "s3cret-t0ken"
	var (
		c     *binaryCache
		files http.Handler
		said  []string
		state string
	)
	it.Before(func() {
		RegisterTestingT(t)
		c, said = newBinaryCache(t), nil
		c.add(nixpkgsPath, testdata(t, "nixpkgs"))
		files = http.FileServer(http.Dir(c.dir))
	})
	only := func(allowed func(*http.Request) bool, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !allowed(r) {
				http.Error(w, "who?", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	bearing := func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+secret }
	authority := func(server *httptest.Server) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	}
	private := func(substituter string, change func(*nixinstall.Settings)) nixinstall.Toolchain {
		return nix(t, func(s *nixinstall.Settings) {
			s.Substituters, s.TrustedPublicKeys = []string{substituter}, []string{c.publicKey()}
			s.Log = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
			state = s.State
			change(s)
		})
	}

	it("sends a token to the cache alone, whose authority nobody else knows, and keeps it nowhere", func() {
		var strangers []string
		elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			strangers = append(strangers, r.Header.Get("Authorization"))
			files.ServeHTTP(w, r)
		}))
		defer elsewhere.Close()
		server := httptest.NewTLSServer(only(bearing, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path, inTeam := strings.CutPrefix(r.URL.Path, "/team")
			switch {
			case strings.HasPrefix(path, "/nar/"):
				http.Redirect(w, r, elsewhere.URL+path, http.StatusFound)
			case inTeam:
				http.Redirect(w, r, path, http.StatusFound)
			default:
				files.ServeHTTP(w, r)
			}
		})))
		defer server.Close()
		address := server.URL + "/team?priority=7"
		toolchain := private(address, func(s *nixinstall.Settings) {
			s.Authorization, s.Authorities = map[string]string{address: "Bearer " + secret}, []string{authority(server)}
			s.Environment = append(s.Environment, "http_proxy=http://127.0.0.1:1", "NO_PROXY=example.org")
		})
		r, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		isApp(r)
		Expect(strangers).To(Equal([]string{""}))
		Expect(said).To(ContainElement("Fetching source from " + server.URL + "/team, which the evaluation reads"))
		Expect(strings.Join(said, "\n")).NotTo(ContainSubstring(secret))
		Expect(filepath.WalkDir(state, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			contents, err := os.ReadFile(path)
			Expect(string(contents)).NotTo(ContainSubstring(secret), path)
			return err
		})).To(Succeed())
	})

	it("says by its own name what a cache answers that is asked for Nix", func() {
		server := httptest.NewServer(only(bearing, files))
		defer server.Close()
		toolchain := private(server.URL, func(s *nixinstall.Settings) {
			s.Authorization = map[string]string{server.URL: "Bearer another"}
		})
		_, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		var would *nixinstall.WouldBuildError
		Expect(err).To(BeAssignableToTypeOf(would))
		Expect(strings.Join(err.(*nixinstall.WouldBuildError).Warnings, "\n")).To(SatisfyAll(
			ContainSubstring(server.URL+"/"), ContainSubstring("401"), Not(ContainSubstring("another"))))
	})

	it("trusts an authority that is given beside the environment's, and sends logins of any characters", func() {
		for netrc, want := range map[string][2]string{
			`login "deploy" password "pass \"word\" \\ "`: {"deploy", `pass "word" \ `},
			`login "t0ken" password ""`:                   {"t0ken", ""},
		} {
			server := httptest.NewTLSServer(only(func(r *http.Request) bool {
				user, password, _ := r.BasicAuth()
				return [2]string{user, password} == want
			}, files))
			defer server.Close()
			other := httptest.NewTLSServer(files)
			defer other.Close()
			bundle, file := filepath.Join(t.TempDir(), "bundle"), filepath.Join(t.TempDir(), "netrc")
			Expect(os.WriteFile(bundle, []byte(authority(other)), 0o644)).To(Succeed())
			Expect(os.WriteFile(file, []byte("machine 127.0.0.1 "+netrc+"\nmachine x login y password z\n"), 0o600)).To(Succeed())
			toolchain := private(server.URL, func(s *nixinstall.Settings) {
				s.Authorities, s.NetrcFile = []string{authority(server)}, file
				s.Environment = append(s.Environment, "SSL_CERT_FILE="+bundle)
			})
			r, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
			Expect(err).NotTo(HaveOccurred(), netrc)
			isApp(r)
		}
	})
}
