package closure_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

const keyName = "cache.example-1"

// binaryCache is a signed binary cache in a directory, as `nix copy --to file://` makes one.
type binaryCache struct {
	t    *testing.T
	dir  string
	key  ed25519.PrivateKey
	keys narinfo.Keys
	nars map[storepath.Path][]byte
}

func newBinaryCache(t *testing.T) *binaryCache {
	c := &binaryCache{
		t: t, dir: t.TempDir(), key: secretKey(keyName), keys: narinfo.Keys{publicKey(keyName)},
		nars: map[storepath.Path][]byte{},
	}
	Expect(os.Mkdir(filepath.Join(c.dir, "nar"), 0o755)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(c.dir, "nix-cache-info"), []byte("StoreDir: /nix/store\n"), 0o644)).To(Succeed())
	return c
}

// add serves a path with these files; those whose name begins with "bin/" are executable.
func (c *binaryCache) add(p storepath.Path, files map[string]string, refs ...storepath.Path) storepath.Path {
	c.t.Helper()
	var raw bytes.Buffer
	w := nar.NewWriter(&raw)
	Expect(w.Entry(&nar.Entry{Kind: nar.Directory})).To(Succeed())
	open := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if dir := filepath.Dir(name); dir != "." && !open[dir] {
			open[dir] = true
			Expect(w.Entry(&nar.Entry{Kind: nar.Directory, Path: dir})).To(Succeed())
		}
		if target, ok := strings.CutPrefix(files[name], "-> "); ok {
			Expect(w.Entry(&nar.Entry{Kind: nar.Symlink, Path: name, Target: target})).To(Succeed())
			continue
		}
		Expect(w.Entry(&nar.Entry{
			Kind: nar.Regular, Path: name, Size: int64(len(files[name])), Executable: strings.HasPrefix(name, "bin/"),
		})).To(Succeed())
		_, err := w.Write([]byte(files[name]))
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(w.Close()).To(Succeed())
	c.serve(p, raw.Bytes(), refs...)
	return p
}

// serve serves a path with these bytes as its NAR.
func (c *binaryCache) serve(p storepath.Path, raw []byte, refs ...storepath.Path) {
	c.t.Helper()
	refs = slices.Sorted(slices.Values(refs))
	c.nars[p] = raw
	info := &narinfo.NarInfo{
		StorePath: p, URL: "nar/" + p.Base() + ".nar", Compression: "none", NarHash: sha256.Sum256(raw),
		NarSize: int64(len(raw)), References: refs,
	}
	info.Sigs = []narinfo.Signature{{Name: keyName, Data: ed25519.Sign(c.key, []byte(info.Fingerprint()))}}
	Expect(os.WriteFile(filepath.Join(c.dir, info.URL), raw, 0o644)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(c.dir, p.HashPart()+".narinfo"), []byte(info.String()), 0o644)).To(Succeed())
}

// open asks the cache, and others after it, as the buildpack does.
func (c *binaryCache) open(others ...*binaryCache) *asked {
	c.t.Helper()
	var urls []string
	for _, each := range append([]*binaryCache{c}, others...) {
		urls = append(urls, each.url())
	}
	set, err := cache.Open(context.Background(), cache.Options{
		URLs: urls, Keys: c.keys, RequireSigs: true,
	})
	Expect(err).NotTo(HaveOccurred())
	c.t.Cleanup(func() { set.Close() })
	return &asked{Caches: set}
}

func (c *binaryCache) url() string { return "file://" + c.dir }

// asked counts what is asked of caches, and may stand in their way.
type asked struct {
	closure.Caches
	mutex   sync.Mutex
	lookups []storepath.Path
	fetches []storepath.Path
	fetch   func(ctx context.Context, p storepath.Path) error                          // before each fetch
	stream  func(p storepath.Path, r io.Reader) io.Reader                              // around each NAR
	lookup  func(ctx context.Context, f *cache.Found, err error) (*cache.Found, error) // after each look-up
}

func (a *asked) Lookup(ctx context.Context, p storepath.Path) (*cache.Found, error) {
	a.mutex.Lock()
	a.lookups = append(a.lookups, p)
	a.mutex.Unlock()
	found, err := a.Caches.Lookup(ctx, p)
	if a.lookup != nil {
		return a.lookup(ctx, found, err)
	}
	return found, err
}

func (a *asked) Fetch(ctx context.Context, f *cache.Found, unpack func(io.Reader) error) error {
	a.mutex.Lock()
	a.fetches = append(a.fetches, f.StorePath)
	a.mutex.Unlock()
	if a.fetch != nil {
		if err := a.fetch(ctx, f.StorePath); err != nil {
			return err
		}
	}
	return a.Caches.Fetch(ctx, f, func(r io.Reader) error {
		if a.stream != nil {
			r = a.stream(f.StorePath, r)
		}
		return unpack(r)
	})
}

// stock serves a small world's closure: every path names itself, what it refers to, and something of its own.
func (c *binaryCache) stock(w *world) *closure.Graph {
	g := w.graph()
	for _, n := range g.Sorted() {
		text := "#!" + n.Path.String() + "/bin/sh\n"
		for _, ref := range n.References {
			text += "use " + ref.String() + "/lib\n"
		}
		size := int(min(n.NarSize/100, 50_000))
		c.add(n.Path, map[string]string{
			"bin/run": text, "share/data": strings.Repeat(n.Path.Name()+" ", size/16), "share/link": "-> " + n.Path.String(),
			"empty": "",
		}, n.References...)
	}
	return g
}

func viewAt(dir string) relocate.View {
	view, err := relocate.NewView(dir)
	Expect(err).NotTo(HaveOccurred())
	return view
}

// dump is a tree's NAR.
func dump(dir string) []byte {
	var raw bytes.Buffer
	Expect(nar.Dump(context.Background(), &raw, dir)).To(Succeed())
	return raw.Bytes()
}

// names lists a directory.
func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	Expect(err).NotTo(HaveOccurred())
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// lines collects what is logged.
type lines struct {
	mutex sync.Mutex
	all   []string
}

func (l *lines) log(format string, args ...any) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.all = append(l.all, fmt.Sprintf(format, args...))
}

// readBack is what the next build reads of a result: its metadata, after it went through a label.
func readBack(result *closure.Result, view relocate.View) *closure.Previous {
	manifests := map[string]closure.Manifest{}
	for layer, m := range result.Manifests() {
		parsed, err := closure.ParseManifest(m.Metadata())
		Expect(err).NotTo(HaveOccurred())
		manifests[layer] = parsed
	}
	previous, notes := closure.ReadPrevious(manifests, view)
	Expect(notes).To(BeEmpty())
	return previous
}

// pathsOf are the paths of each group.
func pathsOf(groups []closure.Group) [][]storepath.Path {
	var all [][]storepath.Path
	for _, group := range groups {
		all = append(all, group.Paths)
	}
	return all
}
