package nixproot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/paketo-buildpacks/libpak/v2"
	"github.com/paketo-buildpacks/libpak/v2/log"
)

// served is what a dependency's mirror has, after it failed so many times, and what the log says of it.
func served(t *testing.T, failures int32) (d pinnedDependencies, of libpak.BuildModuleDependency, asked *atomic.Int32, said *bytes.Buffer) {
	t.Helper()
	asked, said = &atomic.Int32{}, &bytes.Buffer{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) <= failures {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte("nix"))
	}))
	t.Cleanup(s.Close)
	logger := log.NewPaketoLogger(said)
	d = pinnedDependencies{logger: logger, cache: libpak.DependencyCache{CachePath: t.TempDir(), DownloadPath: t.TempDir(),
		UserAgent: "test", Logger: logger}}
	sum := sha256.Sum256([]byte("nix"))
	of = libpak.BuildModuleDependency{ID: "nix", Name: "Nix", Version: "2.34.8", URI: s.URL + "/nix", Checksum: libpak.Checksum(hex.EncodeToString(sum[:]))}
	return d, of, asked, said
}

func TestADependencyIsDownloadedAtTheThirdAttemptAtTheLatest(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	d, of, asked, said := served(t, 2)
	file, err := d.fetch(context.Background(), of)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.ReadFile(file)).To(BeEquivalentTo("nix"))
	g.Expect(asked.Load()).To(BeEquivalentTo(3))
	g.Expect(said.String()).To(ContainSubstring("Download failed ("))
}

func TestADependencyThatThreeAttemptsDoNotBringIsGivenUp(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	d, of, asked, _ := served(t, 3)
	_, err := d.fetch(context.Background(), of)
	g.Expect(err).To(MatchError(And(ContainSubstring("downloading Nix 2.34.8: "), ContainSubstring("502"),
		ContainSubstring("dependency-mapping"))))
	g.Expect(asked.Load()).To(BeEquivalentTo(3))
}

func TestADependencyThatIsAnotherIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	d, of, asked, _ := served(t, 0)
	of.Checksum = libpak.Checksum(hex.EncodeToString(make([]byte, sha256.Size)))
	_, err := d.fetch(context.Background(), of)
	g.Expect(err).To(MatchError(ContainSubstring("the file is not the one that this buildpack pins")))
	g.Expect(asked.Load()).To(BeEquivalentTo(1))
}

func TestNoAttemptFollowsTheEndOfTheBuild(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	d, of, asked, _ := served(t, 9)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := d.fetch(ctx, of)
	g.Expect(err).To(HaveOccurred())
	g.Expect(asked.Load()).To(BeEquivalentTo(1))
}
