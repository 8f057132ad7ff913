package verify_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/verify"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
)

// export is how an engine or a registry hands out an image: its manifests' kind, and how its layers are packed.
type export struct {
	pack     func([]byte) []byte
	manifest types.MediaType
	layer    types.MediaType
	index    func(v1.Image) v1.ImageIndex // the image alone, if nil
	archive  bool                         // as docker save has it, beside docker's own manifest
}

// gzipped packs a layer, and zstdFrames does, in so many frames.
func gzipped(level int) func([]byte) []byte {
	return func(raw []byte) []byte {
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, level)
		Expect(err).NotTo(HaveOccurred())
		_, err = w.Write(raw)
		Expect(errors.Join(err, w.Close())).To(Succeed())
		return b.Bytes()
	}
}

func zstdFrames(level zstd.EncoderLevel, n int) func([]byte) []byte {
	return func(raw []byte) (packed []byte) {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1))
		Expect(err).NotTo(HaveOccurred())
		for i := range n {
			packed = w.EncodeAll(raw[len(raw)*i/n:len(raw)*(i+1)/n], packed)
		}
		return packed
	}
}

// skipped is a frame that decoders skip: in it zstd:chunked keeps a table of files, and the seekable format one of frames.
func skipped(text string) []byte {
	frame := binary.LittleEndian.AppendUint32(nil, 0x184d2a50)
	return append(binary.LittleEndian.AppendUint32(frame, uint32(len(text))), text...)
}

func chunked(raw []byte) []byte {
	return append(zstdFrames(zstd.SpeedDefault, 3)(raw), skipped(`{"version":1,"entries":[{"type":"reg","name":"evil"}]}`)...)
}

// attested is what buildx makes: an index of the image and of a manifest that says how it was built.
func attested(platform v1.Platform, kind string) func(v1.Image) v1.ImageIndex {
	return func(img v1.Image) v1.ImageIndex {
		note := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
		note, err := mutate.AppendLayers(note, static.NewLayer([]byte(`{"predicateType":"https://slsa.dev/provenance/v0.2"}`), "application/vnd.in-toto+json"))
		Expect(err).NotTo(HaveOccurred())
		digest, err := img.Digest()
		Expect(err).NotTo(HaveOccurred())
		return mutate.AppendManifests(empty.Index,
			mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
			mutate.IndexAddendum{Add: note, Descriptor: v1.Descriptor{Platform: &platform, Annotations: map[string]string{
				"vnd.docker.reference.type": kind, "vnd.docker.reference.digest": digest.String(),
			}}})
	}
}

// packed is a layer in another packing, whose contents are known.
type packed struct {
	v1.Layer
	contents v1.Layer
}

// DiffID is that of the contents.
func (p packed) DiffID() (v1.Hash, error) { return p.contents.DiffID() }

// write writes an image so, and gives the place.
func (e export) write(f *imagetest.Image, alter func(*imagetest.Image)) string {
	saved := filepath.Join(f.T.TempDir(), "image.tar")
	f.Write(saved, alter)
	plain, err := tarball.ImageFromPath(saved, nil)
	Expect(err).NotTo(HaveOccurred())
	layers, err := plain.Layers()
	Expect(err).NotTo(HaveOccurred())
	config, err := plain.ConfigFile()
	Expect(err).NotTo(HaveOccurred())
	img := mutate.MediaType(empty.Image, e.manifest)
	if e.manifest == types.OCIManifestSchema1 {
		img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	}
	for _, layer := range layers {
		r, err := layer.Uncompressed()
		Expect(err).NotTo(HaveOccurred())
		raw, err := io.ReadAll(r)
		Expect(errors.Join(err, r.Close())).To(Succeed())
		img, err = mutate.AppendLayers(img, packed{static.NewLayer(e.pack(raw), e.layer), layer})
		Expect(err).NotTo(HaveOccurred())
	}
	img, err = mutate.ConfigFile(img, config)
	Expect(err).NotTo(HaveOccurred())
	dir := f.T.TempDir()
	index, err := layout.Write(dir, empty.Index)
	Expect(err).NotTo(HaveOccurred())
	if e.index == nil {
		Expect(index.AppendImage(img)).To(Succeed())
	} else {
		Expect(index.AppendIndex(e.index(img))).To(Succeed())
	}
	if !e.archive {
		return dir
	}
	manifest, err := img.Manifest()
	Expect(err).NotTo(HaveOccurred())
	blob := func(d v1.Descriptor) string { return "blobs/sha256/" + d.Digest.Hex }
	var names []string
	for _, layer := range manifest.Layers {
		names = append(names, `"`+blob(layer)+`"`)
	}
	Expect(os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(`[{"Config":"`+blob(manifest.Config)+`","RepoTags":["app:1"],"Layers":[`+
		strings.Join(names, ",")+`]}]`), 0o644)).To(Succeed())
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	Expect(errors.Join(w.AddFS(os.DirFS(dir)), w.Close())).To(Succeed())
	Expect(os.WriteFile(saved, out.Bytes(), 0o644)).To(Succeed())
	return saved
}

// testExports judges images that engines and registries have written anew, as they do without anybody's having altered them.
func testExports(t *testing.T, _ spec.G, it spec.S) {
	var g *WithT
	var made *imagetest.Image
	it.Before(func() {
		RegisterTestingT(t)
		g, made = NewWithT(t), imagetest.New(t, launch.EngineRelocate)
	})
	check := func(name string, accept ...string) (*verify.Report, error) {
		keys, err := narinfo.ParseKeys(made.Key)
		g.Expect(err).NotTo(HaveOccurred())
		return verify.Image(context.Background(), name, verify.Options{
			Keys: keys, OwnLauncher: func(string) string { return made.LauncherSHA256 }, Accept: accept,
		})
	}
	alter := func(f *imagetest.Image) { f.Replace(f.AppFile, f.Must(f.AppFile).Body+"evil", "") }
	const oci, ociGzip, ociZstd = types.OCIManifestSchema1, types.OCILayer, types.OCILayerZStd
	docker, dockerGzip := types.DockerManifestSchema2, types.DockerLayer
	provenance := attested(v1.Platform{OS: "unknown", Architecture: "unknown"}, "attestation-manifest")
	exports := map[string]export{
		"Docker's manifest":                        {gzipped(6), docker, dockerGzip, nil, false},
		"Docker's manifest, packed best":           {gzipped(9), docker, dockerGzip, nil, false},
		"OCI's manifest, packed fast":              {gzipped(1), oci, ociGzip, nil, false},
		"OCI's manifest, not packed":               {bytes.Clone, oci, types.OCIUncompressedLayer, nil, false},
		"zstd":                                     {zstdFrames(zstd.SpeedDefault, 1), oci, ociZstd, nil, false},
		"zstd, packed best":                        {zstdFrames(zstd.SpeedBestCompression, 1), oci, ociZstd, nil, false},
		"docker save of containerd's images":       {gzipped(6), oci, ociGzip, nil, true},
		"an index with an attestation":             {gzipped(6), oci, ociGzip, provenance, false},
		"docker save of an image with attestation": {gzipped(6), oci, ociGzip, provenance, true},
	}
	for _, what := range slices.Sorted(maps.Keys(exports)) {
		e := exports[what]
		it("calls what nobody altered intact, and else not: "+what, func() {
			report, err := check(e.write(made.Clone(t), nil))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(report.Problems).To(BeEmpty())
			g.Expect(intact(report)).To(BeTrue())
			report, err = check(e.write(made.Clone(t), func(f *imagetest.Image) { f.Relabel = true; alter(f) }))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(intact(report)).To(BeFalse())
		})
	}

	packs := map[string]func([]byte) []byte{
		"zstd in several frames":    zstdFrames(zstd.SpeedFastest, 4),
		"zstd:chunked":              chunked,
		"zstd with a frame to skip": func(raw []byte) []byte { return append(skipped("x"), zstdFrames(zstd.SpeedFastest, 1)(raw)...) },
		"gzip in several parts":     func(raw []byte) []byte { return append(gzipped(6)(raw[:512]), gzipped(6)(raw[512:])...) },
		"zstd with nothing in a frame": func(raw []byte) []byte {
			return append(zstdFrames(zstd.SpeedFastest, 1)(raw), zstdFrames(zstd.SpeedFastest, 1)(nil)...)
		},
	}
	for _, what := range slices.Sorted(maps.Keys(packs)) {
		pack := packs[what]
		it("names layers in which some runtime may find other files, but for the run image's, and takes them if told to: "+what, func() {
			name := export{pack: pack, manifest: oci, layer: ociZstd}.write(made.Clone(t), nil)
			report, err := check(name)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(report.Problems).To(HaveLen(len(made.Layers) - 1))
			var accept []string
			for _, p := range report.Problems {
				g.Expect(p.Kind).To(Equal(verify.Unknown))
				g.Expect(p.Why).To(HaveSuffix("the archive: its compression has several parts"))
				accept = append(accept, p.Where)
			}
			g.Expect(intact(report)).To(BeFalse())
			report, err = check(name, accept...)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(intact(report)).To(BeTrue())
		})
	}

	for _, engine := range slices.Sorted(maps.Keys(engineArchives())) {
		it("reads what engines save, and sees what was altered in it: "+engine, func() {
			for _, altered := range []bool{false, true} {
				report, err := check(saveAs(made.Clone(t), engineArchives()[engine], func(f *imagetest.Image) {
					if f.Relabel = true; altered {
						alter(f)
					}
				}))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(intact(report)).To(Equal(!altered), "%v", report.Problems)
			}
		})
	}

	it("does not take an image that was made anew for lazy pulling for the one that was built", func() {
		name := saveAs(made.Clone(t), func(img saved) (files []imagetest.Entry) {
			var names []string
			for i, raw := range img.layers {
				blob, err := estargz.Build(io.NewSectionReader(bytes.NewReader(raw), 0, int64(len(raw))))
				g.Expect(err).NotTo(HaveOccurred())
				packed, err := io.ReadAll(blob)
				g.Expect(errors.Join(err, blob.Close())).To(Succeed())
				img.config = bytes.ReplaceAll(img.config, []byte(img.diffIDs[i]), []byte(blob.DiffID().Encoded())) // also in the label
				names = append(names, fmt.Sprintf("%d.tar.gz", i))
				files = append(files, imagetest.Regular(names[i], string(packed), 0o644))
			}
			return append(files, imagetest.Regular("c.json", string(img.config), 0o644), dockerManifest("c.json", names))
		}, nil)
		report, err := check(name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(intact(report)).To(BeFalse())
		var why []string
		for _, p := range report.Problems {
			why = append(why, p.Where+": "+p.Why)
		}
		g.Expect(strings.Join(why, "\n")).To(And(ContainSubstring("no lifecycle writes such an entry"),
			MatchRegexp(`(?m)^/stargz.index.json: layer \d+ of the image has it, which is not the run image's`)))
	})

	it("takes for an attestation only what no engine runs", func() {
		for _, index := range []func(v1.Image) v1.ImageIndex{
			attested(v1.Platform{OS: "linux", Architecture: "arm64"}, "attestation-manifest"),
			attested(v1.Platform{OS: "unknown", Architecture: "amd64"}, "attestation-manifest"),
			attested(v1.Platform{OS: "unknown", Architecture: "unknown"}, "image"),
		} {
			_, err := check(export{gzipped(6), oci, ociGzip, index, false}.write(made.Clone(t), nil))
			g.Expect(err).To(MatchError(MatchRegexp(`the layout holds 2 images, it takes one: linux/amd64, \w+/\w+; docker save --platform linux/amd64 writes`)))
		}
	})

	it("names a process type that a Procfile's own buildpack made, and takes it if told to", func() {
		f := made.Clone(t)
		report, out := verifyImage(f, func(f *imagetest.Image) {
			f.AddProcess(lifecycle.Process{Type: "worker", Command: []any{"bash"}, Args: []string{"-c", "sidekiq"}, Direct: true, BuildpackID: "heroku/procfile"})
			f.AddProcess(lifecycle.Process{Type: "clock", Command: []any{"tick"}, BuildpackID: "paketo-buildpacks/procfile"})
			f.Relabel = true
		})
		g.Expect(out).To(ContainSubstring(`the process type "worker" is the buildpack's "heroku/procfile"`))
		g.Expect(out).To(ContainSubstring(`the process type "clock" is the buildpack's "paketo-buildpacks/procfile"`))
		g.Expect(report.Problems).To(HaveLen(2))
		for _, p := range report.Problems {
			g.Expect(p).To(And(HaveField("Kind", verify.Extra), HaveField("Where", BeElementOf("/cnb/process/worker", "/cnb/process/clock"))))
		}
		for accept, all := range map[string]bool{
			"/cnb/process/worker /cnb/process/clock": true, "/cnb/process/worker": false, processTypes: false, "/layers": false,
		} {
			report, out = verifyImage(f, nil, func(o *verify.Options) { o.Accept = strings.Fields(accept) })
			g.Expect(intact(report)).To(Equal(all), "%s: %s", accept, out)
		}
	})
}

// saved is an image that is to be saved.
type saved struct {
	config   []byte
	configID string // in hex
	layers   [][]byte
	diffIDs  []string // in hex
}

// saveAs writes an image, after it was altered, by the files of an archive.
func saveAs(f *imagetest.Image, archive func(saved) []imagetest.Entry, alter func(*imagetest.Image)) string {
	name := filepath.Join(f.T.TempDir(), "image.tar")
	f.Write(name, alter)
	plain, err := tarball.ImageFromPath(name, nil)
	Expect(err).NotTo(HaveOccurred())
	var img saved
	img.config, err = plain.RawConfigFile()
	Expect(err).NotTo(HaveOccurred())
	img.configID = fmt.Sprintf("%x", sha256.Sum256(img.config))
	for _, layer := range f.Layers {
		raw := layer.Archive()
		img.layers = append(img.layers, raw)
		img.diffIDs = append(img.diffIDs, fmt.Sprintf("%x", sha256.Sum256(raw)))
	}
	Expect(os.WriteFile(name, imagetest.Layer{Entries: archive(img)}.Archive(), 0o644)).To(Succeed())
	return name
}

// dockerManifest is docker save's, with the tags that it has where the image has one.
func dockerManifest(config string, layers []string) imagetest.Entry {
	raw, err := json.Marshal([]map[string]any{{"Config": config, "RepoTags": []string{"app:latest"}, "Layers": layers}})
	Expect(err).NotTo(HaveOccurred())
	return imagetest.Regular("manifest.json", string(raw), 0o644)
}

// engineArchives are the ways in which engines save images, by what each writes beside the layers.
func engineArchives() map[string]func(saved) []imagetest.Entry {
	const repositories = `{"app":{"latest":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}}`
	// ids are those of Docker's first format, which is written along for the engines that read no other.
	id := func(img saved, i int) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(img.diffIDs[i]))) }
	legacy := func(img saved, i int) []imagetest.Entry {
		dir := id(img, i)
		return []imagetest.Entry{
			imagetest.Directory(dir + "/"), imagetest.Regular(dir+"/VERSION", "1.0", 0o644),
			imagetest.Regular(dir+"/json", `{"id":"`+dir+`"}`, 0o644),
		}
	}
	return map[string]func(saved) []imagetest.Entry{
		"Docker before 25": func(img saved) (files []imagetest.Entry) {
			var names []string
			first := map[string]string{}
			for i, raw := range img.layers {
				name := id(img, i) + "/layer.tar"
				files = append(files, legacy(img, i)...)
				if twin, ok := first[img.diffIDs[i]]; ok {
					files = append(files, imagetest.Symlink(name, "../"+twin))
				} else {
					files = append(files, imagetest.Regular(name, string(raw), 0o644))
					first[img.diffIDs[i]] = name
				}
				names = append(names, name)
			}
			return append(files, imagetest.Regular(img.configID+".json", string(img.config), 0o644),
				dockerManifest(img.configID+".json", names), imagetest.Regular("repositories", repositories, 0o644))
		},
		"Podman": func(img saved) (files []imagetest.Entry) {
			var names []string
			for i, raw := range img.layers {
				names = append(names, img.diffIDs[i]+".tar")
				files = append(files, imagetest.Regular(names[i], string(raw), 0o444))
				files = append(files, legacy(img, i)...)
				files = append(files, imagetest.Symlink(id(img, i)+"/layer.tar", "../"+names[i]))
			}
			return append(files, imagetest.Regular(img.configID+".json", string(img.config), 0o444),
				imagetest.Regular("repositories", repositories, 0o444), dockerManifest(img.configID+".json", names))
		},
		"crane, with packed layers": func(img saved) (files []imagetest.Entry) {
			var names []string
			for _, raw := range img.layers {
				packed := gzipped(1)(raw)
				names = append(names, fmt.Sprintf("%x.tar.gz", sha256.Sum256(packed)))
				files = append(files, imagetest.Regular(names[len(names)-1], string(packed), 0o555))
			}
			return append(files, imagetest.Regular("sha256:"+img.configID, string(img.config), 0o555), dockerManifest("sha256:"+img.configID, names))
		},
	}
}
