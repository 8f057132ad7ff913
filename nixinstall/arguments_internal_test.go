package nixinstall

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

func TestExpressionIn(t *testing.T) {
	g := NewWithT(t)
	const source = "/nix/store/00000000000000000000000000000000-source"
	for _, expr := range []string{
		`@./nix@`, `[@./a@ @../b/c@]`, `"${@./nix@}/x"`, `"./a ${"./b" + "${@./c@}"} ./d"`, `"\${./a} $${./a} ${@./b@}"`, `"\"./a ${@./b@}"`,
		`'' ./a ${@./b@} ''${ ./c } ''' ./d ''\n ./e $${./f} ''`, `'' ./a '' + @./b@`, "# ./a\n@./b@ /* ./c \n */ @./d@", `"# ./a" + @./b@`,
		`"${{ a = { b = @./c@; }; }.a.b} ./d"`, `"${''./a ${"${@./b@}"}''} ./c" + @./d@`, `a."./b"`, `"${`, `''${"`, `} @./a@`,
		`https://example.org/x`, `a/./b`,
	} {
		want := expr
		for want != "" && strings.Contains(want, "@") {
			before, rest, _ := strings.Cut(want, "@")
			path, after, _ := strings.Cut(rest, "@")
			want = before + `(/. + "` + map[bool]string{true: source, false: "/nix/store"}[!strings.HasPrefix(path, "../")] +
				"/" + strings.TrimLeft(path, "./") + `")` + after
		}
		g.Expect(expressionIn(source, strings.ReplaceAll(expr, "@", ""))).To(Equal(want), expr)
	}
}

func TestNixPathIn(t *testing.T) {
	g := NewWithT(t)
	const source = "/nix/store/00000000000000000000000000000000-source"
	for entry, want := range map[string]string{
		"lib=./nix/lib": "lib=" + source + "/nix/lib", "lib=nix/lib": "lib=" + source + "/nix/lib", "nix": source + "/nix", ".": source,
		"self=.": "self=" + source, "lib=nix/../lib/": "lib=" + source + "/lib", "lib=../lib": "lib=../lib", "lib=nix/../../x": "lib=nix/../../x",
		"lib=/nix/var": "lib=/nix/var", "nixpkgs=https://example.org/x.tar.gz": "nixpkgs=https://example.org/x.tar.gz",
		"nixpkgs=flake:nixpkgs": "nixpkgs=flake:nixpkgs", "channel:nixos-25.11": "channel:nixos-25.11", "lib=~/x": "lib=~/x", "lib=": "lib=",
	} {
		g.Expect(nixPathIn(source, []string{entry})).To(Equal([]string{want}), entry)
	}
}

func TestNestedSubmodules(t *testing.T) {
	g, dir := NewWithT(t), t.TempDir()
	for name, text := range map[string]string{
		".gitmodules":       "[submodule \"a\"]\n\tpath = a\n\turl = x\n[submodule \"c\"]\n path = \"c d\"\n[submodule \"up\"]\n path = ../up\n",
		"a/.gitmodules":     "[submodule \"b\"]\n\tpath = b/deep\n[submodule \"empty\"]\n\tpath = empty\n[submodule \"none\"]\n\tpath = none\n",
		"a/b/deep/file":     "x",
		"c d/.gitmodules":   "[submodule \"e\"]\n\tpath = e\n[submodule \"up\"]\n\tpath = ../../up\n",
		"c d/e/.gitmodules": "[submodule \"f\"]\n\tpath = f\n",
		"other/.gitmodules": "[submodule \"g\"]\n\tpath = g\n", "other/g/file": "x",
	} {
		g.Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
		g.Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
	}
	g.Expect(os.Mkdir(filepath.Join(dir, "a/empty"), 0o755)).To(Succeed())
	g.Expect(os.Symlink("..", filepath.Join(dir, "a/none"))).To(Succeed())
	nested, entries, err := NestedSubmodules(t.Context(), dir)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(nested).To(Equal([]string{"a/b/deep", "c d/e"}), "a link is no submodule")
	g.Expect(entries).To(Equal([]string{"a/b/deep/file", "c d/e/.gitmodules"}))
	ended, end := context.WithCancel(t.Context())
	end()
	_, _, err = NestedSubmodules(ended, dir)
	g.Expect(err).To(MatchError(context.Canceled))
	g.Expect(os.Remove(filepath.Join(dir, ".gitmodules"))).To(Succeed())
	nested, _, err = NestedSubmodules(t.Context(), dir)
	g.Expect(nested, err).To(BeEmpty())
}

func TestSubmodulesThatLinksShowAgainAndAgainAreBounded(t *testing.T) {
	g, dir := NewWithT(t), t.TempDir()
	var outer, inner strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&outer, "path = l%d\n", i)
		fmt.Fprintf(&inner, "path = d%d\n", i)
		g.Expect(os.Symlink("a", filepath.Join(dir, fmt.Sprintf("l%d", i)))).To(Succeed())
		g.Expect(os.MkdirAll(filepath.Join(dir, "a", fmt.Sprintf("d%d", i)), 0o755)).To(Succeed())
	}
	g.Expect(os.WriteFile(filepath.Join(dir, ".gitmodules"), []byte(outer.String()), 0o644)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(dir, "a/.gitmodules"), []byte(inner.String()), 0o644)).To(Succeed())
	_, _, err := NestedSubmodules(t.Context(), dir)
	g.Expect(err).To(MatchError(ContainSubstring("more than 16384 submodules")))
}
