// Package syft_test reads bills of materials with Syft's own code, as Grype does. It is a module of its own, as Syft brings the
// libraries along by which it reads images.
package syft_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchore/syft/syft/artifact"
	"github.com/anchore/syft/syft/format/syftjson"
	"github.com/anchore/syft/syft/format/syftjson/model"
	"github.com/anchore/syft/syft/pkg"
	"github.com/anchore/syft/syft/source"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

const (
	openssl = "/nix/store/7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-openssl-3.0.6-bin"
	app     = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-my-app-1.2"
	view    = "/layers/nixproot_nix-hydra/view/"
)

// bill has a component of each kind that this buildpack writes.
func bill() sbom.Bill {
	return sbom.Bill{
		Root:         sbom.Component{Ref: "image", Name: "my-app", Version: "1.2", DependsOn: []string{app, "launcher"}},
		Architecture: "arm64", Tool: "nixproot/nix-hydra", ToolVersion: "0.1.0", Created: sbom.Created(""),
		Components: []sbom.Component{
			{
				Ref: app, Name: "my-app", Version: "1.2", Licenses: []string{"MIT", "LicenseRef-acme"}, Path: view + "la-my-app-1.2",
				PURL: sbom.NixPURL("my-app", "1.2", "", "00bgd045z0d4icpbc2yyz4gx48ak44la"), DependsOn: []string{openssl},
			},
			{
				Ref: openssl, Name: "openssl", Version: "3.0.6", Output: "bin", Path: view + "wc-openssl-3.0.6-bin",
				PURL: sbom.NixPURL("openssl", "3.0.6", "bin", "7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc"), CPEs: sbom.CPEs("openssl", "3.0.6"),
			},
			{Ref: "launcher", Name: "nix-hydra-launch", Version: "0.1.0", Path: "/layers/x/launcher/bin/nix-hydra-launch", Application: true},
		},
	}
}

func written(t *testing.T, b sbom.Bill) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := b.Syft(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSyftReadsTheBill(t *testing.T) {
	g := NewWithT(t)
	read, format, _, err := syftjson.NewFormatDecoder().Decode(bytes.NewReader(written(t, bill())))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(format).To(Equal(syftjson.ID))

	image, ok := read.Source.Metadata.(source.ImageMetadata)
	g.Expect(ok).To(BeTrue(), "%T", read.Source.Metadata)
	g.Expect(image.Architecture).To(Equal("arm64"))
	g.Expect(image.OS).To(Equal("linux"))

	byName := map[string]pkg.Package{}
	for p := range read.Artifacts.Packages.Enumerate() {
		byName[p.Name] = p
	}
	g.Expect(byName).To(HaveLen(3))
	g.Expect(byName["nix-hydra-launch"].Type).To(Equal(pkg.BinaryPkg))
	for name, path := range map[string]string{"openssl": openssl, "my-app": app} {
		p := byName[name]
		g.Expect(p.Type).To(Equal(pkg.NixPkg))
		entry, ok := p.Metadata.(pkg.NixStoreEntry)
		g.Expect(ok).To(BeTrue(), "%T", p.Metadata)
		g.Expect(entry.Path).To(Equal(path))
		g.Expect(p.Locations.ToSlice()).To(HaveLen(1))
		g.Expect(p.Locations.ToSlice()[0].RealPath).To(HavePrefix(view))
	}
	g.Expect(byName["openssl"].Version).To(Equal("3.0.6"))
	g.Expect(byName["openssl"].Metadata.(pkg.NixStoreEntry).Output).To(Equal("bin"))
	g.Expect(byName["openssl"].CPEs).To(HaveLen(1))
	cpe := byName["openssl"].CPEs[0].Attributes
	g.Expect([]string{cpe.Vendor, cpe.Product, cpe.Version}).To(Equal([]string{"openssl", "openssl", "3.0.6"}))
	var licenses []string
	for _, license := range byName["my-app"].Licenses.ToSlice() {
		licenses = append(licenses, license.Value+" "+license.SPDXExpression)
	}
	g.Expect(licenses).To(ConsistOf("MIT MIT", "LicenseRef-acme "))
	var needs []string
	for _, r := range read.Relationships {
		if r.Type == artifact.DependencyOfRelationship {
			needs = append(needs, r.To.(pkg.Package).Name+" "+r.From.(pkg.Package).Name)
		}
	}
	g.Expect(needs).To(Equal([]string{"my-app openssl"}))
}

// TestSyftKnowsEveryField has the document read into Syft's own types and written again, which drops what they do not have.
func TestSyftKnowsEveryField(t *testing.T) {
	g := NewWithT(t)
	for _, architecture := range []string{"amd64", ""} {
		b := bill()
		b.Architecture = architecture
		text := written(t, b)
		var document model.Document
		g.Expect(json.Unmarshal(text, &document)).To(Succeed())
		again, err := json.Marshal(&document)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(lost("", decoded(g, text), decoded(g, again))).To(BeEmpty())
	}
	g.Expect(lost("", decoded(g, []byte(`{"a":[{"b":1}],"c":{}}`)), decoded(g, []byte(`{"a":[{}]}`)))).To(ConsistOf("/a/0/b", "/c"))
}

func decoded(g *WithT, text []byte) (value any) {
	g.Expect(json.Unmarshal(text, &value)).To(Succeed())
	return value
}

// lost names what a document has and another has not, or has otherwise. Nothing and an empty list are the same, and Syft makes the
// type of a package's metadata of its name, which it does not keep.
func lost(at string, from, to any) (names []string) {
	switch from := from.(type) {
	case map[string]any:
		object, ok := to.(map[string]any)
		if !ok {
			return []string{at}
		}
		for name, value := range from {
			if name != "metadataType" {
				names = append(names, lost(at+"/"+name, value, object[name])...)
			}
		}
	case []any:
		list, _ := to.([]any)
		if len(list) != len(from) {
			return []string{at}
		}
		for i, value := range from {
			names = append(names, lost(fmt.Sprint(at, "/", i), value, list[i])...)
		}
	default:
		if from != to {
			return []string{at}
		}
	}
	return names
}

// TestTheBillHasWhatItsSchemaRequires looks each required key up in the schema that the document names, which Syft publishes with
// its code: its own reader passes over what is missing.
func TestTheBillHasWhatItsSchemaRequires(t *testing.T) {
	g := NewWithT(t)
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/anchore/syft").Output()
	g.Expect(err).NotTo(HaveOccurred())
	var document map[string]any
	g.Expect(json.Unmarshal(written(t, bill()), &document)).To(Succeed())
	address := document["schema"].(map[string]any)["url"].(string)
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "schema/json", filepath.Base(address)))
	g.Expect(err).NotTo(HaveOccurred())
	var schema struct {
		Ref  string           `json:"$ref"`
		Defs map[string]shape `json:"$defs"`
	}
	g.Expect(json.Unmarshal(text, &schema)).To(Succeed())
	g.Expect(schema.Defs).To(HaveKey("License"))
	g.Expect(lacks(schema.Defs, shape{Ref: schema.Ref}, document, "document")).To(BeEmpty())
}

// shape is what is looked at of a JSON schema.
type shape struct {
	Ref        string `json:"$ref"`
	Required   []string
	Properties map[string]json.RawMessage
	Items      *shape
}

// lacks are the places of a document that have not what a schema requires.
func lacks(defs map[string]shape, s shape, value any, where string) (all []string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		s = defs[name]
	}
	switch value := value.(type) {
	case map[string]any:
		for _, key := range s.Required {
			if _, ok := value[key]; !ok {
				all = append(all, where+" lacks "+key)
			}
		}
		for key, raw := range s.Properties {
			var property shape
			if inner, ok := value[key]; ok && json.Unmarshal(raw, &property) == nil {
				all = append(all, lacks(defs, property, inner, where+"."+key)...)
			}
		}
	case []any:
		for i, inner := range value {
			if s.Items != nil {
				all = append(all, lacks(defs, *s.Items, inner, fmt.Sprintf("%s[%d]", where, i))...)
			}
		}
	}
	return all
}
