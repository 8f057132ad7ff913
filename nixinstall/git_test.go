package nixinstall_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testGitIdentity(t *testing.T, _ spec.G, it spec.S) {
	const made = 1709618828
	var dir string

	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.org"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_DATE=2024-03-05T06:07:08Z", "GIT_COMMITTER_DATE=2024-03-05T06:07:08Z",
			"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
		return strings.TrimSpace(string(out))
	}
	identity := func(dir string) nixinstall.Identity {
		t.Helper()
		id, ok, err := nixinstall.GitIdentity(t.Context(), dir)
		Expect(err).NotTo(HaveOccurred())
		Expect(ok).To(BeTrue())
		return id
	}

	it.Before(func() {
		RegisterTestingT(t)
		dir = t.TempDir()
		git("init", "--quiet", "--initial-branch=main")
		Expect(os.WriteFile(filepath.Join(dir, "a"), []byte("1"), 0o644)).To(Succeed())
		git("add", ".")
		git("commit", "--quiet", "--message=one")
		git("remote", "add", "upstream", "https://example.org/upstream")
		git("remote", "add", "origin", "https://someone:secret@example.org/app.git")
	})

	it("reads a checkout's remote, commit, branch and time, loose and packed, without git", func() {
		want := nixinstall.Identity{
			URL: "https://example.org/app.git", Rev: git("rev-parse", "HEAD"), Branch: "main", LastModified: made,
		}
		Expect(identity(dir)).To(Equal(want))
		git("gc", "--quiet")
		Expect(os.Stat(filepath.Join(dir, ".git", "packed-refs"))).NotTo(BeNil())
		Expect(identity(dir)).To(Equal(want))
	})

	it("counts the commits of a history with merges as git does, and none of a shallow one", func() {
		git("checkout", "--quiet", "-b", "side")
		git("commit", "--quiet", "--allow-empty", "--message=two")
		git("checkout", "--quiet", "main")
		git("commit", "--quiet", "--allow-empty", "--message=three")
		git("merge", "--quiet", "--no-ff", "--message=four", "side")
		for range 2 {
			n, err := nixinstall.RevCount(context.Background(), dir, git("rev-parse", "HEAD"))
			Expect(err).NotTo(HaveOccurred())
			Expect(fmt.Sprint(n)).To(Equal(git("rev-list", "--count", "HEAD")))
			git("gc", "--quiet")
		}
		shallow := filepath.Join(t.TempDir(), "shallow")
		git("clone", "--quiet", "--depth=1", "file://"+dir, shallow)
		n, err := nixinstall.RevCount(context.Background(), shallow, git("rev-parse", "HEAD"))
		Expect(err).NotTo(HaveOccurred())
		Expect(n).To(BeZero())
	})

	it("takes the remote of the branch", func() {
		git("config", "branch.main.remote", "upstream")
		Expect(identity(dir).URL).To(Equal("https://example.org/upstream"))
		git("checkout", "--quiet", "--detach")
		id := identity(dir)
		Expect(id.URL).To(Equal("https://example.org/app.git"))
		Expect(id.Branch).To(BeEmpty())
	})

	it("follows a worktree's file", func() {
		tree := filepath.Join(t.TempDir(), "tree")
		git("worktree", "add", "--quiet", "-b", "topic/x", tree)
		id := identity(tree)
		Expect(id.Branch).To(Equal("topic/x"))
		Expect(id.URL).To(Equal("https://example.org/app.git"))
		Expect(id.LastModified).To(BeEquivalentTo(made))
	})

	it("knows nothing of what is no checkout, has no commit or lost its repository", func() {
		for _, prepare := range []func(string){
			func(string) {},
			func(d string) { dir = d; git("init", "--quiet") },
			func(d string) {
				Expect(os.WriteFile(filepath.Join(d, ".git"), []byte("gitdir: ../.git/modules/x\n"), 0o644)).To(Succeed())
			},
		} {
			d := t.TempDir()
			prepare(d)
			_, ok, err := nixinstall.GitIdentity(t.Context(), d)
			Expect(err).NotTo(HaveOccurred())
			Expect(ok).To(BeFalse())
		}
	})

	it("refuses what git would not write", func() {
		for _, head := range []string{"ref: ../../../../etc/passwd", "ref: refs/../../x", "what?", "ref: HEAD"} {
			Expect(os.WriteFile(filepath.Join(dir, ".git", "HEAD"), []byte(head+"\n"), 0o644)).To(Succeed())
			_, _, err := nixinstall.GitIdentity(t.Context(), dir)
			Expect(err).To(MatchError(ContainSubstring("HEAD")), head)
		}
	})

	it("keeps the user of an ssh address and hides a password", func() {
		for given, want := range map[string]string{
			"git@example.org:me/app.git":           "git@example.org:me/app.git",
			"ssh://git:pw@example.org:22/me/app":   "ssh://git@example.org:22/me/app",
			"https://token@example.org/me/app.git": "https://example.org/me/app.git",
			"https://example.org/app?token=x#y":    "https://example.org/app",
			"https://me:12/34@example.org/app.git": "",
			"https://me:a@b/c@example.org/app.git": "",
			"me:token@example.org/me/app.git":      "",
			"/srv/git/app":                         "/srv/git/app",
		} {
			git("remote", "set-url", "origin", given)
			Expect(identity(dir).URL).To(Equal(want))
		}
	})
}
