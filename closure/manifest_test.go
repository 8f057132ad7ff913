package closure_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func testManifest(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	readPrevious := func(g *closure.Graph, change func(map[string]closure.Manifest)) (*closure.Previous, []string) {
		result := &closure.Result{Graph: g, Groups: plan(g, 0)}
		manifests := result.Manifests()
		change(manifests)
		return closure.ReadPrevious(manifests, relocate.View{})
	}

	it("keeps everything that a later build needs, in little", func() {
		g := newWorld(1, 500).signed()
		g.Sorted()[7].Foreign = []string{strings.Repeat("0", 32)}
		var size int
		previous, notes := readPrevious(g, func(m map[string]closure.Manifest) {
			raw, err := json.Marshal(m)
			Expect(err).NotTo(HaveOccurred())
			size = len(raw)
		})
		Expect(notes).To(BeEmpty())
		Expect(previous.Nodes).To(HaveLen(500))
		for p, n := range g.Nodes {
			got := *previous.Nodes[p]
			if len(got.Foreign) > 0 {
				Expect(got.Foreign).To(Equal([]string{"0000000000"}))
				got.Foreign = n.Foreign
			}
			Expect(&got).To(Equal(n))
		}
		t.Logf("metadata of 500 paths: %d bytes, %d per path", size, size/500)
		Expect(size).To(BeNumerically("<", 150_000))
		Expect(previous.CheckSignatures(narinfo.Keys{publicKey(keyName)})).To(BeEmpty())
	})

	it("does not reuse what it cannot trust, and says why", func() {
		line := func(change func(fields []string) []string) func(*closure.Manifest) {
			return func(m *closure.Manifest) {
				m.Paths = slices.Clone(m.Paths)
				m.Paths[0] = strings.Join(change(strings.Fields(m.Paths[0])), " ")
			}
		}
		field := func(i int, text string) func(*closure.Manifest) {
			return line(func(fields []string) []string {
				return append(fields[:i:i], append([]string{text}, fields[i+1:]...)...)
			})
		}
		add := func(text string) func(*closure.Manifest) {
			return line(func(fields []string) []string { return append(fields, text) })
		}
		for what, change := range map[string]func(*closure.Manifest){
			"described in version 99":                         func(m *closure.Manifest) { m.Version = 99 },
			"made in format 99":                               func(m *closure.Manifest) { m.Format = 99 },
			"relocated to /layers/x":                          func(m *closure.Manifest) { m.Prefix = "/layers/x" },
			"is empty or names one twice":                     func(m *closure.Manifest) { m.Paths = nil },
			"names one twice":                                 func(m *closure.Manifest) { m.Paths = append(slices.Clone(m.Paths), m.Paths[0]) },
			"is too short":                                    func(m *closure.Manifest) { m.Paths = append(slices.Clone(m.Paths), "nonsense") },
			"parsing store path":                              field(0, "../../etc/passwd"),
			"parsing hash":                                    field(1, "0"),
			`size "-5" of`:                                    field(2, "-5"),
			`size "99999999999999999"`:                        field(2, "99999999999999999"),
			`proof "5:AAAA" of`:                               field(3, "5:AAAA"),
			`proof "-1:AAAA" of`:                              field(3, "-1:AAAA"),
			`proof "0:!" of`:                                  field(3, "0:!"),
			`proof "x" of`:                                    field(3, "x"),
			"there is no key 0":                               func(m *closure.Manifest) { m.Keys = nil },
			`reference "short" of`:                            add("short"),
			`reference "eeeeeeeeee" of`:                       add("eeeeeeeeee"),
			`reference "!x" of`:                               add("!x"),
			"more store paths outside":                        add("!*"),
			`reference "0000000000" of`:                       line(func(f []string) []string { return append(f, "!0000000000", "0000000000") }),
			"of why it could not be relocated cannot be read": func(m *closure.Manifest) { m.Blocked, m.Tried = []string{"{}"}, "/layers/x" },
			"could not be relocated cannot be read: \"x\"": func(m *closure.Manifest) {
				m.Blocked, m.Tried = []string{"x"}, "/layers/x"
			},
		} {
			g := newWorld(1, 200).signed()
			layer := plan(g, 0)[1].Layer
			previous, notes := readPrevious(g, func(all map[string]closure.Manifest) {
				bad := all[layer]
				change(&bad)
				all[layer] = bad
			})
			Expect(notes).To(HaveLen(1), what)
			Expect(notes[0]).To(HavePrefix("layer " + layer + " of the previous image is not reused: "))
			Expect(notes[0]).To(ContainSubstring(what))
			for _, group := range previous.Groups {
				Expect(group.Layer).NotTo(Equal(layer))
			}
		}
		twice := newWorld(1, 200).signed()
		_, notes := readPrevious(twice, func(all map[string]closure.Manifest) {
			groups := plan(twice, 0)
			all[groups[1].Layer] = all[groups[0].Layer]
		})
		Expect(notes).To(ConsistOf(ContainSubstring("is in two layers")))
	})

	it("knows whether it is the closure of some roots, and of no others", func() {
		g := newWorld(1, 100).graph()
		app := g.Nodes[g.Roots[0]]
		other := app.References[0]
		if other == app.Path {
			other = app.References[1]
		}
		previous, _ := readPrevious(g, func(map[string]closure.Manifest) {})
		Expect(previous.IsClosureOf(g.Roots)).To(Succeed())
		Expect(previous.IsClosureOf([]storepath.Path{other, app.Path})).To(Succeed())
		Expect(previous.IsClosureOf([]storepath.Path{other})).To(MatchError(HavePrefix("nothing needs ")))
		Expect(previous.IsClosureOf(nil)).To(MatchError(HavePrefix("nothing needs ")))
		Expect(previous.IsClosureOf([]storepath.Path{app.Path, pathOf("x", "x")})).To(MatchError(HaveSuffix("-x is in no layer")))
		app.References = []storepath.Path{other}
		previous, _ = readPrevious(g, func(map[string]closure.Manifest) {})
		Expect(previous.IsClosureOf(g.Roots)).To(MatchError(HavePrefix("nothing needs ")))
		previous, _ = readPrevious(g, func(m map[string]closure.Manifest) {
			for _, group := range plan(g, 0) {
				if !slices.Contains(group.Paths, app.Path) {
					delete(m, group.Layer)
				}
			}
		})
		Expect(previous.IsClosureOf(g.Roots)).To(Succeed(), "what is not known may be right")
	})

	it("believes no circle of references", func() {
		g := newWorld(1, 50).graph()
		app := g.Nodes[g.Roots[0]]
		for _, ref := range app.References {
			if ref != app.Path {
				g.Nodes[ref].References = append(g.Nodes[ref].References, app.Path)
				break
			}
		}
		previous, notes := readPrevious(g, func(map[string]closure.Manifest) {})
		Expect(notes).To(ConsistOf(ContainSubstring("the previous image is not reused: resolving closure: reference loop")))
		Expect(previous.Groups).To(BeEmpty())
		Expect(previous.Nodes).To(BeEmpty())
	})

	it("knows whom to ask about again: what no trusted key signed, or not as it is described", func() {
		trusted := narinfo.Keys{publicKey("other-1"), publicKey("kept-1")}
		for what, change := range map[string]func(n *closure.Node){
			"":                                  func(*closure.Node) {},
			"not signed by anybody":             func(n *closure.Node) { n.Signature = narinfo.Signature{} },
			"revoked-1, which is not trusted":   func(n *closure.Node) { sign(n, "revoked-1") },
			"by other-1 does not fit":           func(n *closure.Node) { n.Signature.Name = "other-1" },
			"the signature by kept-1 does not":  func(n *closure.Node) { n.References = n.References[1:] },
			"by kept-1 does not fit the key of": func(n *closure.Node) { n.NarHash[3] ^= 1 },
			"not fit the key of that name and":  func(n *closure.Node) { n.NarSize++ },
			"the content address does not fit":  func(n *closure.Node) { n.Signature, n.CA = narinfo.Signature{}, "text:sha256:x" },
		} {
			g := newWorld(1, 200).graph()
			for _, n := range g.Nodes {
				sign(n, "kept-1")
			}
			victim := g.Nodes[g.Roots[0]]
			change(victim)
			previous, notes := readPrevious(g, func(map[string]closure.Manifest) {})
			Expect(notes).To(BeEmpty())
			notes = previous.CheckSignatures(trusted)
			if what == "" {
				Expect(notes).To(BeEmpty())
				continue
			}
			Expect(notes).To(ConsistOf(And(HavePrefix(victim.Path.Base()+" is looked up again: "), ContainSubstring(what))))
			Expect(previous.Groups).To(HaveLen(len(plan(g, 0))), "bytes are not the question")
		}
	})

	it("takes a path for proven by its content address alone, as far as that goes", func() {
		hash := storepath.Hash(sha256.Sum256([]byte("contents")))
		p, err := storepath.Make("source", hash, "source")
		Expect(err).NotTo(HaveOccurred())
		n := &closure.Node{Path: p, NarHash: hash, NarSize: 8, CA: "fixed:r:" + hash.String()}
		g := &closure.Graph{Roots: []storepath.Path{p}, Nodes: map[storepath.Path]*closure.Node{p: n}}
		previous, notes := readPrevious(g, func(map[string]closure.Manifest) {})
		Expect(notes).To(BeEmpty())
		Expect(previous.Nodes[p]).To(Equal(n))
		Expect(previous.CheckSignatures(nil)).To(BeEmpty())
		n.NarHash[0] ^= 1
		previous, _ = readPrevious(g, func(map[string]closure.Manifest) {})
		Expect(previous.CheckSignatures(nil)).To(HaveLen(1))
	})

	it("says in one line for each reason what it asks about again", func() {
		g := newWorld(1, 200).graph()
		for i, n := range g.Sorted() {
			if i%3 > 0 {
				sign(n, []string{"", "kept-1", "revoked-1"}[i%3])
			}
		}
		previous, _ := readPrevious(g, func(map[string]closure.Manifest) {})
		Expect(previous.CheckSignatures(narinfo.Keys{publicKey("kept-1")})).To(HaveExactElements(
			MatchRegexp(`^66 paths of the previous image, such as \S+, are looked up again: signed by revoked-1, which is`),
			MatchRegexp(`^67 paths of the previous image, such as \S+, are looked up again: not signed by anybody$`),
		))
	})

	it("remembers hundreds of store paths outside its closure that a path names, as Nix itself does", func() {
		g := newWorld(1, 20).graph()
		for i := range 700 {
			g.Sorted()[3].Foreign = append(g.Sorted()[3].Foreign, fmt.Sprintf("%032d", i))
		}
		_, notes := readPrevious(g, func(map[string]closure.Manifest) {})
		Expect(notes).To(BeEmpty())
	})

	it("reads metadata of an unknown shape as an error", func() {
		for _, bad := range []map[string]any{
			{"format": "one"}, {"paths": "x"}, {"paths": []any{1}}, {"prefix": 3}, {"x": func() {}},
		} {
			_, err := closure.ParseManifest(bad)
			Expect(err).To(MatchError(ContainSubstring("reading layer metadata: ")))
		}
		m, err := closure.ParseManifest(nil)
		Expect(err).NotTo(HaveOccurred())
		_, notes := closure.ReadPrevious(map[string]closure.Manifest{"closure-0001-" + strings.Repeat("0", 12): m, "../etc": m}, relocate.View{})
		Expect(notes).To(HaveLen(2))
	})
}
