package roots

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/sourcefile"
)

// Difference is in what a file of an upload may differ from git's, in the words that are shown.
type Difference string

// The differences. Of a directory in which git has nothing, only its own name is listed.
const (
	Extra    Difference = "in the upload, not in git"
	Missing  Difference = "in git, not in the upload"
	Changed  Difference = "different"
	Endings  Difference = "different in line endings"
	Pointers Difference = "kept by git LFS, of which Hydra has the pointer only"
	Modes    Difference = "different in the executable bit, or no symbolic link any more"
	Nested   Difference = "submodules of submodules (Hydra checks submodules out one level deep, and has empty directories in their place)"
)

// FileDiff is in what the files of an upload differ from those of a commit.
type FileDiff map[Difference][]string

func (f FileDiff) add(kind Difference, name string) { f[kind] = append(f[kind], name) }

// String has a line for each kind of difference.
func (f FileDiff) String() string {
	var lines []string
	for _, kind := range []Difference{Extra, Missing, Changed, Endings, Pointers, Modes, Nested} {
		if names := f[kind]; len(names) > 0 {
			lines = append(lines, string(kind)+": "+text.List(names, listed))
		}
	}
	return strings.Join(lines, "\n")
}

// upload compares what was sent with what Hydra fetches: what git has, and of submodules one level (NixOS/hydra:
// subprojects/hydra/script/nix-prefetch-git). Where they differ, Hydra's files are evaluated: if a cache has what they give, the
// difference is the cause.
func (d *diagnosis) upload(ctx context.Context) []Finding {
	found := UploadDiffers{Files: FileDiff{}, Complete: true}
	nested, entries, err := nixinstall.NestedSubmodules(ctx, d.Source)
	if err == nil && len(nested) > 0 && d.Flake == "" { // which has no submodules, or all of them
		found.Files[Nested] = nested
	} else {
		entries = nil
	}
	fetched := files{dir: d.Source, exclude: slices.Concat(d.Exclude, entries)}
	dir, err := os.MkdirTemp("", "nix-hydra-git-")
	if err != nil {
		return nil
	}
	defer func() { _ = nar.RemoveAll(dir) }()
	switch differs, err := d.compareWithGit(ctx, &found, dir); {
	case differs && err != nil: // git's files cannot be written
		return []Finding{found}
	case err != nil:
		d.Log("The source cannot be compared with its .git: %s", err)
	case differs:
		fetched = files{dir: dir, exclude: entries}
	}
	if len(found.Files) == 0 {
		return nil
	}
	same := false
	if found.Restored, found.Name, same = d.restored(ctx, fetched); same {
		d.ruleOut("the upload: it differs from what Hydra fetches, but nothing of that is in what is built")
		return nil
	}
	return []Finding{found}
}

// gitTime bounds how long it may take to list what git has: a stranger's .git may be made to take for ever.
const gitTime = 30 * time.Second

// compareWithGit notes in what the upload differs from git, and where it does writes git's files to dir, of submodules what the
// upload has. An upload without .git does not differ.
func (d *diagnosis) compareWithGit(ctx context.Context, found *UploadDiffers, dir string) (differs bool, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, gitTime, fmt.Errorf("it took longer than %s", gitTime))
	defer cancel()
	repository, err := gitfiles.Open(limited, d.Source)
	if err != nil || repository == nil {
		return false, err
	}
	defer repository.Close()
	snapshot, err := repository.Snapshot(limited, d.commit())
	if err != nil {
		return false, err
	}
	diff, err := compareUpload(ctx, d.Source, d.Exclude, snapshot, repository.HashSize())
	if err != nil {
		return false, err
	}
	if len(diff) == 0 {
		d.ruleOut("the upload: it is exactly what git has (%s of %s)", text.Count(len(snapshot.Files), "file"), snapshot.From)
		return false, nil
	}
	found.From = snapshot.From
	maps.Copy(found.Files, diff)
	found.Complete, err = restore(ctx, repository, snapshot, d.Source, dir)
	return true, err
}

// restored evaluates what a source may have been where Hydra had it, and gives what the caches have of that. same says that
// it gives what no cache has.
func (d *diagnosis) restored(ctx context.Context, files files) (outputs []storepath.Path, name string, same bool) {
	found, tried, err := d.search(ctx, files, silent)
	if err == nil && found != nil {
		return outputPaths(found.result), found.name, false
	}
	return nil, "", slices.ContainsFunc(tried, func(a attempt) bool {
		return slices.Equal(outputPaths(a.result), outputPaths(d.nearest.result))
	})
}

// restore writes a snapshot's files to dir, their content taken from the upload where it is git's, else from git, and
// reports whether all content is known. A snapshot may have a symbolic link and a file below it, so nothing is written
// through one that leads out of dir.
func restore(ctx context.Context, r *gitfiles.Repository, s *gitfiles.Snapshot, upload, dir string) (complete bool, err error) {
	to, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer to.Close()
	from, err := os.OpenRoot(upload)
	if err != nil {
		return false, err
	}
	defer from.Close()
	complete = true
	for name, file := range s.Files {
		if err := errors.Join(ctx.Err(), to.MkdirAll(filepath.Dir(name), 0o755)); err != nil {
			return false, err
		}
		var content []byte
		if file.Mode != gitfiles.Submodule {
			if content, err = contentOf(ctx, r, file, filepath.Join(upload, name)); err != nil {
				complete = false
				continue
			}
		}
		switch file.Mode {
		case gitfiles.Submodule:
			err = restoreSubmodule(ctx, from, to, name)
		case gitfiles.Symlink:
			err = to.Symlink(string(content), name)
		default:
			err = to.WriteFile(name, content, os.FileMode(file.Mode&0o777))
		}
		if err != nil {
			return false, err
		}
	}
	return complete, nil
}

// restoreSubmodule copies a submodule's directory, and makes an empty one where the upload has none.
func restoreSubmodule(ctx context.Context, from, to *os.Root, name string) error {
	info, err := from.Stat(name) // which leads nowhere else
	if err != nil || !info.IsDir() {
		return to.MkdirAll(name, 0o755)
	}
	if err := to.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	directory, err := filepath.EvalSymlinks(filepath.Join(from.Name(), name))
	if err != nil {
		return err
	}
	return nar.DumpTo(ctx, nar.NewTree(filepath.Join(to.Name(), name)), directory)
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
	if target, err := os.Readlink(name); err == nil {
		return []byte(target), nil
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
	diff, seen, dirs := FileDiff{}, map[string]bool{}, map[string]bool{".": true}
	for name := range s.Files {
		for parent := path.Dir(name); !dirs[parent]; parent = path.Dir(parent) {
			dirs[parent] = true
		}
	}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		file, tracked := s.Files[name]
		switch {
		case entry.Name() == ".git", slices.Contains(exclude, name):
		case tracked:
			seen[name] = true
			if kind := difference(ctx, filepath.Join(dir, name), file, hashSize); kind != "" {
				diff.add(kind, name)
			}
		case !entry.IsDir():
			diff.add(Extra, name)
		case dirs[name]:
			return nil
		default:
			diff.add(Extra, name+"/")
		}
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("comparing the upload with git: %w", err)
	}
	for name, file := range s.Files {
		// A submodule that was not fetched is an empty directory, which many a way of uploading loses.
		if !seen[name] && file.Mode != gitfiles.Submodule {
			diff.add(Missing, name)
		}
	}
	slices.Sort(diff[Missing])
	return diff, nil
}

// difference compares a file with git's; it is "" where they are the same, and of a submodule, whose files git does not
// have here.
func difference(ctx context.Context, full string, file gitfiles.File, hashSize int) Difference {
	info, err := os.Lstat(full)
	switch {
	case file.Mode == gitfiles.Submodule:
		return ""
	case err != nil:
		return Missing
	}
	content, err := readAny(ctx, full)
	is := func(content []byte) bool { return gitfiles.ObjectID("blob", content, hashSize) == file.ID }
	link, executable := info.Mode().Type() == fs.ModeSymlink, info.Mode()&0o100 != 0
	switch {
	case err == nil && !is(content) && is(unixEndings(content)):
		return Endings
	case err == nil && !is(content) && is(lfsPointer(content)):
		return Pointers
	case err != nil || !is(content):
		return Changed
	case link != (file.Mode == gitfiles.Symlink) || !link && executable != (file.Mode == gitfiles.Executable):
		return Modes
	}
	return ""
}
