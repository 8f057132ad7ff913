package nixinstall_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// archive is a compressed tarball of one file.
func archive(name, text string) []byte {
	var tarball bytes.Buffer
	z := gzip.NewWriter(&tarball)
	w := tar.NewWriter(z)
	Expect(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})).To(Succeed())
	_, err := w.Write([]byte(text))
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Close()).To(Succeed())
	Expect(z.Close()).To(Succeed())
	return tarball.Bytes()
}

// testFetched has expressions that read what no hash pins.
func testFetched(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	it("looks anew, in the next build, for what an address without a hash gives", func() {
		channel := archive("channel/default.nix", `"first"`)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(channel) }))
		defer server.Close()
		address, state := server.URL+"/channel.tar.gz", stateDir(t)
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "default.nix"), []byte(`derivation {
			name = "${import <channel>}-${import (builtins.fetchTarball "`+address+`")}";
			builder = "/bin/sh"; system = "x86_64-linux";
		}`), 0o644)).To(Succeed())
		build := func() string {
			toolchain := nix(t, func(s *nixinstall.Settings) {
				s.State, s.NixPath = state, []string{"channel=" + address}
			})
			source, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{})
			Expect(err).NotTo(HaveOccurred())
			r, err := toolchain.Evaluate(ctx, nixinstall.Request{Source: source})
			Expect(err).NotTo(HaveOccurred())
			return r.Derivations[0].Name
		}
		Expect(build()).To(Equal("first-first"))
		channel = archive("channel/default.nix", `"second"`)
		time.Sleep(time.Second) // Nix counts the age of what it fetched in seconds
		Expect(build()).To(Equal("second-second"))
	})
}
