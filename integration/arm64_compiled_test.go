package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// constant is a text in a program, and the path that it names.
type constant struct {
	path storepath.Path
	text string
}

// constants name a path each, with texts of all lengths around.
func constants() (all []constant) {
	const digits, suffix = "0123456789abcdfghijklmnpqrsvwxyz", "/share/locale/x.mo:123"
	number := uint64(1)
	for _, prefix := range []string{"", "=", "PATH="} {
		for _, name := range []string{"a%03d", "b%03d-5.2.37"} {
			for n := range len(suffix) {
				hash := make([]byte, storepath.HashLen)
				for i := range hash {
					number = number*6364136223846793005 + 1442695040888963407
					hash[i] = digits[number>>59]
				}
				path := storepath.Path(storepath.Dir + "/" + string(hash) + "-" + fmt.Sprintf(name, len(all)))
				all = append(all, constant{path, prefix + string(path) + suffix[:n]})
			}
		}
	}
	return all
}

// programOf is a program that prints, for each text, a copy of it and whether the argument of that number is equal to it.
func programOf(language string, all []constant) string {
	var functions, calls strings.Builder
	for i, c := range all {
		switch language {
		case "c":
			copying := []string{
				"strcpy(b, %q);",
				"struct { char s[150]; } c = {%q}; memcpy(b, &c, sizeof c);",
				"struct { int n; char s[150]; } c = {3, %q}; memcpy(b, c.s, sizeof c.s);",
			}[i%3]
			fmt.Fprintf(&functions, "static __attribute__((noinline)) void f%d(char *b) { "+copying+" }\n", i, c.text)
			fmt.Fprintf(&functions, "static __attribute__((noinline)) int g%d(char *s) { return memcmp(s, %q, %d) == 0; }\n", i, c.text, len(c.text))
			fmt.Fprintf(&calls, "\tf%d(b); printf(\"%%s\\t%%d\\n\", b, g%d(v[%d]));\n", i, i, i+1)
		case "rs":
			fmt.Fprintf(&functions, "#[inline(never)] fn f%d() -> [u8; %d] { *b%q }\n", i, len(c.text), c.text)
			fmt.Fprintf(&functions, "#[inline(never)] fn g%d(s: &str) -> bool { s == %q }\n", i, c.text)
			fmt.Fprintf(&calls, "\tprintln!(\"{}\\t{}\", std::str::from_utf8(&f%d()).unwrap(), g%d(&v[%d]) as u8);\n", i, i, i+1)
		case "go":
			fmt.Fprintf(&functions, "//go:noinline\nfunc f%d() (b [%d]byte) { copy(b[:], %q); return b }\n", i, len(c.text), c.text)
			fmt.Fprintf(&functions, "//go:noinline\nfunc g%d(s string) int { if s == %q { return 1 }; return 0 }\n", i, c.text)
			fmt.Fprintf(&calls, "\tb%d := f%d(); fmt.Printf(\"%%s\\t%%d\\n\", b%d[:], g%d(os.Args[%d]))\n", i, i, i, i, i+1)
		}
	}
	switch language {
	case "c":
		return "#include <stdio.h>\n#include <string.h>\n" + functions.String() +
			"int main(int n, char **v) {\n\tchar b[200];\n" + calls.String() + "\treturn 0;\n}\n"
	case "rs":
		return functions.String() + "fn main() {\n\tlet v: Vec<String> = std::env::args().collect();\n" + calls.String() + "}\n"
	}
	return "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\n" + functions.String() + "func main() {\n" + calls.String() + "}\n"
}

// TestArm64Compiled is about what compilers make of constants on 64-bit ARM: relocation reports the references that it
// would break there, and no others.
func TestArm64Compiled(t *testing.T) {
	onlyWhereAsked(t)
	RegisterTestingT(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("NOT TESTED: the cross compilers are amd64 programs")
	}
	r, err := rig.Open(rig.Options{Arch: "arm64"})
	must(err)
	if err := r.Emulated(t.Context()); err != nil {
		fmt.Fprintf(os.Stderr, "\n*** NOT TESTED: %s: %s ***\n", t.Name(), err)
		t.Skipf("NOT TESTED: %s", err)
	}
	cross, err := r.CrossCompilers(t.Context())
	must(err)
	gcc := func(options ...string) []string {
		return append([]string{"aarch64-linux-gnu-gcc-14", "-static", "-s", "-o", "program", "program.c"}, options...)
	}
	clang := func(options ...string) []string {
		return append([]string{"clang-19", "--target=aarch64-linux-gnu", "-static", "-s", "-o", "program", "program.c"}, options...)
	}
	rust := func(options ...string) []string {
		return append([]string{"rustc", "--target=aarch64-unknown-linux-gnu", "-Clinker=aarch64-linux-gnu-gcc-14",
			"-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o", "program", "program.rs"}, options...)
	}
	for name, command := range map[string][]string{
		"gcc -O0": gcc("-O0"), "gcc -O2": gcc("-O2"), "gcc -O3": gcc("-O3"), "gcc -Os": gcc("-Os"),
		"gcc, 64 KiB pages": gcc("-O2", "-Wl,-z,max-page-size=65536,-z,common-page-size=65536"),
		"clang -O0":         clang("-O0"), "clang -O2": clang("-O2"), "clang -O3 -mcpu=neoverse-v2": clang("-O3", "-mcpu=neoverse-v2"),
		"clang -Os": clang("-Os"),
		"rustc -O0": rust("-Copt-level=0"), "rustc -O2": rust("-Copt-level=2"), "rustc -O3": rust("-Copt-level=3"),
		"go": nil,
	} {
		t.Run(name, func(t *testing.T) {
			RegisterTestingT(t)
			all, dir := constants(), t.TempDir()
			if command == nil {
				must(os.WriteFile(filepath.Join(dir, "program.go"), []byte(programOf("go", all)), 0o644))
				build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", "program", "program.go")
				build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64", "GOFLAGS=", "GO111MODULE=off")
				out, err := build.CombinedOutput()
				Expect(err).NotTo(HaveOccurred(), "%s", out)
			} else {
				language := "c"
				if command[0] == "rustc" {
					language = "rs"
				}
				must(os.WriteFile(filepath.Join(dir, "program."+language), []byte(programOf(language, all)), 0o644))
				must(cross.Run(t.Context(), dir, command[0], command[1:]...))
			}
			program, err := os.ReadFile(filepath.Join(dir, "program"))
			must(err)
			checkConstants(t, dir, all, program)
		})
	}
}

// checkConstants relocates a program, runs it, and compares what each constant has become with what was said of it.
func checkConstants(t *testing.T, dir string, all []constant, program []byte) {
	layout, err := relocate.NewLayout("/layers/nixproot_nix-hydra/view")
	must(err)
	var paths []storepath.Path
	var args []string
	for _, c := range all {
		paths = append(paths, c.path)
		args = append(args, strings.Replace(c.text, string(c.path), layout.Rename(c.path), 1))
	}
	relocated, _ := throughStage(layout, paths[0], paths[1:], program)
	file := filepath.Join(dir, "relocated")
	must(os.WriteFile(file, relocated, 0o755))
	said, err := exec.Command(file, args...).Output()
	must(err)
	lines := strings.Split(strings.TrimSuffix(string(said), "\n"), "\n")
	Expect(lines).To(HaveLen(len(all)))
	broken := 0
	for i, c := range all {
		_, report := throughStage(layout, c.path, nil, program)
		right := lines[i] == args[i]+"\t1"
		if !right {
			broken++
		}
		Expect(report.Relocatable()).To(Equal(right), "%q became %q", c.text, lines[i])
	}
	t.Logf("of %d constants %d would break, and are reported", len(all), broken)
}

// throughStage relocates a file of a store path.
func throughStage(l relocate.Layout, self storepath.Path, refs []storepath.Path, contents []byte) ([]byte, relocate.Report) {
	out := &lastFile{}
	stage := l.Rewrite(self, refs, out)
	must(errors.Join(stage.Entry(&nar.Entry{Kind: nar.Directory}),
		stage.Entry(&nar.Entry{Path: "program", Kind: nar.Regular, Executable: true, Size: int64(len(contents))})))
	_, err := stage.Write(bytes.Clone(contents))
	must(errors.Join(err, stage.Close()))
	return out.Bytes(), stage.Report()
}

// lastFile is a sink that keeps contents.
type lastFile struct{ bytes.Buffer }

func (*lastFile) Entry(*nar.Entry) error { return nil }
func (*lastFile) Close() error           { return nil }
