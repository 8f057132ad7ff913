package roots

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

func TestWhyNot(t *testing.T) {
	suite := spec.New("whynot")
	suite("NotCachedError", testNotCachedError)
	suite("Looking", testLooking)
	suite.Run(t)
}

const (
	shop  = storepath.Path("/nix/store/5g19asn3i6rfm0bz9azwvpf7lzmzaxqz-shop-1.0")
	shopB = storepath.Path("/nix/store/8vzs9yafswi0xccfn7xw16fbgv10prbh-shop-1.0.drv")
)

func testNotCachedError(t *testing.T, _ spec.G, it spec.S) {
	it("says the sure reason, what to change, what was tried and what was found", func() {
		e := &NotCachedError{
			Entry: "default.nix", Missing: []storepath.Path{shop}, Build: []storepath.Path{shopB},
			Names: []string{"source", "git-export"}, Asked: []cache.Answer{{URL: "https://cache.example.org", Why: "not there"}},
			Causes:   []Cause{{Sure: true, Found: "the upload is not what git has:\nextra: x", Change: "remove x"}},
			RuledOut: []string{"the moon"},
		}
		NewWithT(t).Expect(e.Error()).To(Equal(
			`no binary cache has 5g19asn3i6rfm0bz9azwvpf7lzmzaxqz-shop-1.0, and nothing is compiled here

The reason:
  1. the upload is not what git has:
       extra: x
     → remove x

What was tried: default.nix was evaluated in a source named source, git-export.
What would have to be built: shop-1.0.
What the caches said:
  https://cache.example.org: not there`))
	})

	it("says what may be the reason, and what is none", func() {
		e := &NotCachedError{
			Entry: "evaluation 7 of https://hydra.example.org", Missing: []storepath.Path{shop}, Have: 2,
			Causes:   []Cause{{Found: "one"}, {Found: "two", Change: "a\nb"}},
			RuledOut: []string{"the upload"},
		}
		NewWithT(t).Expect(e.Error()).To(Equal(
			`no binary cache has 5g19asn3i6rfm0bz9azwvpf7lzmzaxqz-shop-1.0, and nothing is compiled here

What may be the reason, the likeliest first:
  1. one
  2. two
     → a
       b

What was tried: evaluation 7 of https://hydra.example.org.
What the caches have: 2 of the 3 outputs wanted.
What the caches said:
What is not the reason:
  - the upload`))
	})
}

func testLooking(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	write := func(files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			full := filepath.Join(dir, name)
			NewWithT(t).Expect(os.MkdirAll(filepath.Dir(full), 0o755)).To(Succeed())
			NewWithT(t).Expect(os.WriteFile(full, []byte(text), 0o644)).To(Succeed())
		}
		return dir
	}
	const rev = "3f96280da0ebc578599130c55c283036b51a9e91"

	it("finds where nixpkgs is pinned, in all the usual places", func() {
		dir := write(map[string]string{
			"a.nix": "{ }:\n  fetchFromGitHub {\n    owner = \"NixOS\";\n    rev = \"" + rev + "\";\n}",
			"b.nix": "import (fetchTarball \"https://github.com/NixOS/nixpkgs/archive/" + rev + ".tar.gz\") { }",
			"c.nix": "# nixpkgs\n{ src = fetchgit { rev = \"x\"; }; }",
			"flake.lock": `{"nodes":{"nixpkgs":{"locked":{"rev":"` + rev + `"}},"root":{"inputs":{"nixpkgs":"nixpkgs"}}},` +
				`"root":"root","version":7}`,
			"nix/sources.json": `{"nixpkgs":{"rev":"` + rev + `"}}`,
		})
		NewWithT(t).Expect(findPins(ctx, dir, nil)).To(Equal([]string{
			"pinned to " + rev + " at a.nix:4", "pinned to " + rev + " at b.nix:1",
			`locked to ` + rev + ` as "nixpkgs" in flake.lock`, "pinned to " + rev + " in nix/sources.json",
		}))
		NewWithT(t).Expect(findPins(ctx, t.TempDir(), []string{"nixpkgs=https://u:p@example.org/x.tar.gz"})).To(Equal(
			[]string{"<nixpkgs> from BP_NIX_PATH: https://…@example.org/x.tar.gz"}))
	})

	it("reads .gitignore files as git does", func() {
		dir := write(map[string]string{
			".gitignore": "# a comment\n*.o\n!keep.o\n/top\nbuild/\ndoc/*.pdf\n\\#odd\n", "a.o": "", "keep.o": "", "top": "",
			"sub/top": "", "sub/build/x": "", "sub/b.o": "", "doc/a.pdf": "", "doc/deep/b.pdf": "", "#odd": "", "build": "a file",
			"sub/.gitignore": "own\n!b.o\n", "sub/own": "", "own": "", ".git/x.o": "", "only/c.o": "", "result": "",
		})
		NewWithT(t).Expect(ignoredFiles(ctx, dir, nil)).To(Equal([]string{
			"#odd", "a.o", "doc/a.pdf", "only/", "result", "sub/build/", "sub/own", "top",
		}))
	})

	it("compares an upload with what git has", func() {
		blob := func(text string) string { return gitfiles.ObjectID("blob", []byte(text), 20) }
		pointer := string(lfsPointer([]byte("large")))
		dir := write(map[string]string{"same": "x", "changed": "y", "dos": "a\r\n", "large": "large", "extra/deep": "", "new": "",
			"run": "#!", "d/same": "x"})
		u, err := compareUpload(ctx, dir, nil, &gitfiles.Snapshot{Files: map[string]gitfiles.File{
			"same": {Mode: gitfiles.Regular, ID: blob("x")}, "d/same": {Mode: gitfiles.Regular, ID: blob("x")},
			"changed": {Mode: gitfiles.Regular, ID: blob("x")}, "dos": {Mode: gitfiles.Regular, ID: blob("a\n")},
			"large": {Mode: gitfiles.Regular, ID: blob(pointer)}, "run": {Mode: gitfiles.Executable, ID: blob("#!")},
			"gone": {Mode: gitfiles.Regular, ID: blob("")}, "module": {Mode: gitfiles.Submodule},
		}}, 20)
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		NewWithT(t).Expect(u.String()).To(Equal("in the upload, not in git: extra/, new\n" +
			"in git, not in the upload: gone\ndifferent: changed\ndifferent in line endings: dos\n" +
			"kept by git LFS, of which Hydra has the pointer only: large\n" +
			"different in the executable bit, or no symbolic link any more: run"))
	})
}
