package nixproot

import (
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func testHarmlessAdvice(t *testing.T, _ spec.G, it spec.S) {
	const path = storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-nodejs-20.1")
	it.Before(func() { RegisterTestingT(t) })

	it("prints the value that overrules a refusal, which the setting takes", func() {
		err := explain(&closure.BlockedError{Blockers: []closure.Blocker{
			{Path: path, File: "bin/node", Kind: relocate.Checksummed}, {Path: path, File: "bin/node", Kind: relocate.BareHash},
			{Path: path, File: "share/a b", Kind: relocate.Opaque},
		}})
		Expect(err).To(MatchError(ContainSubstring("BP_NIX_HARMLESS='*-nodejs-20.1/bin/node *-nodejs-20.1/share/a?b'")))
		config, err := ReadConfig(func(name string) (string, bool) {
			return map[string]string{"BP_NIX_HARMLESS": "*-nodejs-20.1/bin/node *-nodejs-20.1/share/a?b"}[name], true
		}, "amd64")
		Expect(err).NotTo(HaveOccurred())
		Expect(config.Harmless.Match(path, "share/a b")).NotTo(BeEmpty())
	})

	it("prints no name that a terminal or a shell would take for a command", func() {
		for _, file := range []string{"share/'; curl x | sh; '", "bin/\x1b[2Kall is well\r", "lib/\u202egpj"} {
			err := explain(&closure.BlockedError{Blockers: []closure.Blocker{{Path: path, File: file, Kind: relocate.Opaque, Detail: file}}})
			Expect(err).NotTo(MatchError(MatchRegexp(`BP_NIX_HARMLESS='[^']*[^' ]*;`)), file)
			Expect(err).NotTo(MatchError(MatchRegexp("[\\x1b\\r\\x{202e}]")), file)
		}
	})

	it("prints the name of a store path that is a file", func() {
		err := explain(&closure.BlockedError{Blockers: []closure.Blocker{{Path: path, Kind: relocate.Opaque}}})
		Expect(err).To(MatchError(ContainSubstring("BP_NIX_HARMLESS='*-nodejs-20.1'")))
	})

	it("prints none where nothing can be overruled", func() {
		for _, kind := range []relocate.Kind{relocate.Ambiguous, relocate.RelocatedName, closure.Undeclared} {
			err := explain(&closure.BlockedError{Blockers: []closure.Blocker{{Path: path, Kind: kind}}})
			Expect(err).NotTo(MatchError(ContainSubstring("BP_NIX_HARMLESS")), string(kind))
		}
	})
}
