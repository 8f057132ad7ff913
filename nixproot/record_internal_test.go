package nixproot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/buildpacks/libcnb/v2"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

const (
	shop  = storepath.Path("/nix/store/5g19asn3i6rfm0bz9azwvpf7lzmzaxqz-shop-1.0")
	shopB = storepath.Path("/nix/store/8vzs9yafswi0xccfn7xw16fbgv10prbh-shop-1.0.drv")
)

func TestRecord(t *testing.T) {
	suite := spec.New("record")
	suite("Record", testRecord)
	suite("PreviousLayers", testPreviousLayers)
	suite.Run(t)
}

func testRecord(t *testing.T, _ spec.G, it spec.S) {
	var layers libcnb.Layers

	it.Before(func() {
		RegisterTestingT(t)
		layers = libcnb.Layers{Path: t.TempDir()}
	})

	it("reads what a build has written, from a layer that goes to the build cache and into no image", func() {
		r := buildRecord{
			Format: recordFormat, System: "x86_64-linux", Key: "k", Bins: []*bin{nil, {Programs: []string{"shop"}, Hook: true}},
			Roots: roots.Result{Paths: []storepath.Path{shop, shopB}, MainProgram: "shop", Hook: shopB,
				Licenses: map[storepath.Path][]string{shop: {"MIT", "GPL-2.0-or-later"}}},
			Layers: map[string]recordedLayer{
				"closure-x": {DiffID: "sha256:aa", Manifest: closure.Manifest{Version: 1, Paths: []string{"a"}}},
			},
		}
		layer, err := r.write(layers)
		Expect(err).NotTo(HaveOccurred())
		Expect(layer.LayerTypes).To(Equal(libcnb.LayerTypes{Cache: true}))
		Expect(readRecord(t.Context(), layers.Path, "x86_64-linux")).To(Equal(r))
	})

	it("says that there is none", func() {
		_, err := readRecord(t.Context(), layers.Path, "x86_64-linux")
		Expect(err).To(MatchError(errNoRecord))
	})

	it("says why it does not use what no build has written, in one line and without control characters", func() {
		Expect(os.Mkdir(filepath.Join(layers.Path, recordLayer), 0o755)).To(Succeed())
		name := filepath.Join(layers.Path, recordLayer, recordName)
		paths := func(more string) string {
			return fmt.Sprintf(`{"format":%d,"system":"x86_64-linux","roots":{"paths":["%s"%s}}`, recordFormat, shop, more)
		}
		for text, says := range map[string]string{
			"":                                     "unexpected end of JSON",
			"{":                                    "unexpected end of JSON",
			`{"format":99}`:                        "it is in format 99",
			`{"format":4}`:                         `it is for "", this build for x86_64-linux`,
			`{"format":4,"system":"\u001b[2Jx"}`:   `it is for "\x1b[2Jx"`,
			`{"format":4,"roots":"x"}`:             "cannot unmarshal",
			`{"format":4,"bins":[-1]}`:             "cannot unmarshal",
			`{"format":4,"system":"x86_64-linux"}`: "it names no store paths",
			paths(`,"x\u001b\n"]`):                 `parsing store path "x\x1b\n"`,
			paths(`,"` + string(shop) + `"]`):      "twice",
			paths(`],"hook":"x"`):                  "parsing store path",
			paths(`],"mainProgram":"a;\"b"`):       "is no name of a program",
			paths(`],"licenses":{"x":["MIT"]}`):    "licences",
			paths(`],"licenses":{"` + string(shop) + `":["a b"]}`): "licences",
		} {
			Expect(os.WriteFile(name, []byte(text), 0o644)).To(Succeed())
			r, err := readRecord(t.Context(), layers.Path, "x86_64-linux")
			Expect(err).To(MatchError(ContainSubstring(says)), text)
			Expect(err.Error()).NotTo(MatchRegexp("[\x00-\x1f]"), text)
			Expect(r).To(Equal(buildRecord{}))
		}
	})

	it("reads neither what is too large nor what is no file", func() {
		Expect(os.Mkdir(filepath.Join(layers.Path, recordLayer), 0o755)).To(Succeed())
		name := filepath.Join(layers.Path, recordLayer, recordName)
		Expect(os.WriteFile(name, nil, 0o644)).To(Succeed())
		Expect(os.Truncate(name, 64<<20+1)).To(Succeed())
		_, err := readRecord(t.Context(), layers.Path, "x86_64-linux")
		Expect(err).To(MatchError(ContainSubstring("it has more than 67108864 bytes")))
		Expect(os.Truncate(name, 64<<20)).To(Succeed())
		_, err = readRecord(t.Context(), layers.Path, "x86_64-linux")
		Expect(err).NotTo(MatchError(ContainSubstring("it has more than")))
		Expect(os.Remove(name)).To(Succeed())
		Expect(syscall.Mkfifo(name, 0o644)).To(Succeed())
		_, err = readRecord(t.Context(), layers.Path, "x86_64-linux")
		Expect(err).To(MatchError(ContainSubstring("it is no regular file")))
	})

	it("takes for a program's name only what a shell reads as one word", func() {
		for _, name := range []string{"", "app", "python3.12", "x86_64-linux-gnu-gcc", "größe", "g++"} {
			Expect(isProgramName(name)).To(BeTrue(), name)
		}
		for _, name := range []string{"app; touch x", "a b", "a&", "a|b", "$(a)", "`a`", "a>b", "*", "-c", "a\x1b", "a\n", "#a", "~", "[a", "a/b"} {
			Expect(isProgramName(name)).To(BeFalse(), name)
		}
		c := &contents{buildRecord: buildRecord{Bins: []*bin{{Programs: []string{"app; touch x"}}}}}
		program, _, err := c.mainProgram()
		Expect(err).NotTo(HaveOccurred())
		Expect(program).To(BeEmpty())
	})
}

func testPreviousLayers(t *testing.T, _ spec.G, it spec.S) {
	const ours = "nixproot/nix-hydra"
	var layersDir, analyzed string

	it.Before(func() {
		RegisterTestingT(t)
		dir := t.TempDir()
		layersDir, analyzed = filepath.Join(dir, "nixproot_nix-hydra"), filepath.Join(dir, "analyzed.toml")
	})

	it("gives this buildpack's layers as the lifecycle has found them in the previous image", func() {
		Expect(previousLayers(t.Context(), layersDir, ours)).To(BeEmpty())
		Expect(os.WriteFile(analyzed, []byte(`
[image]
  reference = "registry/app@sha256:00"
[metadata]
  [[metadata.buildpacks]]
    key = "other"
    [metadata.buildpacks.layers.closure-a]
      sha = "sha256:99"
  [[metadata.buildpacks]]
    key = "nixproot/nix-hydra"
    version = "1"
    [metadata.buildpacks.layers]
      [metadata.buildpacks.layers.closure-a]
        sha = "sha256:aa"
        launch = true
        [metadata.buildpacks.layers.closure-a.metadata]
          format = 2
`), 0o644)).To(Succeed())
		Expect(previousLayers(t.Context(), layersDir, ours)).To(Equal(map[string]string{"closure-a": "sha256:aa"}))
	})

	it("gives none where that cannot be read, whoever wrote it", func() {
		for _, text := range []string{"[", "metadata = 7", "[metadata]\nbuildpacks = \"\x1b\"", "metadata.buildpacks = [[[[]]]]",
			"x = [" + strings.Repeat("0,", lifecycle.MaxLabelValues) + "]"} {
			Expect(os.WriteFile(analyzed, []byte(text), 0o644)).To(Succeed())
			digests, err := previousLayers(t.Context(), layersDir, ours)
			Expect(digests).To(BeEmpty())
			Expect(err).To(HaveOccurred(), "%.80s", text)
			Expect(err.Error()).NotTo(MatchRegexp("[\x00-\x1f]"))
		}
		Expect(os.Truncate(analyzed, 64<<20+1)).To(Succeed())
		_, err := previousLayers(t.Context(), layersDir, ours)
		Expect(err).To(MatchError(ContainSubstring("it has more than")))
	})

	it("keeps no layer whose digest is not the recorded one, or was never known", func() {
		r := buildRecord{Layers: map[string]recordedLayer{
			"closure-a": {DiffID: "sha256:aa"}, "closure-b": {DiffID: "sha256:bb"}, "closure-c": {},
		}}
		Expect(r.inImage(map[string]string{
			"closure-a": "sha256:aa", "closure-b": "sha256:00", "closure-c": "", "closure-d": "sha256:dd",
		})).To(Equal([]string{"closure-a"}))
	})
}
