package nixproot

import (
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

const (
	shop  = storepath.Path("/nix/store/5g19asn3i6rfm0bz9azwvpf7lzmzaxqz-shop-1.0")
	shopB = storepath.Path("/nix/store/8vzs9yafswi0xccfn7xw16fbgv10prbh-shop-1.0.drv")
)

func TestRecall(t *testing.T) {
	spec.Run(t, "recall", testRecall)
}

func testRecall(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("takes from what it reads all that was remembered", func() {
		m := imageMetadata{
			Format: imageFormat, System: "x86_64-linux", Key: "k", Bins: []*bin{nil, {Programs: []string{"shop"}, Hook: true}},
			Roots: roots.Set{Paths: []storepath.Path{shop, shopB}, MainProgram: "shop", Hook: shopB},
		}
		text, err := m.encode()
		Expect(err).NotTo(HaveOccurred())
		again, why := readImage(text, "x86_64-linux")
		Expect(why).To(BeEmpty())
		Expect(again).To(Equal(m))
	})

	it("says why it takes nothing from what no build has remembered", func() {
		for text, says := range map[string]string{
			"":                                     "has metadata that cannot be read",
			"{":                                    "has metadata that cannot be read",
			`{"format":99}`:                        "is from another version of this buildpack (format 99",
			`{"format":2}`:                         "it names no store paths",
			`{"format":2,"roots":"x"}`:             "has metadata that cannot be read",
			`{"format":2,"bins":[-1]}`:             "has metadata that cannot be read",
			`{"format":2,"roots":{"paths":["x"]}}`: "parsing store path",
			`{"format":2,"roots":{"paths":["` + string(shop) + `","` + string(shop) + `"]}}`: "twice",
			`{"format":2,"roots":{"paths":["` + string(shop) + `"],"hook":"x"}}`:             "parsing store path",
			`{"format":2,"roots":{"paths":["` + string(shop) + `"],"mainProgram":"a;\"b"}}`:  "is no name of a program",
			`{"format":2,"system":"riscv64-linux","roots":{"paths":["` + string(shop) + `"]}}`: "is for riscv64-linux, this one " +
				"for x86_64-linux",
		} {
			_, why := readImage(text, "x86_64-linux")
			Expect(why).To(ContainSubstring(says), text)
		}
	})
}
