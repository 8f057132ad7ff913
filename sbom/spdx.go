package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// noAssertion is SPDX's word for what is not known.
const noAssertion = "NOASSERTION"

// namespace begins the names of documents, which have to be URIs and lead nowhere.
const namespace = "https://github.com/nixproot/nix-hydra-buildpack/spdx/"

// SPDX writes the bill as SPDX 2.3 in JSON.
func (b Bill) SPDX(w io.Writer) error {
	root := b.root()
	document := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: root.Name,
		DocumentNamespace: namespace + b.uuid(),
		CreationInfo: &spdx.CreationInfo{
			Created:  b.Created.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: b.Tool + "-" + b.ToolVersion}},
		},
	}
	relate := func(from, to common.ElementID, how string) {
		document.Relationships = append(document.Relationships, &spdx.Relationship{
			RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: to}, Relationship: how,
		})
	}
	others := map[string]string{} // licences that SPDX's list does not have, by what they are called here
	relate("DOCUMENT", elementID(root.Ref), common.TypeRelationshipDescribe)
	for _, c := range append([]Component{root}, b.sorted()...) {
		p := c.spdx()
		if c.Ref == root.Ref {
			p.PrimaryPackagePurpose = "CONTAINER"
		}
		document.Packages = append(document.Packages, p)
		for _, ref := range c.DependsOn {
			relate(elementID(c.Ref), elementID(ref), common.TypeRelationshipDependsOn)
		}
		for _, id := range c.Licenses {
			if !isListed(id) {
				others[spdxLicense(id)] = id
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		document.OtherLicenses = append(document.OtherLicenses, &spdx.OtherLicense{
			LicenseIdentifier: name, LicenseName: others[name],
			ExtractedText: "The Nix expression names this licence by " + others[name] + ", which SPDX's list does not have.",
		})
	}
	return json.Write(document, w)
}

// elementID is an identifier of SPDX for a component: letters, digits, dots and dashes, which Refs are not.
func elementID(ref string) common.ElementID {
	sum := sha256.Sum256([]byte(ref))
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' {
			return c
		}
		return '-'
	}, ref[strings.LastIndexByte(ref, '/')+1:])
	return common.ElementID("Package-" + name + "-" + hex.EncodeToString(sum[:4]))
}

func (c Component) spdx() *spdx.Package {
	license := noAssertion
	if len(c.Licenses) > 0 {
		var ids []string
		for _, id := range c.Licenses {
			ids = append(ids, spdxLicense(id))
		}
		license = strings.Join(ids, " AND ")
	}
	p := &spdx.Package{
		PackageName: c.Name, PackageSPDXIdentifier: elementID(c.Ref), PackageVersion: c.Version,
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: license,
		PackageCopyrightText: noAssertion,
	}
	if c.SHA256 != "" {
		p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: c.SHA256}}
	}
	reference := func(category, kind, locator string) {
		p.PackageExternalReferences = append(p.PackageExternalReferences, &spdx.PackageExternalReference{
			Category: category, RefType: kind, Locator: locator,
		})
	}
	if c.PURL != "" {
		reference(common.CategoryPackageManager, common.TypePackageManagerPURL, c.PURL)
	}
	for _, cpe := range c.CPEs {
		reference(common.CategorySecurity, common.TypeSecurityCPE23Type, cpe)
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(c.Properties)) {
		lines = append(lines, name+"="+c.Properties[name])
	}
	p.PackageComment = strings.Join(lines, "\n")
	return p
}
