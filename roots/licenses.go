package roots

import (
	"regexp"
	"slices"
)

var licenseID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+-]{0,63}$`)

// maxLicenses bounds how many licences are taken of an output.
const maxLicenses = 20

// licenseIDs are those texts that have the form of an SPDX identifier (SPDX 2.3, annex D), each once.
func licenseIDs(texts []string) []string {
	var ids []string
	for _, text := range texts {
		if licenseID.MatchString(text) && !slices.Contains(ids, text) && len(ids) < maxLicenses {
			ids = append(ids, text)
		}
	}
	return ids
}

// LicensesAreValid reports whether the licences are as an evaluation gives them: of the outputs, and identifiers.
func (r Result) LicensesAreValid() bool {
	for p, ids := range r.Licenses {
		if !slices.Contains(r.Paths, p) || !slices.Equal(ids, licenseIDs(ids)) {
			return false
		}
	}
	return true
}
