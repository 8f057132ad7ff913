package lifecycle_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
)

func TestLifecycle(t *testing.T) {
	spec.Run(t, "lifecycle", testLifecycle)
	spec.Run(t, "diffid", testDiffID)
}

func testLifecycle(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	// As lifecycle 0.21 writes it, shortened.
	labels := map[string]string{lifecycle.MetadataLabel: `{"app":[{"sha":"sha256:a"}],"sbom":{"sha":"sha256:s"},"config":{"sha":"sha256:c"},
		"launcher":{"sha":"sha256:l"},"process-types":{"sha":"sha256:p"},"buildpacks":[{"key":"x/y","version":"1","layers":{
		"one":{"sha":"sha256:1","data":{"k":[1]},"build":false,"launch":true,"cache":false}}}],
		"runImage":{"topLayer":"sha256:t","reference":"run@sha256:r"}}`}

	it("reads what the lifecycle notes of an image's layers", func() {
		m, err := lifecycle.ReadMetadata(labels)
		Expect(err).NotTo(HaveOccurred())
		Expect(m.Names()).To(Equal(map[string]string{
			"sha256:a": "the app's", "sha256:s": "the bill of materials", "sha256:c": "the launcher's configuration",
			"sha256:l": "the lifecycle's launcher", "sha256:p": "the process types", "sha256:1": "x/y:one",
		}))
		Expect(string(m.Buildpacks[0].Layers["one"].Data)).To(Equal(`{"k":[1]}`))
		Expect(m.RunImage.Reference).To(Equal("run@sha256:r"))
	})

	it("tells the run image's layers from those above", func() {
		m, err := lifecycle.ReadMetadata(labels)
		Expect(err).NotTo(HaveOccurred())
		for _, c := range []struct {
			digests string
			n       int
			ok      bool
		}{{"0 t 1 a", 2, true}, {"t", 1, true}, {"0 0 1 a", 2, false}, {"1 a", 0, false}, {"0", 0, false}, {"", 0, false}} {
			var digests []string
			for _, digest := range strings.Fields(c.digests) {
				digests = append(digests, "sha256:"+digest)
			}
			n, ok := m.RunImageLayers(digests)
			Expect(n).To(Equal(c.n), c.digests)
			Expect(ok).To(Equal(c.ok), c.digests)
		}
		n, ok := lifecycle.Metadata{}.RunImageLayers([]string{"sha256:0"})
		Expect(n).To(BeZero())
		Expect(ok).To(BeTrue())
	})

	it("refuses labels that are missing, malformed, or larger than any that a build writes", func() {
		for _, text := range []string{"", "{", `{"app":7}`, strings.Repeat(" ", 5<<20), "[" + strings.Repeat("0,", 1<<20) + "0]"} {
			_, err := lifecycle.ReadMetadata(map[string]string{lifecycle.MetadataLabel: text})
			Expect(err).To(HaveOccurred(), "%.20q", text)
			_, err = lifecycle.ReadBuild(map[string]string{lifecycle.BuildLabel: text})
			Expect(err != nil).To(Equal(text != `{"app":7}`), "%.20q", text)
		}
	})

	it("finds the layers directory in the image's environment", func() {
		for want, env := range map[string][]string{
			"/layers": nil, "/l": {"PATH=/bin", "CNB_LAYERS_DIR=/l/"}, "/x/y": {"CNB_LAYERS_DIR=x/./y"},
		} {
			Expect(lifecycle.LayersDir(env)).To(Equal(want))
		}
		Expect(lifecycle.LayersDir([]string{"CNB_LAYERS_DIR=/"})).To(Equal("/layers"))
	})

	it("reads process types of every platform, and nothing that is spelled as the lifecycle does not", func() {
		read := func(text string) (lifecycle.Launch, error) {
			dir := t.TempDir()
			if text != "" {
				Expect(os.Mkdir(filepath.Join(dir, "config"), 0o755)).To(Succeed())
				Expect(os.WriteFile(filepath.Join(dir, lifecycle.ProcessTypes), []byte(text), 0o644)).To(Succeed())
			}
			tree, done, err := filetree.ReadDirectory(t.Context(), dir)
			Expect(err).NotTo(HaveOccurred())
			defer done()
			return lifecycle.ReadLaunch(tree)
		}
		l, err := read("[[processes]]\ntype = \"web\"\ncommand = [\"a\", \"b\"]\nargs = [\"c\"]\ndirect = true\nbuildpack-id = \"x/y\"\n" +
			"[[processes]]\ntype = \"old\"\ncommand = \"a\"\nargs = [\"b\"]\nworking-dir = \"/w\"\n[[buildpacks]]\nid = \"x/y\"\n")
		Expect(err).NotTo(HaveOccurred())
		Expect(l.Processes[0].Argv()).To(Equal([]string{"a", "b", "c"}))
		Expect(l.Processes[1].Argv()).To(Equal([]string{"a", "b"}))
		Expect(l.Processes[1].WorkingDir).To(Equal("/w"))
		Expect(l.Buildpacks[0].ID).To(Equal("x/y"))
		for _, text := range []string{"", "[", "[[Processes]]\ntype = \"web\"\n", "[[processes]]\nType = \"web\"\n"} {
			_, err := read(text)
			Expect(err).To(HaveOccurred(), text)
		}
	})
}
