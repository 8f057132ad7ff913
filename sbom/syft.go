package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
)

// syftSchema is the version of Syft's JSON that is written (anchore/syft, schema/json).
const syftSchema = "16.0.32"

// The parts of Syft's JSON that are written (anchore/syft, syft/format/syftjson/model).
type (
	syftDocument struct {
		Artifacts     []syftPackage      `json:"artifacts"`
		Relationships []syftRelationship `json:"artifactRelationships"`
		Source        syftSource         `json:"source"`
		Distro        struct{}           `json:"distro"`
		Descriptor    syftDescriptor     `json:"descriptor"`
		Schema        syftSchemaRef      `json:"schema"`
	}
	syftPackage struct {
		ID           string         `json:"id"`
		Name         string         `json:"name"`
		Version      string         `json:"version"`
		Type         string         `json:"type"`
		FoundBy      string         `json:"foundBy"`
		Locations    []syftLocation `json:"locations"`
		Licenses     []syftLicense  `json:"licenses"`
		Language     string         `json:"language"`
		CPEs         []syftCPE      `json:"cpes"`
		PURL         string         `json:"purl"`
		MetadataType string         `json:"metadataType,omitempty"`
		Metadata     any            `json:"metadata,omitempty"`
	}
	syftLocation struct {
		Path       string `json:"path"`
		AccessPath string `json:"accessPath"`
	}
	syftLicense struct {
		Value          string         `json:"value"`
		SPDXExpression string         `json:"spdxExpression"`
		Type           string         `json:"type"`
		URLs           []string       `json:"urls"`
		Locations      []syftLocation `json:"locations"`
	}
	syftCPE struct {
		CPE    string `json:"cpe"`
		Source string `json:"source"`
	}
	syftStoreEntry struct {
		Path       string   `json:"path"`
		OutputHash string   `json:"outputHash"`
		Output     string   `json:"output,omitempty"`
		Files      []string `json:"files"`
	}
	syftRelationship struct {
		Parent string `json:"parent"`
		Child  string `json:"child"`
		Type   string `json:"type"`
	}
	syftSource struct {
		ID       string `json:"id"`
		Name     string `json:"name"`
		Version  string `json:"version"`
		Type     string `json:"type"`
		Metadata any    `json:"metadata"`
	}
	syftDirectory struct {
		Path string `json:"path"`
	}
	// syftImage leaves out what nobody knows of an image before it is made: digests, sizes and layers.
	syftImage struct {
		UserInput    string `json:"userInput"`
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	syftDescriptor struct {
		Name          string            `json:"name"`
		Version       string            `json:"version"`
		Configuration map[string]string `json:"configuration"`
	}
	syftSchemaRef struct {
		Version string `json:"version"`
		URL     string `json:"url"`
	}
)

// Syft writes the bill as Syft's JSON.
func (b Bill) Syft(w io.Writer) error {
	document := syftDocument{
		Artifacts: []syftPackage{}, Relationships: []syftRelationship{},
		Source:     b.syftSource(),
		Descriptor: syftDescriptor{b.Tool, b.ToolVersion, map[string]string{"created": b.Created.Format("2006-01-02T15:04:05Z")}},
		Schema: syftSchemaRef{
			syftSchema, "https://raw.githubusercontent.com/anchore/syft/main/schema/json/schema-" + syftSchema + ".json",
		},
	}
	relate := func(from, to, how string) {
		document.Relationships = append(document.Relationships, syftRelationship{syftID(from), syftID(to), how})
	}
	root := b.root()
	for _, ref := range root.DependsOn {
		relate(root.Ref, ref, "contains")
	}
	for _, c := range b.sorted() {
		document.Artifacts = append(document.Artifacts, c.syft())
		for _, ref := range c.DependsOn {
			relate(ref, c.Ref, "dependency-of")
		}
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(document)
}

// syftSource is what the bill is of.
func (b Bill) syftSource() syftSource {
	source := syftSource{
		ID: syftID(b.Root.Ref), Name: b.Root.Name, Version: b.Root.Version, Type: "directory", Metadata: syftDirectory{"/"},
	}
	if b.Architecture != "" {
		source.Type, source.Metadata = "image", syftImage{UserInput: b.Root.Name, Architecture: b.Architecture, OS: "linux"}
	}
	return source
}

func syftID(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return hex.EncodeToString(sum[:8])
}

func (c Component) syft() syftPackage {
	p := syftPackage{
		ID: syftID(c.Ref), Name: c.Name, Version: c.Version, Type: "binary", FoundBy: "nix-hydra-buildpack", PURL: c.PURL,
		Locations: []syftLocation{}, Licenses: []syftLicense{}, CPEs: []syftCPE{},
	}
	if c.Path != "" {
		p.Locations = append(p.Locations, syftLocation{c.Path, c.Path})
	}
	for _, id := range c.Licenses {
		expression := "" // of identifiers that SPDX's list has
		if isListed(id) {
			expression = id
		}
		p.Licenses = append(p.Licenses, syftLicense{id, expression, "declared", []string{}, []syftLocation{}})
	}
	for _, cpe := range c.CPEs {
		p.CPEs = append(p.CPEs, syftCPE{cpe, "nix-hydra-buildpack"})
	}
	if base, ok := strings.CutPrefix(c.Ref, "/nix/store/"); ok {
		hash, _, _ := strings.Cut(base, "-")
		p.Type, p.MetadataType = "nix", "nix-store-entry"
		p.Metadata = syftStoreEntry{Path: c.Ref, OutputHash: hash, Output: c.Output, Files: []string{}}
	}
	return p
}
