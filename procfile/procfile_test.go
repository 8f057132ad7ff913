package procfile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/procfile"
)

func TestProcfile(t *testing.T) {
	spec.Run(t, "procfile", testProcfile)
	spec.Run(t, "errors", testErrors)
}

func ExampleParse() {
	file, err := procfile.Parse(context.Background(), "# the site\nWeb: run_proot.sh shop -p $PORT\n")
	fmt.Println(file.Entries[0].Type, "runs", file.Entries[0].Command, err)
	fmt.Println(file.Warnings[0])
	// Output:
	// web runs run_proot.sh shop -p $PORT <nil>
	// Procfile line 2: the process type "Web" becomes "web"; write it so
}

func testProcfile(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("reads process types in their order, with comments, blank lines and the line ends of any system", func() {
		for _, end := range []string{"\n", "\r\n", "\r"} {
			p, err := procfile.Parse(t.Context(), strings.ReplaceAll("\ufeff# the site\nweb: run_proot.sh serve -p $PORT\n \t\n"+
				"\t# a comment\nworker:run_proot.sh work --name 'a b' \n  ", "\n", end))
			Expect(err).NotTo(HaveOccurred())
			Expect(p).To(Equal(procfile.File{Entries: []procfile.Entry{
				{Type: "web", Command: "run_proot.sh serve -p $PORT"},
				{Type: "worker", Command: "run_proot.sh work --name 'a b'"},
			}}))
		}
	})

	it("keeps shell syntax as it is", func() {
		p, err := procfile.Parse(t.Context(), `web: cd "$HOME" && exec run_proot.sh app | tee log: "#"`)
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Entries[0].Command).To(Equal(`cd "$HOME" && exec run_proot.sh app | tee log: "#"`))
	})

	it("corrects names as Heroku does, with a warning", func() {
		for written, want := range map[string]string{
			"Web": "web", "my_worker": "my-worker", "   web": "web", "IamAKey": "iamakey", "A_b-C": "a-b-c",
		} {
			p, err := procfile.Parse(t.Context(), written+": x")
			Expect(err).NotTo(HaveOccurred())
			Expect(p.Entries).To(Equal([]procfile.Entry{{Type: want, Command: "x"}}))
			Expect(p.Warnings).To(HaveLen(1))
			Expect(p.Warnings[0]).To(HavePrefix("Procfile line 1: "))
			Expect(p.Warnings[0]).To(HaveSuffix(fmt.Sprintf("becomes %q%s", want, "; write it so")))
		}
		for _, name := range []string{"a", "aa", "0", "iamastrictly-validkey", "a--b", strings.Repeat("a", 63)} {
			p, err := procfile.Parse(t.Context(), name+": x")
			Expect(err).NotTo(HaveOccurred())
			Expect(p).To(Equal(procfile.File{Entries: []procfile.Entry{{Type: name, Command: "x"}}}))
		}
	})

	it("takes the last of a type that is given twice, with a warning", func() {
		p, err := procfile.Parse(t.Context(), "web: a 'broken\nother: o\nWEB: b\nweb: c\n")
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Entries).To(Equal([]procfile.Entry{{Type: "other", Command: "o"}, {Type: "web", Command: "c"}}))
		Expect(p.Warnings).To(HaveLen(3))
		Expect(p.Warnings[1]).To(Equal(`Procfile line 3: the process type "web" was given in line 1 too; this line counts`))
		Expect(p.Warnings[2]).To(Equal(`Procfile line 4: the process type "web" was given in line 3 too; this line counts`))
	})

	it("reads a Procfile of as many types as it can have, each given twice", func() {
		var text strings.Builder
		for range 2 {
			for i := range 60_000 {
				fmt.Fprintf(&text, "a%x:x\n", i)
			}
		}
		p, err := procfile.Parse(t.Context(), text.String())
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Entries).To(HaveLen(60_000))
	})

	it("refuses what Heroku refuses, and what no program could be given", func() {
		for _, text := range []string{
			"-key: x", "key-: x", "_key: x", "key_: x", strings.Repeat("a", 64) + ": x", ": rails -s", "web:", "web: \t", "&&&&&",
			"is_w.e.b: x", "worker : x", "w eb: x", "wéb: x", "web\nx: y", "web: \xff", "web: a\x00b", "-: x", "--: x",
			"web: " + strings.Repeat("x", 128<<10),
			"web: " + strings.Repeat("$((1+", 9000) + "1" + strings.Repeat("))", 9000),
		} {
			_, err := procfile.Parse(t.Context(), text)
			Expect(err).To(HaveOccurred(), "%.80q", text)
			Expect(len(err.Error())).To(BeNumerically("<", 1000))
		}
	})

	it("ends with its context", func() {
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		cancel(stopped)
		_, err := procfile.Parse(ctx, "web: x")
		Expect(err).To(MatchError(stopped))
	})

	it("spells ten warnings out and counts the others", func() {
		p, err := procfile.Parse(t.Context(), strings.Repeat(strings.Repeat(" ", 1000)+"Web: x\n", 10_000))
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Warnings).To(HaveLen(11))
		Expect(p.Warnings[10]).To(Equal("the Procfile has 19989 more of the kind"))
		Expect(len(strings.Join(p.Warnings, ""))).To(BeNumerically("<", 2000))
		p, err = procfile.Parse(t.Context(), strings.Repeat("web: x\n", 11))
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Warnings).To(HaveLen(10))
		Expect(p.Warnings[9]).To(HavePrefix("Procfile line 11: "))
	})

	it("warns of a file that has nearly the name of a Procfile, where there is none", func() {
		dir := t.TempDir()
		for _, name := range []string{"Procfile.txt", "procfile", "Procfile.dev", "PROCFILE"} {
			Expect(os.WriteFile(filepath.Join(dir, name), []byte("web: x"), 0o644)).To(Succeed())
		}
		p, err := procfile.Read(t.Context(), dir)
		Expect(err).NotTo(HaveOccurred())
		Expect(p).To(Equal(procfile.File{Warnings: []string{
			"PROCFILE is not read: the file's name has to be Procfile", "Procfile.txt is not read: the file's name has to be Procfile",
			"procfile is not read: the file's name has to be Procfile",
		}}))
		Expect(os.WriteFile(filepath.Join(dir, "Procfile"), []byte("web: x"), 0o644)).To(Succeed())
		p, err = procfile.Read(t.Context(), dir)
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Warnings).To(BeEmpty())
	})

	it("says of a Procfile in PowerShell's encoding which it is", func() {
		for text, says := range map[string]string{
			"\xff\xfew\x00e\x00b\x00:\x00": "it is UTF-16, as PowerShell's > writes it", "\xfe\xff\x00w": "it is UTF-16, as PowerShell's > writes it",
			"web: \xff": "it is not UTF-8",
		} {
			_, err := procfile.Parse(t.Context(), text)
			Expect(err).To(MatchError("reading Procfile: " + says))
			expectKind(err, procfile.BadEncoding)
		}
	})

	it("reads a symbolic link inside the source, and nothing else but regular files", func() {
		dir := t.TempDir()
		file := filepath.Join(dir, "Procfile")
		p, err := procfile.Read(t.Context(), dir)
		Expect(err).NotTo(HaveOccurred())
		Expect(p).To(BeZero())
		Expect(os.MkdirAll(filepath.Join(dir, "deploy"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "deploy/Procfile"), []byte("web: x"), 0o644)).To(Succeed())
		Expect(os.Symlink("deploy/Procfile", file)).To(Succeed())
		p, err = procfile.Read(t.Context(), dir)
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Entries).To(HaveLen(1))
		largest := "web: x\n#" + strings.Repeat("x", procfile.MaxSize-8)
		Expect(os.WriteFile(filepath.Join(dir, "deploy/Procfile"), []byte(largest), 0o644)).To(Succeed())
		Expect(procfile.Read(t.Context(), dir)).To(Equal(p))
		Expect(os.WriteFile(filepath.Join(dir, "deploy/Procfile"), []byte(largest+"x"), 0o644)).To(Succeed())
		_, err = procfile.Read(t.Context(), dir)
		Expect(err).To(MatchError(HavePrefix("reading Procfile: ")))
		expectKind(err, procfile.BadFile)
		for _, c := range []struct {
			make func() error
			kind procfile.Kind
			says string
		}{
			{func() error { return os.Symlink("/etc/hostname", file) }, procfile.BadLink, "it is a link to what is not in the source"},
			{func() error { return os.Symlink("vendor/shop/Procfile", file) }, procfile.BadLink, "it is a link that leads nowhere"},
			{func() error { return unix.Mkfifo(file, 0o644) }, procfile.BadFile, "it is no regular file"},
			{func() error { return os.Mkdir(file, 0o755) }, procfile.BadFile, "it is no regular file"},
		} {
			Expect(os.Remove(file)).To(Succeed())
			Expect(c.make()).To(Succeed())
			_, err = procfile.Read(t.Context(), dir)
			Expect(err).To(MatchError(And(HavePrefix("reading Procfile: "), HaveSuffix(c.says))))
			expectKind(err, c.kind)
		}
	})

	for _, c := range []struct{ name, text, message string }{
		{"no colon", "web: a\nworker run it", "Procfile line 2, column 14: no colon; a line is \"type: command\", " +
			"for example \"web: run_proot.sh myapp\"\n    worker run it\n                 ^"},
		{"no command", "web:  ", "Procfile line 1, column 5: the process type \"web\" has no command\n    web:\n        ^"},
		{"a bad name", "we b: x", "Procfile line 1, column 3: the process type \"we b\" may hold the letters a to z, digits and - only, " +
			"and neither begins nor ends with -\n    we b: x\n      ^"},
		{"a quote that never ends", "web: echo 'abc", "Procfile line 1, column 11: reached EOF without closing quote `'`\n" +
			"    web: echo 'abc\n              ^"},
		{"a name behind a tab, in a later line", "# a\n# b\n# c\n\t w\u00e9b: x", "Procfile line 4, column 4: the process type \"w\u00e9b\" may hold the " +
			"letters a to z, digits and - only, and neither begins nor ends with -\n    \t w\u00e9b: x\n    \t  ^"},
		{"a NUL", "web: a\x00b", "Procfile line 1, column 7: the command holds a NUL byte\n    web: a\uFFFDb\n          ^"},
		{"a NUL that comes first", "web: \x00", "Procfile line 1, column 6: the command holds a NUL byte\n    web: \uFFFD\n         ^"},
		{"run_proot.sh alone", "# x\nweb: run_proot.sh ", "Procfile line 2, column 18: run_proot.sh is given no program to run, " +
			"for example \"web: run_proot.sh myapp\"\n    web: run_proot.sh\n                     ^"},
	} {
		it("shows the place of "+c.name, func() {
			_, err := procfile.Parse(t.Context(), c.text)
			Expect(err).To(MatchError(c.message))
		})
	}
}

func expectKind(err error, want procfile.Kind) {
	var whole *procfile.FileError
	Expect(errors.As(err, &whole)).To(BeTrue())
	Expect(whole.Kind).To(Equal(want))
}

func testErrors(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("names the first character of a type that may not stand there", func() {
		for text, column := range map[string]int{"-key: x": 1, ": x": 1, "key-: x": 4, "  a.b-: x": 4, ".a: x": 1, "a_-: x": 3} {
			_, err := procfile.Parse(t.Context(), text)
			var bad *procfile.Error
			Expect(errors.As(err, &bad)).To(BeTrue(), text)
			Expect(bad.Column).To(Equal(column), text)
		}
	})

	it("takes a command as long as Linux takes an argument, and none that is longer", func() {
		command := strings.Repeat("x", 128<<10-1)
		p, err := procfile.Parse(t.Context(), "web: "+command)
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Entries[0].Command).To(Equal(command))
		_, err = procfile.Parse(t.Context(), "web: "+command+"x")
		Expect(err).To(MatchError(ContainSubstring("has more than 131071 bytes")))
	})

	it("shows so much of a long line on either side of the place, without what steers a terminal", func() {
		for _, c := range []struct{ before, after, line string }{
			{strings.Repeat("a", 120), "", strings.Repeat("a", 120)},
			{strings.Repeat("a", 121), "", "…" + strings.Repeat("a", 120)},
			{"a", strings.Repeat("b", 120), "a" + strings.Repeat("b", 120)},
			{"a", strings.Repeat("b", 121), "a" + strings.Repeat("b", 120) + "…"},
			{"a\tb\x1b\u202e", "", "a\tb\uFFFD\uFFFD"},
		} {
			e := procfile.Error{Line: 1, Column: len(c.before) + 1, Text: c.before + c.after, Problem: "p"}
			lines := strings.Split(e.Error(), "\n")
			Expect(lines[1]).To(Equal("    " + c.line))
			Expect(lines[2]).To(HaveSuffix("^"))
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("web: run_proot.sh myapp -p $PORT\n# no\nworker: a && b")
	f.Add("web: echo \"$(cat <<X\n")
	f.Add("\ufeffWeb:a\r_x: y\r\nmy_worker :z\nmy-worker: 'b\n" + strings.Repeat("k", 64) + ": c")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := procfile.Parse(t.Context(), text)
		if err != nil {
			if len(err.Error()) > 4000 {
				t.Fatalf("the error has %d bytes", len(err.Error()))
			}
			return
		}
		seen := map[string]bool{}
		for _, e := range p.Entries {
			if !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`).MatchString(e.Type) || seen[e.Type] ||
				strings.Trim(e.Command, " \t") == "" || strings.ContainsAny(e.Command, "\r\n\x00") {
				t.Fatalf("entry %+v", e)
			}
			seen[e.Type] = true
		}
	})
}
