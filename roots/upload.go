package roots

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/sourcefile"
)

// uploadDiff is in what an upload differs from what git has.
type uploadDiff struct {
	// extra are in the upload only: files, folders with nothing of git's in them, and empty folders.
	extra []string
	// missing are in git only; changed have another content, modes another executable bit or type.
	missing, changed, modes []string
	// endings are changed files that only differ in line endings; pointers those that git LFS keeps elsewhere.
	endings, pointers []string
}

func (u uploadDiff) isZero() bool {
	return len(u.extra)+len(u.missing)+len(u.changed)+len(u.modes) == 0
}

// upload compares what was sent with what git has, and where they differ evaluates what git has: if a cache has that,
// the difference is the cause.
func (d *diagnosis) upload(ctx context.Context) []Cause {
	limited, cancel := context.WithTimeoutCause(ctx, gitTime, fmt.Errorf("it took longer than %s", gitTime))
	defer cancel()
	repository, err := gitfiles.Open(limited, d.Source)
	if err == nil && repository == nil {
		return d.ignored(ctx)
	}
	var snapshot *gitfiles.Snapshot
	if err == nil {
		defer repository.Close()
		snapshot, err = repository.Snapshot(limited, d.commit())
	}
	if err != nil {
		d.Log("The source cannot be compared with its .git: %s", err)
		return d.ignored(ctx)
	}
	diff, err := compareUpload(ctx, d.Source, d.Exclude, snapshot, repository.HashSize())
	if err != nil {
		return nil
	}
	if diff.isZero() {
		d.ruleOut("the upload: it is exactly what git has (%s of %s)", Plural(len(snapshot.Files), "file"), snapshot.From)
		return nil
	}
	cause := Cause{
		Found:  "the upload is not what git has (" + snapshot.From + "):\n" + diff.String(),
		Change: diff.change(),
	}
	if !d.readsSource() {
		d.ruleOut("the upload: it differs from git, but nothing of it is in what is built")
		return nil
	}
	found, complete := d.asGitHasIt(ctx, repository, snapshot)
	if found != nil {
		cause.Sure = true
		cause.Found += fmt.Sprintf("\nWithout that difference it is %s, in a source named %s, and the caches have it",
			listOf(baseNames(outputPaths(found.result))), found.name)
		return []Cause{cause}
	}
	if complete {
		cause.Found += "\nThe caches do not have what " + snapshot.From + " gives, either, so there is another reason, too"
	} else {
		cause.Found += "\n(What git has could not be restored completely from .git, so that this is not proven)"
	}
	return []Cause{cause}
}

// gitTime bounds how long it may take to list what git has: a stranger's .git may be made to take for ever.
const gitTime = 30 * time.Second

// readsSource reports whether any missing output is made from the source's files.
func (d *diagnosis) readsSource() bool { return slices.ContainsFunc(d.missingDrvs(), d.graph.isOwn) }

// asGitHasIt writes the files of a commit to a folder and evaluates them. complete is false where some content is
// not known.
func (d *diagnosis) asGitHasIt(ctx context.Context, r *gitfiles.Repository, s *gitfiles.Snapshot) (found *attempt,
	complete bool) {
	for _, submodules := range []bool{true, false} {
		dir, err := os.MkdirTemp("", "nix-hydra-git-")
		if err != nil {
			return nil, false
		}
		defer func() { _ = nar.RemoveAll(dir) }()
		var hasSubmodules bool
		complete, hasSubmodules, err = restore(ctx, r, s, d.Source, dir, submodules)
		if err != nil {
			return nil, false
		}
		if found, _, err = d.search(ctx, files{dir: dir}, silent); err == nil && found != nil {
			return found, complete
		}
		if !hasSubmodules {
			break
		}
	}
	return nil, complete
}

// restore writes a snapshot's files to dir, their content taken from the upload where it is git's, else from git.
func restore(ctx context.Context, r *gitfiles.Repository, s *gitfiles.Snapshot, upload, dir string,
	submodules bool) (complete, hasSubmodules bool, err error) {
	complete = true
	for name, file := range s.Files {
		if err := ctx.Err(); err != nil {
			return false, false, err
		}
		if !filepath.IsLocal(name) {
			return false, false, fmt.Errorf("git has a file %q, outside of the checkout", name)
		}
		full, sent := filepath.Join(dir, name), filepath.Join(upload, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return false, false, err
		}
		if file.Mode == gitfiles.Submodule {
			hasSubmodules = true
			if err := os.MkdirAll(full, 0o755); err != nil {
				return false, false, err
			}
			if info, err := os.Stat(sent); submodules && err == nil && info.IsDir() {
				if err := os.CopyFS(full, os.DirFS(sent)); err != nil {
					return false, false, err
				}
			}
			continue
		}
		content, err := contentOf(ctx, r, file, sent)
		if err != nil {
			complete = false
			continue
		}
		if file.Mode == gitfiles.Symlink {
			err = os.Symlink(string(content), full)
		} else {
			err = os.WriteFile(full, content, os.FileMode(file.Mode&0o777))
		}
		if err != nil {
			return false, false, err
		}
	}
	return complete, hasSubmodules, nil
}

// contentOf is what git has of a file, from the upload if it can be made from that.
func contentOf(ctx context.Context, r *gitfiles.Repository, file gitfiles.File, sent string) ([]byte, error) {
	content, err := readAny(ctx, sent)
	if err == nil {
		for _, candidate := range [][]byte{content, unixEndings(content), lfsPointer(content)} {
			if gitfiles.ObjectID("blob", candidate, r.HashSize()) == file.ID {
				return candidate, nil
			}
		}
	}
	return r.Blob(ctx, file.ID)
}

// maxCompared bounds a file that is read to be compared.
const maxCompared = 32 << 20

// readAny reads a file, or where a symbolic link leads.
func readAny(ctx context.Context, name string) ([]byte, error) {
	info, err := os.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Type() == fs.ModeSymlink:
		target, err := os.Readlink(name)
		return []byte(target), err
	case !info.Mode().IsRegular() || info.Size() > maxCompared:
		return nil, errors.New("it is no file that can be compared")
	}
	return sourcefile.Read(ctx, name, maxCompared)
}

func unixEndings(content []byte) []byte {
	return bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
}

// lfsPointer is what git has of a file that git LFS keeps (git-lfs: docs/spec.md).
func lfsPointer(content []byte) []byte {
	return fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%x\nsize %d\n",
		sha256.Sum256(content), len(content))
}

// compareUpload compares a folder, without the entries to exclude, with a snapshot.
func compareUpload(ctx context.Context, dir string, exclude []string, s *gitfiles.Snapshot, hashSize int) (uploadDiff, error) {
	var u uploadDiff
	folders := map[string]bool{"": true}
	for name := range s.Files {
		for i := strings.LastIndexByte(name, '/'); i > 0 && !folders[name[:i]]; i = strings.LastIndexByte(name[:i], '/') {
			folders[name[:i]] = true
		}
	}
	seen := map[string]bool{}
	var walk func(rel string) error
	walk = func(rel string) error {
		entries, err := os.ReadDir(filepath.Join(dir, rel))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			name := strings.TrimPrefix(rel+"/"+entry.Name(), "/")
			file, tracked := s.Files[name]
			switch {
			case entry.Name() == ".git", slices.Contains(exclude, name):
			case tracked:
				seen[name] = true
				u.compare(ctx, dir, name, file, hashSize)
			case entry.IsDir() && folders[name]:
				if err := walk(name); err != nil {
					return err
				}
			case entry.IsDir():
				u.extra = append(u.extra, name+"/")
			default:
				u.extra = append(u.extra, name)
			}
		}
		return nil
	}
	if err := walk(""); err != nil {
		return u, fmt.Errorf("comparing the upload with git: %w", err)
	}
	for name, file := range s.Files {
		// A submodule that was not fetched is an empty folder, which many a way of uploading loses.
		if !seen[name] && file.Mode != gitfiles.Submodule {
			u.missing = append(u.missing, name)
		}
	}
	sort.Strings(u.missing)
	return u, nil
}

// compare compares one file.
func (u *uploadDiff) compare(ctx context.Context, dir, name string, file gitfiles.File, hashSize int) {
	if file.Mode == gitfiles.Submodule {
		return
	}
	full := filepath.Join(dir, name)
	info, err := os.Lstat(full)
	if err != nil {
		u.missing = append(u.missing, name)
		return
	}
	link, executable := info.Mode().Type() == fs.ModeSymlink, info.Mode()&0o100 != 0
	content, err := readAny(ctx, full)
	if err != nil || gitfiles.ObjectID("blob", content, hashSize) != file.ID {
		u.changed = append(u.changed, name)
		if err == nil && gitfiles.ObjectID("blob", unixEndings(content), hashSize) == file.ID {
			u.endings = append(u.endings, name)
		}
		if err == nil && gitfiles.ObjectID("blob", lfsPointer(content), hashSize) == file.ID {
			u.pointers = append(u.pointers, name)
		}
		return
	}
	if link != (file.Mode == gitfiles.Symlink) || !link && executable != (file.Mode == gitfiles.Executable) {
		u.modes = append(u.modes, name)
	}
}

// String lists the differences, a line for each kind.
func (u uploadDiff) String() string {
	var lines []string
	add := func(what string, names []string) {
		if len(names) > 0 {
			lines = append(lines, what+": "+listOf(names))
		}
	}
	add("in the upload, not in git", u.extra)
	add("in git, not in the upload", u.missing)
	content := slices.DeleteFunc(slices.Clone(u.changed), func(name string) bool {
		return slices.Contains(u.endings, name) || slices.Contains(u.pointers, name)
	})
	add("different", content)
	add("different in line endings", u.endings)
	add("kept by git LFS, of which Hydra has the pointer only", u.pointers)
	add("different in the executable bit, or no symbolic link any more", u.modes)
	return strings.Join(lines, "\n")
}

// change says what to do, by the first kind.
func (u uploadDiff) change() string {
	var lines []string
	if len(u.extra) > 0 {
		lines = append(lines, "remove them before the upload (git clean -xd --dry-run lists them), or name them in "+
			".dockerignore or project.toml's [io.buildpacks] exclude; or commit them, so that Hydra has them, too")
	}
	if len(u.missing) > 0 {
		lines = append(lines, "upload them: look into .dockerignore, .slugignore and project.toml's [io.buildpacks] exclude")
	}
	if len(u.changed) > 0 {
		lines = append(lines, "commit and push the changes and let Hydra build them, or git stash them before the upload")
	}
	if len(u.modes) > 0 {
		lines = append(lines, "upload in a way that keeps modes and links: from a checkout, not from an archive")
	}
	return strings.Join(lines, "\n")
}

// compareTrees compares an upload with a tree of files that Hydra has.
func compareTrees(ctx context.Context, upload, tree string) (uploadDiff, error) {
	s := &gitfiles.Snapshot{Files: map[string]gitfiles.File{}}
	err := filepath.WalkDir(tree, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(tree, file)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := readAny(ctx, file)
		if err != nil {
			return err
		}
		f := gitfiles.File{Mode: gitfiles.Regular, ID: gitfiles.ObjectID("blob", content, sha256.Size)}
		switch {
		case info.Mode().Type() == fs.ModeSymlink:
			f.Mode = gitfiles.Symlink
		case info.Mode()&0o100 != 0:
			f.Mode = gitfiles.Executable
		}
		s.Files[filepath.ToSlash(rel)] = f
		return nil
	})
	if err != nil {
		return uploadDiff{}, fmt.Errorf("comparing the upload with Hydra's source: %w", err)
	}
	return compareUpload(ctx, upload, nil, s, sha256.Size)
}
