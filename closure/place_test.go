package closure_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// image is a build's layers directory, short enough to relocate to.
type image struct {
	layers, view string
	layout       relocate.Layout
}

func newImage(t *testing.T) image {
	dir, err := os.MkdirTemp("/tmp", "l")
	Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { Expect(nar.RemoveAll(dir)).To(Succeed()) })
	view := filepath.Join(dir, "store")
	return image{layers: dir, view: view, layout: layoutAt(view)}
}

// build plays one build into the image.
func (i image) build(c *binaryCache, g *closure.Graph, previous *closure.Previous) *closure.Result {
	ctx := context.Background()
	stage := filepath.Join(i.layers, ".staging")
	result, err := closure.Substitute(ctx, closure.Options{
		Caches: c.open(), Roots: g.Roots, Staging: stage, Layout: i.layout, Previous: previous,
		Limits: closure.Limits{Layers: 12},
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(closure.Place(ctx, result, stage, i.layers)).To(Succeed())
	Expect(closure.View(ctx, i.view, result.Groups, i.layers, result.Layout)).To(Succeed())
	return result
}

func testPlace(t *testing.T, _ spec.G, it spec.S) {
	var (
		c   *binaryCache
		img image
	)
	it.Before(func() {
		RegisterTestingT(t)
		c, img = newBinaryCache(t), newImage(t)
	})

	it("gives every layer its paths and a record of them, and the app its store", func() {
		g := c.stock(newWorld(1, 40))
		result := img.build(c, g, nil)
		var layers []string
		for _, group := range result.Groups {
			layers = append(layers, group.Layer)
			want := []string{closure.RecordsName}
			for _, p := range group.Paths {
				want = append(want, p.Base())
				text, err := os.ReadFile(filepath.Join(img.layout.Rename(p), "bin", "run"))
				Expect(err).NotTo(HaveOccurred())
				interpreter, _, _ := strings.Cut(strings.TrimPrefix(string(text), "#!"), "/bin/sh")
				Expect(interpreter).To(BeADirectory())
				info, err := os.Stat(filepath.Join(img.layers, group.Layer, p.Base()))
				Expect(err).NotTo(HaveOccurred())
				Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o555)))
				Expect(info.ModTime().Unix()).To(Equal(int64(1)))
			}
			Expect(names(filepath.Join(img.layers, group.Layer))).To(ConsistOf(want))
		}
		Expect(names(img.layers)).To(ConsistOf(append(layers, "store")))
		Expect(names(img.view)).To(HaveLen(40))
	})

	it("writes the same bytes every time", func() {
		g := c.stock(newWorld(1, 20))
		img.build(c, g, nil)
		first := dump(img.layers)
		Expect(nar.RemoveAll(img.layers)).To(Succeed())
		img.build(c, g, nil)
		Expect(dump(img.layers)).To(Equal(first))
	})

	it("writes the layers that changed, and leaves no directory where the previous image's layer stays", func() {
		w := newWorld(1, 40)
		result := img.build(c, c.stock(w), nil)
		previous, _ := closure.Recall(result.Manifests(), img.layout)
		w.version[20]++
		g := c.stock(w)
		Expect(os.WriteFile(filepath.Join(img.layers, "closure-00.toml"), nil, 0o644)).To(Succeed())
		result = img.build(c, g, previous)
		want := []string{"store", "closure-00.toml"}
		for _, group := range result.Changed {
			want = append(want, group.Layer)
		}
		Expect(names(img.layers)).To(ConsistOf(want))
		Expect(len(result.Changed)).To(BeNumerically("<", len(result.Groups)))
		var links []string
		for _, group := range result.Groups {
			for _, p := range group.Paths {
				links = append(links, img.layout.Base(p))
				target, err := os.Readlink(img.layout.Rename(p))
				Expect(err).NotTo(HaveOccurred())
				Expect(target).To(Equal(filepath.Join(img.layers, group.Layer, p.Base())))
			}
		}
		Expect(names(img.view)).To(ConsistOf(links))
	})

	it("names links by the whole path where it is not relocated, and removes what is stale", func() {
		p := pathOf("1", "a-1")
		groups := []closure.Group{{Layer: "closure-00", Paths: []storepath.Path{p}}}
		Expect(os.MkdirAll(filepath.Join(img.view, "old", "dir"), 0o755)).To(Succeed())
		Expect(os.Symlink("/elsewhere", filepath.Join(img.view, p.Base()))).To(Succeed())
		Expect(closure.View(context.Background(), img.view, groups, img.layers, relocate.Layout{})).To(Succeed())
		Expect(names(img.view)).To(Equal([]string{p.Base()}))
		Expect(os.Readlink(filepath.Join(img.view, p.Base()))).To(Equal(filepath.Join(img.layers, "closure-00", p.Base())))
	})

	it("works as a user without privileges", func() {
		if os.Geteuid() == 0 {
			Expect(os.Chmod(img.layers, 0o777)).To(Succeed())
			self := filepath.Join(img.layers, "test")
			raw, err := os.ReadFile("/proc/self/exe")
			Expect(err).NotTo(HaveOccurred())
			Expect(os.WriteFile(self, raw, 0o755)).To(Succeed())
			cmd := exec.Command(self, "-test.run", "TestClosure/closure/Place/works_as")
			cmd.Dir, cmd.Env = img.layers, append(os.Environ(), "HOME="+img.layers, "TMPDIR="+img.layers)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			out, err := cmd.CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), string(out))
			Expect(string(out)).To(ContainSubstring("PASS"))
			return
		}
		w := newWorld(1, 10)
		result := img.build(c, c.stock(w), nil)
		w.version[2]++
		previous, _ := closure.Recall(result.Manifests(), img.layout)
		img.build(c, c.stock(w), previous)
		audit, err := closure.Verify(context.Background(), img.layers, closure.VerifyOptions{Keys: c.keys})
		Expect(err).NotTo(HaveOccurred())
		Expect(audit.Intact()).To(BeTrue())
	})
}

func testManifest(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	recall := func(g *closure.Graph, change func(map[string]closure.Manifest)) (*closure.Previous, []string) {
		result := &closure.Result{Graph: g, Groups: closure.Plan(g, nil, closure.Limits{})}
		manifests := result.Manifests()
		change(manifests)
		return closure.Recall(manifests, relocate.Layout{})
	}

	it("keeps everything that a later build needs, in little", func() {
		g := newWorld(1, 2000).graph()
		g.Sorted()[7].Foreign = []string{strings.Repeat("0", 32)}
		var size int
		previous, notes := recall(g, func(m map[string]closure.Manifest) {
			raw, err := json.Marshal(m)
			Expect(err).NotTo(HaveOccurred())
			size = len(raw)
		})
		Expect(notes).To(BeEmpty())
		Expect(previous.Nodes).To(HaveLen(2000))
		for p, n := range g.Nodes {
			got := *previous.Nodes[p]
			if len(got.Foreign) > 0 {
				Expect(got.Foreign).To(Equal([]string{"0000000000"}))
				got.Foreign = n.Foreign
			}
			Expect(&got).To(Equal(n))
		}
		t.Logf("metadata of 2,000 paths: %d bytes, %d per path", size, size/2000)
		Expect(size).To(BeNumerically("<", 500_000))
	})

	it("does not reuse what it cannot trust, and says why", func() {
		for what, change := range map[string]func(map[string]closure.Manifest){
			"made in format 99": func(m map[string]closure.Manifest) {
				bad := m["closure-01"]
				bad.Format = 99
				m["closure-01"] = bad
			},
			"is too short": func(m map[string]closure.Manifest) {
				bad := m["closure-01"]
				bad.Paths = append(slices.Clone(bad.Paths), "nonsense")
				m["closure-01"] = bad
			},
			"parsing store path": func(m map[string]closure.Manifest) {
				bad := m["closure-01"]
				bad.Paths = []string{"../../etc/passwd x 1 -"}
				m["closure-01"] = bad
			},
			"is not one": func(m map[string]closure.Manifest) {
				bad := m["closure-01"]
				fields := strings.Fields(bad.Paths[0])
				fields[2] = "-5"
				bad.Paths = []string{strings.Join(fields, " ")}
				m["closure-01"] = bad
			},
			"is empty or names one twice": func(m map[string]closure.Manifest) {
				bad := m["closure-01"]
				bad.Paths = nil
				m["closure-01"] = bad
			},
			"is in two layers": func(m map[string]closure.Manifest) {
				m["closure-01"] = m["closure-00"]
			},
			"relocated to /layers/x": func(m map[string]closure.Manifest) {
				bad := m["closure-01"]
				bad.Prefix = "/layers/x"
				m["closure-01"] = bad
			},
		} {
			g := newWorld(1, 200).graph()
			previous, notes := recall(g, change)
			Expect(notes).To(HaveLen(1), what)
			Expect(notes[0]).To(HavePrefix("layer closure-01 of the previous image is not reused: "))
			Expect(notes[0]).To(ContainSubstring(what))
			for _, group := range previous.Groups {
				Expect(group.Layer).NotTo(Equal("closure-01"))
			}
		}
	})

	it("forgets what is signed by a key that is not trusted any more, and what nobody vouches for", func() {
		g := newWorld(1, 200).graph()
		for i, n := range g.Sorted() {
			n.KeyName, n.Addressed = []string{"kept-1", "", "revoked-1", ""}[i%4], i%4 == 1
		}
		previous, notes := recall(g, func(map[string]closure.Manifest) {})
		Expect(notes).To(BeEmpty())
		for p, n := range g.Nodes {
			Expect(previous.Nodes[p].Addressed).To(Equal(n.Addressed))
			Expect(previous.Nodes[p].KeyName).To(Equal(n.KeyName))
		}
		notes = previous.Distrust(func(key string) bool { return key == "kept-1" })
		Expect(notes).NotTo(BeEmpty())
		Expect(len(notes)).To(BeNumerically("<=", 2), "a line for each reason")
		for _, group := range previous.Groups {
			for _, p := range group.Paths {
				Expect(g.Nodes[p].Addressed || g.Nodes[p].KeyName == "kept-1").To(BeTrue())
			}
		}
		for p := range previous.Nodes {
			Expect(slices.ContainsFunc(previous.Groups, func(group closure.Group) bool {
				return slices.Contains(group.Paths, p)
			})).To(BeTrue())
		}
	})

	it("remembers hundreds of strange store paths that a path names, as Nix itself does", func() {
		g := newWorld(1, 20).graph()
		for i := range 700 {
			g.Sorted()[3].Foreign = append(g.Sorted()[3].Foreign, fmt.Sprintf("%032d", i))
		}
		_, notes := recall(g, func(map[string]closure.Manifest) {})
		Expect(notes).To(BeEmpty())
	})

	it("reads metadata of strange shape as an error", func() {
		for _, bad := range []map[string]any{
			{"format": "one"}, {"paths": "x"}, {"paths": []any{1}}, {"prefix": 3}, {"x": func() {}},
		} {
			_, err := closure.ParseManifest(bad)
			Expect(err).To(MatchError(ContainSubstring("reading layer metadata: ")))
		}
		m, err := closure.ParseManifest(nil)
		Expect(err).NotTo(HaveOccurred())
		_, notes := closure.Recall(map[string]closure.Manifest{"closure-00": m, "../etc": m}, relocate.Layout{})
		Expect(notes).To(HaveLen(2))
	})
}
