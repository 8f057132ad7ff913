package roots

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

// difference is in what a file of an upload differs from git's: the words that are shown, and the kind of finding.
type difference struct {
	words string
	kind  Kind
}

// The differences. Of a directory in which git has nothing, only its own name is listed.
var (
	extra   = difference{"in the upload, not in git", ExtraFiles}
	missing = difference{"in git, not in the upload", MissingFiles}
	changed = difference{"different", ChangedFiles}
	endings = difference{"different in line endings", ChangedFiles}
	modes   = difference{"different in the executable bit, or no symbolic link any more", LostModes}
	nested  = difference{"submodules of submodules (Hydra checks submodules out one level deep, and has empty directories in their " +
		"place)", Submodules}
)

// fileDiff is in what the files of an upload differ from what Hydra fetches.
type fileDiff map[difference][]string

// describe has a line for each difference, and their kinds.
func (f fileDiff) describe() (lines string, kinds []Kind) {
	for _, d := range []difference{extra, missing, changed, endings, modes, nested} {
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
func (d diagnosis) upload(ctx context.Context, _ *NotCachedError) []Finding {
	dir, err := os.MkdirTemp("", "nix-hydra-git-")
	if err != nil {
		return nil
	}
	defer func() { _ = nar.RemoveAll(dir) }()
	c := comparison{upload: files{dir: d.Source, exclude: d.Exclude}, diff: fileDiff{}}
	modules, entries, err := nixinstall.NestedSubmodules(ctx, d.Source)
	if err == nil && len(modules) > 0 && d.Flake == "" { // which has no submodules, or all of them
		c.diff[nested], c.upload.exclude = modules, slices.Concat(d.Exclude, entries)
	}
	fetched, with := c.upload, ""
	switch from, err := d.compareWithGit(ctx, &c, dir); {
	case err != nil:
		d.Log("The source cannot be compared with its .git: %s", err)
	case from != "":
		fetched, with = files{dir: dir}, " (compared with "+from+")"
	}
	if len(c.diff) == 0 {
		return nil
	}
	differs, kinds := c.diff.describe()
	found := Finding{Kinds: kinds, Text: "the upload is not what Hydra fetches" + with + ":\n" + differs}
	switch complete, tried, err := d.search(ctx, fetched, silent); {
	case err == nil && complete != nil:
		found.Proven = true
		found.Text += fmt.Sprintf("Without that difference it is %s, in a source named %s, and the caches have it",
			pathList(outputPaths(complete.result)), complete.name)
	case slices.ContainsFunc(tried, func(a attempt) bool {
		return slices.Equal(outputPaths(a.result), outputPaths(d.nearest.result))
	}):
		return nil // nothing of the difference is in what is built
	case c.lost == nil:
		found.Text += "The caches do not have what that gives, either, so there is another reason, too"
	default:
		found.Text += "(What git has could not be restored completely from .git, so that this is not proven)"
	}
	return []Finding{found}
}

// gitTime bounds how long it may take to list what git has: a stranger's .git may be made to take for ever.
const gitTime = 30 * time.Second

// compareWithGit compares the upload with what git has, and writes what Hydra fetches to dir. from is what of .git that was, ""
// where there is none.
func (d diagnosis) compareWithGit(ctx context.Context, c *comparison, dir string) (from string, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, gitTime, fmt.Errorf("it took longer than %s", gitTime))
	defer cancel()
	git, err := gitfiles.Open(limited, d.Source)
	if err != nil || git == nil {
		return "", err
	}
	defer git.Close()
	snapshot, err := git.Snapshot(limited, d.commit())
	if err != nil {
		return "", err
	}
	return snapshot.From, c.compare(ctx, git, snapshot.Files, dir)
}

// comparison is of an upload with what Hydra fetches.
type comparison struct {
	upload files
	diff   fileDiff
	lost   error // why some of what Hydra fetches could not be written; the rest may be enough
	git    *gitfiles.Repository
	to     *os.Root
}

// compare notes in what the upload differs from files of git, and writes to dir what Hydra fetches: those, and submodules as
// they are in the upload. There may be a symbolic link and a file below it, so nothing is written through one that leads
// out of dir.
func (c *comparison) compare(ctx context.Context, git *gitfiles.Repository, has map[string]gitfiles.File, dir string) (err error) {
	if c.to, err = os.OpenRoot(dir); err != nil {
		return err
	}
	defer c.to.Close()
	c.git = git
	diff, seen, dirs := fileDiff{}, map[string]bool{}, map[string]bool{".": true}
	for name := range has {
		for parent := path.Dir(name); !dirs[parent]; parent = path.Dir(parent) {
			dirs[parent] = true
		}
	}
	err = fs.WalkDir(os.DirFS(c.upload.dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		file, tracked := has[name]
		switch {
		case entry.Name() == ".git", slices.Contains(c.upload.exclude, name):
		case tracked:
			seen[name] = true
			kind, content := compareFile(ctx, filepath.Join(c.upload.dir, name), file, git.HashSize())
			if kind != (difference{}) {
				diff[kind] = append(diff[kind], name)
			}
			c.lost = cmp.Or(c.lost, c.write(ctx, name, file, content, entry.IsDir()))
		case !entry.IsDir():
			diff[extra] = append(diff[extra], name)
		case dirs[name]:
			return nil
		default:
			diff[extra] = append(diff[extra], name+"/")
		}
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("comparing the upload with git: %w", err)
	}
	for name, file := range has {
		if seen[name] {
			continue
		}
		if file.Mode != gitfiles.Submodule { // an empty directory, which many a way of uploading loses
			diff[missing] = append(diff[missing], name)
		}
		c.lost = cmp.Or(c.lost, c.write(ctx, name, file, nil, false))
	}
	slices.Sort(diff[missing])
	maps.Copy(c.diff, diff)
	return nil
}

// write writes a file as git has it, content where that is known; a submodule as the upload has it, but what is in
// submodules of its own, and where that has no directory an empty one.
func (c *comparison) write(ctx context.Context, name string, file gitfiles.File, content []byte, directory bool) (err error) {
	if content == nil && file.Mode != gitfiles.Submodule {
		if content, err = c.git.Blob(ctx, file.ID); err != nil {
			return err
		}
	}
	if err := c.to.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch {
	case file.Mode == gitfiles.Symlink:
		return c.to.Symlink(string(content), name)
	case file.Mode != gitfiles.Submodule:
		return c.to.WriteFile(name, content, os.FileMode(file.Mode&0o777))
	case !directory:
		return c.to.Mkdir(name, 0o755)
	}
	keep := func(inner string) bool {
		return path.Base(inner) != ".git" && !slices.Contains(c.upload.exclude, path.Join(name, inner))
	}
	return nar.DumpFiltered(ctx, nar.NewTree(filepath.Join(c.to.Name(), name)), filepath.Join(c.upload.dir, name), keep)
}

// compareFile says in what a file differs from git's, nothing where it does not, and gives git's content where the upload's
// can be made to it. Of a submodule git does not have the files here.
func compareFile(ctx context.Context, full string, file gitfiles.File, hashSize int) (difference, []byte) {
	info, err := os.Lstat(full)
	if err == nil && file.Mode == gitfiles.Submodule && info.IsDir() {
		return difference{}, nil
	}
	sent, unread := readAny(ctx, full)
	if err != nil || unread != nil {
		return changed, nil
	}
	var mode difference
	if link := info.Mode().Type() == fs.ModeSymlink; link != (file.Mode == gitfiles.Symlink) || !link && (info.Mode()&0o100 != 0) != (file.Mode == gitfiles.Executable) {
		mode = modes
	}
	is := func(content []byte) bool { return gitfiles.ObjectID("blob", content, hashSize) == file.ID }
	if is(sent) {
		return mode, sent
	}
	if unix := bytes.ReplaceAll(sent, []byte("\r\n"), []byte("\n")); is(unix) {
		return endings, unix
	}
	return changed, nil
}

// maxCompared bounds a file that is read to be compared.
const maxCompared = 32 << 20

// readAny reads a file, or where a symbolic link leads.
func readAny(ctx context.Context, name string) ([]byte, error) {
	if target, err := os.Readlink(name); err == nil {
		return []byte(target), nil
	}
	return regularfile.Read(ctx, name, maxCompared)
}
