package nixproot

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
)

func TestImage(t *testing.T) {
	suite := spec.New("image")
	suite("Unpack", testUnpackImage)
	suite.Run(t)
}

// archived makes an image of one layer, with the files given and what they hold.
func archived(env []string, files map[string]string) v1.Image {
	var text bytes.Buffer
	archive := tar.NewWriter(&text)
	for name, content := range files {
		Expect(archive.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o444, Size: int64(len(content))})).
			To(Succeed())
		_, err := io.WriteString(archive, content)
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(archive.Close()).To(Succeed())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text.Bytes())), nil
	})
	Expect(err).NotTo(HaveOccurred())
	image, err := mutate.AppendLayers(empty.Image, layer)
	Expect(err).NotTo(HaveOccurred())
	image, err = mutate.Config(image, v1.Config{Env: env})
	Expect(err).NotTo(HaveOccurred())
	return image
}

func testUnpackImage(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	unpack := func(image v1.Image) (string, string, error) {
		dir := t.TempDir()
		got, err := unpackClosure(context.Background(), image, dir)
		return dir, got, err
	}

	it("finds the layers where the image says that they are", func() {
		for env, place := range map[string]string{
			"": "layers", layersDirEnv + "=/layers": "layers", layersDirEnv + "=/cnb/all//layers/": "cnb/all/layers",
		} {
			ours := filepath.Join(place, "nixproot_nix-hydra")
			image := archived([]string{"PATH=/bin", env}, map[string]string{
				filepath.Join(ours, "closure-01/x"): "in a closure", filepath.Join(ours, "launch/bin/x"): "another layer",
				"elsewhere/nixproot_nix-hydra/closure-01/x": "not a layer", "etc/closure-01": "not a layer either",
			})
			dir, got, err := unpack(image)
			Expect(err).NotTo(HaveOccurred(), env)
			Expect(got).To(Equal(filepath.Join(dir, ours)))
			Expect(os.ReadFile(filepath.Join(got, "closure-01/x"))).To(BeEquivalentTo("in a closure"))
			Expect(os.ReadDir(got)).To(HaveLen(1))
			Expect(filepath.Join(dir, "elsewhere")).NotTo(BeADirectory())
			Expect(filepath.Join(dir, "etc")).NotTo(BeADirectory())
		}
	})

	it("writes nothing outside of its folder", func() {
		for _, name := range []string{"../layers/b/closure-01/x", "layers/b/closure-01/../../../../x"} {
			dir, _, err := unpack(archived(nil, map[string]string{name: "x"}))
			if err == nil { // the name was read as one below the folder
				Expect(filepath.Join(dir, "layers/b/closure-01/x")).To(BeARegularFile())
			}
			Expect(filepath.Join(filepath.Dir(dir), "x")).NotTo(BeAnExistingFile())
			Expect(filepath.Join(filepath.Dir(dir), "layers")).NotTo(BeADirectory())
		}
	})

	it("opens what docker save writes, and an OCI layout", func() {
		image := archived(nil, map[string]string{"layers/b/closure-01/x": "y"})
		saved := filepath.Join(t.TempDir(), "saved.tar")
		Expect(tarball.WriteToFile(saved, nil, image)).To(Succeed())
		laid, err := layout.Write(filepath.Join(t.TempDir(), "oci"), empty.Index)
		Expect(err).NotTo(HaveOccurred())
		Expect(laid.AppendImage(image)).To(Succeed())
		for _, name := range []string{saved, string(laid)} {
			opened, err := openImage(name)
			Expect(err).NotTo(HaveOccurred(), name)
			_, got, err := unpack(opened)
			Expect(err).NotTo(HaveOccurred(), name)
			Expect(os.ReadFile(filepath.Join(got, "closure-01/x"))).To(BeEquivalentTo("y"))
		}
	})
}
