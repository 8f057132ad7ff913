package nixproot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/paketo-buildpacks/libpak/v2/log"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// TestFindIdentity takes the source's revision from whoever knows it, in the order that docs/source.md has, without
// anybody's password, and passes over what is none.
func TestFindIdentity(t *testing.T) {
	const commit, other = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"
	kpack := "[source]\n  type = \"git\"\n  [source.metadata]\n    repository = \"https://me:secret@example.org/app\"\n    revision = \"main\"\n" +
		"  [source.version]\n    commit = \"" + commit + "\"\n"
	longest := "https://example.org/" + strings.Repeat("x", 2048-len("https://example.org/"))
	for _, c := range []struct {
		name     string
		metadata string
		env      map[string]string
		settings roots.Settings
		rev, url string
		log      string
	}{
		{name: "nobody", env: map[string]string{"GITHUB_REPOSITORY": "me/app"}},
		{name: "kpack", metadata: kpack, env: map[string]string{"SOURCE_VERSION": other}, rev: commit, url: "https://example.org/app",
			log: "Revision " + commit + " of https://example.org/app, as project-metadata.toml says"},
		{name: "pack", metadata: "[source]\ntype = \"git\"\n[source.version]\ncommit = \"" + commit + "\"\ndescribe = \"v1\"\n" +
			"[source.metadata]\nurl = \"git@example.org:me/app.git\"\nrefs = [\"main\"]\n", rev: commit, url: "git@example.org:me/app.git"},
		{name: "an image", metadata: "[source]\ntype = \"image\"\n[source.version]\ndigest = \"" + commit + "\"\n" +
			"[source.metadata]\nrepository = \"index.docker.io/x\"\n"},
		{name: "a blob", metadata: "[source]\ntype = \"blob\"\n[source.version]\nSHA256 = \"x\"\n[source.metadata]\nurl = \"https://x\"\n"},
		{name: "broken TOML", metadata: "[source", env: map[string]string{"SOURCE_VERSION": commit}, rev: commit,
			log: "The platform's project-metadata.toml cannot be read"},
		{name: "another commit", metadata: "[source.version]\ncommit = \"main\\u001b[31m\"\n",
			log: `The revision in project-metadata.toml is passed over, as "main\x1b[31m" is no commit`},
		{name: "Heroku", env: map[string]string{"SOURCE_VERSION": commit + "\n"}, rev: commit,
			log: "Revision " + commit + ", as SOURCE_VERSION (Heroku) says"},
		{name: "Heroku's API", env: map[string]string{"SOURCE_VERSION": "v1.3.0"}, log: "The revision in SOURCE_VERSION (Heroku) is passed over"},
		{name: "GitHub", env: map[string]string{"GITHUB_SHA": commit, "GITHUB_REPOSITORY": "me/app"}, rev: commit,
			url: "https://github.com/me/app", log: "as GITHUB_SHA (GitHub Actions) says"},
		{name: "GitHub Enterprise", env: map[string]string{"GITHUB_SHA": commit, "GITHUB_REPOSITORY": "me/app",
			"GITHUB_SERVER_URL": "https://github.example.org"}, rev: commit, url: "https://github.example.org/me/app"},
		{name: "GitLab", env: map[string]string{"CI_COMMIT_SHA": commit, "CI_REPOSITORY_URL": "https://gitlab-ci-token:secret@example.org/app.git"},
			rev: commit, url: "https://example.org/app.git", log: "as CI_COMMIT_SHA (GitLab CI) says"},
		{name: "a password that does not parse", env: map[string]string{"CI_COMMIT_SHA": commit,
			"CI_REPOSITORY_URL": "https://a:secret%zz@example.org/app.git"}, rev: commit},
		{name: "the rest of what Heroku says", env: map[string]string{"SOURCE_VERSION": commit, "CI_COMMIT_SHA": commit,
			"CI_PROJECT_URL": "https://example.org/app"}, rev: commit, url: "https://example.org/app"},
		{name: "two that know the repository", metadata: kpack, env: map[string]string{"GITHUB_SHA": commit,
			"GITHUB_REPOSITORY": "me/other"}, rev: commit, url: "https://example.org/app"},
		{name: "a commit beside the revision", metadata: "[source.version]\ncommit = \"" + commit + "\"\n[source.metadata]\nrevision = \"" +
			other + "\"\n", rev: commit},
		{name: "a commit as the revision", metadata: "[source.metadata]\nrevision = \"" + commit + "\"\n", rev: commit},
		{name: "another's repository", env: map[string]string{"SOURCE_VERSION": commit, "CI_COMMIT_SHA": other,
			"CI_PROJECT_URL": "https://example.org/app"}, rev: commit},
		{name: "a branch as the revision", metadata: "[source.metadata]\nrevision = \"main\"\n"},
		{name: "the largest file", metadata: kpack + "#" + strings.Repeat("x", 1<<20-len(kpack)-1), rev: commit,
			url: "https://example.org/app"},
		{name: "a larger one", metadata: kpack + "#" + strings.Repeat("x", 1<<20-len(kpack)),
			log: "The platform's project-metadata.toml cannot be read"},
		{name: "no address", env: map[string]string{"CI_COMMIT_SHA": commit, "CI_PROJECT_URL": "https://example.org/a b"}, rev: commit},
		{name: "the longest address", env: map[string]string{"CI_COMMIT_SHA": commit, "CI_PROJECT_URL": longest}, rev: commit, url: longest},
		{name: "a longer one", env: map[string]string{"CI_COMMIT_SHA": commit, "CI_PROJECT_URL": longest + "x"}, rev: commit},
		{name: "a long text", env: map[string]string{"SOURCE_VERSION": strings.Repeat("x", 81)},
			log: `is passed over, as "` + strings.Repeat("x", 80) + `" is no commit`},
		{name: "no commit at all", env: map[string]string{"GITHUB_SHA": "0000000000000000000000000000000000000000"}, log: "is no commit"},
		{name: "the settings", metadata: kpack, settings: roots.Settings{GitRev: "latest", GitURL: "https://a:secret@example.org/mine"},
			rev: commit, url: "https://example.org/app", log: "Revision latest of https://example.org/mine, as BP_NIX_GIT_REV says"},
	} {
		g, layers := NewWithT(t), t.TempDir()
		if c.metadata != "" {
			g.Expect(os.WriteFile(filepath.Join(layers, projectMetadata), []byte(c.metadata), 0o644)).To(Succeed())
		}
		var said bytes.Buffer
		s := &inputs{source: t.TempDir(), layersRoot: layers, config: Config{Settings: c.settings}}
		lookup := func(name string) (string, bool) { value, ok := c.env[name]; return value, ok }
		id, err := Build{Logger: log.NewPaketoLogger(&said)}.findIdentity(t.Context(), s, lookup)
		g.Expect(err).NotTo(HaveOccurred(), c.name)
		g.Expect(id.Rev).To(Equal(c.rev), c.name)
		g.Expect(id.URL).To(Equal(c.url), c.name)
		g.Expect(said.String()).To(ContainSubstring(c.log), c.name)
		g.Expect(said.String()).NotTo(ContainSubstring("secret"), c.name)
		if c.rev+c.log == "" {
			g.Expect(said.String()).To(BeEmpty(), c.name)
		}
	}
}

// TestFindIdentityOfCheckout believes .git first, and nobody is asked where the settings name the store paths.
func TestFindIdentityOfCheckout(t *testing.T) {
	g, dir := NewWithT(t), t.TempDir()
	out, err := exec.Command("git", "-C", dir, "-c", "init.defaultBranch=main", "init", "--quiet").CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), "%s", out)
	const commit = "0123456789abcdef0123456789abcdef01234567"
	g.Expect(os.WriteFile(filepath.Join(dir, ".git/refs/heads/main"), []byte(commit+"\n"), 0o644)).To(Succeed())
	var said bytes.Buffer
	b := Build{Logger: log.NewPaketoLogger(&said)}
	s := &inputs{source: dir, layersRoot: t.TempDir()}
	lookup := func(name string) (string, bool) {
		return map[string]string{"SOURCE_VERSION": "89abcdef0123456789abcdef0123456789abcdef"}[name], true
	}
	id, err := b.findIdentity(t.Context(), s, lookup)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(id.Rev).To(Equal(commit))
	g.Expect(said.String()).To(ContainSubstring("as .git says"))

	g.Expect(os.Remove(filepath.Join(dir, ".git/HEAD"))).To(Succeed())
	g.Expect(unix.Mkfifo(filepath.Join(dir, ".git/HEAD"), 0o644)).To(Succeed())
	id, err = b.findIdentity(t.Context(), s, lookup)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(id.Rev).To(HavePrefix("89abcdef"))
	g.Expect(said.String()).To(ContainSubstring("The source's .git cannot be read, and so its revision is not known"))

	s.config.StorePaths = []storepath.Path{"/nix/store/00000000000000000000000000000000-x"}
	said.Reset()
	id, err = b.findIdentity(t.Context(), s, lookup)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(id.Rev).To(BeEmpty())
	g.Expect(said.String()).To(BeEmpty())
}
