package nixinstall_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testImpurities(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("ends with its context, whatever a file makes it look for", func() {
		dir := t.TempDir()
		var code strings.Builder
		for i := range 20_000 {
			fmt.Fprintf(&code, "fetchGit a%x; a%x = \"rev\";\n", i, i)
		}
		Expect(os.WriteFile(filepath.Join(dir, "default.nix"), []byte(code.String()), 0o644)).To(Succeed())
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, _, err := nixinstall.FirstMutable(ctx, dir, nil)
		Expect(err).To(MatchError(context.DeadlineExceeded))
		Expect(time.Since(start)).To(BeNumerically("<", busy.Limit(5*time.Second)))
	})

	it("sees whether the number of commits is asked for", func() {
		uses := func(files map[string]string) bool {
			dir := t.TempDir()
			for name, text := range files {
				Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
				Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
			}
			return nixinstall.UsesRevCount(context.Background(), dir, []string{"mounted", "x.nix"})
		}
		Expect(uses(map[string]string{"a.nix": "1", "lib/b.nix": "x = toString self.revCount;"})).To(BeTrue())
		Expect(uses(map[string]string{"a.nix": "self.revCount", "z.nix": "1"})).To(BeTrue())
		Expect(uses(map[string]string{".git": "gitdir: ../.git/worktrees/app", "flake.nix": "self.revCount"})).To(BeTrue())
		Expect(uses(map[string]string{"a.nix": "myself.revCounts", "b.md": "self.revCount", ".git/c.nix": "self.revCount",
			"mounted/a.nix": "self.revCount", "x.nix": "self.revCount"})).To(BeFalse())
	})

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
    echo ${toString builtins.currentTime} "<text>"
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
		var kinds []nixinstall.ImpurityKind
		for _, i := range found {
			lines, kinds = append(lines, i.String()), append(kinds, i.Kind)
		}
		Expect(kinds).To(Equal([]nixinstall.ImpurityKind{nixinstall.Clock, nixinstall.SearchPath, nixinstall.SearchPath,
			nixinstall.Unpinned, nixinstall.Clock, nixinstall.Environment}))
		Expect(lines).To(Equal([]string{
			"a/b.nix:1: builtins.currentTime",
			"default.nix:4: <nixpkgs>",
			"default.nix:4: <nixpkgs/lib>",
			`default.nix:6: builtins.fetchTarball "https://example.org/master.tar.gz"`,
			"default.nix:10: builtins.currentTime",
			"default.nix:14: builtins.getEnv",
		}))
	})

	places := func(text string) []string {
		t.Helper()
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "x.nix"), []byte(text), 0o644)).To(Succeed())
		found, err := nixinstall.Impurities(context.Background(), dir)
		Expect(err).NotTo(HaveOccurred())
		var all []string
		for _, i := range found {
			all = append(all, i.What)
		}
		return all
	}
	const rev = "3f96280da0ebc578599130c55c283036b51a9e91"

	it("takes for pinned what an address, a set or a name says that it is", func() {
		for _, pinned := range []string{
			`fetchTarball "https://example.org/` + rev + `.tar.gz"`,
			`builtins.fetchGit { url = "https://example.org/x"; rev = "` + rev + `"; }`,
			`builtins.fetchTarball { inherit (pin) url sha256; }`,
			`builtins.getFlake "github:a/b/` + rev + `"`,
			`pkgs.fetchurl { url = "https://example.org/x"; hash = "sha256-…"; }`,
			`let url = "https://example.org/` + rev + `.tar.gz"; in import (fetchTarball url) { }`,
			`fetchTree { type = "path"; path = ./sub; }`,
			`fetchTarball "file://${toString ./x.tar.gz}"`,
			`let pin = { url = "x"; sha256 = "y"; }; in import (fetchTarball pin) { }`,
			`{ url, name ? null, sha256 }@attrs: if a then fetchTarball ({ inherit url; } // b) else fetchTarball attrs;`,
			`{ inherit (pkgs) fetchurl fetchgit; }`,
		} {
			Expect(places(pinned)).To(BeEmpty(), pinned)
		}
		for _, free := range []string{
			`fetchTarball "https://example.org/master.tar.gz"`, `builtins.fetchTarball https://example.org/x.tgz`,
			`builtins.fetchGit { url = "https://example.org/x"; ref = "main"; }`, `fetchTree { type = "git"; url = "x"; }`,
			`builtins.getFlake "github:a/b"`,
		} {
			Expect(places(free)).To(Equal([]string{free}))
		}
		Expect(places(`let url = "https://example.org/master.tar.gz"; in import (fetchTarball url) { }`)).To(HaveLen(1))
		Expect(places(`fetchGit "https://user:s3cret@example.org/x"`)).To(Equal([]string{`fetchGit "https://example.org/x"`}))
	})

	it("knows which of them may give another result in the next build", func() {
		dir := t.TempDir()
		write := func(text string) {
			Expect(os.WriteFile(filepath.Join(dir, "x.nix"), []byte(text), 0o644)).To(Succeed())
		}
		pure := "<nixpkgs> (builtins.getEnv \"HOME\")\n"
		write(strings.Repeat(pure, 30))
		_, found, err := nixinstall.FirstMutable(context.Background(), dir, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(found).To(BeFalse())
		write(strings.Repeat(pure, 30) + "fetchGit \"https://example.org/x\"")
		first, found, err := nixinstall.FirstMutable(context.Background(), dir, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(found).To(BeTrue())
		Expect(first.String()).To(Equal(`x.nix:31: fetchGit "https://example.org/x"`))
		write("builtins.currentTime")
		_, found, err = nixinstall.FirstMutable(context.Background(), dir, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(found).To(BeTrue())
	})
}
