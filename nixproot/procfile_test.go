package nixproot_test

import (
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

func testProcfile(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("reads process types in their order, with comments, blank lines and Windows line ends", func() {
		entries, err := nixproot.ParseProcfile("\ufeff# the site\r\nweb: run_proot.sh serve -p $PORT\r\n\n  worker : run_proot.sh work --name 'a b' \n")
		Expect(err).NotTo(HaveOccurred())
		Expect(entries).To(Equal([]nixproot.ProcfileEntry{
			{Type: "web", Command: "run_proot.sh serve -p $PORT"},
			{Type: "worker", Command: "run_proot.sh work --name 'a b'"},
		}))
	})

	it("keeps shell syntax as it is", func() {
		entries, err := nixproot.ParseProcfile(`web: cd "$HOME" && exec run_proot.sh app | tee log`)
		Expect(err).NotTo(HaveOccurred())
		Expect(entries[0].Command).To(Equal(`cd "$HOME" && exec run_proot.sh app | tee log`))
	})

	for _, c := range []struct{ name, text, message string }{
		{"no colon", "web: a\nworker run it", "Procfile line 2, column 14: no colon; a line is \"type: command\", " +
			"for example \"web: run_proot.sh myapp\"\n    worker run it\n                 ^"},
		{"no command", "web:  ", "Procfile line 1, column 5: the process type \"web\" has no command\n    web:\n        ^"},
		{"a bad name", "we b: x", "Procfile line 1, column 1: the process type \"we b\" may hold letters, digits, - and _ only\n" +
			"    we b: x\n    ^"},
		{"a name twice", "web: x\n\nweb: y", "Procfile line 3, column 1: the process type \"web\" was already given in line 1\n" +
			"    web: y\n    ^"},
		{"a quote that never ends", "web: echo 'abc", "Procfile line 1, column 11: reached EOF without closing quote `'`\n" +
			"    web: echo 'abc\n              ^"},
		{"run_proot.sh alone", "# x\nweb: run_proot.sh ", "Procfile line 2, column 18: run_proot.sh is given no program to run, " +
			"for example \"web: run_proot.sh myapp\"\n    web: run_proot.sh\n                     ^"},
	} {
		it("shows the place of "+c.name, func() {
			_, err := nixproot.ParseProcfile(c.text)
			Expect(err).To(MatchError(c.message))
		})
	}
}

func FuzzParseProcfile(f *testing.F) {
	f.Add("web: run_proot.sh myapp -p $PORT\n# no\nworker: a && b")
	f.Add("web: echo \"$(cat <<X\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := nixproot.ParseProcfile(text)
		if err != nil {
			_ = err.Error()
			return
		}
		for _, e := range entries {
			if e.Type == "" || e.Command == "" {
				t.Fatalf("entry %+v has nothing in it", e)
			}
		}
	})
}
