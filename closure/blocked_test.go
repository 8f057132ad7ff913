package closure_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// testBlocked is about closures that cannot be relocated.
func testBlocked(t *testing.T, _ spec.G, it spec.S) {
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

	// bareHash is a text that relocation can see but not rewrite.
	bareHash := func(p storepath.Path) string { return "hash=" + p.HashPart() }

	it("names each file of a path that stands in the way, so that all of them can be overruled at once", func() {
		bad := pathOf("bad", "many")
		files, all := map[string]string{}, []string{}
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
			files[name], all = strings.Repeat(bareHash(bad)+"\n", 40), append(all, name)
		}
		c.add(bad, files, bad)
		options.Roots = []storepath.Path{bad}
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		var named []string
		for _, r := range result.Blockers {
			named = append(named, r.File)
		}
		Expect(named).To(Equal(all))
	})

	it("names of a file first what nobody can overrule", func() {
		bad := pathOf("bad", "both")
		far := strings.Repeat("\n", 1<<20)
		c.add(bad, map[string]string{"a": strings.Repeat(bareHash(bad)+"\n", 40) + far + viewDir + "/" + bad.HashPart()}, bad)
		options.Roots = []storepath.Path{bad}
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Blockers).To(ConsistOf(HaveField("Kind", relocate.RelocatedName)))
	})

	it("leaves a closure as it is that cannot be relocated, says why, and does not try again", func() {
		w := newWorld(4, 20)
		g := c.stock(w)
		bad := g.Paths()[3]
		c.add(bad, map[string]string{"lib/table": bareHash(bad), "plain": bad.String()}, g.Nodes[bad].References...)
		options.Roots = g.Roots
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.View.IsZero()).To(BeTrue())
		Expect(result.Blockers).To(HaveLen(1))
		Expect(result.Blockers[0].Path).To(Equal(bad))
		Expect(result.Blockers[0].File).To(Equal("lib/table"))
		Expect(result.Blockers[0].Kind).To(Equal(relocate.BareHash))
		Expect(caches.fetches).To(HaveLen(20))
		for p := range g.Nodes {
			Expect(dump(filepath.Join(staging, p.Base()))).To(Equal(c.nars[p]))
		}

		Expect(nar.RemoveAll(staging)).To(Succeed())
		w.version[w.app()]++
		g2 := w.graph()
		c.add(g2.Roots[0], map[string]string{"a": g2.Roots[0].String()}, g2.Nodes[g2.Roots[0]].References...)
		caches.fetches = nil
		options.Roots, options.Previous = g2.Roots, readBack(result, options.View)
		again, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(again.View.IsZero()).To(BeTrue())
		Expect(again.Blockers).To(Equal(result.Blockers))
		Expect(caches.fetches).To(Equal(g2.Roots))
		Expect(dump(filepath.Join(staging, g2.Roots[0].Base()))).To(Equal(c.nars[g2.Roots[0]]))
	})

	it("fetches as it is what is new in a closure that could not be relocated last time", func() {
		bad := pathOf("1", "bad-1")
		c.add(bad, map[string]string{"lib/table": bareHash(bad)})
		options.Roots = []storepath.Path{bad}
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(staging)).To(Succeed())

		dep := c.add(pathOf("1", "dep-1"), map[string]string{"a": bad.String()}, bad)
		root := c.add(pathOf("1", "root-1"), map[string]string{"a": dep.String()}, bad, dep)
		var unpacked string
		caches.fetch = func(_ context.Context, p storepath.Path) error {
			for p == root && unpacked == "" {
				if _, err := os.Stat(filepath.Join(staging, dep.Base()+".json")); err == nil {
					unpacked = string(dump(filepath.Join(staging, dep.Base())))
				}
				time.Sleep(time.Millisecond)
			}
			return nil
		}
		options.Roots, options.Previous = []storepath.Path{root}, readBack(first, options.View)
		_, err = closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(unpacked).To(Equal(string(c.nars[dep])))
	})

	it("gives its reasons in one order, whichever layers remember them", func() {
		var deps []storepath.Path
		for i := range 6 {
			deps = append(deps, pathOf(fmt.Sprint(i), "dep-1"))
		}
		slices.Sort(deps)
		for i, p := range deps {
			pad := strings.Repeat("y", 500_000*(i+1)) // a layer each, the largest the last to change
			c.add(p, map[string]string{"b": bareHash(p), "a": bareHash(p), "pad": pad}, p)
		}
		root := c.add(pathOf("1", "root-1"), map[string]string{"a": "plain"}, deps...)
		options.Roots = []storepath.Path{root}
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		var paths []storepath.Path
		for _, reason := range first.Blockers {
			paths = append(paths, reason.Path)
		}
		Expect(slices.Compact(paths)).To(Equal(deps))
		byLayer := slices.DeleteFunc(slices.Concat(pathsOf(first.Groups)...), func(p storepath.Path) bool { return p == root })
		Expect(byLayer).To(HaveLen(6))
		Expect(slices.IsSorted(byLayer)).To(BeFalse(), "else this shows nothing")

		Expect(nar.RemoveAll(staging)).To(Succeed())
		options.Previous = readBack(first, options.View)
		again, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(again.Blockers).To(Equal(first.Blockers))
		Expect(again.Manifests()).To(Equal(first.Manifests()))
	})

	it("remembers through builds that do not ask for relocation", func() {
		bad := pathOf("1", "bad-1")
		c.add(bad, map[string]string{"lib/table": bareHash(bad)})
		root := c.add(pathOf("1", "root-1"), map[string]string{"a": bad.String()}, bad)
		options.Roots = []storepath.Path{root}
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(first.Blockers).To(HaveLen(1))

		wanted := options.View
		options.View, options.Previous = relocate.View{}, readBack(first, relocate.View{})
		between, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(between.Blockers).To(BeEmpty(), "nobody asked")
		Expect(between.Manifests()).To(Equal(first.Manifests()))

		caches.lookups, caches.fetches = nil, nil
		options.View, options.Previous = wanted, readBack(between, wanted)
		again, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(again.Blockers).To(Equal(first.Blockers))
		Expect(caches.lookups).To(BeEmpty())
		Expect(caches.fetches).To(BeEmpty())
	})

	it("relocates again once what stood in the way is gone", func() {
		bad := pathOf("1", "bad-1")
		c.add(bad, map[string]string{"lib/table": bareHash(bad)})
		good := c.add(pathOf("1", "good-1"), map[string]string{"a": "plain"})
		root := c.add(pathOf("1", "root-1"), map[string]string{"a": bad.String()}, bad, good)
		options.Roots = []storepath.Path{root}
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(first.Blockers).NotTo(BeEmpty())
		Expect(nar.RemoveAll(staging)).To(Succeed())

		root = c.add(pathOf("2", "root-1"), map[string]string{"a": good.String()}, good)
		options.Roots, options.Previous = []storepath.Path{root}, readBack(first, options.View)
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Blockers).To(BeEmpty())
		Expect(result.View).To(Equal(options.View))
		Expect(result.Changed).To(Equal(result.Groups))
		text, err := os.ReadFile(filepath.Join(staging, root.Base(), "a"))
		Expect(err).NotTo(HaveOccurred())
		Expect(string(text)).To(Equal(options.View.Rename(good)))
		Expect(names(staging)).To(ConsistOf(root.Base(), root.Base()+".json", good.Base(), good.Base()+".json"))
	})

	it("relocates what somebody takes as harmless, remembers on whose word, and no longer than that is given", func() {
		bad := pathOf("1", "bad-1")
		c.add(bad, map[string]string{"lib/table": bareHash(bad), "plain": bad.String()})
		plain := options.View
		options.Roots = []storepath.Path{bad}
		blocked, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(blocked.Blockers).NotTo(BeEmpty())

		options.View = plain.Overruling(relocate.Overrules{"*-bad-1/lib/*"})
		options.Previous = readBack(blocked, options.View)
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(first.Blockers).To(BeEmpty())
		Expect(first.View.IsZero()).To(BeFalse())
		Expect(first.Overruled).To(ConsistOf(And(HaveField("File", "lib/table"), HaveField("By", "*-bad-1/lib/*"))))

		caches.fetches = nil
		options.Previous = readBack(first, options.View)
		again, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(caches.fetches).To(BeEmpty())
		Expect(again.Overruled).To(Equal(first.Overruled))

		manifests := again.Manifests()
		previous, notes := closure.ReadPrevious(manifests, plain)
		Expect(previous.Groups).To(BeEmpty())
		Expect(notes).To(ContainElement(ContainSubstring("was taken as harmless")))

		// On another word the layer holds another record, and has another name.
		options.View, options.Previous = plain.Overruling(relocate.Overrules{"*-bad-1/lib/table"}), nil
		other, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(other.Overruled).To(ConsistOf(HaveField("By", "*-bad-1/lib/table")))
		Expect(layerOf(other, bad)).NotTo(Equal(layerOf(first, bad)))
	})

	it("takes a file as harmless by the glob that is made of its name, also in the next build, if the name is no UTF-8", func() {
		bad := pathOf("1", "bad-1")
		c.add(bad, map[string]string{"share/a\xff\xfeb": bareHash(bad)})
		plain := options.View
		options.Roots = []storepath.Path{bad}
		blocked, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())

		glob := relocate.OverruleOf(bad, blocked.Blockers[0].File)
		options.View = plain.Overruling(relocate.Overrules{glob})
		options.Previous = readBack(blocked, options.View)
		first, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(first.Blockers).To(BeEmpty())

		previous, notes := closure.ReadPrevious(first.Manifests(), options.View)
		Expect(previous.Groups).NotTo(BeEmpty())
		Expect(notes).To(BeEmpty())
	})

	it("does not try again where something is in the way that nobody can overrule", func() {
		bad := pathOf("1", "bad-1")
		c.add(bad, map[string]string{"share/notes": viewDir + "/" + bad.HashPart()})
		options.Roots = []storepath.Path{bad}
		options.View = options.View.Overruling(relocate.Overrules{"**"})
		blocked, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(blocked.Blockers).To(ConsistOf(HaveField("Kind", relocate.RelocatedName)))

		Expect(nar.RemoveAll(staging)).To(Succeed())
		caches.fetches = nil
		options.Previous = readBack(blocked, options.View)
		again, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(again.Blockers).To(Equal(blocked.Blockers))
		Expect(caches.fetches).To(BeEmpty())
	})

	it("fetches once more what was damaged before it could be taken back", func() {
		bad := pathOf("1", "bad-1")
		good := c.add(pathOf("1", "good-1"), map[string]string{"a": "plain " + bad.String()}, bad)
		c.add(bad, map[string]string{"lib/table": bareHash(bad)})
		file := filepath.Join(staging, good.Base(), "a")
		caches.fetch = func(_ context.Context, p storepath.Path) error {
			for p == bad && len(mustGlob(filepath.Join(staging, "*.json"))) == 0 {
				time.Sleep(time.Millisecond)
			}
			if p == bad {
				Expect(os.Chmod(file, 0o644)).To(Succeed())
				return os.WriteFile(file, []byte("damaged"), 0o644)
			}
			return nil
		}
		options.Roots = []storepath.Path{good}
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Blockers).NotTo(BeEmpty())
		Expect(caches.fetches).To(ConsistOf(good, bad, good))
		Expect(dump(filepath.Join(staging, good.Base()))).To(Equal(c.nars[good]))
	})

	it("fails where a closure has to be relocated and cannot", func() {
		bad := pathOf("1", "bad-1")
		c.add(bad, map[string]string{"lib/table": bareHash(bad)})
		options.Roots, options.Strict = []storepath.Path{bad}, true
		_, err := closure.Substitute(ctx, options)
		var blocked *closure.BlockedError
		Expect(errors.As(err, &blocked)).To(BeTrue())
		Expect(err).To(MatchError(ContainSubstring(bad.String() + "/lib/table: ")))
	})

	it("does not relocate a closure with a reference that no narinfo declares, this time or later", func() {
		lib := c.add(pathOf("1", "lib-1"), map[string]string{"a": "b"})
		sly := c.add(pathOf("1", "sly-1"), map[string]string{"a": lib.String()})
		root := c.add(pathOf("1", "root-1"), map[string]string{"a": sly.String() + lib.String()}, sly, lib)
		options.Roots = []storepath.Path{root}
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Blockers).To(HaveLen(1))
		Expect(result.Blockers[0].Kind).To(Equal(closure.Undeclared))
		Expect(result.Blockers[0].String()).To(HavePrefix(sly.String()))

		// Without lib it is harmless; when lib comes back the metadata still knows.
		root = c.add(pathOf("2", "root-1"), map[string]string{"a": sly.String()}, sly)
		Expect(nar.RemoveAll(staging)).To(Succeed())
		options.Roots = []storepath.Path{root}
		result, err = closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Blockers).To(BeEmpty())
		root = c.add(pathOf("3", "root-1"), map[string]string{"a": sly.String() + lib.String()}, sly, lib)
		Expect(nar.RemoveAll(staging)).To(Succeed())
		options.Roots, options.Previous = []storepath.Path{root}, readBack(result, options.View)
		result, err = closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Blockers).To(HaveLen(1))
		Expect(result.View.IsZero()).To(BeTrue())
		Expect(dump(filepath.Join(staging, sly.Base()))).To(Equal(c.nars[sly]))
	})

	it("does not relocate paths that the view cannot tell apart", func() {
		one, err := storepath.FromBase("0000000000" + strings.Repeat("1", 22) + "-one")
		Expect(err).NotTo(HaveOccurred())
		two, err := storepath.FromBase("0000000000" + strings.Repeat("2", 22) + "-two")
		Expect(err).NotTo(HaveOccurred())
		c.add(one, map[string]string{"a": one.String()}, one)
		c.add(two, map[string]string{"a": one.String()}, one)
		options.Roots = []storepath.Path{two}
		result, err := closure.Substitute(ctx, options)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Blockers).NotTo(BeEmpty())
		Expect(result.Blockers[0].Kind).To(Equal(relocate.Ambiguous))
		Expect(dump(filepath.Join(staging, two.Base()))).To(Equal(c.nars[two]))
	})
}
