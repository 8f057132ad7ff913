package builds_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// TestTheBillOfMaterialsIsOfTheClosureAlone builds one closure as its key signed it, and with no key, which makes other layers.
func TestTheBillOfMaterialsIsOfTheClosureAlone(t *testing.T) {
	RegisterTestingT(t)
	s := newShelf(t)
	p := newPlatform(t, s, "")
	app := s.app(1, 3, 4000)
	bills := func() map[string]string {
		all := map[string]string{}
		for _, format := range []string{"cdx", "spdx", "syft"} {
			text, err := os.ReadFile(filepath.Join(p.Layers(), "launch.sbom."+format+".json"))
			Expect(err).NotTo(HaveOccurred())
			all[format] = string(text)
		}
		return all
	}

	image := p.build(app)
	signed := bills()
	Expect(p.NewImage()).To(Succeed())
	Expect(p.build(app, "BP_NIX_REQUIRE_SIGS", "false", "BP_NIX_TRUSTED_PUBLIC_KEYS", "") == image).To(BeFalse(), "the layers differ")
	for format, text := range bills() {
		Expect(text).To(Equal(signed[format]), format)
	}

	var document struct {
		Artifacts []struct {
			Locations []struct{ Path string }
			Metadata  struct{ Path string }
		}
		Source struct{ Metadata struct{ Architecture string } }
	}
	Expect(json.Unmarshal([]byte(signed["syft"]), &document)).To(Succeed())
	Expect(document.Source.Metadata.Architecture).NotTo(BeEmpty())
	for _, a := range document.Artifacts {
		Expect(a.Locations).To(HaveLen(1))
		place, err := filepath.EvalSymlinks(a.Locations[0].Path)
		Expect(err).NotTo(HaveOccurred())
		if a.Metadata.Path != "" {
			_, name, _ := strings.Cut(filepath.Base(a.Metadata.Path), "-")
			Expect(place).To(HaveSuffix("-" + name))
		}
	}
}
