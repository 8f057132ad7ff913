package cache_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// signer is a key pair of the tests.
type signer struct {
	name   string
	secret ed25519.PrivateKey
}

func newSigner(name string) signer {
	seed := sha256.Sum256([]byte(name))
	return signer{name: name, secret: ed25519.NewKeyFromSeed(seed[:])}
}

func (s signer) public() narinfo.PublicKey {
	return narinfo.PublicKey{Name: s.name, Key: s.secret.Public().(ed25519.PublicKey)}
}

func (s signer) sign(n *narinfo.NarInfo) {
	n.Sigs = append(n.Sigs, narinfo.Signature{Name: s.name, Data: ed25519.Sign(s.secret, []byte(n.Fingerprint()))})
}

var trusted = newSigner("trusted-1")

// storePath is a made-up path with a valid hash part.
func storePath(name string) storepath.Path {
	sum := sha256.Sum256([]byte(name))
	p, err := storepath.FromBase(storepath.Encode32(sum[:20]) + "-" + name)
	if err != nil {
		panic(err)
	}
	return p
}

// content is what a path's NAR holds: neither all noise nor all alike.
func content(name string, size int) []byte {
	sum := sha256.Sum256([]byte(name))
	random := rand.New(rand.NewChaCha8(sum))
	out := make([]byte, 0, size+64)
	for len(out) < size {
		if n := random.IntN(40) + 4; len(out) > 1000 && random.IntN(3) > 0 {
			from := random.IntN(len(out) - n)
			out = append(out, out[from:from+n]...)
			continue
		}
		for range random.IntN(30) + 1 {
			out = append(out, byte(random.Uint32()))
		}
	}
	return out[:size]
}

// compress packs data with the real thing for each of Nix's names.
func compress(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	switch name {
	case "none":
		return data
	case "zstd":
		w, err := zstd.NewWriter(&buf)
		Expect(err).NotTo(HaveOccurred())
		pack(w, data)
	case "br":
		pack(brotli.NewWriterLevel(&buf, 4), data)
	case "gzip":
		pack(gzip.NewWriter(&buf), data)
	case "deflate":
		pack(zlib.NewWriter(&buf), data)
	case "xz", "bzip2":
		if _, err := exec.LookPath(name); err != nil {
			untested.Skip(t, "there is no %s here", name)
		}
		cmd := exec.Command(name, "-1", "-c") // -6 takes a second to set itself up
		cmd.Stdin, cmd.Stdout = bytes.NewReader(data), &buf
		Expect(cmd.Run()).To(Succeed())
	default:
		t.Fatalf("no compressor for %q", name)
	}
	return buf.Bytes()
}

func pack(w io.WriteCloser, data []byte) {
	_, err := w.Write(data)
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Close()).To(Succeed())
}

// server is a binary cache on loopback. Its files can be changed, and its answers intercepted.
type server struct {
	*httptest.Server
	mu        sync.Mutex
	files     map[string][]byte
	requests  []*http.Request
	intercept func(w http.ResponseWriter, r *http.Request, n int) bool // n counts requests of the same path from 1
	counts    map[string]int
}

func newServer(t *testing.T) *server {
	return newServerWith(t, httptest.NewUnstartedServer, (*httptest.Server).Start)
}

func newServerWith(t *testing.T, make func(http.Handler) *httptest.Server, start func(*httptest.Server)) *server {
	s := &server{files: map[string][]byte{}, counts: map[string]int{}}
	s.files["nix-cache-info"] = []byte("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n")
	s.Server = make(http.HandlerFunc(s.serve))
	start(s.Server)
	t.Cleanup(s.Close)
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.counts[r.URL.Path]++
	data, ok := s.files[name]
	intercept, n := s.intercept, s.counts[r.URL.Path]
	s.mu.Unlock()
	if intercept != nil && intercept(w, r, n) {
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
}

// host is a URL's host and port.
func host(raw string) string {
	u, err := url.Parse(raw)
	Expect(err).NotTo(HaveOccurred())
	return u.Host
}

func (s *server) on(f func(w http.ResponseWriter, r *http.Request, n int) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

func (s *server) asked(suffix string) []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*http.Request
	for _, r := range s.requests {
		if strings.HasSuffix(r.URL.Path, suffix) {
			out = append(out, r)
		}
	}
	return out
}

// add publishes a path, signed by the trusted key unless edit changes that after the rest is filled in.
func (s *server) add(t *testing.T, name, compression string, data []byte, edit func(*narinfo.NarInfo),
) *narinfo.NarInfo {
	t.Helper()
	file := compress(t, compression, data)
	n := &narinfo.NarInfo{
		StorePath: storePath(name), URL: "nar/" + name + ".nar." + compression, Compression: compression,
		FileHash: sha256.Sum256(file), FileSize: int64(len(file)),
		NarHash: sha256.Sum256(data), NarSize: int64(len(data)),
	}
	trusted.sign(n)
	if edit != nil {
		edit(n)
	}
	s.put(n.URL, file)
	s.put(n.StorePath.HashPart()+".narinfo", []byte(n.String()))
	return n
}

// replace gives a published path another file and says so in its narinfo, unless edit undoes that.
func (s *server) replace(n *narinfo.NarInfo, file []byte, edit func(*narinfo.NarInfo)) {
	n.FileHash, n.FileSize = sha256.Sum256(file), int64(len(file))
	if edit != nil {
		edit(n)
	}
	s.put(n.URL, file)
	s.put(n.StorePath.HashPart()+".narinfo", []byte(n.String()))
}

func (s *server) put(name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = data
}

func (s *server) drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, name)
}

// logged collects what a Set logs.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) log(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// options are those of most tests: the trusted key, no environment, no netrc.
func options(urls ...string) cache.Options {
	return cache.Options{
		URLs: urls, Keys: narinfo.Keys{trusted.public()}, RequireSigs: true, Getenv: func(string) string { return "" },
	}.Fast()
}

func open(t *testing.T, o cache.Options) *cache.Set {
	t.Helper()
	set, err := cache.Open(context.Background(), o)
	Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { Expect(set.Close()).To(Succeed()) })
	return set
}

// fetch looks a path up and reads its NAR.
func fetch(set *cache.Set, p storepath.Path) ([]byte, error) {
	found, err := set.Lookup(context.Background(), p)
	if err != nil {
		return nil, err
	}
	return read(set, found)
}

func read(set *cache.Set, found *cache.Found) ([]byte, error) {
	var out []byte
	err := set.Fetch(context.Background(), found, func(r io.Reader) error {
		var err error
		out, err = io.ReadAll(r)
		return err
	})
	return out, err
}

// sorted are a table's keys, in one order: spec runs a suite's function anew for each of its specs.
func sorted[K cmp.Ordered, V any](table map[K]V) []K { return slices.Sorted(maps.Keys(table)) }

// answers are what each cache said of a path that none has.
func answers(err error) []cache.Answer {
	var none *cache.NotFoundError
	ExpectWithOffset(1, errors.As(err, &none)).To(BeTrue(), "%v", err)
	return none.Asked
}

// pipe is a named pipe that nobody writes to.
func pipe(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	Expect(syscall.Mkfifo(name, 0o644)).To(Succeed())
	return name
}

func tempFile(t *testing.T, text string) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	Expect(err).NotTo(HaveOccurred())
	_, err = f.WriteString(text)
	Expect(err).NotTo(HaveOccurred())
	Expect(f.Close()).To(Succeed())
	return f.Name()
}

// file is a published file, nil when there is none.
func (s *server) file(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[name]
}

func (s *server) etag(name string) string { return fmt.Sprintf(`"%x"`, sha256.Sum256(s.file(name))) }

func discard() *log.Logger { return log.New(io.Discard, "", 0) }
