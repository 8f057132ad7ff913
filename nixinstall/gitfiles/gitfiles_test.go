package gitfiles_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

func TestGitFiles(t *testing.T) {
	spec.Run(t, "Repository", testRepository, spec.Report(report.Terminal{}))
	spec.Run(t, "Hostile", testHostile, spec.Report(report.Terminal{}))
}

// git runs the real one.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	command := exec.Command("git", args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org",
		"GIT_COMMITTER_DATE=2026-08-01T00:00:00Z")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// checkout makes a repository with two commits, so that packing makes deltas.
func checkout(t *testing.T, init ...string) (dir, rev string) {
	t.Helper()
	g := NewWithT(t)
	dir = t.TempDir()
	git(t, dir, append([]string{"init", "-q"}, init...)...)
	write := func(name, text string, mode os.FileMode) {
		g.Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
		g.Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), mode)).To(Succeed())
	}
	long := strings.Repeat("a line that is here again and again, and compresses well enough\n", 400)
	write("shell.nix", long, 0o644)
	write("bin/run", "#!/bin/sh\n", 0o755)
	write("sub/dir/name with blanks", "x", 0o644)
	g.Expect(os.Symlink("shell.nix", filepath.Join(dir, "link"))).To(Succeed())
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "one")
	write("shell.nix", long+"changed\n", 0o644)
	git(t, dir, "commit", "-q", "-a", "-m", "two")
	write("untracked", "u", 0o644)
	return dir, git(t, dir, "rev-parse", "HEAD")
}

func testRepository(t *testing.T, when spec.G, it spec.S) {
	wanted := func(dir string) map[string]gitfiles.File {
		files := map[string]gitfiles.File{}
		for _, line := range strings.Split(git(t, dir, "ls-tree", "-r", "-z", "HEAD"), "\x00") {
			if head, name, found := strings.Cut(line, "\t"); found {
				fields := strings.Fields(head)
				mode := map[string]gitfiles.Mode{"100644": gitfiles.Regular, "100755": gitfiles.Executable,
					"120000": gitfiles.Symlink}[fields[0]]
				files[name] = gitfiles.File{Mode: mode, ID: fields[2]}
			}
		}
		return files
	}
	check := func(dir, rev, from string) {
		t.Helper()
		g := NewWithT(t)
		r, err := gitfiles.Open(t.Context(), dir)
		g.Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		s, err := r.Snapshot(t.Context(), rev)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Files).To(Equal(wanted(dir)))
		g.Expect(s.Files).To(HaveLen(4))
		g.Expect(s.From).To(HavePrefix(from))
		if from == "the index" {
			return
		}
		blob, err := r.Blob(t.Context(), s.Files["shell.nix"].ID)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(blob)).To(HaveSuffix("changed\n"))
		c, err := r.Commit(t.Context(), rev)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(c.Time.Format("2006-01-02")).To(Equal("2026-08-01"))
		g.Expect(c.Parents).To(HaveLen(1))
		old, err := r.Commit(t.Context(), c.Parents[0])
		g.Expect(err).NotTo(HaveOccurred())
		before, err := r.Snapshot(t.Context(), c.Parents[0])
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(old.Tree).NotTo(Equal(c.Tree))
		blob, err = r.Blob(t.Context(), before.Files["shell.nix"].ID)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(blob)).NotTo(HaveSuffix("changed\n"))
	}

	it("lists a commit's files from loose objects", func() {
		dir, rev := checkout(t)
		check(dir, rev, "commit "+rev[:12])
	})

	it("lists a commit's files from a pack with deltas", func() {
		dir, rev := checkout(t)
		git(t, dir, "repack", "-adfq", "--depth=50")
		git(t, dir, "prune-packed")
		check(dir, rev, "commit")
	})

	it("reads a repository whose objects are named by SHA-256", func() {
		dir, rev := checkout(t, "--object-format=sha256")
		check(dir, rev, "commit")
		git(t, dir, "repack", "-adfq")
		check(dir, rev, "commit")
	})

	it("reads a worktree, which borrows everything", func() {
		dir, rev := checkout(t)
		tree := filepath.Join(t.TempDir(), "tree")
		git(t, dir, "worktree", "add", "-q", tree)
		check(tree, rev, "commit")
	})

	it("reads a clone that borrows its objects", func() {
		dir, rev := checkout(t)
		clone := filepath.Join(t.TempDir(), "clone")
		git(t, filepath.Dir(clone), "clone", "-q", "--shared", dir, clone)
		check(clone, rev, "commit")
	})

	for _, version := range []string{"2", "3", "4"} {
		it("falls back to an index of version "+version+" where the objects are not there", func() {
			dir, rev := checkout(t)
			git(t, dir, "update-index", "--index-version", version)
			if version == "3" { // extended flags are what makes git write version 3
				NewWithT(t).Expect(os.WriteFile(filepath.Join(dir, "later"), nil, 0o644)).To(Succeed())
				git(t, dir, "add", "-N", "later")
			}
			files := wanted(dir)
			NewWithT(t).Expect(os.RemoveAll(filepath.Join(dir, ".git/objects"))).To(Succeed())
			r, err := gitfiles.Open(t.Context(), dir)
			NewWithT(t).Expect(err).NotTo(HaveOccurred())
			s, err := r.Snapshot(t.Context(), rev)
			NewWithT(t).Expect(err).NotTo(HaveOccurred())
			NewWithT(t).Expect(s.From).To(Equal("the index"))
			NewWithT(t).Expect(s.Files).To(Equal(files))
		})
	}

	it("says that refs are in a reftable, which it does not read", func() {
		g := NewWithT(t)
		dir := t.TempDir()
		for name, text := range map[string]string{"HEAD": "ref: refs/heads/.invalid\n", "refs/heads": "this repository uses the reftable format\n",
			"config": "[core]\n\trepositoryformatversion = 1\n[extensions]\n\trefstorage = reftable\n"} {
			g.Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, ".git", name)), 0o755)).To(Succeed())
			g.Expect(os.WriteFile(filepath.Join(dir, ".git", name), []byte(text), 0o644)).To(Succeed())
		}
		r, err := gitfiles.Open(t.Context(), dir)
		g.Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		_, _, err = r.Head(t.Context())
		g.Expect(err).To(MatchError(ContainSubstring("reftable")))
	})

	it("says that a directory is no checkout", func() {
		r, err := gitfiles.Open(t.Context(), t.TempDir())
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		NewWithT(t).Expect(r).To(BeNil())
	})

	it("refuses an object whose content does not have its name", func() {
		dir, rev := checkout(t)
		s := wanted(dir)
		object := func(id string) string { return filepath.Join(dir, ".git/objects", id[:2], id[2:]) }
		other, err := os.ReadFile(object(s["bin/run"].ID))
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		NewWithT(t).Expect(os.Chmod(object(s["shell.nix"].ID), 0o644)).To(Succeed())
		NewWithT(t).Expect(os.WriteFile(object(s["shell.nix"].ID), other, 0o644)).To(Succeed())
		r, err := gitfiles.Open(t.Context(), dir)
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		_, err = r.Snapshot(t.Context(), rev)
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		_, err = r.Blob(t.Context(), s["shell.nix"].ID)
		NewWithT(t).Expect(err).To(MatchError(ContainSubstring("does not have this name")))
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte("DIRC\x00\x00\x00\x02\x00\x00\x00\x00aaaaaaaaaaaaaaaaaaaa"))
	f.Add(append([]byte("DIRC\x00\x00\x00\x04\x00\x00\x00\x01"), bytes.Repeat([]byte{0}, 90)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := gitfiles.ParseIndex(data, 20)
		if err != nil && files != nil {
			t.Fatal("files with an error")
		}
	})
}
