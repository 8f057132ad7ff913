package sbom

import (
	_ "embed"
	"slices"
	"strings"
)

// licenseList are the licences of SPDX's list, version 3.17, as CycloneDX's schema has them (spdx.schema.json, without the
// exceptions), in order. Later versions only add to it.
//
//go:embed licenses.txt
var licenseList string

// isListed reports whether SPDX's list has a licence. An expression may name others, and formats want to be told.
func isListed(license string) bool {
	_, found := slices.BinarySearch(strings.Fields(licenseList), license)
	return found
}

// licenseRef begins the identifiers of licences that SPDX's list does not have (SPDX 2.3, annex D).
const licenseRef = "LicenseRef-"

// spdxLicense is a licence as a document of SPDX names it.
func spdxLicense(license string) string {
	if isListed(license) {
		return license
	}
	return licenseRef + strings.ReplaceAll(strings.TrimPrefix(license, licenseRef), "+", "-or-later")
}
