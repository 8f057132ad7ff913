package pages_test

import (
	"crypto/sha256"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"go.yaml.in/yaml/v3"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration/pages"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

const (
	top    = "../.."
	module = "github.com/nixproot/nix-hydra-buildpack/"
)

// documentation is all that people read.
func documentation(t *testing.T) []pages.Page {
	t.Helper()
	RegisterTestingT(t)
	all, err := pages.Read(top)
	Expect(err).NotTo(HaveOccurred())
	Expect(len(all)).To(BeNumerically(">", 20))
	return all
}

var (
	inlineCode = regexp.MustCompile("`[^`\n]+`")
	link       = regexp.MustCompile(`\]\(([^()\s]+)\)`)
)

func TestEveryLinkOfTheDocumentationLeadsToAFileAndAHeading(t *testing.T) {
	all := documentation(t)
	checked := 0
	for _, p := range all {
		for _, found := range link.FindAllStringSubmatch(inlineCode.ReplaceAllString(p.Prose, ""), -1) {
			file, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(file, ":") {
				continue
			}
			checked++
			target := p.Name
			if file != "" {
				target = path.Join(path.Dir(p.Name), file)
			}
			if _, err := os.Stat(filepath.Join(top, target)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", p.Name, found[1])
				continue
			}
			if anchor == "" {
				continue
			}
			at := slices.IndexFunc(all, func(p pages.Page) bool { return p.Name == target })
			if at < 0 || !slices.Contains(all[at].Anchors(), anchor) {
				t.Errorf("%s: no heading for the link to %s", p.Name, found[1])
			}
		}
	}
	Expect(checked).To(BeNumerically(">", 100))
}

func TestEveryFileInTheDocumentationParses(t *testing.T) {
	checked := map[string]int{}
	for _, p := range documentation(t) {
		for _, b := range p.Blocks {
			var err error
			switch b.Language {
			case "yaml":
				decoder := yaml.NewDecoder(strings.NewReader(b.Text))
				for err == nil {
					var document map[string]any
					err = decoder.Decode(&document)
				}
				if err.Error() == "EOF" {
					err = nil
				}
			case "toml":
				var document map[string]any
				_, err = toml.Decode(b.Text, &document)
			}
			if err != nil {
				t.Errorf("%s: %s\n%s", p.Name, err, b.Text)
			}
			checked[b.Language]++
		}
	}
	Expect(checked["yaml"]).To(BeNumerically(">", 8))
	Expect(checked["toml"]).To(BeNumerically(">", 4))
}

// What a page says to copy is a sample's, which other tests build.
func TestWhatTheDocumentationSaysToCopyIsASample(t *testing.T) {
	for name, sample := range map[string]string{"README.md": "samples/first", "docs/kpack.md": "samples/kpack"} {
		all := documentation(t)
		p := all[slices.IndexFunc(all, func(p pages.Page) bool { return p.Name == name })]
		files, err := os.ReadDir(filepath.Join(top, sample))
		Expect(err).NotTo(HaveOccurred())
		for _, file := range files {
			if file.Name() == "README.md" {
				continue
			}
			text, err := os.ReadFile(filepath.Join(top, sample, file.Name()))
			Expect(err).NotTo(HaveOccurred())
			if !slices.ContainsFunc(p.Blocks, func(b pages.Block) bool { return b.Text == string(text) }) {
				t.Errorf("%s does not have %s/%s as it is", name, sample, file.Name())
			}
		}
	}
}

// sources gives each Go file below the top to a function, by its name from there.
func sources(each func(name, text string)) {
	Expect(filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".go" {
			return err
		}
		text, err := os.ReadFile(name)
		rel, _ := filepath.Rel(top, name)
		each(rel, string(text))
		return err
	})).To(Succeed())
}

func TestScriptsTestsAndFilesThatTheDocumentationNamesExist(t *testing.T) {
	all := documentation(t)
	var tests []string
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
	sources(func(name, text string) {
		if strings.HasSuffix(name, "_test.go") {
			for _, found := range declared.FindAllStringSubmatch(text, -1) {
				tests = append(tests, found[1])
			}
		}
	})
	test := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z][A-Za-z0-9]*\b`)
	file := regexp.MustCompile(`^(?:\./)?(?:appdir|cmd|closure|docs|image|inspect|integration|internal|launch|nixinstall|nixproot|procfile|roots|samples|sbom|scripts|verify)/[\w./-]*[\w]$`)
	word := regexp.MustCompile("[^\\s`'\"(),;:|]+")
	run := regexp.MustCompile(`-run ('[^']*'|\S+)`)
	names, files := 0, 0
	for _, p := range all {
		for _, found := range test.FindAllString(run.ReplaceAllString(p.Whole(), ""), -1) {
			names++
			if !slices.Contains(tests, found) {
				t.Errorf("%s: there is no test %s", p.Name, found)
			}
		}
		for _, pattern := range run.FindAllString(p.Whole(), -1) { // may be the beginning of several names
			for _, found := range test.FindAllString(pattern, -1) {
				if !slices.ContainsFunc(tests, func(name string) bool { return strings.HasPrefix(name, found) }) {
					t.Errorf("%s: there is no test for %s", p.Name, pattern)
				}
			}
		}
		said := strings.Join(inlineCode.FindAllString(p.Prose, -1), "\n")
		for _, b := range p.Blocks {
			said += "\n" + b.Text
		}
		for _, found := range word.FindAllString(said, -1) {
			found = strings.TrimSuffix(found, "/...")
			if !file.MatchString(found) || found == "nixproot/nix-hydra" { // the buildpack's ID
				continue
			}
			files++
			if _, err := os.Stat(filepath.Join(top, found)); err != nil {
				t.Errorf("%s: there is no %s", p.Name, found)
			}
		}
	}
	Expect(names).To(BeNumerically(">", 20))
	Expect(files).To(BeNumerically(">", 40))
}

// TestSupportedVersionsAreThoseThatArePinned holds the page of limits and the workflows to copy to what is updated elsewhere, by
// scripts/update and by pull requests of a bot.
func TestSupportedVersionsAreThoseThatArePinned(t *testing.T) {
	RegisterTestingT(t)
	text := func(name string) string {
		text, err := os.ReadFile(filepath.Join(top, name))
		Expect(err).NotTo(HaveOccurred())
		return string(text)
	}
	const rigged = "integration/rig/pack.go"
	for _, c := range []struct{ page, line, file, pinned string }{
		{"docs/limits.md", "| Nix that evaluates |", "buildpack.toml", `id = "nix"\nname = "Nix"\nversion = "([^"]+)"`},
		{"docs/limits.md", "| kpack |", "integration/kpack/go.mod", `github.com/pivotal/kpack v(\S+)`},
		{"docs/limits.md", "| Tekton |", "integration/tekton/go.mod", `github.com/tektoncd/pipeline v(\S+)`},
		{"docs/limits.md", "| pack |", rigged, `packVersion += "v([^"]+)"`},
		{"docs/limits.md", "| lifecycle |", rigged, `\sLifecycleVersion = "v([^"]+)"`},
		{"docs/limits.md", "| lifecycle |", rigged, `HerokuLifecycleVersion = "v([^"]+)"`},
		{"docs/limits.md", "| Buildpack API |", "buildpack.toml", `api = "([^"]+)"`},
		{"docs/github-actions.md", "buildpacks/pack/releases", rigged, `packVersion += "(v[^"]+)"`},
		{"docs/gitlab-ci.md", "buildpacks/pack/releases", rigged, `packVersion += "(v[^"]+)"`},
	} {
		pinned := regexp.MustCompile(c.pinned).FindStringSubmatch(text(c.file))
		Expect(pinned).To(HaveLen(2), "%s: %s", c.file, c.pinned)
		found := false
		for line := range strings.Lines(text(c.page)) {
			found = found || strings.Contains(line, c.line) && strings.Contains(line, pinned[1])
		}
		Expect(found).To(BeTrue(), "%s: %q lacks %s, which %s has", c.page, c.line, pinned[1], c.file)
	}
}

func TestEverySettingIsReadAndDeclaredAndDocumented(t *testing.T) {
	all := documentation(t)
	name := regexp.MustCompile(`\b(?:BPL?_[A-Z][A-Z_]*[A-Z]|NIX_EXTRA_BINARY_CACHE|NIX_ATTRIBUTES|NIX_CONFIG|NIXPKGS_[A-Z_]*[A-Z]|SOURCE_DATE_EPOCH)\b`)
	// That of a library which this buildpack is made with.
	others := []string{"BP_DEPENDENCY_MIRROR"}

	beginnings := []string{"BP_NIX", "BPL_NIX"} // of names
	var descriptor struct {
		API      string
		Metadata struct {
			Configurations []struct{ Name, Default string }
		}
	}
	_, err := toml.DecodeFile(filepath.Join(top, "buildpack.toml"), &descriptor)
	Expect(err).NotTo(HaveOccurred())
	Expect(descriptor.API).To(Equal(launchlayer.BuildpackAPI))
	var declared []string
	defaults := map[string]string{}
	for _, c := range descriptor.Metadata.Configurations {
		declared = append(declared, c.Name)
		defaults[c.Name] = c.Default
	}
	Expect(len(declared)).To(BeNumerically(">", 20))

	codeSpan := regexp.MustCompile("^`[^`]*`$") // a default, where the cell has no words
	read := map[string]bool{}
	literal := regexp.MustCompile(`"` + name.String() + `"`)
	sources(func(file, text string) {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "integration") {
			return
		}
		for _, found := range literal.FindAllString(text, -1) {
			if found = strings.Trim(found, `"`); !slices.Contains(beginnings, found) && !slices.Contains(others, found) {
				read[found] = true
			}
		}
	})
	Expect(slices.Sorted(maps.Keys(read))).To(Equal(slices.Sorted(slices.Values(declared))), "read, and declared in buildpack.toml")

	for _, p := range all {
		if p.Name == "README.md" {
			var table []string
			_, settings, _ := strings.Cut(p.Prose, "\n## Settings\n")
			for line := range strings.Lines(settings) {
				if strings.HasPrefix(line, "## ") {
					break
				}
				if strings.HasPrefix(line, "| `") {
					cells := strings.Split(line, "|")
					names := name.FindAllString(cells[1], -1)
					table = append(table, names...)
					value := strings.TrimSpace(cells[len(cells)-2])
					for _, n := range names {
						if defaults[n] != "" || codeSpan.MatchString(value) {
							Expect(value).To(Equal("`"+defaults[n]+"`"), "the default of %s", n)
						}
					}
				}
			}
			Expect(slices.Sorted(slices.Values(table))).To(Equal(slices.Sorted(slices.Values(declared))), "in README.md's table")
		}
		for _, found := range name.FindAllString(p.Whole(), -1) {
			if !slices.Contains(declared, found) && !slices.Contains(others, found) {
				t.Errorf("%s: %s is no setting", p.Name, found)
			}
		}
	}
}

// The table of packages has every package, and what a package imports stands below it.
func TestImportsPointDownwardsInTheTableOfPackages(t *testing.T) {
	all := documentation(t)
	architecture := all[slices.IndexFunc(all, func(p pages.Page) bool { return p.Name == "docs/architecture.md" })]
	row := map[string]int{}
	for n, line := range strings.Split(architecture.Prose, "\n") {
		if found := regexp.MustCompile("^\\| `([a-z/]+)` \\| ").FindStringSubmatch(line); found != nil {
			row[found[1]] = n
		}
	}
	// rowOf is the row of a package, or of the nearest one that it is part of.
	rowOf := func(name string) (int, string) {
		for ; name != "."; name = path.Dir(name) {
			if n, ok := row[name]; ok {
				return n, name
			}
		}
		return -1, ""
	}
	imports := 0
	sources(func(file, text string) {
		if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "testdata") || strings.HasPrefix(file, "docs/") {
			return
		}
		from, is := rowOf(path.Dir(file))
		if from < 0 {
			t.Errorf("docs/architecture.md does not name the package of %s", file)
			return
		}
		if is == "integration" { // the tests import everything
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ImportsOnly)
		Expect(err).NotTo(HaveOccurred())
		for _, spec := range parsed.Imports {
			name, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ours {
				continue
			}
			imports++
			to, of := rowOf(name)
			if to < from {
				t.Errorf("%s, of %s, imports %s, which stands above it in the table of packages", file, is, of)
			}
		}
	})
	Expect(imports).To(BeNumerically(">", 50))
}

// What tests the whole buildpack imports its packages, and none of them imports it, nor do their own tests.
func TestOnlyIntegrationImportsIntegration(t *testing.T) {
	RegisterTestingT(t)
	files := 0
	sources(func(file, text string) {
		if strings.HasPrefix(file, "integration/") {
			return
		}
		files++
		parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ImportsOnly)
		Expect(err).NotTo(HaveOccurred())
		for _, spec := range parsed.Imports {
			if name := strings.Trim(spec.Path.Value, `"`); strings.HasPrefix(name+"/", module+"integration/") {
				t.Errorf("%s imports %s", file, name)
			}
		}
	})
	Expect(files).To(BeNumerically(">", 300))
}

// script runs one of scripts/ with a stand-in for go, which writes a file where a program is to be.
func script(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(top, "scripts", args[0]), args[1:]...)
	bin := t.TempDir()
	NewWithT(t).Expect(os.WriteFile(filepath.Join(bin, "go"), []byte("#!/bin/sh\n[ \"$1\" = env ] && { echo amd64; exit; }\n"+
		"while [ \"$1\" != -o ]; do shift; done\necho program >\"$2\"\n"), 0o755)).To(Succeed())
	command.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var stdout, stderr strings.Builder
	command.Stdout, command.Stderr = &stdout, &stderr
	_ = command.Run()
	return command.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestScriptsExplainThemselves(t *testing.T) {
	for name, options := range map[string][]string{
		"package": {"--output", "--arch", "--offline", "--cnb"}, "release": {"--version", "--output", "--publish"},
		"fuzz": {"--minutes"}, "lint": {}, "soak": {"--minutes", "--seed"}, "survey": {"--cache", "--channel", "--key", "--packages", "--output"},
	} {
		g := NewWithT(t)
		status, help, errs := script(t, name, "--help")
		g.Expect(status).To(Equal(0), name)
		g.Expect(help).To(ContainSubstring("  scripts/"+name+" "), name)
		g.Expect(errs).To(BeEmpty(), name)
		status, out, errs := script(t, name, "--nothing")
		g.Expect(status).To(Equal(2), name)
		g.Expect(out).To(BeEmpty(), name)
		g.Expect(errs).To(Equal(name + ": unknown argument --nothing\n" + help))
		for _, option := range options {
			status, _, errs := script(t, name, option)
			g.Expect(status).To(Equal(2), name)
			g.Expect(errs).To(MatchRegexp("^%s: %s needs an? [a-zA-Z]+\n$", name, option))
		}
	}
	g := NewWithT(t)
	status, help, errs := script(t, "test", "--help") // all else is go test's
	g.Expect(status).To(Equal(0))
	g.Expect(help).To(ContainSubstring("  scripts/test "))
	g.Expect(errs).To(BeEmpty())
}

func TestLongScriptsRefuseBeforeTheyBegin(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"soak", "--minutes", "ten"}, "soak: ten is not a whole number of 1 or more\n"},
		{[]string{"soak", "--seed", "0"}, "soak: 0 is not a whole number of 1 or more\n"},
		{[]string{"soak", "signals", "nothing"}, "soak: there is no part nothing; --list has them\n"},
		{[]string{"fuzz", "--minutes", "1s"}, "fuzz: 1s is not a whole number of 1 or more\n"},
		{[]string{"fuzz", "./closure/nar:FuzzNothing"}, "fuzz: there is no target ./closure/nar:FuzzNothing; --list has them\n"},
	} {
		status, out, errs := script(t, c.args...)
		NewWithT(t).Expect(status).To(Equal(2), errs)
		NewWithT(t).Expect(out + errs).To(Equal(c.want))
	}
}

func TestThePackageScriptRefusesBeforeItCompiles(t *testing.T) {
	g, top := NewWithT(t), t.TempDir()
	both := filepath.Join(top, "both")
	g.Expect(os.MkdirAll(filepath.Join(both, "linux/amd64"), 0o755)).To(Succeed())
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--arch", "aarch64"}, "--arch is amd64 or arm64, not aarch64"},
		{[]string{"--cnb", filepath.Join(top, "none/x.cnb")}, "--cnb: there is no directory " + top + "/none"},
		{[]string{"--cnb", filepath.Join(top, "x.tar")}, "--cnb: the file's name has to end in .cnb, and " + top + "/x.tar does not"},
		{[]string{"--offline", filepath.Join(top, "none")}, "--offline: there is no directory " + top + "/none"},
		{[]string{"--offline", both}, "--offline: there is no file in " + both},
	} {
		dir := filepath.Join(top, "buildpack")
		status, _, errs := script(t, append([]string{"package", "--output", dir}, c.args...)...)
		g.Expect(status).To(Equal(2))
		g.Expect(errs).To(Equal("package: " + c.want + "\n"))
		g.Expect(dir).NotTo(BeAnExistingFile())
	}
	_, _, errs := script(t, "package", "--output", both, "--arch", "amd64", "--arch", "amd64")
	g.Expect(errs).To(HavePrefix("package: --output: " + both + " has a package for both architectures"))
	status, out, errs := script(t, "package", "--output", both, "--arch", "amd64", "--arch", "arm64")
	g.Expect(status).To(Equal(0), errs)
	g.Expect(out).To(Equal(both + "\n"))
}

// The bash that macOS has is of before mapfile, and the README has people there run this script.
func TestThePackageScriptNeedsNoNewBash(t *testing.T) {
	g, top := NewWithT(t), t.TempDir()
	g.Expect(os.WriteFile(filepath.Join(top, "old"), []byte("enable -n mapfile readarray\n"), 0o644)).To(Succeed())
	g.Expect(os.Mkdir(filepath.Join(top, "offline"), 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(top, "offline/a b"), nil, 0o644)).To(Succeed())
	t.Setenv("BASH_ENV", filepath.Join(top, "old"))
	status, _, errs := script(t, "package", "--output", filepath.Join(top, "buildpack"), "--arch", "arm64", "--arch", "amd64", "--arch", "arm64",
		"--offline", filepath.Join(top, "offline"))
	g.Expect(status).To(Equal(0), errs)
	g.Expect(strings.Count(errs, "package: compiling for ")).To(Equal(2))
	g.Expect(errs).To(ContainSubstring("no build uses " + top + "/offline/a b"))
}

// What comes with a package and is not what its buildpack.toml pins would lie there unused.
func TestThePackageScriptNamesWhatNoBuildWillUse(t *testing.T) {
	g, top := NewWithT(t), t.TempDir()
	g.Expect(os.WriteFile(filepath.Join(top, "nix.tar.xz"), []byte("another"), 0o644)).To(Succeed())
	status, _, errs := script(t, "package", "--output", filepath.Join(top, "buildpack"), "--offline", top)
	g.Expect(status).To(Equal(0), errs)
	g.Expect(errs).To(ContainSubstring("warning: no build uses " + top + "/nix.tar.xz, as buildpack.toml has no dependency with its hash, sha256:"))
}

// Of a package for both architectures pack takes linux/ARCH for itself; pack build takes the whole directory.
func TestThePackageOfBothArchitecturesIsWholeForEachAndByItself(t *testing.T) {
	g, top := NewWithT(t), t.TempDir()
	offline, both := filepath.Join(top, "offline"), filepath.Join(top, "both")
	g.Expect(os.Mkdir(offline, 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(offline, "nix.tar.xz"), []byte("nix"), 0o644)).To(Succeed())
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("nix")))
	for _, args := range [][]string{{}, {"--arch", "amd64", "--arch", "arm64"}} { // the second time over what is there
		status, _, errs := script(t, append([]string{"package", "--output", both, "--offline", offline}, args...)...)
		g.Expect(status).To(Equal(0), errs)
	}
	for _, root := range []string{"", "linux/amd64", "linux/arm64"} {
		for _, name := range []string{"LICENSE", "README.md", "dependencies/" + sum + ".toml", "dependencies/" + sum + "/nix.tar.xz",
			"bin/main", "bin/launch", "bin/build", "bin/detect", "bin/inspect", "bin/survey", "bin/verify"} {
			g.Expect(filepath.Join(both, root, name)).To(BeARegularFile(), root)
		}
	}
	g.Expect(filepath.Join(both, "buildpack.toml")).To(BeARegularFile())
	g.Expect(filepath.EvalSymlinks(filepath.Join(both, "bin/build"))).To(HaveSuffix("/linux/amd64/bin/main"))
}

func TestTheReleaseScriptWritesNothingOfAVersionWithoutNotes(t *testing.T) {
	g, dir := NewWithT(t), filepath.Join(t.TempDir(), "dist")
	status, _, errs := script(t, "release", "--version", "999.9.9", "--output", dir)
	g.Expect(status).To(Equal(1))
	g.Expect(errs).To(Equal("release: CHANGELOG.md says nothing of 999.9.9: give it a part \"## [999.9.9]\", which is the release's notes\n"))
	g.Expect(dir).NotTo(BeAnExistingFile())
}
