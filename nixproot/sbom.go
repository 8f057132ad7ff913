package nixproot

import (
	"encoding/hex"
	"fmt"
	"os"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/nixproot/nix-hydra-buildpack/closure"
)

// WriteSBOM writes the closure as a CycloneDX 1.5 bill of materials: a component per store path with its NarHash, and
// the references among them. The same closure gives the same bytes: no time, no serial number.
func WriteSBOM(path string, graph *closure.Graph) error {
	components := []cdx.Component{}
	dependencies := []cdx.Dependency{}
	for _, node := range graph.Sorted() {
		name, version := parseDrvName(node.Path.Name())
		components = append(components, cdx.Component{
			BOMRef:     node.Path.String(),
			Type:       cdx.ComponentTypeLibrary,
			Name:       name,
			Version:    version,
			PackageURL: packageURL(name, version),
			Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(node.NarHash[:])}},
			Properties: &[]cdx.Property{{Name: "nix:output_path", Value: node.Path.String()}},
		})
		on := []string{}
		for _, reference := range node.References {
			if reference != node.Path {
				on = append(on, reference.String())
			}
		}
		dependencies = append(dependencies, cdx.Dependency{Ref: node.Path.String(), Dependencies: &on})
	}
	bom := cdx.NewBOM()
	bom.Components = &components
	bom.Dependencies = &dependencies
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing bill of materials: %w", err)
	}
	err = cdx.NewBOMEncoder(file, cdx.BOMFileFormatJSON).EncodeVersion(bom, cdx.SpecVersion1_5)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("writing bill of materials: %w", err)
	}
	return nil
}

// parseDrvName splits a name as Nix's builtins.parseDrvName does: the version starts after the first dash that no
// letter follows.
func parseDrvName(name string) (string, string) {
	for i := 0; i+1 < len(name); i++ {
		c := name[i+1]
		if name[i] == '-' && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') {
			return name[:i], name[i+1:]
		}
	}
	return name, ""
}

// packageURL is the package URL that SBOM tools for Nix use, pkg:nix/name@version.
func packageURL(name, version string) string {
	if version == "" {
		return "pkg:nix/" + name
	}
	return "pkg:nix/" + name + "@" + version
}
