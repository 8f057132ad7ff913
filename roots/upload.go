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
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/sourcefile"
)

// FileDiff is in what the files of an upload differ from those of a commit, or of another tree.
type FileDiff struct {
	// Extra are in the upload only: files, directories with nothing of the commit's in them, and empty directories.
	Extra []string
	// Missing are in the commit only; Changed have another content, Modes another executable bit or type.
	Missing, Changed, Modes []string
	// Endings are changed files that only differ in line endings; Pointers those that git LFS keeps elsewhere.
	Endings, Pointers []string
}

func (u FileDiff) isZero() bool {
	return len(u.Extra)+len(u.Missing)+len(u.Changed)+len(u.Modes) == 0
}

// upload compares what was sent with what git has, and where they differ evaluates what git has: if a cache has that,
// the difference is the cause.
func (d *diagnosis) upload(ctx context.Context) []Finding {
	limited, cancel := context.WithTimeoutCause(ctx, gitTime, fmt.Errorf("it took longer than %s", gitTime))
	defer cancel()
	repository, err := gitfiles.Open(limited, d.Source)
	if err == nil && repository == nil {
		return nil
	}
	var snapshot *gitfiles.Snapshot
	if err == nil {
		defer repository.Close()
		snapshot, err = repository.Snapshot(limited, d.commit())
	}
	if err != nil {
		d.Log("The source cannot be compared with its .git: %s", err)
		return nil
	}
	diff, err := compareUpload(ctx, d.Source, d.Exclude, snapshot, repository.HashSize())
	if err != nil {
		return nil
	}
	if diff.isZero() {
		d.ruleOut("the upload: it is exactly what git has (%s of %s)", text.Count(len(snapshot.Files), "file"), snapshot.From)
		return nil
	}
	restored, complete, same := d.asGitHasIt(ctx, repository, snapshot)
	if same {
		d.ruleOut("the upload: it differs from git, but nothing of it is in what is built")
		return nil
	}
	return []Finding{UploadDiffers{Files: diff, From: snapshot.From, Restored: restored, Complete: complete}}
}

// gitTime bounds how long it may take to list what git has: a stranger's .git may be made to take for ever.
const gitTime = 30 * time.Second

// restored evaluates what a source may have been where Hydra had it; nil where no cache has what that gives. same says
// that it gives what no cache has.
func (d *diagnosis) restored(ctx context.Context, files files) (r *Restored, same bool) {
	found, tried, err := d.search(ctx, files, silent)
	if err == nil && found != nil {
		return &Restored{Outputs: outputPaths(found.result), Name: found.name}, false
	}
	return nil, slices.ContainsFunc(tried, func(a attempt) bool {
		return slices.Equal(outputPaths(a.result), outputPaths(d.nearest.result))
	})
}

// asGitHasIt writes the files of a commit to a directory, and evaluates them: with its submodules as the upload has them,
// and without. complete is false where some content is not known, same true where it gives what no cache has.
func (d *diagnosis) asGitHasIt(ctx context.Context, r *gitfiles.Repository, s *gitfiles.Snapshot,
) (found *Restored, complete, same bool) {
	for _, submodules := range []bool{true, false} {
		dir, err := os.MkdirTemp("", "nix-hydra-git-")
		if err != nil {
			return nil, false, false
		}
		defer func() { _ = nar.RemoveAll(dir) }()
		var hasSubmodules bool
		complete, hasSubmodules, err = restore(ctx, r, s, d.Source, dir, submodules)
		if err != nil {
			return nil, false, false
		}
		if found, same = d.restored(ctx, files{dir: dir}); found != nil || same || !hasSubmodules {
			break
		}
	}
	return found, complete, same
}

// restore writes a snapshot's files to dir, their content taken from the upload where it is git's, else from git. A
// snapshot may have a symbolic link and a file below it, so nothing is written through one that leads out of dir.
func restore(ctx context.Context, r *gitfiles.Repository, s *gitfiles.Snapshot, upload, dir string,
	submodules bool) (complete, hasSubmodules bool, err error) {
	to, err := os.OpenRoot(dir)
	if err != nil {
		return false, false, err
	}
	defer to.Close()
	from, err := os.OpenRoot(upload)
	if err != nil {
		return false, false, err
	}
	defer from.Close()
	complete = true
	for name, file := range s.Files {
		if err := ctx.Err(); err != nil {
			return false, false, err
		}
		if !filepath.IsLocal(name) {
			return false, false, fmt.Errorf("git has a file %q, outside of the checkout", name)
		}
		if err := to.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return false, false, err
		}
		if file.Mode == gitfiles.Submodule {
			hasSubmodules = true
			if err := to.MkdirAll(name, 0o755); err != nil {
				return false, false, err
			}
			if info, err := from.Stat(name); submodules && err == nil && info.IsDir() {
				if err := copySubmodule(from, name, filepath.Join(dir, name)); err != nil {
					return false, false, err
				}
			}
			continue
		}
		content, err := contentOf(ctx, r, file, filepath.Join(upload, name))
		if err != nil {
			complete = false
			continue
		}
		if file.Mode == gitfiles.Symlink {
			err = to.Symlink(string(content), name)
		} else {
			err = to.WriteFile(name, content, os.FileMode(file.Mode&0o777))
		}
		if err != nil {
			return false, false, err
		}
	}
	return complete, hasSubmodules, nil
}

// copySubmodule copies a directory of the upload.
func copySubmodule(upload *os.Root, name, to string) error {
	from, err := fs.Sub(upload.FS(), name)
	if err != nil {
		return err
	}
	return os.CopyFS(to, from)
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

// compareUpload compares a directory, without the entries to exclude, with a snapshot.
func compareUpload(ctx context.Context, dir string, exclude []string, s *gitfiles.Snapshot, hashSize int) (FileDiff, error) {
	var u FileDiff
	dirs := map[string]bool{"": true}
	for name := range s.Files {
		for i := strings.LastIndexByte(name, '/'); i > 0 && !dirs[name[:i]]; i = strings.LastIndexByte(name[:i], '/') {
			dirs[name[:i]] = true
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
			case entry.IsDir() && dirs[name]:
				if err := walk(name); err != nil {
					return err
				}
			case entry.IsDir():
				u.Extra = append(u.Extra, name+"/")
			default:
				u.Extra = append(u.Extra, name)
			}
		}
		return nil
	}
	if err := walk(""); err != nil {
		return u, fmt.Errorf("comparing the upload with git: %w", err)
	}
	for name, file := range s.Files {
		// A submodule that was not fetched is an empty directory, which many a way of uploading loses.
		if !seen[name] && file.Mode != gitfiles.Submodule {
			u.Missing = append(u.Missing, name)
		}
	}
	sort.Strings(u.Missing)
	return u, nil
}

// compare compares one file.
func (u *FileDiff) compare(ctx context.Context, dir, name string, file gitfiles.File, hashSize int) {
	if file.Mode == gitfiles.Submodule {
		return
	}
	full := filepath.Join(dir, name)
	info, err := os.Lstat(full)
	if err != nil {
		u.Missing = append(u.Missing, name)
		return
	}
	link, executable := info.Mode().Type() == fs.ModeSymlink, info.Mode()&0o100 != 0
	content, err := readAny(ctx, full)
	if err != nil || gitfiles.ObjectID("blob", content, hashSize) != file.ID {
		u.Changed = append(u.Changed, name)
		if err == nil && gitfiles.ObjectID("blob", unixEndings(content), hashSize) == file.ID {
			u.Endings = append(u.Endings, name)
		}
		if err == nil && gitfiles.ObjectID("blob", lfsPointer(content), hashSize) == file.ID {
			u.Pointers = append(u.Pointers, name)
		}
		return
	}
	if link != (file.Mode == gitfiles.Symlink) || !link && executable != (file.Mode == gitfiles.Executable) {
		u.Modes = append(u.Modes, name)
	}
}

// as lists the differences from what somebody has, a line for each kind.
func (u FileDiff) as(theirs string) string {
	var lines []string
	add := func(what string, names []string) {
		if len(names) > 0 {
			lines = append(lines, what+": "+text.List(names, listed))
		}
	}
	add("in the upload, not in "+theirs, u.Extra)
	add("in "+theirs+", not in the upload", u.Missing)
	content := slices.DeleteFunc(slices.Clone(u.Changed), func(name string) bool {
		return slices.Contains(u.Endings, name) || slices.Contains(u.Pointers, name)
	})
	add("different", content)
	add("different in line endings", u.Endings)
	add("kept by git LFS, of which Hydra has the pointer only", u.Pointers)
	add("different in the executable bit, or no symbolic link any more", u.Modes)
	return strings.Join(lines, "\n")
}
