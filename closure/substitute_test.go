package closure_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

func testSubstitute(t *testing.T, _ spec.G, it spec.S) {
	const viewDir = "/layers/nixproot_nix-hydra/store"
	var (
		ctx     = context.Background()
		c       *binaryCache
		caches  *asked
		staging string
		options closure.Options
	)

	it.Before(func() {
		RegisterTestingT(t)
		c = newBinaryCache(t)
		caches = c.open()
		staging = filepath.Join(t.TempDir(), "staging")
		options = closure.Options{Caches: caches, Staging: staging, View: viewAt(viewDir)}
	})
	it.After(func() { Expect(nar.RemoveAll(staging)).To(Succeed()) })

	it("fetches a closure, relocated, and leaves nothing else", func() {
		g := c.stock(newWorld(1, 40))
		options.Roots = g.Roots
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Graph.Paths()).To(Equal(g.Paths()))
		Expect(result.View).To(Equal(options.View))
		Expect(result.Blockers).To(BeEmpty())
		Expect(result.Fetched.Paths).To(Equal(40))
		Expect(result.Changed).To(Equal(result.Groups))
		Expect(result.References).To(BeNumerically(">", 80))
		Expect(names(staging)).To(HaveLen(80))
		for p, n := range result.Graph.Nodes {
			Expect(n.References).To(Equal(g.Nodes[p].References))
			Expect(n.Signature.Name).To(Equal(keyName))
			text, err := os.ReadFile(filepath.Join(staging, p.Base(), "bin", "run"))
			Expect(err).NotTo(HaveOccurred())
			Expect(string(text)).To(HavePrefix("#!" + options.View.Rename(p) + "/bin/sh\n"))
			Expect(string(text)).NotTo(ContainSubstring("/nix/store"))
		}
		Expect(caches.lookups).To(HaveLen(40))
	})

	it("leaves the paths as they are without a view", func() {
		g := c.stock(newWorld(1, 20))
		options.Roots, options.View = g.Roots, relocate.View{}
		_, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		for p := range g.Nodes {
			Expect(dump(filepath.Join(staging, p.Base()))).To(Equal(c.nars[p]))
		}
	})

	it("asks no cache when the previous image has everything", func() {
		g := c.stock(newWorld(1, 40))
		options.Roots = g.Roots
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(staging)).To(Succeed())
		caches.lookups, caches.fetches = nil, nil
		options.Previous = readBack(first, options.View)
		again, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(caches.lookups).To(BeEmpty())
		Expect(caches.fetches).To(BeEmpty())
		Expect(again.Changed).To(BeEmpty())
		Expect(again.Groups).To(Equal(first.Groups))
		Expect(again.Reused.Paths).To(Equal(40))
		Expect(again.Manifests()).To(Equal(first.Manifests()))
	})

	it("fetches only what is new, and what shares a layer with what is gone", func() {
		w := newWorld(1, 60)
		options.Layers = 10
		g := c.stock(w)
		options.Roots = g.Roots
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(staging)).To(Succeed())

		w.version[30]++
		g2 := c.stock(w)
		caches.lookups, caches.fetches = nil, nil
		options.Roots, options.Previous = g2.Roots, readBack(first, options.View)
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		var changed []storepath.Path
		for _, group := range result.Changed {
			changed = append(changed, group.Paths...)
		}
		Expect(len(changed)).To(And(BeNumerically(">", 1), BeNumerically("<", 60)))
		Expect(caches.fetches).To(ConsistOf(changed))
		Expect(caches.lookups).To(ConsistOf(changed))
		Expect(result.Groups).To(Equal(closure.Plan(result.Graph, options.View, options.Layers)))
		Expect(result.Removed.Paths).To(BeNumerically(">", 0))
		Expect(result.Graph.Paths()).To(Equal(g2.Paths()))
	})

	it("starts with the largest of the paths that wait", func() {
		var refs []storepath.Path
		for i, size := range []int{10, 5000, 200, 90_000, 1} {
			p := pathOf("1", string(rune('a'+i))+"-1")
			refs = append(refs, c.add(p, map[string]string{"data": strings.Repeat("x", size)}))
		}
		root := c.add(pathOf("1", "root"), map[string]string{"data": strings.Repeat("y", 1000)}, refs...)
		options.Roots, options.Downloads = []storepath.Path{root}, 1
		first, all := make(chan struct{}), make(chan struct{})
		caches.fetch = func(_ context.Context, p storepath.Path) error {
			if p == root {
				close(first)
				<-all // narinfos are there
			}
			return nil
		}
		caches.lookup = func(_ context.Context, f *cache.Found, err error) (*cache.Found, error) {
			if f.StorePath != root {
				<-first
			}
			caches.mutex.Lock()
			defer caches.mutex.Unlock()
			if len(caches.lookups) == 6 {
				time.AfterFunc(50*time.Millisecond, sync.OnceFunc(func() { close(all) }))
				caches.lookups = append(caches.lookups, "")
			}
			return f, err
		}
		_, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(caches.fetches).To(Equal([]storepath.Path{root, refs[3], refs[1], refs[2], refs[0], refs[4]}))
	})

	for _, n := range []struct{ size, all, atOnce int }{{8 << 20, 4, 3}, {4<<20 - 4<<10, 7, 6}} {
		it(fmt.Sprintf("has %d NARs of %d KiB for each core under way, not all of them", n.atOnce, n.size>>10), func() {
			before := runtime.GOMAXPROCS(1)
			defer runtime.GOMAXPROCS(before)
			for i := range n.all {
				data := map[string]string{"data": strings.Repeat("x", n.size)}
				options.Roots = append(options.Roots, c.add(pathOf("1", fmt.Sprint("large-", i)), data))
			}
			var now, most atomic.Int32
			caches.fetch = func(context.Context, storepath.Path) error {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(100 * time.Millisecond)
				now.Add(-1)
				return nil
			}
			_, err := closure.Substitute(ctx, options)
			Expect(err).NotTo(HaveOccurred())
			Expect(most.Load()).To(BeEquivalentTo(n.atOnce))
		})
	}

	it("fetches everything again for another layers directory", func() {
		options.Roots = c.stock(newWorld(1, 10)).Roots
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(staging)).To(Succeed())
		manifests := first.Manifests()
		options.View = viewAt("/somewhere/else/of/another/length")
		previous, notes := closure.ReadPrevious(manifests, options.View)
		Expect(notes).To(HaveLen(1))
		Expect(notes[0]).To(HavePrefix(fmt.Sprintf("%d layers of the previous image", len(first.Groups))))
		Expect(notes[0]).To(ContainSubstring("relocated to " + viewDir + ", not to /somewhere/else"))
		options.Previous = previous
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Fetched.Paths).To(Equal(10))
	})

	it("needs no bytes of a layer whose neighbours' metadata is lost, only narinfos", func() {
		options.Roots = c.stock(newWorld(1, 40)).Roots
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(staging)).To(Succeed())
		manifests := first.Manifests()
		lost := first.Groups[2]
		delete(manifests, lost.Layer)
		previous, notes := closure.ReadPrevious(manifests, options.View)
		Expect(notes).To(ConsistOf(HaveSuffix("looked up again: something that they need is in no layer")))
		options.Previous = previous
		caches.lookups, caches.fetches = nil, nil
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(caches.fetches).To(ConsistOf(lost.Paths))
		Expect(len(caches.lookups)).To(BeNumerically("<", 40))
		Expect(result.Changed).To(Equal([]closure.Group{lost}))
	})

	it("asks again about a path that is not as it was signed, and keeps the layers where only the metadata was altered", func() {
		g := c.stock(newWorld(1, 40))
		options.Roots = g.Roots
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(staging)).To(Succeed())
		manifests := first.Manifests()
		layer := layerOf(first, g.Roots[0])
		app := manifests[layer]
		fields := strings.Fields(app.Paths[0])
		app.Paths = []string{strings.Join(fields[:len(fields)-1], " ")} // one reference less
		manifests[layer] = app
		previous, notes := closure.ReadPrevious(manifests, options.View)
		Expect(notes).To(BeEmpty())
		Expect(previous.CheckSignatures(c.keys)).To(HaveLen(1))
		options.Previous = previous
		caches.lookups, caches.fetches = nil, nil
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(caches.lookups).To(Equal(g.Roots))
		Expect(caches.fetches).To(BeEmpty())
		Expect(result.Graph.Paths()).To(Equal(g.Paths()))
		Expect(result.Changed).To(BeEmpty())
		Expect(result.Manifests()).To(Equal(first.Manifests()))
	})

	it("writes the layers anew whose paths another key of the same name signs by now", func() {
		w := newWorld(1, 20)
		options.Roots = c.stock(w).Roots
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(staging)).To(Succeed())
		c.key = secretKey("another")
		c.keys = narinfo.Keys{{Name: keyName, Key: publicKey("another").Key}}
		c.stock(w)
		previous := readBack(first, options.View)
		Expect(previous.CheckSignatures(c.keys)).To(ConsistOf(ContainSubstring("20 paths of the previous image")))
		options.Previous, options.Caches = previous, c.open()
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Changed).To(Equal(result.Groups))
		Expect(readBack(result, options.View).CheckSignatures(c.keys)).To(BeEmpty())
	})

	it("fetches a path again that was built anew under the same name", func() {
		w := newWorld(1, 30)
		g := c.stock(w)
		options.Roots, options.Layers = g.Roots, 4
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(staging)).To(Succeed())
		w.version[5]++
		g2 := c.stock(w)
		for _, p := range g2.Paths() { // every path that stays has other contents in the cache by now
			if g.Nodes[p] != nil {
				c.add(p, map[string]string{"a": "rebuilt"}, g.Nodes[p].References...)
			}
		}
		options.Roots, options.Previous = g2.Roots, readBack(first, options.View)
		options.Caches = c.open()
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		for _, group := range result.Changed {
			for _, p := range group.Paths {
				Expect(filepath.Join(staging, p.Base())).To(BeADirectory())
			}
		}
		for _, group := range result.Groups {
			if slices.ContainsFunc(result.Changed, func(c closure.Group) bool { return c.Layer == group.Layer }) {
				continue
			}
			for _, p := range group.Paths {
				Expect(result.Graph.Nodes[p].NarHash).To(Equal(first.Graph.Nodes[p].NarHash))
			}
		}
	})

	it("names the way to a reference that nobody has", func() {
		gone := pathOf("1", "gone-1")
		middle := c.add(pathOf("1", "middle-1"), map[string]string{"a": ""}, gone)
		root := c.add(pathOf("1", "root-1"), map[string]string{"a": ""}, middle)
		options.Roots = []storepath.Path{root}
		_, err := closure.Substitute(ctx, options)
		var missing *closure.MissingError
		var notFound *cache.NotFoundError
		Expect(errors.As(err, &missing)).To(BeTrue())
		Expect(missing.Chain).To(Equal([]storepath.Path{root, middle, gone}))
		Expect(errors.As(err, &notFound)).To(BeTrue())
		Expect(err.Error()).To(ContainSubstring(root.Base() + " → " + middle.Base() + " → " + gone.Base()))
	})

	it("names the way to a path that the previous image has, whose layer has changed and that is in no cache any more", func() {
		w := newWorld(1, 30)
		options.Roots, options.Layers = c.stock(w).Roots, 2
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(staging)).To(Succeed())
		w.version[20]++
		g := c.stock(w)
		var gone storepath.Path
		for p := range g.Nodes {
			if first.Graph.Nodes[p] != nil && (gone == "" || p < gone) {
				gone = p
			}
		}
		Expect(os.Remove(filepath.Join(c.dir, gone.HashPart()+".narinfo"))).To(Succeed())
		options.Roots, options.Previous, options.Caches = g.Roots, readBack(first, options.View), c.open()
		_, err = closure.Substitute(ctx, options)
		var missing *closure.MissingError
		Expect(errors.As(err, &missing)).To(BeTrue(), "%v", err)
		Expect(missing.Chain[0]).To(Equal(g.Roots[0]))
		Expect(missing.Chain[len(missing.Chain)-1]).To(Equal(gone))
	})

	it("names a reference loop", func() {
		a, b := pathOf("1", "a-1"), pathOf("1", "b-1")
		c.add(a, map[string]string{"a": ""}, b)
		c.add(b, map[string]string{"a": ""}, a)
		options.Roots = []storepath.Path{a}
		_, err := closure.Substitute(ctx, options)
		Expect(err).To(MatchError(ContainSubstring("reference loop: ")))
	})

	it("bounds a closure without end", func() {
		options.Roots = []storepath.Path{pathOf("1", "a-1")}
		crowd := &crowd{}
		for i := range 100_000 {
			crowd.all = append(crowd.all, pathOf("1", fmt.Sprint("n", i)))
		}
		options.Caches = crowd
		_, err := closure.Substitute(ctx, options)
		Expect(err).To(MatchError(ContainSubstring("more than 100000 paths")))
	})

	it("bounds what is held of narinfos, whose references may be many of few", func() {
		options.Roots = []storepath.Path{pathOf("1", "a-1")}
		crowd := &crowd{}
		for i := range 10_000 {
			crowd.all = append(crowd.all, pathOf("1", fmt.Sprint(strings.Repeat("n", 180), i)))
		}
		options.Caches = crowd
		_, err := closure.Substitute(ctx, options)
		Expect(err).To(MatchError(ContainSubstring("takes more than 50331648 bytes")))
		Expect(crowd.asked.Load()).To(BeNumerically("<", 200))
	})

	it("makes nothing visible of a path that is not as signed, and keeps the others for the next run", func() {
		g := c.stock(newWorld(2, 12))
		options.Roots = g.Roots
		bad := g.Paths()[5]
		raw := slices.Clone(c.nars[bad])
		file := filepath.Join(c.dir, "nar", bad.Base()+".nar")
		at := strings.Index(string(raw), "#!/nix/store/")
		raw[at+200] ^= 1
		Expect(os.WriteFile(file, raw, 0o644)).To(Succeed())
		held := make(chan struct{})
		caches.fetch = func(_ context.Context, p storepath.Path) error {
			if p == bad { // until the others are there
				<-held
			}
			return nil
		}
		go func() {
			for len(mustGlob(filepath.Join(staging, "*.json"))) < 11 {
				time.Sleep(time.Millisecond)
			}
			close(held)
		}()
		_, err := closure.Substitute(ctx, options)
		Expect(err).To(MatchError(ContainSubstring(bad.String())))
		Expect(names(staging)).To(HaveLen(22))
		Expect(names(staging)).NotTo(ContainElement(ContainSubstring(bad.Base())))

		Expect(os.WriteFile(file, c.nars[bad], 0o644)).To(Succeed())
		caches.fetches = nil
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(caches.fetches).To(Equal([]storepath.Path{bad}))
		Expect(result.Staged.Paths).To(Equal(11))
		Expect(result.Fetched.Paths).To(Equal(1))
	})

	it("finds in staging what is complete, also under a name that ends like those of its own files", func() {
		options.Roots = []storepath.Path{c.add(pathOf("1", "package.json"), map[string]string{"a": "x"})}
		for range 2 {
			_, err := closure.Substitute(ctx, options)
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(caches.fetches).To(HaveLen(1))
	})

	it("trusts nothing in staging that it cannot prove", func() {
		g := c.stock(newWorld(2, 12))
		options.Roots = g.Roots
		_, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		want := map[storepath.Path]string{}
		for p := range g.Nodes {
			want[p] = string(dump(filepath.Join(staging, p.Base())))
		}
		paths := g.Paths()
		write := func(path, text string) {
			Expect(os.Chmod(filepath.Dir(path), 0o755)).To(Succeed())
			Expect(os.RemoveAll(path)).To(Succeed())
			Expect(os.WriteFile(path, []byte(text), 0o644)).To(Succeed())
		}
		write(filepath.Join(staging, paths[0].Base(), "bin", "run"), "altered")          // a file changed
		write(filepath.Join(staging, paths[1].Base(), "extra"), "one more")              // a file added
		write(filepath.Join(staging, paths[2].Base()+".json"), "{")                      // torn
		write(filepath.Join(staging, ".partial-"+paths[3].Base()), "half")               // left by a kill
		Expect(os.Remove(filepath.Join(staging, paths[4].Base()+".json"))).To(Succeed()) // killed between two renames
		Expect(nar.RemoveAll(filepath.Join(staging, paths[5].Base()))).To(Succeed())
		write(filepath.Join(staging, "stranger"), "")
		caches.fetches = nil
		_, err = closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(caches.fetches).To(ConsistOf(paths[0], paths[1], paths[2], paths[4], paths[5]))
		Expect(names(staging)).To(HaveLen(24))
		for p := range g.Nodes {
			Expect(string(dump(filepath.Join(staging, p.Base())))).To(Equal(want[p]))
		}
	})

	it("discards what was unpacked when a cache fails midway, and counts it once", func() {
		g := c.stock(newWorld(2, 12))
		options.Roots = g.Roots
		tries := map[storepath.Path]int{}
		var mutex sync.Mutex
		inner := caches.Caches
		caches.Caches = twice{inner}
		caches.stream = func(p storepath.Path, r io.Reader) io.Reader {
			mutex.Lock()
			defer mutex.Unlock()
			if tries[p]++; tries[p] == 1 {
				return io.MultiReader(io.LimitReader(r, 300), failing{})
			}
			return r
		}
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Fetched.Paths).To(Equal(12))
		Expect(names(staging)).To(HaveLen(24))
	})

	it("takes back from a stream that broke off what the next one has to wait for", func() {
		// A zstd frame with a window of 128 MiB, which one stream at a time may have.
		block := "\x00\x00\x10" + strings.Repeat("x", 128<<10)
		p := c.add("/nix/store/0qx4rqvjxkqbhqjqxkmsh6ayclpzkq04-large", map[string]string{
			"share/large.zst": "\x28\xb5\x2f\xfd\x00\x88" + strings.Repeat(block, 4),
		})
		options.Roots = []storepath.Path{p}
		caches.Caches = twice{caches.Caches}
		tries := 0
		caches.stream = func(_ storepath.Path, r io.Reader) io.Reader {
			if tries++; tries == 1 {
				return io.MultiReader(io.LimitReader(r, 300<<10), failing{})
			}
			return r
		}
		_, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(tries).To(Equal(2))
	})

	it("ends at once when it is told to", func() {
		options.Roots = c.stock(newWorld(2, 12)).Roots
		ctx, cancel := context.WithCancelCause(ctx)
		caches.fetch = func(ctx context.Context, _ storepath.Path) error {
			cancel(errors.New("enough"))
			<-ctx.Done()
			return ctx.Err()
		}
		began := time.Now()
		_, err := closure.Substitute(ctx, options)
		Expect(err).To(MatchError(ContainSubstring("enough")))
		Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(20*time.Second)))
		Expect(mustGlob(filepath.Join(staging, ".partial-*"))).To(BeEmpty())
	})

	it("says at the end what came from where", func() {
		options.Roots = c.stock(newWorld(2, 12)).Roots
		var log lines
		options.Log = log.log
		_, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(log.all).To(ContainElement(MatchRegexp(`^Fetched 12 paths, [\d.]+ [kM]B unpacked, in `)))
	})

	it("is quiet when it is quick and there was nothing to do", func() {
		options.Roots = c.stock(newWorld(2, 12)).Roots
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		var log lines
		options.Log, options.Previous = log.log, readBack(first, options.View)
		_, err = closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(log.all).To(BeEmpty())
	})
}

func mustGlob(pattern string) []string {
	found, err := filepath.Glob(pattern)
	Expect(err).NotTo(HaveOccurred())
	return found
}

// twice tries unpack again when it failed, as a set with another cache does.
type twice struct{ closure.Caches }

func (c twice) Fetch(ctx context.Context, f *cache.Found, unpack func(io.Reader) error) error {
	if err := c.Caches.Fetch(ctx, f, unpack); err == nil {
		return nil
	}
	return c.Caches.Fetch(ctx, f, unpack)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// crowd is a cache in which each path refers to all.
type crowd struct {
	all   []storepath.Path
	asked atomic.Int64
}

func (c *crowd) Lookup(_ context.Context, p storepath.Path) (*cache.Found, error) {
	c.asked.Add(1)
	return &cache.Found{NarInfo: &narinfo.NarInfo{StorePath: p, NarSize: 1, References: c.all}}, nil
}

func (c *crowd) Fetch(ctx context.Context, _ *cache.Found, _ func(io.Reader) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func (c *crowd) Share(ctx context.Context) context.Context { return ctx }

func (c *crowd) Report() []cache.Report { return nil }
