package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/image"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

func TestImage(t *testing.T) {
	suite := spec.New("image")
	suite("Open", testOpen)
	suite("Overlay", testOverlay)
	suite("Directory", testDirectory)
	suite.Run(t)
}

// tarOf is an archive of entries: name and contents; "-> target" makes a symlink, "=> target" a hard link, "|" a pipe,
// "global" a PAX global header, and a name that ends in a slash a directory.
func tarOf(entries ...[2]string) []byte {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, e := range entries {
		h := &tar.Header{Name: e[0], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(e[1]))}
		switch {
		case strings.HasSuffix(e[0], "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case strings.HasPrefix(e[1], "-> "):
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e[1][3:], 0
		case strings.HasPrefix(e[1], "=> "):
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, e[1][3:], 0
		case e[1] == "global":
			h = &tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": e[0]}}
		case e[1] == "|":
			h.Typeflag, h.Size = tar.TypeFifo, 0
		}
		must(w.WriteHeader(h))
		if h.Size > 0 {
			_, err := io.WriteString(w, e[1])
			must(err)
		}
	}
	must(w.Close())
	return text.Bytes()
}

// must is for what is made before a test's own assertions can be.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// made is an image of layers.
func made(layers ...[]byte) v1.Image {
	img := empty.Image
	for _, each := range layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(each)), nil })
		Expect(err).NotTo(HaveOccurred())
		img, err = mutate.AppendLayers(img, layer)
		Expect(err).NotTo(HaveOccurred())
	}
	return img
}

func writeFile(t *testing.T, text []byte) string {
	name := filepath.Join(t.TempDir(), "image.tar")
	Expect(os.WriteFile(name, text, 0o644)).To(Succeed())
	return name
}

func testOpen(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })
	ctx := context.Background()

	it("reads docker save's archives, packed or not, and OCI layouts as directories or archives, as the same image", func() {
		img := made(tarOf([2]string{"a", "1"}), tarOf([2]string{"b", "2"}))
		want, err := img.ConfigName()
		Expect(err).NotTo(HaveOccurred())
		docker := filepath.Join(t.TempDir(), "docker.tar")
		Expect(tarball.WriteToFile(docker, nil, img)).To(Succeed())
		raw, err := os.ReadFile(docker)
		Expect(err).NotTo(HaveOccurred())
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err = w.Write(raw)
		Expect(errors.Join(err, w.Close())).To(Succeed())
		dir := t.TempDir()
		index, err := layout.Write(dir, empty.Index)
		Expect(err).NotTo(HaveOccurred())
		Expect(index.AppendImage(img)).To(Succeed())
		var oci bytes.Buffer
		archive := tar.NewWriter(&oci)
		Expect(archive.AddFS(os.DirFS(dir))).To(Succeed())
		Expect(archive.Close()).To(Succeed())
		for what, name := range map[string]string{
			"docker": docker, "gzip": writeFile(t, packed.Bytes()), "directory": dir, "archive": writeFile(t, oci.Bytes()),
		} {
			got, err := image.Open(ctx, name)
			Expect(err).NotTo(HaveOccurred(), what)
			Expect(got.ID).To(Equal(want.String()), what)
			Expect(got.Layers).To(HaveLen(2))
			overlay, err := got.Overlay(ctx, "", func(string) bool { return true })
			Expect(err).NotTo(HaveOccurred(), what)
			Expect(overlay.Root.Names()).To(Equal([]string{"a", "b"}))
			Expect(overlay.Root.Child("b").ReadAll(10)).To(BeEquivalentTo("2"))
			Expect(errors.Join(overlay.Close(), got.Close())).To(Succeed())
		}
	})

	it("leaves the disk room, whatever an archive or a layer is packed in, but for zeros, which take none", func() {
		const size = 257 // MiB
		pack := func(of byte) []byte {
			var packed bytes.Buffer
			w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
			Expect(err).NotTo(HaveOccurred())
			piece := bytes.Repeat([]byte{of}, 1<<20)
			archive := tar.NewWriter(w)
			Expect(archive.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: size << 20})).To(Succeed())
			for range size {
				_, err := archive.Write(piece)
				Expect(err).NotTo(HaveOccurred())
			}
			Expect(errors.Join(archive.Close(), w.Close())).To(Succeed())
			return packed.Bytes()
		}
		full, hollow := pack('x'), pack(0)
		_, err := image.Open(ctx, writeFile(t, full))
		Expect(err).To(MatchError(filetree.ErrNoRoom))
		Expect(err).To(MatchError(HaveSuffix("where you trust it, gunzip it, and give what comes out")))
		_, err = image.Open(ctx, writeFile(t, hollow))
		Expect(err).To(MatchError(ContainSubstring("it takes what docker save writes")))

		for _, layer := range [][]byte{full, hollow} {
			img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer, types.DockerLayer))
			Expect(err).NotTo(HaveOccurred())
			dir := t.TempDir()
			index, err := layout.Write(dir, empty.Index)
			Expect(err).NotTo(HaveOccurred())
			Expect(index.AppendImage(img)).To(Succeed())
			opened, err := image.Open(ctx, dir)
			Expect(err).NotTo(HaveOccurred())
			_, err = opened.Overlay(ctx, t.TempDir(), func(string) bool { return true })
			Expect(errors.Is(err, filetree.ErrNoRoom)).To(Equal(&layer[0] == &full[0]), "%v", err)
		}
	})

	docker := func(config string, layers ...string) []byte {
		raw, err := json.Marshal([]map[string]any{{"Config": "c.json", "Layers": layers}})
		Expect(err).NotTo(HaveOccurred())
		return tarOf([2]string{"manifest.json", string(raw)}, [2]string{"c.json", config}, [2]string{"l", string(tarOf())})
	}
	it("says how a file is made of an engine's image, where a name is no file's", func() {
		_, err := image.Open(ctx, "myapp:1")
		Expect(err).To(MatchError("opening image myapp:1: there is no such file; docker save myapp:1 -o FILE writes one of an engine's image"))
		for _, name := range []string{"docker://registry.example.org/x", "docker-daemon:x:1", "oci:dir"} {
			_, err := image.Open(ctx, name)
			Expect(err).To(MatchError("opening image " + name + ": there is no such file; skopeo copy " + name + " oci-archive:FILE writes one"))
		}
		for _, file := range []string{"https://example.org/x", "/nonexistent", "./myapp", "../myapp", "myapp.tar", "Downloads/myapp", "myapp.tar.gz"} {
			_, err := image.Open(ctx, file)
			Expect(err).To(MatchError("opening image " + file + ": there is no such file"))
		}
	})

	it("says what an archive is packed with that it does not take", func() {
		for name, magic := range map[string]string{"zstd": "\x28\xb5\x2f\xfd\x00", "xz": "\xfd7zXZ\x00\x00", "bzip2": "BZh9"} {
			_, err := image.Open(ctx, writeFile(t, []byte(magic)))
			Expect(err).To(MatchError(HaveSuffix("reading the archive: it is packed with " + name + "; unpack it, and give what comes out")))
		}
	})

	it("refuses what engines would read in different ways, and what is not an image", func() {
		sum := sha256.Sum256(tarOf())
		good := fmt.Sprintf(`{"rootfs":{"diff_ids":["sha256:%s"]}}`, hex.EncodeToString(sum[:]))
		opened, err := image.Open(ctx, writeFile(t, docker(good, "l")))
		Expect(err).NotTo(HaveOccurred())
		Expect(opened.Close()).To(Succeed())
		for what, raw := range map[string][]byte{
			"it twice":     append(docker(good, "l")[:1024], docker(good, "l")...),
			"0 layers":     docker(good),
			"no \"x\"":     docker(good, "x"),
			"holds 0":      tarOf([2]string{"manifest.json", "[]"}),
			"one link":     tarOf([2]string{"manifest.json", `[{"Config":"c","Layers":["l"]}]`}, [2]string{"c", good}, [2]string{"l", "-> l"}),
			"docker save":  tarOf(),
			"of type":      tarOf([2]string{"manifest.json", "|"}),
			"unexpected":   docker("{", "l"),
			"it takes one": tarOf([2]string{"index.json", `{"manifests":[{},{}]}`}),
		} {
			_, err := image.Open(ctx, writeFile(t, raw))
			Expect(err).To(MatchError(ContainSubstring(what)), what)
		}
	})

	it("refuses an archive from which some engine takes another image than it does", func() {
		good := `{"rootfs":{"diff_ids":[]}}`
		manifest := [2]string{"manifest.json", `[{"Config":"c.json","Layers":[]}]`}
		config := [2]string{"c.json", good}
		for what, files := range map[string][][2]string{
			`below that "x/manifest.json"`: {manifest, config, {"x", "-> ."}, {"x/manifest.json", "[]"}},
			`below that "x/y/c.json"`:      {manifest, config, {"x", "-> /"}, {"x/y/c.json", good}},
			`below that "c.json/x"`:        {manifest, config, {"c.json/x", ""}},
			`"c.json" is a link`:           {manifest, {"c.json", "-> /evil/c.json"}, {"evil/c.json", good}},
			`"manifest.json" is a link`:    {{"manifest.json", "=> m"}, {"m", manifest[1]}, config},
			`"config" twice in`:            {{"manifest.json", `[{"Config":"c.json","config":"c.json","Layers":[]}]`}, config},
			`which is "Layers" to`:         {{"manifest.json", `[{"Config":"c.json","layers":[]}]`}, config},
			`which is "User" to`:           {manifest, {"c.json", `{"config":{"uſer":"0"},"rootfs":{"diff_ids":[]}}`}},
			"goes on after its end":        {manifest, {"c.json", good + `{}`}},
			`"config" twice`:               {manifest, {"c.json", `{"config":{"User":"0"},"config":{"User":"1"},"rootfs":{"diff_ids":[]}}`}},
			`"Uſer" twice`:                 {manifest, {"c.json", `{"config":{"User":"0","Uſer":"1"},"rootfs":{"diff_ids":[]}}`}},
			`"\x1b" twice`:                 {manifest, {"c.json", `{"config":{"Labels":{"\u001b":"","\u001b":""}},"rootfs":{"diff_ids":[]}}`}},
			`"" twice`:                     {manifest, {"c.json", `{"":"","a":[{"":1}],"":""}`}},
			"deeper than":                  {manifest, {"c.json", strings.Repeat("[", 100) + strings.Repeat("]", 100)}},
		} {
			opened, err := image.Open(ctx, writeFile(t, tarOf(files...)))
			Expect(err).To(MatchError(ContainSubstring(what)), what)
			Expect(opened).To(BeNil())
		}
		free := `{"config":{"Labels":{"a":"","A":"","config":"","Config":""},"Volumes":{"/a":{},"/A":{}}},"rootfs":{"diff_ids":[]}}`
		opened, err := image.Open(ctx, writeFile(t, tarOf(manifest, [2]string{"c.json", free})))
		Expect(err).NotTo(HaveOccurred())
		Expect(opened.Unread).To(BeEmpty())
		Expect(opened.Close()).To(Succeed())
	})

	it("says what it does not read of an image's documents, and other readers may", func() {
		opened, err := image.Open(ctx, writeFile(t, tarOf(
			[2]string{"manifest.json", `[{"Config":"c","Layers":[],"RepoTags":["a"],"Parent":"","LayerSources":{"sha256:0":{"size":1,"more":1}}}]`},
			[2]string{"c", `{"id":"","config":{"StopTimeout":1,"Labels":{"x":"","X":""},"Volumes":{"/a":{"driver":"x"}}},"rootfs":{"diff_ids":[],"base":{"deep":1}},"id2":[{"a":1}]}`},
		)))
		Expect(err).NotTo(HaveOccurred())
		Expect(opened.Unread).To(Equal([]string{"StopTimeout", "base", "driver", "id", "id2", "more"}))
		Expect(opened.Close()).To(Succeed())
	})

	it("refuses an OCI layout that some tool takes for something else", func() {
		const manifestType, indexType = `"application/vnd.oci.image.manifest.v1+json"`, `"application/vnd.oci.image.index.v1+json"`
		digest := func(text string) string {
			sum := sha256.Sum256([]byte(text))
			return hex.EncodeToString(sum[:])
		}
		stored := func(text string) [2]string { return [2]string{"blobs/sha256/" + digest(text), text} }
		config := `{"rootfs":{"diff_ids":[]}}`
		described := `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + digest(config) + `"}`
		// layout is one with a document that its index describes as of a media type.
		layout := func(document, kind string, more ...[2]string) []byte {
			index := `{"manifests":[{"mediaType":` + kind + `,"digest":"sha256:` + digest(document) + `"}]}`
			return tarOf(append(more, [2]string{"index.json", index}, stored(document), stored(config))...)
		}
		plain := `{` + described + `,"layers":[]}`
		both := `{` + described + `,"layers":[],"manifests":[]}`
		nested := `{"manifests":[{"mediaType":` + manifestType + `,"digest":"sha256:` + digest(plain) + `"}]}`
		for what, raw := range map[string][]byte{
			"at once":                layout(both, manifestType),
			"is said to be of":       layout(plain, indexType),
			"said to be of \"app":    layout(nested, manifestType, stored(plain)),
			"\", and is said":        layout(`{"mediaType":`+indexType+`,`+described+`,"layers":[]}`, manifestType),
			"the layout holds 0":     tarOf([2]string{"index.json", plain}, stored(config)),
			"docker load":            layout(plain, manifestType, [2]string{"repositories", `{"x":{"latest":"1"}}`}),
			"another as index.json":  layout(plain, manifestType, [2]string{"manifest.json", `[{"Config":"c","Layers":[]}]`}, [2]string{"c", config + " "}),
			"which is no image's":    layout(strings.Replace(plain, "image.config", "wasm.config", 1), manifestType),
			"media type \"text/html": layout(`{`+described+`,"layers":[{"mediaType":"text/html"}]}`, manifestType),
		} {
			_, err := image.Open(ctx, writeFile(t, raw))
			Expect(err).To(MatchError(ContainSubstring(what)), what)
		}
		opened, err := image.Open(ctx, writeFile(t, layout(`{"artifactType":"x/y",`+plain[1:], manifestType)))
		Expect(err).NotTo(HaveOccurred())
		Expect(opened.Unread).To(Equal([]string{"artifactType"}))
		Expect(opened.Close()).To(Succeed())
		for _, raw := range [][]byte{layout(plain, manifestType), layout(nested, indexType, stored(plain))} {
			opened, err := image.Open(ctx, writeFile(t, raw))
			Expect(err).NotTo(HaveOccurred())
			Expect(opened.Close()).To(Succeed())
		}
	})

	it("says what an OCI layout notes about its layers, which may have files that are not in their archives", func() {
		dir := t.TempDir()
		index, err := layout.Write(dir, empty.Index)
		Expect(err).NotTo(HaveOccurred())
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tarOf())), nil })
		Expect(err).NotTo(HaveOccurred())
		img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: layer, Annotations: map[string]string{"containerd.io/snapshot/stargz/toc.digest": "sha256:0"}})
		Expect(err).NotTo(HaveOccurred())
		Expect(index.AppendImage(mutate.MediaType(img, types.OCIManifestSchema1))).To(Succeed())
		opened, err := image.Open(ctx, dir)
		Expect(err).NotTo(HaveOccurred())
		Expect(opened.Layers[0].Annotations).To(Equal([]string{"containerd.io/snapshot/stargz/toc.digest"}))
		Expect(opened.Close()).To(Succeed())
	})

	it("sees a layer that is not the one of the configuration", func() {
		name := writeFile(t, docker(`{"rootfs":{"diff_ids":["sha256:`+strings.Repeat("0", 64)+`"]}}`, "l"))
		opened, err := image.Open(ctx, name)
		Expect(err).NotTo(HaveOccurred())
		defer opened.Close()
		_, err = opened.Overlay(ctx, "", func(string) bool { return true })
		Expect(err).To(BeAssignableToTypeOf(err))
		var mismatch *image.MismatchError
		Expect(errors.As(err, &mismatch)).To(BeTrue(), "%v", err)
	})

	it("waits for no pipe and reads no device", func() {
		pipe := filepath.Join(t.TempDir(), "pipe")
		Expect(syscall.Mkfifo(pipe, 0o600)).To(Succeed())
		for _, name := range []string{pipe, "/dev/zero"} {
			_, err := image.Open(ctx, name)
			Expect(err).To(MatchError(ContainSubstring("neither a file nor a directory")))
		}
	})
}

func testOverlay(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })
	apply := func(limit int64, layers ...[]byte) (*filetree.Overlay, error) {
		o, err := filetree.NewOverlay("", limit, func(string) bool { return true })
		Expect(err).NotTo(HaveOccurred())
		t.Cleanup(func() { _ = o.Close() })
		for i, layer := range layers {
			if err := o.Apply(context.Background(), bytes.NewReader(layer), i); err != nil {
				return o, err
			}
		}
		return o, nil
	}
	// shown are the files of a tree, by path: contents, or where a link leads.
	shown := func(o *filetree.Overlay) map[string]string {
		all := map[string]string{}
		o.Root.Walk("/", func(place string, f *filetree.File) bool {
			switch f.Kind {
			case filetree.Regular:
				raw, err := f.ReadAll(1 << 20)
				Expect(err).NotTo(HaveOccurred())
				all[place] = string(raw)
			case filetree.Symlink:
				all[place] = "-> " + f.Target
			case filetree.Special:
				all[place] = "|"
			}
			return true
		})
		return all
	}

	for _, c := range []struct {
		what   string
		layers [][]byte
		want   map[string]string
	}{
		{
			"a later file replaces",
			[][]byte{tarOf([2]string{"a/b", "1"}), tarOf([2]string{"a/b", "2"})}, map[string]string{"/a/b": "2"},
		},
		{
			"the last of two entries counts",
			[][]byte{tarOf([2]string{"a", "1"}, [2]string{"./a", "2"}, [2]string{"//a", "3"})}, map[string]string{"/a": "3"},
		},
		{
			"a file replaces a whole directory",
			[][]byte{tarOf([2]string{"a/b/c", "1"}), tarOf([2]string{"a", "2"})}, map[string]string{"/a": "2"},
		},
		{
			"directories are merged",
			[][]byte{tarOf([2]string{"a/b", "1"}), tarOf([2]string{"a/", ""}, [2]string{"a/c", "2"})},
			map[string]string{"/a/b": "1", "/a/c": "2"},
		},
		{
			"a directory replaces a link, not what it leads to",
			[][]byte{tarOf([2]string{"x/f", "1"}, [2]string{"a", "-> x"}), tarOf([2]string{"a/", ""}, [2]string{"a/f", "2"})},
			map[string]string{"/x/f": "1", "/a/f": "2"},
		},
		{
			"links in the way are followed inside the tree",
			[][]byte{tarOf([2]string{"x/", ""}, [2]string{"y", "-> ../../../x"}, [2]string{"z", "-> /y"}), tarOf([2]string{"z/f", "1"})},
			map[string]string{"/x/f": "1", "/y": "-> ../../../x", "/z": "-> /y"},
		},
		{
			"hard links are to what was there",
			[][]byte{tarOf([2]string{"a", "1"}, [2]string{"l", "-> ."}, [2]string{"b", "=> l/a"}), tarOf([2]string{"a", "2"})},
			map[string]string{"/a": "2", "/b": "1", "/l": "-> ."},
		},
		{
			"names do not leave the root",
			[][]byte{tarOf([2]string{"../../a", "1"}, [2]string{"b/../../c", "2"})}, map[string]string{"/a": "1", "/c": "2"},
		},
		{
			"whiteouts remove",
			[][]byte{tarOf([2]string{"a/b", "1"}, [2]string{"a/c", "2"}), tarOf([2]string{"a/.wh.b", ""})},
			map[string]string{"/a/c": "2"},
		},
		{
			"opaque directories hide what layers below have, and nothing of their own",
			[][]byte{
				tarOf([2]string{"a/b", "1"}, [2]string{"a/d/e", "1"}),
				tarOf([2]string{"a/c", "2"}, [2]string{"a/d/f", "3"}, [2]string{"a/.wh..wh..opq", ""}, [2]string{"a/g", "4"}),
			},
			map[string]string{"/a/c": "2", "/a/d/f": "3", "/a/g": "4"},
		},
		{
			"whiteouts of the file system's own are left out",
			[][]byte{tarOf([2]string{"a/.wh..wh.plnk", "1"}, [2]string{"a/b", "2"})}, map[string]string{"/a/b": "2"},
		},
	} {
		it("lays layers over each other as runtimes do: "+c.what, func() {
			o, err := apply(1<<20, c.layers...)
			Expect(err).NotTo(HaveOccurred())
			Expect(shown(o)).To(Equal(c.want))
		})
	}

	it("notes what runtimes lay over each other in different ways", func() {
		attributed := func(name string, records map[string]string) []byte {
			var text bytes.Buffer
			w := tar.NewWriter(&text)
			must(w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: records}))
			must(w.Close())
			return text.Bytes()
		}
		lower := tarOf([2]string{"a/", ""}, [2]string{"a/b", "1"})
		for what, c := range map[string]struct {
			upper []byte
			place string
		}{
			"a global header":     {tarOf([2]string{"a/b", "global"}), "/a/b"},
			"writes it twice":     {tarOf([2]string{"a", "1"}, [2]string{"a/", ""}), "/a"},
			"goes on after":       {append(tarOf([2]string{"a/", ""}), tarOf([2]string{"a/c", "2"})...), "the archive"},
			"overlay file system": {attributed("./", map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}), "/"},
			"an attribute of":     {attributed("a", map[string]string{"SCHILY.xattr.user.containers.override_stat": "0:0:4755"}), "/a"},
		} {
			o, err := apply(1<<20, lower, c.upper)
			Expect(err).NotTo(HaveOccurred())
			Expect(o.Notes).To(ContainElement(And(HaveField("Layer", 1), HaveField("Path", c.place), HaveField("Text", ContainSubstring(what)))))
		}
		o, err := apply(1<<20, lower, tarOf([2]string{"a/", ""}, [2]string{"a/", ""}, [2]string{"a/b", "2"}))
		Expect(err).NotTo(HaveOccurred())
		Expect(o.Notes).To(BeEmpty())
	})

	it("knows which directories have no rights that all runtimes agree on, and every attribute of the others", func() {
		o, err := apply(1<<20, tarOf([2]string{"a/", ""}, [2]string{"a/b/c", "1"}), tarOf([2]string{"a/d", "1"}))
		Expect(err).NotTo(HaveOccurred())
		Expect([]bool{o.Root.Find("a").Implied, o.Root.Find("a/b").Implied}).To(Equal([]bool{true, true}))
		o, err = apply(1<<20, tarOf([2]string{"a/b/c", "1"}, [2]string{"a/", ""}), tarOf([2]string{"a/", ""}, [2]string{"a/b/", ""}))
		Expect(err).NotTo(HaveOccurred())
		Expect([]bool{o.Root.Find("a").Implied, o.Root.Find("a/b").Implied}).To(Equal([]bool{false, false}))

		var text bytes.Buffer
		w := tar.NewWriter(&text)
		for _, records := range []map[string]string{
			{"SCHILY.xattr.security.capability": "x", "comment": "x"}, {"LIBARCHIVE.xattr.user.x": "x"}, nil,
		} {
			must(w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, PAXRecords: records}))
		}
		must(w.Close())
		o, err = apply(1<<20, text.Bytes())
		Expect(err).NotTo(HaveOccurred())
		Expect(o.Root.Attributes).To(ConsistOf("security.capability", "LIBARCHIVE.xattr.user.x"))
		Expect(o.Root.Mode.Perm()).To(BeEquivalentTo(0o700))
	})

	it("finds what a process in the container would", func() {
		o, err := apply(1<<20, tarOf([2]string{"a/b/f", "1"}, [2]string{"l", "-> a/x"}, [2]string{"a/x", "-> b"},
			[2]string{"loop", "-> loop"}))
		Expect(err).NotTo(HaveOccurred())
		f, real, err := o.Root.Resolve("/l/../b/./f")
		Expect(err).NotTo(HaveOccurred())
		Expect(real).To(Equal("/a/b/f"))
		Expect(f.Size).To(Equal(int64(1)))
		f, _, err = o.Root.Resolve("/l/none")
		Expect(f, err).To(BeNil())
		_, _, err = o.Root.Resolve("/loop")
		Expect(err).To(HaveOccurred())
		Expect(o.Root.Find("/l/f")).To(BeNil())
	})

	it("refuses what no runtime unpacks", func() {
		for what, layer := range map[string][]byte{
			"not a directory": tarOf([2]string{"a", "1"}, [2]string{"a/b", "2"}),
			"symlinks":        tarOf([2]string{"a", "-> a"}, [2]string{"a/b", "2"}),
			"hard link":       tarOf([2]string{"a", "=> none"}),
			"longer":          tarOf([2]string{strings.Repeat("x", 300), ""}),
			"the root":        tarOf([2]string{".", "x"}),
			"unexpected EOF":  tarOf([2]string{"a", strings.Repeat("x", 4096)})[:2048],
		} {
			_, err := apply(1<<20, layer)
			Expect(err).To(MatchError(ContainSubstring(what)))
		}
	})

	it("stops at its limits: bytes, files, links that lead to links, and directories hidden again and again", func() {
		_, err := apply(1<<10, tarOf([2]string{"a", strings.Repeat("x", 4096)}))
		Expect(err).To(MatchError(filetree.ErrTooLarge))
		long := strings.Repeat("l/", 2000)
		entries := [][2]string{{"l", "-> ."}}
		for i := range 200 {
			entries = append(entries, [2]string{fmt.Sprintf("m%d", i), "-> " + long + fmt.Sprintf("m%d", i-1)})
		}
		for range 2000 {
			entries = append(entries, [2]string{"m199/x", ""})
		}
		started := time.Now()
		_, err = apply(1<<30, tarOf(entries...))
		Expect(err).To(HaveOccurred())
		entries = nil
		for i := range 2000 {
			entries = append(entries, [2]string{fmt.Sprintf("d/%d", i), ""})
		}
		for range 5000 {
			entries = append(entries, [2]string{"d/.wh..wh..opq", ""})
		}
		_, err = apply(1<<30, tarOf(entries...))
		Expect(err).To(MatchError(filetree.ErrTooLarge))
		Expect(time.Since(started)).To(BeNumerically("<", busy.Limit(10*time.Second)))
	})

	it("holds no more than a tree may, whatever a layer's names are", func() {
		for what, name := range map[string]func(int) string{
			"files":       func(i int) string { return fmt.Sprintf("d/%d", i) },
			"directories": func(i int) string { return fmt.Sprintf("%d/", i) },
			"deep":        func(i int) string { return fmt.Sprintf("%d/%s", i, strings.Repeat("d/", 40)) },
			"long":        func(i int) string { return fmt.Sprintf("%0200d/%d", i%7, i) },
		} {
			r, w := io.Pipe()
			go func() {
				archive := tar.NewWriter(w)
				for i := 0; ; i++ {
					h := &tar.Header{Name: name(i), Typeflag: tar.TypeReg, Size: 1}
					if strings.HasSuffix(h.Name, "/") {
						h.Typeflag, h.Size = tar.TypeDir, 0
					}
					if archive.WriteHeader(h) != nil {
						return
					}
					if _, err := archive.Write([]byte("x")[:h.Size]); err != nil {
						return
					}
				}
			}()
			o, err := filetree.NewOverlay("", 1<<40, func(string) bool { return false })
			Expect(err).NotTo(HaveOccurred())
			o.Memory = 8 << 20
			var before, m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			Expect(o.Apply(context.Background(), r, 0)).To(MatchError(filetree.ErrTooLarge), what)
			r.Close()
			runtime.GC()
			runtime.ReadMemStats(&m)
			Expect(int64(m.HeapAlloc)-int64(before.HeapAlloc)).To(BeNumerically("<", 11<<20), what)
			runtime.KeepAlive(o)
			o.Close()
		}
	})

	it("takes no room for zeros, and ends at once when it is told to", func() {
		o, err := filetree.NewOverlay("", 1<<50, func(string) bool { return true })
		Expect(err).NotTo(HaveOccurred())
		defer o.Close()
		var head bytes.Buffer
		Expect(tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 1 << 49})).To(Succeed())
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		started := time.Now()
		err = o.Apply(ctx, io.MultiReader(&head, zeros{}), 0)
		Expect(err).To(MatchError(context.DeadlineExceeded))
		Expect(time.Since(started)).To(BeNumerically("<", busy.Limit(20*time.Second)))
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func testDirectory(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("reads a directory without following a link or waiting for a pipe", func() {
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "f"), []byte("1"), 0o644)).To(Succeed())
		Expect(os.Symlink("/dev/zero", filepath.Join(dir, "zero"))).To(Succeed())
		Expect(os.Symlink("/etc", filepath.Join(dir, "etc"))).To(Succeed())
		Expect(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644)).To(Succeed())
		tree, done, err := filetree.ReadDirectory(context.Background(), dir)
		Expect(err).NotTo(HaveOccurred())
		defer done()
		Expect(tree.Names()).To(Equal([]string{"etc", "f", "pipe", "zero"}))
		Expect(tree.Child("f").ReadAll(1)).To(BeEquivalentTo("1"))
		Expect(tree.Child("etc").Kind).To(Equal(filetree.Symlink))
		for _, name := range []string{"etc", "pipe", "zero"} {
			_, err := tree.Child(name).ReadAll(10)
			Expect(err).To(HaveOccurred(), name)
		}
	})

	it("reads nothing that took a file's place", func() {
		dir := t.TempDir()
		name := filepath.Join(dir, "f")
		Expect(os.WriteFile(name, []byte("1"), 0o644)).To(Succeed())
		tree, done, err := filetree.ReadDirectory(context.Background(), dir)
		Expect(err).NotTo(HaveOccurred())
		defer done()
		Expect(os.Remove(name)).To(Succeed())
		Expect(syscall.Mkfifo(name, 0o644)).To(Succeed())
		_, err = tree.Child("f").ReadAll(10)
		Expect(err).To(HaveOccurred())
		Expect(os.Remove(name)).To(Succeed())
		Expect(os.Symlink("/etc/passwd", name)).To(Succeed())
		_, err = tree.Child("f").ReadAll(10)
		Expect(err).To(HaveOccurred())
	})
}

// FuzzOverlay lays hostile layers over each other.
func FuzzOverlay(f *testing.F) {
	f.Add(tarOf([2]string{"a/b", "1"}, [2]string{"l", "-> a"}), tarOf([2]string{"l/.wh.b", ""}, [2]string{"h", "=> l/b"}))
	f.Add(tarOf([2]string{"a/", ""}, [2]string{"a/.wh..wh..opq", ""}), tarOf([2]string{"../a", "|"}))
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		o, err := filetree.NewOverlay("", 1<<20, func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		for i, layer := range [][]byte{lower, upper} {
			if err := o.Apply(context.Background(), bytes.NewReader(layer), i); err != nil {
				return
			}
		}
		o.Root.Walk("/", func(place string, file *filetree.File) bool {
			if file.Kind == filetree.Regular {
				if raw, err := file.ReadAll(1 << 20); err != nil || int64(len(raw)) != file.Size {
					t.Fatalf("%q: %d bytes, %v", place, len(raw), err)
				}
			}
			return true
		})
	})
}

// TestHostileDocuments opens images whose documents take much more memory than bytes.
func TestHostileDocuments(t *testing.T) {
	for what, config := range map[string][3]string{
		"labels":      {`{"config":{"Labels":{`, `"%06x":"",`, `"":""}}}`},
		"environment": {`{"config":{"Env":[`, `"",`, `""]}}`},
		"history":     {`{"history":[`, `{},`, `{}]}`},
		"volumes":     {`{"config":{"Volumes":{`, `"%06x":{},`, `"":{}}}}`},
		"nesting":     {`{"x":`, `[`, `1`},
		"a text":      {`{"config":{"Labels":{"a":"`, `\u0000`, `"}}}`},
		"numbers":     {`{"x":[`, `1,`, `1]}`},
	} {
		t.Run(what, func(t *testing.T) {
			g := NewWithT(t)
			var text strings.Builder
			text.WriteString(config[0])
			for i := 0; text.Len() < 15<<20; i++ {
				if strings.Contains(config[1], "%") {
					fmt.Fprintf(&text, config[1], i)
				} else {
					text.WriteString(config[1])
				}
			}
			text.WriteString(config[2])
			name := filepath.Join(t.TempDir(), "image.tar")
			g.Expect(os.WriteFile(name, tarOf([2]string{"manifest.json", `[{"Config":"c","Layers":[]}]`},
				[2]string{"c", text.String()}), 0o644)).To(Succeed())
			text.Reset()
			debug.FreeOSMemory()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			img, err := image.Open(context.Background(), name)
			runtime.ReadMemStats(&after)
			if err == nil {
				g.Expect(img.Close()).To(Succeed())
			}
			t.Logf("allocates %d MiB: %.120v", (after.TotalAlloc-before.TotalAlloc)>>20, err)
			g.Expect(after.TotalAlloc - before.TotalAlloc).To(BeNumerically("<", 160<<20))
		})
	}
}

// assemble opens an archive of an image, if it is one, and puts its layers over each other, in bounded time.
func assemble(t *testing.T, archive []byte, check func(*image.Image)) {
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if img, err := image.Open(ctx, name); err == nil {
		defer img.Close()
		check(img)
		if overlay, err := img.Overlay(ctx, "", func(string) bool { return true }); err == nil {
			overlay.Close()
		}
	}
	if ctx.Err() != nil {
		t.Fatal("it takes longer than such an archive may")
	}
}

// FuzzOpen reads hostile archives.
func FuzzOpen(f *testing.F) {
	f.Add(tarOf([2]string{"manifest.json", `[{"Config":"c","Layers":["l"]}]`}, [2]string{"c", `{"rootfs":{"diff_ids":["x"]}}`},
		[2]string{"l", string(tarOf([2]string{"a", "1"}))}))
	f.Add(tarOf([2]string{"index.json", `{"manifests":[{"digest":"sha256:00"}]}`}, [2]string{"blobs/sha256/00", "-> ../../index.json"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		assemble(t, raw, func(*image.Image) {})
	})
}
