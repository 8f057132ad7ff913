package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// TestPackHasEveryFlagOfTheDocumentation goes through the commands that the pages give, so that none is of another pack.
func TestPackHasEveryFlagOfTheDocumentation(t *testing.T) {
	RegisterTestingT(t)
	r, err := rig.Open(rig.Options{})
	must(err)
	pack, err := r.PackProgram(t.Context())
	must(err)

	var pages []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../samples/*.md", "../samples/*/README.md"} {
		found, err := filepath.Glob(pattern)
		must(err)
		pages = append(pages, found...)
	}
	// A command goes on in lines that begin with a flag.
	command := regexp.MustCompile("(?:^|[\\s`])pack ((?:build|rebase|inspect|buildpack package|builder create|sbom download)\\b)([^\n`&|]*(?:\n\\s+-[^\n`&|]*)*)")
	flag := regexp.MustCompile(`(?:^|\s)(--[a-z][a-z-]*)`)
	help := map[string]string{}
	checked := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		must(err)
		for _, found := range command.FindAllStringSubmatch(string(text), -1) {
			verbs, rest := found[1], found[2]
			if _, known := help[verbs]; !known {
				out, err := exec.CommandContext(t.Context(), pack, append(strings.Fields(verbs), "--help")...).CombinedOutput()
				Expect(err).NotTo(HaveOccurred(), "%s: pack %s: %s", page, verbs, out)
				help[verbs] = string(out)
			}
			for _, f := range flag.FindAllStringSubmatch(rest, -1) {
				checked++
				if !regexp.MustCompile(`(?m)^\s+(-\w, )?` + f[1] + `\b`).MatchString(help[verbs]) {
					t.Errorf("%s: pack %s has no %s", page, verbs, f[1])
				}
			}
		}
	}
	Expect(checked).To(BeNumerically(">", 30))
}
