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
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/sourcefile"
)

// difference is in what a file of an upload differs from git's: the words that are shown, and the kind of finding.
type difference struct {
	words string
	kind  Kind
}

// The differences. Of a directory in which git has nothing, only its own name is listed.
var (
	extra    = difference{"in the upload, not in git", ExtraFiles}
	missing  = difference{"in git, not in the upload", MissingFiles}
	changed  = difference{"different", ChangedFiles}
	endings  = difference{"different in line endings", ChangedFiles}
	pointers = difference{"kept by git LFS, of which Hydra has the pointer only", ChangedFiles}
	modes    = difference{"different in the executable bit, or no symbolic link any more", LostModes}
	nested   = difference{"submodules of submodules (Hydra checks submodules out one level deep, and has empty directories in their " +
		"place)", Submodules}
)

// fileDiff is in what the files of an upload differ from what Hydra fetches.
type fileDiff map[difference][]string

func (f fileDiff) add(d difference, name string) { f[d] = append(f[d], name) }

// describe has a line for each difference, and their kinds.
func (f fileDiff) describe() (lines string, kinds []Kind) {
	for _, d := range []difference{extra, missing, changed, endings, pointers, modes, nested} {
		if names := f[d]; len(names) > 0 {
			lines += d.words + ": " + text.List(names, listed) + "\n"
			kinds = append(kinds, d.kind)
		}
	}
	return lines, slices.Compact(kinds)
}

// upload compares what was sent with what Hydra fetches: what git has, and of submodules one level (NixOS/hydra:
// subprojects/hydra/script/nix-prefetch-git). Where they differ, Hydra's files are evaluated: if a cache has what they give, the
// difference is the cause.
func (d diagnosis) upload(ctx context.Context, e *NotCachedError) []Finding {
	dir, err := os.MkdirTemp("", "nix-hydra-git-")
	if err != nil {
		return nil
	}
	defer func() { _ = nar.RemoveAll(dir) }()
	f := fetched{files: files{dir: d.Source, exclude: d.Exclude}, diff: fileDiff{}, whole: true}
	modules, entries, err := nixinstall.NestedSubmodules(ctx, d.Source)
	if err == nil && len(modules) > 0 && d.Flake == "" { // which has no submodules, or all of them
		f.diff[nested], f.exclude = modules, slices.Concat(d.Exclude, entries)
	}
	if err := d.compareWithGit(ctx, &f, filepath.Join(dir, "source"), e); err != nil {
		d.Log("The source cannot be compared with its .git: %s", err)
	}
	if len(f.diff) == 0 {
		return nil
	}
	differs, kinds := f.diff.describe()
	found := Finding{Kinds: kinds, Text: "the upload is not what Hydra fetches" + f.from + ":\n" + differs}
	switch complete, tried, err := d.search(ctx, f.files, silent); {
	case err == nil && complete != nil:
		found.Proven = true
		found.Text += fmt.Sprintf("Without that difference it is %s, in a source named %s, and the caches have it",
			pathList(outputPaths(complete.result)), complete.name)
	case slices.ContainsFunc(tried, func(a attempt) bool {
		return slices.Equal(outputPaths(a.result), outputPaths(d.nearest.result))
	}):
		e.ruleOut("the upload: it differs from what Hydra fetches, but nothing of that is in what is built")
		return nil
	case f.whole:
		found.Text += "The caches do not have what that gives, either, so there is another reason, too"
	default:
		found.Text += "(What git has could not be restored completely from .git, so that this is not proven)"
	}
	return []Finding{found}
}

// fetched is what Hydra fetches.
type fetched struct {
	files
	diff  fileDiff
	from  string // says what of git the upload was compared with, "" where that has no .git
	whole bool   // all of it is there
}

// gitTime bounds how long it may take to list what git has: a stranger's .git may be made to take for ever.
const gitTime = 30 * time.Second

// compareWithGit notes in what the upload differs from git, and where it does writes what Hydra fetches to dir. An upload
// without .git does not differ.
func (d diagnosis) compareWithGit(ctx context.Context, f *fetched, dir string, e *NotCachedError) error {
	limited, cancel := context.WithTimeoutCause(ctx, gitTime, fmt.Errorf("it took longer than %s", gitTime))
	defer cancel()
	repository, err := gitfiles.Open(limited, d.Source)
	if err != nil || repository == nil {
		return err
	}
	defer repository.Close()
	snapshot, err := repository.Snapshot(limited, d.commit())
	if err != nil {
		return err
	}
	diff, err := compareUpload(ctx, d.Source, d.Exclude, snapshot, repository.HashSize())
	switch {
	case err != nil:
		return err
	case len(diff) == 0:
		e.ruleOut("the upload: it is exactly what git has (%s of %s)", text.Count(len(snapshot.Files), "file"), snapshot.From)
		return nil
	}
	maps.Copy(f.diff, diff)
	f.from = " (compared with " + snapshot.From + ")"
	f.whole = restore(ctx, repository, snapshot, diff, f.files, dir) == nil
	f.files = files{dir: dir}
	return nil
}

// restore makes at dir what git has: a copy of the upload, in which what differs is written anew. Submodules are as in the
// upload. A snapshot may have a symbolic link and a file below it, so nothing is written through one that leads out of
// dir.
func restore(ctx context.Context, r *gitfiles.Repository, s *gitfiles.Snapshot, diff fileDiff, upload files, dir string) error {
	differs := map[string]bool{}
	for _, name := range slices.Concat(append(slices.Collect(maps.Values(diff)), upload.exclude)...) {
		differs[strings.TrimSuffix(name, "/")] = true
	}
	same := func(name string) bool { return path.Base(name) != ".git" && !differs[name] }
	if err := nar.DumpFiltered(ctx, nar.NewTree(dir), upload.dir, same); err != nil {
		return err
	}
	to, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	err = fs.WalkDir(to.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = to.Chmod(name, 0o755) // which an archive's are not
		}
		return err
	})
	for name, file := range s.Files {
		if differs[name] || file.Mode == gitfiles.Submodule {
			if failed := restoreFile(ctx, r, to, name, file, filepath.Join(upload.dir, name)); failed != nil {
				err = failed // and the rest may be enough
			}
		}
	}
	return err
}

// restoreFile writes what git has of a file, from the upload's if it can be made from that; of a submodule a directory.
func restoreFile(ctx context.Context, r *gitfiles.Repository, to *os.Root, name string, file gitfiles.File, sent string) error {
	if file.Mode == gitfiles.Submodule {
		return to.MkdirAll(name, 0o755)
	}
	_, content := compareFile(ctx, sent, file, r.HashSize())
	if content == nil {
		var err error
		if content, err = r.Blob(ctx, file.ID); err != nil {
			return err
		}
	}
	if err := to.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if file.Mode == gitfiles.Symlink {
		return to.Symlink(string(content), name)
	}
	return to.WriteFile(name, content, os.FileMode(file.Mode&0o777))
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

// lfsPointer is what git has of a file that git LFS keeps (git-lfs: docs/spec.md).
func lfsPointer(content []byte) []byte {
	return fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%x\nsize %d\n",
		sha256.Sum256(content), len(content))
}

// compareUpload compares a directory, without the entries to exclude, with a snapshot.
func compareUpload(ctx context.Context, dir string, exclude []string, s *gitfiles.Snapshot, hashSize int) (fileDiff, error) {
	diff, seen, dirs := fileDiff{}, map[string]bool{}, map[string]bool{".": true}
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
			if kind, _ := compareFile(ctx, filepath.Join(dir, name), file, hashSize); kind != (difference{}) {
				diff.add(kind, name)
			}
		case !entry.IsDir():
			diff.add(extra, name)
		case dirs[name]:
			return nil
		default:
			diff.add(extra, name+"/")
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
			diff.add(missing, name)
		}
	}
	slices.Sort(diff[missing])
	return diff, nil
}

// compareFile says in what a file differs from git's, nothing where it does not, and gives git's content where the upload's can be
// made to it. Of a submodule git does not have the files here.
func compareFile(ctx context.Context, full string, file gitfiles.File, hashSize int) (difference, []byte) {
	info, err := os.Lstat(full)
	switch {
	case err != nil:
		return missing, nil
	case file.Mode == gitfiles.Submodule && info.IsDir():
		return difference{}, nil
	}
	sent, err := readAny(ctx, full)
	if err != nil {
		return changed, nil
	}
	var mode difference
	link, executable := info.Mode().Type() == fs.ModeSymlink, info.Mode()&0o100 != 0
	if link != (file.Mode == gitfiles.Symlink) || !link && executable != (file.Mode == gitfiles.Executable) {
		mode = modes
	}
	is := func(content []byte) bool { return gitfiles.ObjectID("blob", content, hashSize) == file.ID }
	if is(sent) {
		return mode, sent
	}
	if unix := bytes.ReplaceAll(sent, []byte("\r\n"), []byte("\n")); is(unix) {
		return endings, unix
	}
	if pointer := lfsPointer(sent); is(pointer) {
		return pointers, pointer
	}
	return changed, nil
}
