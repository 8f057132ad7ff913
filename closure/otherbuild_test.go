package closure_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestOtherBuild(t *testing.T) {
	spec.Run(t, "two builds of a path", testOtherBuild)
}

func testOtherBuild(t *testing.T, _ spec.G, it spec.S) {
	var (
		first, second *binaryCache
		root          = pathOf("1", "root-1")
		app           = pathOf("1", "app-1")
		old           = pathOf("1", "old-1")
		fresh         = pathOf("1", "fresh-1")
		options       closure.Options
	)

	it.Before(func() {
		RegisterTestingT(t)
		first, second = newBinaryCache(t), newBinaryCache(t)
		first.add(root, map[string]string{"a": "root"}, app)
		first.add(app, map[string]string{"a": "gone"}, old)
		first.add(old, map[string]string{"a": "old"})
		second.add(app, map[string]string{"a": "rebuilt"}, fresh)
		second.add(fresh, map[string]string{"a": "fresh"})
		Expect(os.Remove(filepath.Join(first.dir, "nar", app.Base()+".nar"))).To(Succeed())
		options = closure.Options{Staging: filepath.Join(t.TempDir(), "staging"), Roots: []storepath.Path{root}}
	})
	it.After(func() { Expect(nar.RemoveAll(options.Staging)).To(Succeed()) })

	it("ends well when the one whose NAR is gone is not the only one, with the references of the other", func() {
		options.Caches = first.open(second)
		var log lines
		options.Log = log.log
		result, err := closure.Substitute(context.Background(), options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Graph.Paths()).To(ConsistOf(root, app, fresh))
		Expect(dump(filepath.Join(options.Staging, app.Base()))).To(Equal(second.nars[app]))
		Expect(result.Graph.Nodes[app].CacheURL).To(Equal(second.url()))
		for _, c := range []*binaryCache{first, second} {
			Expect(log.all).To(ContainElement(MatchRegexp("^  " + c.url() + `: \d+ narinfos, 2 paths, [\d.]+ k?B downloaded$`)))
		}
	})

	it("is an error that says what happened to the first where the other is gone too", func() {
		options.Caches = first.open()
		_, err := closure.Substitute(context.Background(), options)
		var failed *cache.FetchError
		Expect(errors.As(err, &failed)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(And(ContainSubstring(first.url()), ContainSubstring("a file that is not there"))))
		Expect(os.Remove(filepath.Join(second.dir, "nar", app.Base()+".nar"))).To(Succeed())
		options.Caches = first.open(second)
		_, err = closure.Substitute(context.Background(), options)
		Expect(err).To(MatchError(ContainSubstring("a file that is not there")))
	})

	it("is an error, and no search without end, where caches offer one after the other and can serve none", func() {
		caches := &faithless{Caches: first.open(), other: second.open()}
		options.Caches = caches
		_, err := closure.Substitute(context.Background(), options)
		var failed *cache.FetchError
		Expect(errors.As(err, &failed)).To(BeTrue(), "%v", err)
		Expect(failed.Path).To(Equal(app))
		Expect(caches.lookups).To(Equal(3))
	})
}

// faithless offers two builds of app-1 in turn, and no NAR of either.
type faithless struct {
	closure.Caches
	other   closure.Caches
	lookups int
}

func (c *faithless) Lookup(ctx context.Context, p storepath.Path) (*cache.Found, error) {
	if p.Name() != "app-1" {
		return c.Caches.Lookup(ctx, p)
	}
	c.lookups++
	if c.lookups%2 == 0 {
		return c.other.Lookup(ctx, p)
	}
	return c.Caches.Lookup(ctx, p)
}

func (c *faithless) Fetch(ctx context.Context, f *cache.Found, unpack func(io.Reader) error) error {
	if f.StorePath.Name() == "app-1" {
		return &cache.FetchError{Path: f.StorePath}
	}
	return c.Caches.Fetch(ctx, f, unpack)
}
