package nixproot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// TestProcfileBuildpacksAfter finds those that come after this one, of whatever the platform says.
func TestProcfileBuildpacksAfter(t *testing.T) {
	g, layers := NewWithT(t), t.TempDir()
	after := func() []string { return procfileBuildpacksAfter(t.Context(), layers, "nixproot/nix-hydra") }
	g.Expect(after()).To(BeEmpty())
	const two = "[[group]]\nid = \"nixproot/nix-hydra\"\n[[group]]\nid = \"x/procfile\"\n#"
	largest := two + strings.Repeat("x", 1<<20-len(two))
	for text, want := range map[string][]string{
		two: {"x/procfile"}, largest: {"x/procfile"}, largest + "x": nil, two + "\n[[group]]\nid = 3\n": nil,
		"[[group]]\nid = \"heroku/procfile\"\n[[group]]\nid = \"nixproot/nix-hydra\"\n[[group]]\nid = \"other/one\"\n": nil,
		"[[group]]\nid = \"nixproot/nix-hydra\"\n[[group]]\nid = \"paketo-buildpacks/procfile\"\nversion = \"5\"\n": {
			"paketo-buildpacks/procfile"},
		"[[group]]\nid = \"nixproot/nix-hydra\"\n[[group]]\nid = \"google.config.entrypoint\"\n[[group]]\nid = \"x/Procfile\"\n" +
			"[[group]]\nid = \"google.config.entrypoint\"\n[[group]]\nid = \"google.config.other\"\n": {
			"google.config.entrypoint", "x/Procfile"},
		"[[group]]\nid = \"heroku/procfile\"\n": nil,
		"[[group":                               nil,
	} {
		g.Expect(os.WriteFile(filepath.Join(layers, groupFile), []byte(text), 0o644)).To(Succeed())
		g.Expect(after()).To(Equal(want), "%.200s", text)
	}
}
