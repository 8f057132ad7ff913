package pages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	. "github.com/onsi/gomega"
)

// workflow is what the tests below ask of a workflow of GitHub Actions.
type workflow struct {
	On   map[string]any
	Jobs map[string]struct {
		Uses        string
		Needs       string
		Permissions map[string]string
		Steps       []struct {
			Uses, Run string
			With      map[string]string
		}
	}
}

func readWorkflow(t *testing.T, name string) workflow {
	t.Helper()
	RegisterTestingT(t)
	text, err := os.ReadFile(filepath.Join(top, ".github/workflows", name))
	Expect(err).NotTo(HaveOccurred())
	var w workflow
	Expect(yaml.Unmarshal(text, &w)).To(Succeed())
	return w
}

// Of a tag GitHub knows nothing but that it was pushed.
func TestAReleaseWaitsForTheTests(t *testing.T) {
	release, ci := readWorkflow(t, "release.yml"), readWorkflow(t, "ci.yml")
	Expect(release.Jobs["release"].Needs).To(Equal("ci"))
	Expect(release.Jobs["ci"].Uses).To(Equal("./.github/workflows/ci.yml"))
	Expect(ci.On).To(HaveKey("workflow_call"))
	for name, job := range ci.Jobs {
		for permission, access := range job.Permissions {
			Expect(release.Jobs["ci"].Permissions).To(HaveKeyWithValue(permission, access), "what the job %s needs", name)
		}
	}
}

// setup-go takes the version of go.mod as it is, which is the oldest that does: its standard library is what a release must not have.
func TestAReleaseIsCompiledWithTheNewestCorrectionsOfGo(t *testing.T) {
	release := readWorkflow(t, "release.yml")
	module, err := os.ReadFile(filepath.Join(top, "go.mod"))
	Expect(err).NotTo(HaveOccurred())
	series := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(module))[1]
	found := false
	for _, step := range release.Jobs["release"].Steps {
		if strings.HasPrefix(step.Uses, "actions/setup-go@") {
			found = true
			Expect(step.With).To(HaveKeyWithValue("go-version", series+".x"))
			Expect(step.With).To(HaveKeyWithValue("check-latest", "true"))
		}
	}
	Expect(found).To(BeTrue())
}

// What a job pushes with its own token starts no workflow; to start one by name is allowed.
func TestUpdatesOfDependenciesAreTested(t *testing.T) {
	job := readWorkflow(t, "dependencies.yml").Jobs["update"]
	Expect(job.Permissions).To(HaveKeyWithValue("actions", "write"))
	Expect(job.Steps[len(job.Steps)-1].Run).To(HaveSuffix("\ngh workflow run ci.yml --ref dependencies\n"))
	Expect(readWorkflow(t, "ci.yml").On).To(HaveKey("workflow_dispatch"))
}

func TestEveryModuleIsKeptUpToDate(t *testing.T) {
	RegisterTestingT(t)
	var modules []string
	Expect(filepath.WalkDir(top, func(name string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "go.mod" && !strings.Contains(name, "/testdata/") {
			modules = append(modules, "/"+strings.TrimPrefix(strings.TrimPrefix(filepath.Dir(name), top), "/"))
		}
		return err
	})).To(Succeed())
	text, err := os.ReadFile(filepath.Join(top, ".github/dependabot.yml"))
	Expect(err).NotTo(HaveOccurred())
	var config struct {
		Updates []struct {
			Ecosystem   string `yaml:"package-ecosystem"`
			Directories []string
		}
	}
	Expect(yaml.Unmarshal(text, &config)).To(Succeed())
	var kept []string
	for _, u := range config.Updates {
		if u.Ecosystem == "gomod" {
			kept = append(kept, u.Directories...)
		}
	}
	slices.Sort(kept)
	slices.Sort(modules)
	Expect(kept).To(Equal(modules))
}

// With CDPATH, as some people export it, cd goes elsewhere or prints where it goes.
func TestEveryScriptTakesCDPathForNobodys(t *testing.T) {
	RegisterTestingT(t)
	scripts, err := filepath.Glob(filepath.Join(top, "scripts", "*"))
	Expect(err).NotTo(HaveOccurred())
	for _, name := range scripts {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), "cd ") {
			Expect(string(text)).To(MatchRegexp(`(?m)^set -eu.*\nunset CDPATH$`), name)
		}
	}
	command := exec.Command("scripts/release", "--version", "99.0.0", "--output", filepath.Join(t.TempDir(), "none"))
	command.Dir, command.Env = top, append(os.Environ(), "CDPATH=.:/")
	out, err := command.CombinedOutput()
	Expect(err).To(HaveOccurred())
	Expect(string(out)).To(HavePrefix("release: CHANGELOG.md says nothing of 99.0.0"))
}

// A release is made with stand-ins for go and pack, by somebody whose files are nobody else's, beside what another release left.
func TestAReleaseIsReadByOthersAndListsItsOwnFiles(t *testing.T) {
	g, bin, dist := NewWithT(t), packStandIns(t), t.TempDir()
	g.Expect(os.WriteFile(filepath.Join(dist, "nix-hydra-0.0.1-linux-amd64.cnb"), nil, 0o644)).To(Succeed())
	command := exec.CommandContext(t.Context(), "sh", "-c", `umask 077; exec ../../scripts/release --version 9.9.9-dev --output "$0"`, dist)
	command.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := command.CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), string(out))
	sums, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(sums)).To(MatchRegexp(`^[0-9a-f]{64}  nix-hydra-9.9.9-dev-linux-amd64.cnb\n[0-9a-f]{64}  nix-hydra-9.9.9-dev-linux-arm64.cnb\n$`))
	packed, err := os.ReadFile(filepath.Join(dist, "nix-hydra-9.9.9-dev-linux-arm64.cnb"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(packed)).To(And(MatchRegexp(`(?m)^drwxr-xr-x.* bin$`), MatchRegexp(`(?m)^-rwxr-xr-x.* main$`),
		MatchRegexp(`(?m)^-rw-r--r--.* buildpack.toml$`), Not(MatchRegexp(`(?m)^..w?.------`)),
		ContainSubstring("\n[[targets]]\nos = \"linux\"\narch = \"arm64\"\n"), Not(ContainSubstring(`arch = "amd64"`)), // which it has no programs for
		ContainSubstring(`version = "9.9.9-dev"`), ContainSubstring("name = \"SOURCE_DATE_EPOCH\"\n")))
}

// packStandIns is a directory with stand-ins for go and pack.
func packStandIns(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for name, script := range map[string]string{
		"go":   "#!/bin/sh\n[ \"$1\" = run ] && { echo " + bin + "/pack; exit; }\nwhile [ \"$1\" != -o ]; do shift; done\necho program >\"$2\"; chmod +x \"$2\"\n",
		"pack": "#!/bin/sh\n{ ls -lR \"$5\"; cat \"$5/buildpack.toml\"; } >\"$3\"\n",
	} {
		NewWithT(t).Expect(os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755)).To(Succeed())
	}
	return bin
}

// releaseOf makes a release of a checkout with another CHANGELOG.md, and gives its notes.
func releaseOf(t *testing.T, changelog, version string) string {
	t.Helper()
	g, checkout, dist := NewWithT(t), t.TempDir(), t.TempDir()
	absolute, err := filepath.Abs(top)
	g.Expect(err).NotTo(HaveOccurred())
	for _, name := range []string{"LICENSE", "README.md", "buildpack.toml", "cmd", "scripts"} {
		if name == "scripts" { // the script's place is that of the checkout
			g.Expect(os.CopyFS(filepath.Join(checkout, name), os.DirFS(filepath.Join(absolute, name)))).To(Succeed())
			continue
		}
		g.Expect(os.Symlink(filepath.Join(absolute, name), filepath.Join(checkout, name))).To(Succeed())
	}
	g.Expect(os.WriteFile(filepath.Join(checkout, "CHANGELOG.md"), []byte(changelog), 0o644)).To(Succeed())
	command := exec.CommandContext(t.Context(), filepath.Join(checkout, "scripts/release"), "--version", version, "--output", dist)
	command.Env = append(os.Environ(), "PATH="+packStandIns(t)+":"+os.Getenv("PATH"))
	out, err := command.CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), string(out))
	notes, err := os.ReadFile(filepath.Join(dist, "NOTES.md"))
	g.Expect(err).NotTo(HaveOccurred())
	return string(notes)
}

// The workflow Release runs CI first, which packages a version that is none, where "Unreleased" is empty as CONTRIBUTING.md has it.
func TestCIPackagesTheCommitThatIsReleased(t *testing.T) {
	const changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n\n### Added\n- A thing.\n"
	g := NewWithT(t)
	ci := readWorkflow(t, "ci.yml").Jobs["package"].Steps
	g.Expect(ci).To(ContainElement(HaveField("Run", HavePrefix("scripts/release --version 0.0.0-dev "))))
	g.Expect(releaseOf(t, changelog, "0.0.0-dev")).To(Equal("Nothing has changed since the last release.\n"))
	g.Expect(releaseOf(t, changelog, "1.2.3")).To(Equal("### Added\n- A thing.\n"))
}

func TestNotesOfAReleaseAreForItsPage(t *testing.T) {
	const changelog = "# Changelog\n\n## [Unreleased]\n- No [page](docs/x.md) yet.\n\n## [1.2.3] - 2026-01-31\n\n### Added\n" +
		"- A thing ([what](docs/limits.md#what-helps), [of\n  others](https://example.org/a.md)) that\n  goes on.\n- Another [sample](samples/first).\n\n" +
		"### Fixed\n- A third.\n\n## [1.2.2] - 2026-01-01\n- Old.\n\n[1.2.3]: https://example.org\n"
	g := NewWithT(t)
	const tree = "https://github.com/nixproot/nix-hydra-buildpack/blob/"
	g.Expect(releaseOf(t, changelog, "1.2.3")).To(Equal("### Added\n- A thing ([what](" + tree + "v1.2.3/docs/limits.md#what-helps), " +
		"[of others](https://example.org/a.md)) that goes on.\n- Another [sample](" + tree + "v1.2.3/samples/first).\n\n### Fixed\n- A third.\n"))
	g.Expect(releaseOf(t, changelog, "2.0.0-rc.1")).To(Equal("- No [page](" + tree + "main/docs/x.md) yet.\n"))
}

// TestWhatPeopleCopyNamesTheNewestVersion has one version in buildpack.toml and in all that names a released file or image, and once
// there are releases it is that of the newest, so that the commit which is released says so itself.
func TestWhatPeopleCopyNamesTheNewestVersion(t *testing.T) {
	g := NewWithT(t)
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(top, name))
		g.Expect(err).NotTo(HaveOccurred())
		return string(text)
	}
	version := regexp.MustCompile(`(?m)^version = "([^"]+)"`).FindStringSubmatch(read("buildpack.toml"))[1]
	if released := regexp.MustCompile(`(?m)^## \[(\d[^\]]*)\]`).FindStringSubmatch(read("CHANGELOG.md")); released != nil {
		g.Expect(version).To(Equal(released[1]), "buildpack.toml")
	}
	texts := map[string]string{"integration/documentation_world_test.go": read("integration/documentation_world_test.go")}
	for _, page := range documentation(t) {
		texts[page.Name] = read(page.Name)
	}
	for _, pattern := range []string{"samples/*/*.toml", "samples/*/*.yaml"} {
		files, err := filepath.Glob(filepath.Join(top, pattern))
		g.Expect(err).NotTo(HaveOccurred())
		for _, file := range files {
			name, err := filepath.Rel(top, file)
			g.Expect(err).NotTo(HaveOccurred())
			texts[name] = read(name)
		}
	}
	named := regexp.MustCompile(`(?:nix-hydra(?:-buildpack)?:|nix-hydra-|/nix-hydra-buildpack/releases/download/v|id = "nixproot/nix-hydra"\nversion = ")(\d+\.\d+\.\d+)\b`)
	count := 0
	for name, text := range texts {
		for _, match := range named.FindAllStringSubmatch(text, -1) {
			count++
			g.Expect(match[1]).To(Equal(version), "%s: %s", name, match[0])
		}
	}
	g.Expect(count).To(BeNumerically(">=", 15))
}
