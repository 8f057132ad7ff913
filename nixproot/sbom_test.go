package nixproot_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

func testSBOM(t *testing.T, context spec.G, it spec.S) {
	const (
		app  = storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-my-app-1.2-rc1")
		libc = storepath.Path("/nix/store/7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc")
	)

	it.Before(func() { RegisterTestingT(t) })

	it("lists every store path with name, version, hash and references, and the same bytes each time", func() {
		graph := &closure.Graph{Roots: []storepath.Path{app}, Nodes: map[storepath.Path]*closure.Node{
			app:  {Path: app, NarHash: storepath.Hash{1}, NarSize: 1, References: []storepath.Path{app, libc}},
			libc: {Path: libc, NarHash: storepath.Hash{2}, NarSize: 1},
		}}
		write := func() []byte {
			file := filepath.Join(t.TempDir(), "launch.sbom.cdx.json")
			Expect(nixproot.WriteSBOM(file, graph)).To(Succeed())
			text, err := os.ReadFile(file)
			Expect(err).NotTo(HaveOccurred())
			return text
		}
		first := write()
		Expect(write()).To(Equal(first))
		var bom struct {
			BOMFormat    string
			Components   []struct{ Name, Version, PURL string }
			Dependencies []struct {
				Ref       string
				DependsOn []string
			}
		}
		Expect(json.Unmarshal(first, &bom)).To(Succeed())
		Expect(bom.BOMFormat).To(Equal("CycloneDX"))
		Expect(bom.Components[0].Name).To(Equal("my-app"))
		Expect(bom.Components[0].Version).To(Equal("1.2-rc1"))
		Expect(bom.Components[0].PURL).To(Equal("pkg:nix/my-app@1.2-rc1"))
		Expect(bom.Components[1].PURL).To(Equal("pkg:nix/glibc"))
		Expect(bom.Dependencies[0].DependsOn).To(Equal([]string{libc.String()}))
	})
}
