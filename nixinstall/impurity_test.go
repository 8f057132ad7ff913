package nixinstall_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testImpurities(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("finds what does not depend on the source alone, and not what comments and scripts say", func() {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"a/b.nix": "{ t = builtins.currentTime; }\n",
			"default.nix": `# import <comment> { }
/* builtins.currentTime
*/
{ pkgs ? import <nixpkgs> { } , lib ? import <nixpkgs/lib> }:
let
  unpinned = builtins.fetchTarball "https://example.org/master.tar.gz";
  pinned = builtins.fetchTarball { url = "https://example.org/1.tar.gz"; sha256 = "0"; };
  script = ''
    cat <input> ''${HOME} ''' <other>
  '';
  small = a < b && c > d;
in
pkgs.x { home = builtins.getEnv "HOME"; }
`,
			"readme.txt": "<nixpkgs>", ".git/x.nix": "<nixpkgs>",
		} {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
		}
		found, err := nixinstall.Impurities(context.Background(), dir)
		Expect(err).NotTo(HaveOccurred())
		var lines []string
		for _, i := range found {
			lines = append(lines, i.String())
		}
		Expect(lines).To(Equal([]string{
			"a/b.nix:1: builtins.currentTime",
			"default.nix:4: <nixpkgs>",
			"default.nix:4: <nixpkgs/lib>",
			`default.nix:6: builtins.fetchTarball "https://example.org/master.tar.gz"`,
			"default.nix:13: builtins.getEnv",
		}))
	})
}
