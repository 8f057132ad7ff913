package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
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
		for _, name := range []string{"a%03d", "b%03d-5.2.37", "%02X"} {
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

// programOf is a program that prints, for each text, a copy of it and whether the argument of that number is equal to it,
// or, for every third in C, not less.
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
			comparison := []string{"== 0", "== 0", ">= 0"}[i%3]
			fmt.Fprintf(&functions, "static __attribute__((noinline)) int g%d(char *s) { return memcmp(s, %q, %d) %s; }\n",
				i, c.text, len(c.text), comparison)
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

// compiler is a command that makes "program" of a source in a language.
type compiler struct {
	language string
	command  []string
}

// compilers are those that make programs for 64-bit ARM, each with what changes how it cuts constants.
func compilers() map[string]compiler {
	gcc := func(options ...string) compiler {
		command := []string{"aarch64-linux-gnu-gcc-14", "-static", "-s", "-o", "program", "program.c"}
		return compiler{"c", append(command, options...)}
	}
	clang := func(options ...string) compiler {
		command := []string{"clang-19", "--target=aarch64-linux-gnu", "-static", "-s", "-o", "program", "program.c"}
		return compiler{"c", append(command, options...)}
	}
	rust := func(level string) compiler {
		return compiler{"rs", []string{"rustc", "--target=aarch64-unknown-linux-gnu", "-Clinker=aarch64-linux-gnu-gcc-14",
			"-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o", "program", "-Copt-level=" + level, "program.rs"}}
	}
	golang := func(options ...string) compiler {
		command := append([]string{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", "program"}, options...)
		return compiler{"go", append(command, "program.go")}
	}
	return map[string]compiler{
		"gcc -O0": gcc("-O0"), "gcc -O1": gcc("-O1"), "gcc -O2": gcc("-O2"), "gcc -O3": gcc("-O3"), "gcc -Os": gcc("-Os"),
		"gcc, 64 KiB pages":    gcc("-O2", "-Wl,-z,max-page-size=65536,-z,common-page-size=65536"),
		"gcc, no vectors":      gcc("-O2", "-mgeneral-regs-only"),
		"gcc, literal pools":   gcc("-O2", "-mcmodel=large", "-fno-pie"),
		"gcc, when linking":    gcc("-O2", "-flto"),
		"clang -O0":            clang("-O0"),
		"clang -O1":            clang("-O1"),
		"clang -O2":            clang("-O2"),
		"clang, neoverse-n1":   clang("-O3", "-mcpu=neoverse-n1"),
		"clang -Os":            clang("-Os"),
		"clang, no vectors":    clang("-O2", "-mgeneral-regs-only"),
		"clang, literal pools": clang("-O2", "-mcmodel=large", "-fno-pie"),
		"rustc -O0":            rust("0"), "rustc -O1": rust("1"), "rustc -O2": rust("2"), "rustc -O3": rust("3"), "rustc -Os": rust("s"),
		"go": golang(), "go, not optimised": golang("-gcflags=-N -l"),
	}
}

// TestArm64Compiled is about what compilers make of constants on 64-bit ARM: relocation reports the references that it
// would break there, and no others, and what it did can be undone.
func TestArm64Compiled(t *testing.T) {
	const arch = "arm64"
	RegisterTestingT(t)
	r, err := rig.Open(rig.Options{Arch: arch})
	must(err)
	if err := errors.Join(r.Docker(t.Context()), r.Emulated(t.Context())); err != nil {
		untested.Skip(t, "%v", err)
	}
	images, err := r.Images(t.Context())
	must(err)
	cross, err := r.CrossCompilers(t.Context())
	must(err)
	for name, by := range compilers() {
		t.Run(name, func(t *testing.T) {
			RegisterTestingT(t)
			all, dir := constants(), t.TempDir()
			must(os.WriteFile(filepath.Join(dir, "program."+by.language), []byte(programOf(by.language, all)), 0o644))
			if by.language == "go" {
				build := exec.Command(by.command[0], by.command[1:]...)
				build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch, "GOFLAGS=", "GO111MODULE=off")
				out, err := build.CombinedOutput()
				Expect(err).NotTo(HaveOccurred(), "%s", out)
			} else {
				must(cross.Run(t.Context(), dir, by.command[0], by.command[1:]...))
			}
			program, err := os.ReadFile(filepath.Join(dir, "program"))
			must(err)
			checkConstants(t, all, program, func(relocated []byte, args []string) string {
				must(os.Chmod(dir, 0o755))
				must(os.WriteFile(filepath.Join(dir, "relocated"), relocated, 0o755))
				said, _, code, err := r.Output(t.Context(), images.RunScratch, rig.ContainerOptions{
					Confinement: rig.Hostile, ReadOnly: true, Entrypoint: "/app/relocated", Args: args,
					More: []string{"--volume", dir + ":/app:ro"},
				})
				must(err)
				Expect(code).To(Equal(0))
				return said
			})
		})
	}
}

// checkConstants relocates a program, runs it, and compares what each constant has become with what was said of it.
func checkConstants(t *testing.T, all []constant, program []byte, run func(relocated []byte, args []string) string) {
	view, err := relocate.NewView("/layers/nixproot_nix-hydra/view")
	must(err)
	var paths []storepath.Path
	var args []string
	for _, c := range all {
		paths = append(paths, c.path)
		args = append(args, strings.Replace(c.text, string(c.path), view.Rename(c.path), 1))
	}
	rewritten := &lastFile{}
	relocated, report := through(view.Rewrite(paths[0], paths[1:], rewritten), rewritten, program)
	Expect(report.References).To(BeNumerically(">=", 1))
	undone := &lastFile{}
	original, _ := through(view.Undo(paths, nil, undone), undone, relocated)
	Expect(bytes.Equal(original, program)).To(BeTrue(), "undoing gives another program")

	lines := strings.Split(strings.TrimSuffix(run(relocated, args), "\n"), "\n")
	Expect(lines).To(HaveLen(len(all)))
	broken, needless := 0, 0
	for i, c := range all {
		alone := &lastFile{}
		_, report := through(view.Rewrite(c.path, nil, alone), alone, program)
		switch right := lines[i] == args[i]+"\t1"; {
		case !right:
			broken++
			Expect(report.Relocatable()).To(BeFalse(), "%q became %q", c.text, lines[i])
		case !report.Relocatable():
			needless++ // the end is put there before the rest, which lies over it
		}
	}
	Expect(needless).To(BeNumerically("<=", len(all)/100))
	t.Logf("of %d constants %d would break, and are reported, and %d needlessly", len(all), broken, needless)
}

// through sends a file of a store path through a rewriter into a sink.
func through(rewriter nar.Sink, sink *lastFile, contents []byte) ([]byte, relocate.Report) {
	must(errors.Join(rewriter.Entry(&nar.Entry{Kind: nar.Directory}),
		rewriter.Entry(&nar.Entry{Path: "program", Kind: nar.Regular, Executable: true, Size: int64(len(contents))})))
	_, err := rewriter.Write(bytes.Clone(contents))
	must(errors.Join(err, rewriter.Close()))
	if rewriting, ok := rewriter.(*relocate.Rewriter); ok {
		return sink.Bytes(), rewriting.Report()
	}
	return sink.Bytes(), relocate.Report{}
}

// lastFile is a sink that keeps contents.
type lastFile struct{ bytes.Buffer }

func (*lastFile) Entry(*nar.Entry) error { return nil }
func (*lastFile) Close() error           { return nil }
