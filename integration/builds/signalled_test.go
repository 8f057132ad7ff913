package builds_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dsnet/compress/bzip2"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// TestSIGTERMEndsWhateverIsBeingRead sends SIGTERM to builds that wait for caches and Hydras that answer slowly, never, or
// without end, and to programs that read images and sources without end.
func TestSIGTERMEndsWhateverIsBeingRead(t *testing.T) {
	RegisterTestingT(t)
	s := newShelf(t)
	root := s.app(1, 12, 200_000)
	p := newPlatform(t, s, "")
	files := http.FileServer(http.Dir(s.dir))
	never := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	trickle := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, " ")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}
	cacheThat := func(suffix string, does http.HandlerFunc) []string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, suffix) {
				does(w, r)
				return
			}
			files.ServeHTTP(w, r)
		}))
		t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
		return []string{"BP_NIX_SUBSTITUTERS", server.URL}
	}
	hydraThat := func(does http.HandlerFunc, more ...string) []string {
		server := httptest.NewServer(does)
		t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
		return append([]string{"BP_NIX_STORE_PATH", "", "BP_NIX_HYDRA_URL", server.URL, "BP_NIX_HYDRA_JOB", "shop/main/app",
			"BP_NIX_GIT_REV", hydratest.Revision("x")}, more...)
	}
	stand := hydratest.New()
	defer stand.Close()
	stand.Project("shop").Jobset("main").Evaluate(hydratest.Evaluation{Inputs: map[string]hydratest.Input{}, Jobs: []hydratest.Job{{Name: "app"}}})

	var most time.Duration
	var peak int64
	for what, env := range map[string][]string{
		"a cache that never answers":         cacheThat("nix-cache-info", never),
		"a narinfo that never comes":         cacheThat(".narinfo", never),
		"a narinfo that trickles":            cacheThat(".narinfo", trickle),
		"a NAR that never comes":             cacheThat(".nar", never),
		"a NAR that trickles":                cacheThat(".nar", trickle),
		"a Hydra that never answers":         hydraThat(never),
		"a Hydra that trickles":              hydraThat(trickle),
		"a Hydra that answers without end":   hydraThat(func(w http.ResponseWriter, r *http.Request) { endless(w, r, `{"evals":[`, `{"id":1},`) }),
		"a Hydra that is busy":               hydraThat(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }),
		"a Hydra that has to evaluate first": hydraThat(stand.Handler().ServeHTTP, "BP_NIX_HYDRA_WAIT", "1h"),
	} {
		Expect(p.NewImage()).To(Succeed())
		p.KillAfter, p.Signal = 600*time.Millisecond, syscall.SIGTERM
		o := p.try(root, env...)
		p.KillAfter, p.Signal = 0, 0
		Expect(o.Status).NotTo(BeZero(), "%s: %s", what, o.Log)
		Expect(o.Dying).To(BeNumerically("<", busy.Limit(10*time.Second)), what)
		t.Logf("%s: ended %v after SIGTERM, peak %d MiB", what, o.Dying.Round(time.Millisecond), o.Peak>>20)
		most, peak = max(most, o.Dying), max(peak, o.Peak)
	}

	// Files that take long to look into.
	heavyOnes := heavyPaths(t, s)
	for what, heavy := range heavyOnes {
		Expect(p.NewImage()).To(Succeed())
		p.KillAfter, p.Signal = 3*time.Second, syscall.SIGTERM
		o := p.try(heavy)
		p.KillAfter, p.Signal = 0, 0
		Expect(o.Status).NotTo(BeZero(), "%s: %s", what, o.Log)
		Expect(o.Dying).NotTo(BeZero(), "%s: it ended before", what)
		t.Logf("%s: ended %v after SIGTERM, peak %d MiB", what, o.Dying.Round(time.Millisecond), o.Peak>>20)
		most, peak = max(most, o.Dying), max(peak, o.Peak)
	}

	// Programs that read what lies on disk: a cache with such files, and an image with a layer of 60 GiB of zeros, which take no room.
	self, err := os.Executable()
	Expect(err).NotTo(HaveOccurred())
	image := filepath.Join(t.TempDir(), "image.tar")
	writeZeros(image, 60<<30)
	survey := []string{"survey", "--key", s.publicKey(), "file://" + s.dir}
	for _, heavy := range heavyOnes {
		survey = append(survey, heavy.String())
	}
	for _, arguments := range [][]string{{"verify", image}, {"inspect", image}, survey} {
		program := arguments[0]
		file := filepath.Join(t.TempDir(), program)
		Expect(os.Symlink(self, file)).To(Succeed())
		command := exec.Command(file, arguments[1:]...)
		var said bytes.Buffer
		command.Stdout, command.Stderr = &said, &said
		Expect(command.Start()).To(Succeed())
		ended := make(chan error, 1)
		go func() { ended <- command.Wait() }()
		Consistently(ended, "400ms").ShouldNot(Receive(), "%s is not at work: %s", program, &said)
		began := time.Now()
		Expect(command.Process.Signal(syscall.SIGTERM)).To(Succeed())
		Eventually(ended, "20s", "1ms").Should(Receive(HaveOccurred()), program)
		t.Logf("%s: ended %v after SIGTERM", program, time.Since(began).Round(time.Millisecond))
		most = max(most, time.Since(began))
	}
	t.Logf("SIGTERM to the end at most %v, peak %d MiB", most.Round(time.Millisecond), peak>>20)
	Expect(most).To(BeNumerically("<", busy.Limit(10*time.Second)))
	Expect(peak).To(BeNumerically("<", 256<<20))
	Expect(nar.RemoveAll(p.Layers())).To(Succeed())
}

// heavyPaths are paths whose files are small, and take long.
func heavyPaths(t *testing.T, s *shelf) map[string]storepath.Path {
	noise := make([]byte, 4<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = "0123456789abcdef ghijklmnopqrstuv"[random.IntN(33)]
	}
	packed := func(open func(io.Writer) io.WriteCloser, text []byte) string {
		var b bytes.Buffer
		w := open(&b)
		_, err := w.Write(text)
		Expect(err).NotTo(HaveOccurred())
		Expect(w.Close()).To(Succeed())
		return b.String()
	}
	withBzip2 := func(w io.Writer) io.WriteCloser {
		z, err := bzip2.NewWriter(w, &bzip2.WriterConfig{Level: 9})
		Expect(err).NotTo(HaveOccurred())
		return z
	}
	again := strings.Repeat(packed(withBzip2, noise), 100)
	return map[string]storepath.Path{
		"a file that inflates for long": s.add("inflates", map[string]string{"share/a.bz2": again}),
	}
}

// writeZeros writes an image as docker save does, whose one layer has a file of so many zeros.
func writeZeros(name string, size int64) {
	var layer bytes.Buffer
	Expect(tar.NewWriter(&layer).WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: size, Format: tar.FormatGNU})).To(Succeed())
	file, err := os.Create(name)
	Expect(err).NotTo(HaveOccurred())
	defer file.Close()
	archive := tar.NewWriter(file)
	for _, document := range [][2]string{
		{"manifest.json", `[{"Config":"c","Layers":["l"]}]`},
		{"c", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`},
	} {
		Expect(archive.WriteHeader(&tar.Header{Name: document[0], Mode: 0o644, Size: int64(len(document[1]))})).To(Succeed())
		_, err := archive.Write([]byte(document[1]))
		Expect(err).NotTo(HaveOccurred())
	}
	all := int64(layer.Len()) + size + 1024
	Expect(archive.WriteHeader(&tar.Header{Name: "l", Mode: 0o644, Size: all, Format: tar.FormatGNU})).To(Succeed())
	at, err := file.Seek(0, io.SeekCurrent)
	Expect(err).NotTo(HaveOccurred())
	_, err = file.Write(layer.Bytes())
	Expect(err).NotTo(HaveOccurred())
	Expect(file.Truncate(at + (all+511)/512*512 + 1024)).To(Succeed())
}

// endless answers without end.
func endless(w http.ResponseWriter, r *http.Request, begin, text string) {
	fmt.Fprint(w, begin)
	chunk := []byte(strings.Repeat(text, 4096))
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}
