package nixinstall

import (
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
