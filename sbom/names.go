package sbom

import (
	"regexp"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// outputWord is what a package may call an output, but for those of numberedOutputs. One letter is a version's.
var outputWord = regexp.MustCompile(`^[a-z][a-z_]+$`)

// numberedOutputs are the outputs of nixpkgs with a digit in their name, which is else a version's.
func numberedOutputs() []string { return []string{"libv8", "plpython3"} }

// versionWords are what versions end in.
func versionWords() []string {
	return []string{
		"alpha", "beta", "canary", "ce", "ee", "esr", "final", "git", "head", "hg", "lts", "main", "master", "nightly", "oss", "post", "pre",
		"prerelease", "preview", "rc", "release", "snapshot", "stable", "svn", "trunk", "unstable",
	}
}

// environmentWords are what names end in of things that are made of a package and have its version, such as the links of buildEnv:
// the package itself is in the closure by its own name.
func environmentWords() []string {
	return []string{"env", "fhs", "fhsenv", "rootfs", "wrapped", "wrapper"}
}

// ParseName splits the name of a store path: the version begins after the first dash that no letter follows, as
// builtins.parseDrvName has it, and Nix appends a dash and the output to a derivation's name. Packages are free to name outputs
// (util-linux has "login", libcap "pam"), and neither a store path nor its narinfo's signature says which there are. So the
// last word of the version is taken for one, as Syft does, unless versions end in it, or things made of a package.
func ParseName(storeName string) (name, version, output string) {
	if name, version = storepath.ParseName(storeName); name == "" { // "-1.0", as Nix allows: no format has what has no name
		return storeName, "", ""
	}
	if i := strings.LastIndexByte(version, '-'); i > 0 && isOutput(version[i+1:]) {
		version, output = version[:i], version[i+1:]
	}
	return name, version, output
}

func isOutput(word string) bool {
	if slices.Contains(numberedOutputs(), word) {
		return true
	}
	return outputWord.MatchString(word) && !slices.Contains(versionWords(), word) && !slices.Contains(environmentWords(), word)
}

// isEnvironment reports whether what has a version, as ParseName gives it, is only made of the package.
func isEnvironment(version string) bool {
	return slices.Contains(environmentWords(), version[strings.LastIndexByte(version, '-')+1:])
}

// NixPURL is the package URL of a store path, as Syft writes it.
func NixPURL(name, version, output, hash string) string {
	var qualifiers packageurl.Qualifiers
	if output != "" {
		qualifiers = append(qualifiers, packageurl.Qualifier{Key: "output", Value: output})
	}
	if hash != "" {
		qualifiers = append(qualifiers, packageurl.Qualifier{Key: "outputhash", Value: hash})
	}
	return packageurl.NewPackageURL("nix", "", name, version, qualifiers, "").ToString()
}
