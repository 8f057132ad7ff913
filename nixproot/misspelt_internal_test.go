package nixproot

import (
	"testing"

	. "github.com/onsi/gomega"
)

func TestAVariableThatIsNearlyASettingIsRefusedByTheNameOfThatSetting(t *testing.T) {
	RegisterTestingT(t)
	settings := []string{"BP_NIX_ATTRS", "BP_NIX_STORE_PATH", "BP_NIX_REQUIRE_SIGS", "NIX_EXTRA_BINARY_CACHE", "NIX_CONFIG",
		"BP_INCLUDE_FILES", "BPL_NIX_ENGINE"}
	for name, meant := range map[string]string{
		"BP_NIX_ATTR": "BP_NIX_ATTRS", "BP_NIX_ATRS": "BP_NIX_ATTRS", "BP_NIX_ATTRIBUTES": "BP_NIX_ATTRS",
		"BP_NIX_STORE_PATHS": "BP_NIX_STORE_PATH", "BP_NIX_STOREPATH": "BP_NIX_STORE_PATH",
		"BP_NIX_REQUIRE_SIGNATURES": "BP_NIX_REQUIRE_SIGS", "NIX_EXTRA_BINARY_CACHES": "NIX_EXTRA_BINARY_CACHE",
		"BP_INCLUDE_FILE": "BP_INCLUDE_FILES", "BPL_NIX_ENGIN": "BPL_NIX_ENGINE", "BP_INCLUDED_FILES": "BP_INCLUDE_FILES",
		"BP_INLCUDE_FILES": "BP_INCLUDE_FILES", "NIX_EXTRA_BINARY_CACH": "NIX_EXTRA_BINARY_CACHE", "BP_NIXATTRS": "BP_NIX_ATTRS",
	} {
		Expect(checkNames(settings, []string{"HOME=/", name + "=x"})).To(MatchError(
			name + " is no setting of this buildpack; did you mean " + meant + "?"))
	}
	settings = append(settings, "BP_EXCLUDE_FILES") // which is as near to another
	Expect(checkNames(settings, []string{"BP_NIX_COLOUR=x"})).To(MatchError(
		"BP_NIX_COLOUR is no setting of this version of the buildpack"))
	Expect(checkNames(settings, []string{"BP_NIX_ATTRS=a", "BPL_NIX_ENGINE=proot", "NIX_PATH=x", "NIX_CONF_DIR=/", "BP_GO_VERSION=1",
		"BP_NIX_ATTR=", "NIX_CONFIG=x", "NIX_CONFIX=x", "BP_INCLUDES=x", "BP_EXCLUDE_FILES=x"})).To(Succeed())
}

func TestSettingsThatDoNothingBesideAnotherAreNamed(t *testing.T) {
	RegisterTestingT(t)
	given := map[string]string{"BP_NIX_FILE": "a.nix", "BP_NIX_ATTRS": " ", "BP_NIX_ARGS": "a=b", "BP_NIX_HYDRA_JOB": "a/b/c",
		"BP_NIX_HYDRA_URL": "https://h", "BP_NIX_ENGINE": "auto"}
	lookup := func(name string) (string, bool) { value, ok := given[name]; return value, ok }
	for _, c := range []struct {
		entry   entry
		because string
		idle    []string
	}{
		{entry{By: "BP_NIX_STORE_PATH"}, "BP_NIX_STORE_PATH is set", []string{"BP_NIX_HYDRA_JOB", "BP_NIX_FILE", "BP_NIX_ARGS"}},
		{entry{By: "BP_NIX_HYDRA_JOB"}, "BP_NIX_HYDRA_JOB is set", []string{"BP_NIX_FILE", "BP_NIX_ARGS"}},
		{entry{By: "BP_NIX_FLAKE", Flake: ".#x"}, "BP_NIX_FLAKE is set", []string{"BP_NIX_FILE", "BP_NIX_ARGS"}},
		{entry{Flake: "."}, "a flake is evaluated", []string{"BP_NIX_ARGS"}},
	} {
		Expect(c.entry.idle(lookup)).To(Equal([]idleSettings{{c.idle, c.because}}))
	}
	Expect(entry{File: "a.nix"}.idle(lookup)).To(BeEmpty())
	given["BPL_NIX_ENGINE"] = "proot"
	Expect(entry{File: "a.nix"}.idle(lookup)).To(Equal([]idleSettings{{[]string{"BPL_NIX_ENGINE"},
		"only a started container reads them"}}))
	delete(given, "BPL_NIX_ENGINE")
	given["NIX_ATTRIBUTES"] = "old"
	Expect(entry{File: "a.nix"}.idle(lookup)).To(BeEmpty())
	given["BP_NIX_ATTRS"] = "old"
	Expect(entry{File: "a.nix"}.idle(lookup)).To(BeEmpty())
	given["BP_NIX_ATTRS"] = "new"
	Expect(entry{File: "a.nix"}.idle(lookup)).To(Equal([]idleSettings{{[]string{"NIX_ATTRIBUTES"}, "BP_NIX_ATTRS is set"}}))
	Expect(entry{Flake: "."}.idle(lookup)).To(Equal([]idleSettings{{[]string{"BP_NIX_ARGS"}, "a flake is evaluated"},
		{[]string{"NIX_ATTRIBUTES"}, "BP_NIX_ATTRS is set"}}))
	given = map[string]string{"NIX_PATH": "nixpkgs=channel:nixos-unstable"}
	Expect(entry{File: "a.nix"}.idle(lookup)).To(Equal([]idleSettings{{[]string{"NIX_PATH"}, "BP_NIX_PATH is read in its place"}}))
	Expect(entry{Flake: "."}.idle(lookup)).To(Equal([]idleSettings{{[]string{"NIX_PATH"}, "a flake is evaluated"}}))
}
