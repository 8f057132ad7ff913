package relocate_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// constant is a text in a C program, and the path that it names.
type constant struct {
	path storepath.Path
	text string
}

// constants name a path each, with texts of all lengths around.
func constants(prefixes, names []string, suffix string) (all []constant) {
	hashes := references(len(prefixes) * len(names) * len(suffix))
	for _, prefix := range prefixes {
		for _, name := range names {
			for n := range len(suffix) {
				path := hashes[len(all)][:44] + storepath.Path(fmt.Sprintf(name, len(all)))
				all = append(all, constant{path, prefix + string(path) + suffix[:n]})
			}
		}
	}
	return all
}

// copying is a C program that copies each text, each in another way, and prints it.
func copying(all []constant) string {
	ways := []string{
		"strcpy(b, %q);",
		"struct { char s[150]; } c = {%q}; memcpy(b, &c, sizeof c);",
		"struct { int n; char s[150]; } c = {3, %q}; memcpy(b, c.s, sizeof c.s);",
	}
	var functions, calls strings.Builder
	for i, c := range all {
		fmt.Fprintf(&functions, "static __attribute__((noinline)) void f%d(char *b) { %s }\n", i,
			fmt.Sprintf(ways[i%len(ways)], c.text))
		fmt.Fprintf(&calls, "\tf%d(b);\n\tputs(b);\n", i)
	}
	return "#include <stdio.h>\n#include <string.h>\n" + functions.String() +
		"int main(void) {\n\tchar b[200];\n" + calls.String() + "\treturn 0;\n}\n"
}

// inAL is a program for x86-64 in which the comparisons of a byte with a number have it in AL. It does not run.
func inAL(program string) string {
	b := []byte(program)
	for i := range b[:len(b)-6] {
		n := 0
		switch {
		case b[i] == 0x80 && b[i+1] >= 0xf8: // in a register
			n = 3
		case b[i] == 0x80 && b[i+1]&0xf8 == 0x78 && b[i+1] != 0x7c: // in memory
			n = 4
		}
		if n > 0 {
			copy(b[i:], "\x90\x90\x90"[:n-2]) // NOP
			b[i+n-2] = 0x3c
		}
	}
	return string(b)
}

func testCompiled(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("reports the references that GCC cut up and that relocation would break, and no others", func() {
		if _, err := exec.LookPath("gcc"); err != nil {
			untested.Skip(t, "there is no gcc here to cut references up")
		}
		source, program := filepath.Join(t.TempDir(), "copying.c"), filepath.Join(t.TempDir(), "copying")
		all := constants([]string{"", "=", "PATH="}, []string{"a%03d", "b%03d-5.2.37"}, "/share/locale/x.mo:123")
		Expect(os.WriteFile(source, []byte(copying(all)), 0o644)).To(Succeed())
		for _, options := range []string{"-O0", "-O1", "-O2", "-O3", "-Os"} {
			out, err := exec.Command("gcc", options, "-o", program, source).CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s", out)
			contents, err := os.ReadFile(program)
			Expect(err).NotTo(HaveOccurred())

			// Each path by itself, so that every one of them is reported.
			var refs []storepath.Path
			for _, c := range all {
				refs = append(refs, c.path)
			}
			now := &events{}
			rewriter := view(t).Rewrite(self, refs, now)
			send(t, rewriter, archive(regular("copying", string(contents))), whole)
			Expect(os.WriteFile(program, []byte(contentsOf(now.files, "copying")), 0o755)).To(Succeed())
			said, err := exec.Command(program).Output()
			Expect(err).NotTo(HaveOccurred())
			for i, line := range strings.Split(strings.TrimSuffix(string(said), "\n"), "\n") {
				c := all[i]
				alone := view(t).Rewrite(c.path, nil, discard{})
				send(t, alone, archive(regular("copying", string(contents))), whole)
				right := line == strings.Replace(c.text, string(c.path), view(t).Rename(c.path), 1)
				Expect(alone.Report().Relocatable()).To(Equal(right), "%s: %q became %q", options, c.text, line)
			}
		}
	})

	it("reports the references that Rust copies but for the end, which it puts there by an instruction", func() {
		if _, err := exec.LookPath("rustc"); err != nil {
			untested.Skip(t, "there is no rustc here to cut references up")
		}
		source, program := filepath.Join(t.TempDir(), "copying.rs"), filepath.Join(t.TempDir(), "copying")
		all := constants([]string{"", "PATH=", "A=1,2,3;PATH="}, []string{"%02X", "a%03d"}, "/share/locale/x.mo:123")
		var functions, calls strings.Builder
		for i, c := range all {
			fmt.Fprintf(&functions, "#[inline(never)] fn f%d() -> [u8; %d] { *b%q }\n", i, len(c.text), c.text)
			fmt.Fprintf(&calls, "\tprintln!(\"{}\", std::str::from_utf8(&f%d()).unwrap());\n", i)
		}
		Expect(os.WriteFile(source, []byte(functions.String()+"fn main() {\n"+calls.String()+"}\n"), 0o644)).To(Succeed())
		out, err := exec.Command("rustc", "-Copt-level=2", "-o", program, source).CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
		contents, err := os.ReadFile(program)
		Expect(err).NotTo(HaveOccurred())
		now := &events{}
		var refs []storepath.Path
		for _, c := range all {
			refs = append(refs, c.path)
		}
		send(t, view(t).Rewrite(self, refs, now), archive(regular("copying", string(contents))), whole)
		Expect(os.WriteFile(program, []byte(contentsOf(now.files, "copying")), 0o755)).To(Succeed())
		said, err := exec.Command(program).Output()
		Expect(err).NotTo(HaveOccurred())
		broken, needless := 0, 0
		for i, line := range strings.Split(strings.TrimSuffix(string(said), "\n"), "\n") {
			c := all[i]
			alone := view(t).Rewrite(c.path, nil, discard{})
			send(t, alone, archive(regular("copying", string(contents))), whole)
			switch right := line == strings.Replace(c.text, string(c.path), view(t).Rename(c.path), 1); {
			case !right:
				broken++
				Expect(alone.Report().Relocatable()).To(BeFalse(), "%q became %q", c.text, line)
			case !alone.Report().Relocatable():
				needless++ // the end is put there before the rest, which lies over it
			}
		}
		Expect(broken).To(BeNumerically(">=", 1))
		Expect(needless).To(BeNumerically("<=", len(all)/10))
	})

	it("reports a switch of Go over references, which goes on by one character of a hash, and no other use of them", func() {
		paths := references(12)
		build := func(machine, source, program string) string {
			c := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, source)
			c.Env = append(os.Environ(), "GOARCH="+machine, "CGO_ENABLED=0")
			out, err := c.CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s", out)
			contents, err := os.ReadFile(program)
			Expect(err).NotTo(HaveOccurred())
			return string(contents)
		}
		reported := func(contents string) relocate.Report {
			rewriter := view(t).Rewrite(self, paths, discard{})
			send(t, rewriter, archive(regular("program", contents)), whole)
			return rewriter.Report()
		}
		for name, body := range map[string]string{"switch": "switch a {%s}", "if": "%s", "map": "m := map[string]int{%s}; return m[a]"} {
			one := map[string]string{"switch": "case %q: return %d\n", "if": "if a == %q { return %d }\n", "map": "%q: %d,\n"}[name]
			var cases strings.Builder
			for i, p := range paths {
				fmt.Fprintf(&cases, one, string(p)+"/bin/x", i+1)
			}
			source, program := filepath.Join(t.TempDir(), "main.go"), filepath.Join(t.TempDir(), "program")
			text := "package main\n\nimport \"os\"\n\n//go:noinline\nfunc number(a string) int {\n" + fmt.Sprintf(body, cases.String()) +
				"\nreturn 0\n}\n\nfunc main() {\n\tfor _, a := range os.Args[1:] {\n\t\tprint(number(a), \" \")\n\t}\n}\n"
			Expect(os.WriteFile(source, []byte(text), 0o644)).To(Succeed())
			for _, machine := range []string{"amd64", "arm64"} {
				report := reported(build(machine, source, program))
				Expect(report.Relocatable()).To(Equal(name != "switch"), "%s for %s: %v", name, machine, report.Blockers)
			}
			if name == "switch" {
				report := reported(inAL(build("amd64", source, program)))
				Expect(report.Relocatable()).To(BeFalse(), "with the character in AL")
			}
			contents := build(runtime.GOARCH, source, program)
			now := &events{}
			rewriter := view(t).Rewrite(self, paths, now)
			send(t, rewriter, archive(regular("program", contents)), whole)
			Expect(os.WriteFile(program, []byte(contentsOf(now.files, "program")), 0o755)).To(Succeed())
			var args []string
			for _, p := range paths {
				args = append(args, view(t).Rename(p)+"/bin/x")
			}
			said, err := exec.Command(program, args...).CombinedOutput()
			Expect(err).NotTo(HaveOccurred())
			right := string(said) == "1 2 3 4 5 6 7 8 9 10 11 12 "
			Expect(right).To(Equal(name != "switch"), "%s: %s", name, said)
			Expect(rewriter.Report().Relocatable()).To(Equal(right), "%s: %v", name, rewriter.Report().Blockers)
		}
	})
}
