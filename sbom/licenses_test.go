package sbom_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	. "github.com/onsi/gomega"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/xeipuuv/gojsonschema"

	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

// TestLicensesAreAsEachFormatWantsThem has every licence of SPDX's list, which CycloneDX's own schema takes by its identifier,
// and some that only an expression knows.
func TestLicensesAreAsEachFormatWantsThem(t *testing.T) {
	g := NewWithT(t)
	text, err := os.ReadFile("licenses.txt")
	g.Expect(err).NotTo(HaveOccurred())
	listed := strings.Fields(string(text))
	g.Expect(listed).To(ContainElements("0BSD", "GPL-2.0+", "zlib-acknowledgement"))
	unlisted := []string{"Acme-1.0+", "LicenseRef-acme", "mit"}
	bill := sbom.Bill{
		Root: sbom.Component{Ref: "app", Name: "app", DependsOn: []string{"one", "two"}}, Created: sbom.Created(""), Tool: "tool", ToolVersion: "1",
		Components: []sbom.Component{{Ref: "one", Name: "one", Version: "1", Licenses: listed}, {Ref: "two", Name: "two", Licenses: unlisted}},
	}

	var out bytes.Buffer
	g.Expect(bill.CycloneDX(&out)).To(Succeed())
	g.Expect(schemaErrors(g, out.Bytes())).To(BeEmpty())
	g.Expect(schemaErrors(g, bytes.Replace(out.Bytes(), []byte(`"id":"0BSD"`), []byte(`"id":"Acme"`), 1))).NotTo(BeEmpty())
	var bom cdx.BOM
	g.Expect(cdx.NewBOMDecoder(&out, cdx.BOMFileFormatJSON).Decode(&bom)).To(Succeed())
	var ids, names []string
	for _, c := range *bom.Components {
		for _, license := range *c.Licenses {
			ids, names = append(ids, license.License.ID), append(names, license.License.Name)
		}
	}
	g.Expect(ids).To(Equal(append(listed[:len(listed):len(listed)], "", "", "")))
	g.Expect(names[len(listed):]).To(Equal(unlisted))

	out.Reset()
	g.Expect(bill.SPDX(&out)).To(Succeed())
	document, err := spdxjson.Read(&out)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(document.Packages[1].PackageLicenseDeclared).To(Equal(strings.Join(listed, " AND ")))
	g.Expect(document.Packages[2].PackageLicenseDeclared).To(Equal("LicenseRef-Acme-1.0-or-later AND LicenseRef-acme AND LicenseRef-mit"))
	var defined []string
	for _, other := range document.OtherLicenses {
		g.Expect(other.ExtractedText).NotTo(BeEmpty())
		defined = append(defined, other.LicenseIdentifier+" "+other.LicenseName)
	}
	g.Expect(defined).To(Equal([]string{"LicenseRef-Acme-1.0-or-later Acme-1.0+", "LicenseRef-acme LicenseRef-acme", "LicenseRef-mit mit"}))

	out.Reset()
	g.Expect(bill.Syft(&out)).To(Succeed())
	var syft struct {
		Artifacts []struct {
			Licenses []struct{ Value, SPDXExpression string }
		}
	}
	g.Expect(json.Unmarshal(out.Bytes(), &syft)).To(Succeed())
	for i, license := range syft.Artifacts[0].Licenses {
		g.Expect(license.Value).To(Equal(listed[i]))
		g.Expect(license.SPDXExpression).To(Equal(listed[i]))
	}
	for i, license := range syft.Artifacts[1].Licenses {
		g.Expect(license.Value).To(Equal(unlisted[i]))
		g.Expect(license.SPDXExpression).To(BeEmpty())
	}
}

// schemaErrors are what CycloneDX's own schema has against a document.
func schemaErrors(g *WithT, document []byte) []gojsonschema.ResultError {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	g.Expect(err).NotTo(HaveOccurred())
	file := func(name string) gojsonschema.JSONLoader {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "schema", name))
		g.Expect(err).NotTo(HaveOccurred())
		return gojsonschema.NewBytesLoader(text)
	}
	loader := gojsonschema.NewSchemaLoader()
	const base = "http://cyclonedx.org/schema/"
	g.Expect(loader.AddSchema(base+"spdx.schema.json", file("spdx.schema.json"))).To(Succeed())
	g.Expect(loader.AddSchema(base+"jsf-0.82.schema.json", file("jsf-0.82.schemax.json"))).To(Succeed())
	schema, err := loader.Compile(file("bom-1.5.schema.json"))
	g.Expect(err).NotTo(HaveOccurred())
	result, err := schema.Validate(gojsonschema.NewBytesLoader(document))
	g.Expect(err).NotTo(HaveOccurred())
	return result.Errors()
}
