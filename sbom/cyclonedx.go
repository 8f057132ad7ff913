package sbom

import (
	"io"
	"maps"
	"slices"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// CycloneDX writes the bill as CycloneDX 1.5 in JSON.
func (b Bill) CycloneDX(w io.Writer) error {
	root := b.root()
	top := root.cycloneDX()
	top.Type = cdx.ComponentTypeApplication
	bom := cdx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + b.uuid()
	bom.Metadata = &cdx.Metadata{
		Timestamp: b.Created.Format(time.RFC3339), Component: &top,
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{
			Type: cdx.ComponentTypeApplication, Name: b.Tool, Version: b.ToolVersion,
		}}},
	}
	components, dependencies := []cdx.Component{}, []cdx.Dependency{{Ref: root.Ref, Dependencies: &root.DependsOn}}
	for _, c := range b.sorted() {
		components = append(components, c.cycloneDX())
		dependencies = append(dependencies, cdx.Dependency{Ref: c.Ref, Dependencies: &c.DependsOn})
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).EncodeVersion(bom, cdx.SpecVersion1_5)
}

func (c Component) cycloneDX() cdx.Component {
	out := cdx.Component{
		BOMRef: c.Ref, Type: cdx.ComponentTypeLibrary, Name: c.Name, Version: c.Version, PackageURL: c.PURL,
	}
	if c.Application {
		out.Type = cdx.ComponentTypeApplication
	}
	if c.SHA256 != "" {
		out.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: c.SHA256}}
	}
	if len(c.Licenses) > 0 {
		licenses := cdx.Licenses{}
		for _, id := range c.Licenses {
			license := cdx.License{ID: id}
			if !isListed(id) {
				license = cdx.License{Name: id}
			}
			licenses = append(licenses, cdx.LicenseChoice{License: &license})
		}
		out.Licenses = &licenses
	}
	var properties []cdx.Property
	for i, cpe := range c.CPEs {
		if i == 0 {
			out.CPE = cpe
		} else {
			properties = append(properties, cdx.Property{Name: "syft:cpe23", Value: cpe})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Properties)) {
		properties = append(properties, cdx.Property{Name: name, Value: c.Properties[name]})
	}
	if len(properties) > 0 {
		out.Properties = &properties
	}
	return out
}
