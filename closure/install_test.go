package closure_test

import (
	"cmp"
	"context"
	"crypto/ed25519"
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
	"github.com/nixproot/nix-hydra-buildpack/closure/closurelayer"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/verify"
)

// image is a build's layers directory, short enough to relocate to.
type image struct {
	layers, viewDir string
	view            relocate.View
	most            int // of layers
}

func newImage(t *testing.T) image {
	dir, err := os.MkdirTemp("", "") // short: store paths are rewritten to places below it
	Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { Expect(nar.RemoveAll(dir)).To(Succeed()) })
	viewDir := filepath.Join(dir, "v")
	return image{layers: dir, viewDir: viewDir, view: viewAt(viewDir), most: 12}
}

// build plays one build into the image.
func (i image) build(c *binaryCache, g *closure.Graph, previous *closure.Previous) *closure.Result {
	ctx := context.Background()
	staging := filepath.Join(i.layers, ".staging")
	result, err := closure.Substitute(ctx, closure.Options{
		Caches: c.open(), Roots: g.Roots, Staging: staging, View: i.view, Previous: previous,
		Layers: i.most,
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(closure.Install(ctx, result, staging, i.layers)).To(Succeed())
	Expect(closure.WriteView(ctx, i.viewDir, result.Groups, i.layers, result.View)).To(Succeed())
	return result
}

func testInstall(t *testing.T, _ spec.G, it spec.S) {
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
			want := []string{closure.PathsName}
			for _, p := range group.Paths {
				want = append(want, closure.BaseName(p, img.view))
				text, err := os.ReadFile(filepath.Join(img.view.Rename(p), "bin", "run"))
				Expect(err).NotTo(HaveOccurred())
				interpreter, _, _ := strings.Cut(strings.TrimPrefix(string(text), "#!"), "/bin/sh")
				Expect(interpreter).To(BeADirectory())
				info, err := os.Stat(filepath.Join(img.layers, group.Layer, closure.BaseName(p, img.view)))
				Expect(err).NotTo(HaveOccurred())
				Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o555)))
			}
			Expect(names(filepath.Join(img.layers, group.Layer))).To(ConsistOf(want))
		}
		Expect(names(img.layers)).To(ConsistOf(append(layers, "v")))
		Expect(names(img.viewDir)).To(HaveLen(40))
	})

	it("writes the same bytes every time", func() {
		g := c.stock(newWorld(1, 20))
		img.build(c, g, nil)
		first := dump(img.layers)
		Expect(nar.RemoveAll(img.layers)).To(Succeed())
		img.build(c, g, nil)
		Expect(dump(img.layers)).To(Equal(first))
	})

	it("writes the same layers of a cache that compresses in another way and has more signatures, in another order", func() {
		g := c.stock(newWorld(1, 20))
		img.build(c, g, nil)
		first := dump(img.layers)
		Expect(nar.RemoveAll(img.layers)).To(Succeed())
		for _, p := range g.Paths() {
			file := filepath.Join(c.dir, p.HashPart()+".narinfo")
			text, err := os.ReadFile(file)
			Expect(err).NotTo(HaveOccurred())
			info, err := narinfo.Parse(strings.NewReader(string(text)), storepath.Dir)
			Expect(err).NotTo(HaveOccurred())
			bad := narinfo.Signature{Name: keyName, Data: make([]byte, ed25519.SignatureSize)} // of an old key of that name
			stranger := narinfo.Signature{Name: "a-stranger-1", Data: info.Sigs[0].Data}
			info.Sigs = []narinfo.Signature{bad, stranger, info.Sigs[0], info.Sigs[0]}
			info.Compression, info.URL = "gzip", info.URL+".gz"
			Expect(os.WriteFile(filepath.Join(c.dir, info.URL), []byte(stored(string(c.nars[p]))), 0o644)).To(Succeed())
			Expect(os.WriteFile(file, []byte(info.String()), 0o644)).To(Succeed())
		}
		result := img.build(c, g, nil)
		Expect(dump(img.layers)).To(Equal(first))
		Expect(readBack(result, img.view).CheckSignatures(c.keys)).To(BeEmpty())
	})

	it("writes the layers that changed, and leaves no directory where the previous image's layer stays", func() {
		w := newWorld(1, 40)
		result := img.build(c, c.stock(w), nil)
		previous, _ := closure.ReadPrevious(result.Manifests(), img.view)
		w.version[20]++
		g := c.stock(w)
		Expect(os.WriteFile(filepath.Join(img.layers, "closure-00.toml"), nil, 0o644)).To(Succeed())
		result = img.build(c, g, previous)
		want := []string{"v", "closure-00.toml"}
		for _, group := range result.Changed {
			want = append(want, group.Layer)
		}
		Expect(names(img.layers)).To(ConsistOf(want))
		Expect(len(result.Changed)).To(BeNumerically("<", len(result.Groups)))
		var links []string
		for _, group := range result.Groups {
			for _, p := range group.Paths {
				links = append(links, img.view.Base(p))
				target, err := os.Readlink(img.view.Rename(p))
				Expect(err).NotTo(HaveOccurred())
				Expect(filepath.Join(img.viewDir, target)).To(Equal(filepath.Join(img.layers, group.Layer, closure.BaseName(p, img.view))))
			}
		}
		Expect(names(img.viewDir)).To(ConsistOf(links))
	})

	it("completes a plan with what only the build needs: that is apart, what is here stays, the rest is fetched", func() {
		g := c.stock(newWorld(1, 40))
		image := img.build(c, g, nil)
		tool := c.add(pathOf("tool", "tool-1"), map[string]string{"bin/tool": "use " + g.Roots[0].String()}, g.Roots[0])
		caches, staging := c.open(), filepath.Join(img.layers, ".staging")
		result, err := closure.Substitute(context.Background(), closure.Options{
			Caches: caches, Roots: []storepath.Path{g.Roots[0], tool}, Staging: staging, View: img.view, Planned: image.Groups,
			Previous: &closure.Previous{Prefix: img.view.Dir(), Groups: image.Groups[1:], Nodes: image.Graph.Nodes},
		})
		Expect(err).NotTo(HaveOccurred())
		build := closure.Group{Layer: closure.BuildGroup, Paths: []storepath.Path{tool}}
		Expect(result.Groups).To(Equal(append(slices.Clone(image.Groups), build)))
		Expect(result.Changed).To(Equal([]closure.Group{image.Groups[0], build}))
		Expect(caches.fetches).To(ConsistOf(append(slices.Clone(image.Groups[0].Paths), tool)))
		aside := filepath.Join(img.layers, "aside")
		Expect(closure.Install(context.Background(), result, staging, aside)).To(Succeed())
		Expect(names(aside)).To(ConsistOf(image.Groups[0].Layer, closure.BuildGroup))
		Expect(filepath.Join(img.layers, image.Groups[1].Layer)).To(BeADirectory())
	})

	it("names links by the whole path where it is not relocated, and removes what is stale", func() {
		p := pathOf("1", "a-1")
		groups := []closure.Group{{Layer: "closure-00", Paths: []storepath.Path{p}}}
		Expect(os.MkdirAll(filepath.Join(img.viewDir, "old", "dir"), 0o755)).To(Succeed())
		Expect(os.Symlink("/elsewhere", filepath.Join(img.viewDir, p.Base()))).To(Succeed())
		Expect(closure.WriteView(context.Background(), img.viewDir, groups, img.layers, relocate.View{})).To(Succeed())
		Expect(names(img.viewDir)).To(Equal([]string{p.Base()}))
		Expect(os.Readlink(filepath.Join(img.viewDir, p.Base()))).To(Equal(filepath.Join(img.layers, "closure-00", p.Base())))
	})

	it("works as a user without privileges", func() {
		if os.Geteuid() == 0 {
			Expect(os.Chmod(img.layers, 0o777)).To(Succeed())
			self := filepath.Join(img.layers, "test")
			raw, err := os.ReadFile("/proc/self/exe")
			Expect(err).NotTo(HaveOccurred())
			Expect(os.WriteFile(self, raw, 0o755)).To(Succeed())
			cmd := exec.Command(self, "-test.run", "TestClosure/closure/Install/works_as")
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
		previous, _ := closure.ReadPrevious(result.Manifests(), img.view)
		img.build(c, c.stock(w), previous)
		proven(t, img.layers, c.keys)
	})
}

func testPlaces(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("has the wrappers of an app name programs by where they lie, and those of what others need their own path's only", func() {
		c, img := newBinaryCache(t), newImage(t)
		shell := "#!/bin/sh\n"
		lib := c.add(pathOf("places", "lib-1"), map[string]string{"lib/lib.mjs": "lib"})
		tool := pathOf("places", "tool-1")
		c.add(tool, map[string]string{
			"bin/tool": shell + "cat " + tool.String() + "/lib/tool.mjs " + lib.String() + "/lib/lib.mjs", "lib/tool.mjs": "tool",
		}, lib, tool)
		app := pathOf("places", "app-1")
		c.add(app, map[string]string{
			"bin/app": shell + "cat " + app.String() + "/lib/app.mjs " + tool.String() + "/lib/tool.mjs", "lib/app.mjs": "app",
		}, tool, app)
		result := img.build(c, &closure.Graph{Roots: []storepath.Path{app}}, nil)
		lies := func(p storepath.Path) string {
			return filepath.Join(img.layers, layerOf(result, p), closure.BaseName(p, img.view))
		}
		read := func(p storepath.Path, name string) string {
			text, err := os.ReadFile(filepath.Join(lies(p), name))
			Expect(err).NotTo(HaveOccurred())
			return string(text)
		}
		Expect(read(app, "bin/app")).To(Equal(shell + "cat " + lies(app) + "/lib/app.mjs " + lies(tool) + "/lib/tool.mjs"))
		Expect(read(tool, "bin/tool")).To(Equal(shell + "cat " + lies(tool) + "/lib/tool.mjs " + img.view.Rename(lib) + "/lib/lib.mjs"))
		for p, want := range map[storepath.Path]string{app: "apptool", tool: "toollib"} {
			out, err := exec.Command(filepath.Join(lies(p), "bin", p.Name()[:len(p.Name())-2])).Output()
			Expect(err).NotTo(HaveOccurred())
			Expect(string(out)).To(Equal(want))
		}
		proven(t, img.layers, c.keys)

		// Nobody else's wrapper passes, though it leads to the same.
		wrapper := filepath.Join(lies(tool), "bin", "tool")
		Expect(os.Chmod(wrapper, 0o755)).To(Succeed())
		text := strings.ReplaceAll(read(tool, "bin/tool"), lies(tool), img.view.Rename(tool))
		Expect(os.WriteFile(wrapper, []byte(text), 0o755)).To(Succeed())
		Expect(os.Chmod(wrapper, 0o555)).To(Succeed())
		layers, done, err := closurelayer.Open(t.Context(), img.layers)
		Expect(err).NotTo(HaveOccurred())
		defer done()
		report, err := verify.Closure(t.Context(), layers, verify.ClosureOptions{Keys: c.keys})
		Expect(err).NotTo(HaveOccurred())
		for _, p := range report.Paths {
			Expect(p.Problem == "").To(Equal(p.Path != tool), "%s: %s", p.Path, p.Problem)
		}
	})

	it("has what starts programs by Node.js or PHP name them by where they lie, whatever others need it", func() {
		c, img := newBinaryCache(t), newImage(t)
		node := c.add(pathOf("places", "nodejs-slim-24.1"), map[string]string{"bin/node": "-> /bin/cat"})
		app := c.add(pathOf("places", "app-1"), map[string]string{"lib/app.mjs": "app"})
		var others []storepath.Path // the more layers, the fewer of these are in the app's
		for i := range 60 {
			others = append(others, c.add(pathOf("places", fmt.Sprintf("other-%d", i)), map[string]string{"name": fmt.Sprintf("%05000d", i)}))
		}
		wrapper := func(name string, more ...storepath.Path) storepath.Path {
			script := "#!/bin/sh\nexec " + node.String() + "/bin/node " + app.String() + "/lib/app.mjs"
			return c.add(pathOf("places", name), map[string]string{"bin/app": script}, append(more, node, app)...)
		}
		first := wrapper("first-1")
		second := wrapper("second-1", first)
		var roots []storepath.Path
		for _, name := range []string{"joined-1", "joined-2", "joined-3"} { // in layers of their own, there are so many
			roots = append(roots, c.add(pathOf("places", name), map[string]string{"app": "-> " + first.String() + "/bin/app", "own": name},
				append(others, first, second)...))
		}
		contents, starters := map[string]string{}, map[string]bool{}
		for _, layers := range []int{2, 3, 20, 40, 60} {
			img.most = layers
			result := img.build(c, &closure.Graph{Roots: roots}, nil)
			lies := func(p storepath.Path) string {
				return filepath.Join(img.layers, layerOf(result, p), closure.BaseName(p, img.view))
			}
			for _, p := range []storepath.Path{first, second} {
				text, err := os.ReadFile(filepath.Join(lies(p), "bin", "app"))
				Expect(err).NotTo(HaveOccurred())
				Expect(string(text)).To(HaveSuffix("/bin/node " + lies(app) + "/lib/app.mjs"))
				Expect(layerOf(result, p)).NotTo(Equal(layerOf(result, app)))
			}
			Expect(len(result.Groups)).To(BeNumerically("<=", layers))
			starters[layerOf(result, first)] = true
			for _, group := range result.Groups {
				now := digest(filepath.Join(img.layers, group.Layer))
				Expect(cmp.Or(contents[group.Layer], now)).To(Equal(now), "a layer's name says what it holds")
				contents[group.Layer] = now
			}
			proven(t, img.layers, c.keys)
		}
		Expect(starters).To(HaveLen(5))
	})

	it("names an app's layer by the layers of its references, as its wrappers may, and no other one", func() {
		c := newBinaryCache(t)
		lib := c.add(pathOf("places", "lib-1"), map[string]string{"lib": strings.Repeat("l", 3<<20)})
		small := c.add(pathOf("places", "small-1"), map[string]string{"small": "s"})
		tool := c.add(pathOf("places", "tool-1"), map[string]string{"tool": "t"}, lib, small)
		app := c.add(pathOf("places", "app-1"), map[string]string{"app": "a"}, lib, small, tool)
		names := func(view relocate.View, layers int) map[storepath.Path]string {
			result, err := closure.Substitute(t.Context(), closure.Options{
				Caches: c.open(), Roots: []storepath.Path{app}, Staging: filepath.Join(t.TempDir(), "s"), View: view, Layers: layers,
			})
			Expect(err).NotTo(HaveOccurred())
			all := map[storepath.Path]string{}
			for _, p := range []storepath.Path{lib, small, tool, app} {
				all[p] = layerOf(result, p)
			}
			return all
		}
		view := viewAt("/layers/nixproot_nix-hydra/view")
		many, few := names(view, 10), names(view, 3)
		Expect(many[lib]).To(Equal(few[lib]))
		Expect(many[small]).NotTo(Equal(few[small]), "else nothing is shown")
		Expect(many[app]).NotTo(Equal(few[app]))
		Expect(names(relocate.View{}, 10)[app]).To(Equal(names(relocate.View{}, 3)[app]), "as it is, it names no place")
	})
}

// proven verifies layers on disk, of which every path has to be as a trusted key signed it, and nothing else to be there.
func proven(t *testing.T, dir string, keys narinfo.Keys) *verify.ClosureReport {
	t.Helper()
	layers, done, err := closurelayer.Open(t.Context(), dir)
	Expect(err).NotTo(HaveOccurred())
	defer done()
	report, err := verify.Closure(t.Context(), layers, verify.ClosureOptions{Keys: keys})
	Expect(err).NotTo(HaveOccurred())
	Expect(report.Extra).To(BeEmpty())
	Expect(report.Altered).To(BeEmpty())
	for _, p := range report.Paths {
		Expect(p.Problem).To(BeEmpty())
		Expect(p.Signed).NotTo(BeEmpty())
	}
	return report
}
