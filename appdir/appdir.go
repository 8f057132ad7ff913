// Package appdir removes from the application directory what is not to be in the image, as the lifecycle puts all of that
// directory into it. It removes nothing of what the platform has not made for the build: no mounts, and no checkout that
// somebody works in.
package appdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// gitName is what no image holds, whatever the settings say: git keeps the logins of its remotes in there.
const gitName = ".git"

// Dir is an application directory, which holds the source.
type Dir struct {
	dir              string
	include, exclude []string
	mounts           mountTable
	device           uint64
}

// Open says what of an application directory is to stay in the image: a file stays when it is the Procfile or matches one of
// include, and matches none of exclude. A pattern matches a file or any directory above it; * stays within a directory
// and ** does not. What is named .git never stays.
func Open(dir string, include, exclude []string) (*Dir, error) {
	for _, pattern := range slices.Concat(include, exclude) {
		if !doublestar.ValidatePattern(pattern) {
			return nil, fmt.Errorf("the file pattern %q does not parse", pattern)
		}
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err == nil {
		resolved, err = filepath.Abs(resolved)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the source: %w", err)
	}
	mounts, err := readMounts()
	if err != nil {
		return nil, fmt.Errorf("opening the source: %w", err)
	}
	device, err := deviceOf(resolved)
	if err != nil {
		return nil, fmt.Errorf("opening the source: %w", err)
	}
	return &Dir{
		device: device, dir: resolved, include: append(slices.Clone(include), procfile.Name), exclude: exclude, mounts: mounts,
	}, nil
}

// Mounts are what is mounted inside the source, relative to it: volumes of the platform's user, of which the build
// neither reads nor removes anything.
func (d *Dir) Mounts() []string { return d.mounts.below(d.dir) }

// ForeignError says that the source is not a copy made for this build, so that nothing of it may be removed.
type ForeignError struct {
	// Dir is the source and Layers the layers directory, as the build sees them.
	Dir, Layers string
}

// Error names both directories.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("preparing the source: %s seems to be somebody's checkout and not a copy that the platform made for this "+
		"build: it does not lie beside the layers directory %s", e.Dir, e.Layers)
}

// UnremovableError says that files of the source can be neither removed nor emptied by the user who builds: they belong to
// another one, are on a read-only file system, or have an attribute that forbids it (chattr +i, +a).
type UnremovableError struct {
	// Files are relative to the source; there is at least one.
	Files []string
}

// Error names the first of them.
func (e *UnremovableError) Error() string {
	more := ""
	if len(e.Files) > 1 {
		more = fmt.Sprintf(" and %d more", len(e.Files)-1)
	}
	return fmt.Sprintf("preparing the source: %q%s must not get into the image and cannot be removed, as it and its directory "+
		"belong to another user, or may not be changed by anybody", e.Files[0], more)
}

// maxPath is how long the name of a file may be that a program gives to Linux, in bytes (PATH_MAX less its NUL).
const maxPath = 4095

// shownPath is how much of a long path an error shows, in bytes.
const shownPath = 120

// LongPathError says that the source has a file whose name is longer than Linux takes, so that no program can open it by
// its name.
type LongPathError struct {
	// Dir is where its name begins, relative to the source: as much as can be read.
	Dir string
}

// Error names the place.
func (e *LongPathError) Error() string {
	return fmt.Sprintf("reading the source: a path below %q is longer than %d bytes, which Linux does not take", e.Dir, maxPath)
}

// Check finds out, without changing anything, whether Trim will be able to do its work: whether the source is this
// build's own, if anything of it has to be removed, and whether all that has to be can be. Its errors are a
// *ForeignError, unless owned says that the source may be removed, an *UnremovableError, and a *LongPathError.
//
// A platform lays the source's copy and the layers out side by side: in two volumes (pack), two emptyDirs (kpack), or
// two directories of one parent. A checkout that somebody works in lies elsewhere.
func (d *Dir) Check(ctx context.Context, layers string, owned bool) error {
	t := trimming{Dir: d, dry: true, matched: map[string]bool{}}
	_, err := t.directory(ctx, "")
	switch {
	case errors.As(err, new(*LongPathError)):
		return err
	case err != nil:
		return fmt.Errorf("reading the source: %w", err)
	case t.removed && !owned && !d.mounts.beside(d.dir, layers):
		return &ForeignError{Dir: d.dir, Layers: layers}
	case len(t.blocked) > 0:
		return &UnremovableError{Files: t.blocked}
	}
	return nil
}

// Trimmed is what Trim has left.
type Trimmed struct {
	// Kept is the number of files that were to stay.
	Kept int
	// Emptied are files whose directory belongs to another user, so that only their contents could be removed.
	Emptied []string
	// Unmatched are the patterns of what is to stay that no file matched.
	Unmatched []string
}

// Trim removes what is not to stay. It never leaves the source, by a symbolic link or a mount.
func (d *Dir) Trim(ctx context.Context) (Trimmed, error) {
	t := trimming{Dir: d, matched: map[string]bool{}}
	if _, err := t.directory(ctx, ""); err != nil {
		return t.Trimmed, fmt.Errorf("removing the source from the image: %w", err)
	}
	if len(t.blocked) > 0 {
		return t.Trimmed, &UnremovableError{Files: t.blocked}
	}
	for _, pattern := range d.include[:len(d.include)-1] { // the last is the Procfile's, which need not be there
		if !t.matched[pattern] {
			t.Unmatched = append(t.Unmatched, pattern)
		}
	}
	return t.Trimmed, nil
}

// trimming is one pass over a source, which only looks where it is dry.
type trimming struct {
	*Dir
	Trimmed
	dry     bool
	matched map[string]bool // patterns of what is to stay that matched a file
	removed bool            // something was removed, or would be
	blocked []string        // what can be neither removed nor emptied
}

// directory handles what a directory of the source holds, and reports whether anything remains in it.
func (t *trimming) directory(ctx context.Context, name string) (remains bool, err error) {
	if err := ctx.Err(); err != nil {
		return true, err
	}
	full := filepath.Join(t.dir, name)
	entries, err := os.ReadDir(full)
	if info, statErr := os.Stat(full); err == nil && statErr == nil && isOwn(info) { // it may be read, and not be entered
		err = unix.Faccessat(unix.AT_FDCWD, full, unix.X_OK, unix.AT_EACCESS)
	}
	if errors.Is(err, fs.ErrPermission) {
		if info, statErr := os.Stat(full); statErr != nil || !isOwn(info) {
			t.blocked = append(t.blocked, name)
			return true, nil
		}
		if t.dry { // its owner may change that
			return false, nil
		}
		if err = openDir(full); err == nil {
			entries, err = os.ReadDir(full)
		}
	}
	if err != nil {
		return true, err
	}
	for _, entry := range entries {
		stays, err := t.entry(ctx, path.Join(name, entry.Name()), entry.IsDir())
		if err != nil {
			return true, err
		}
		remains = remains || stays
	}
	return remains, nil
}

// entry handles one entry and reports whether it remains.
func (t *trimming) entry(ctx context.Context, name string, dir bool) (remains bool, err error) {
	full := filepath.Join(t.dir, name)
	switch {
	case len(full) > maxPath:
		return true, &LongPathError{Dir: text.Cut(name, shownPath)}
	case t.mounts.has(full) || isMountPoint(full):
		return true, nil
	case !dir && t.stays(name):
		t.Kept++
		return true, nil
	case !dir:
		return t.file(name)
	}
	device, err := deviceOf(full)
	if errors.Is(err, fs.ErrPermission) {
		t.blocked = append(t.blocked, name)
		return true, nil
	}
	if err != nil || device != t.device {
		return true, err
	}
	if remains, err = t.directory(ctx, name); remains || err != nil {
		return true, err
	}
	t.removed = true
	if t.dry {
		return false, nil
	}
	err = unlink(full, unix.AT_REMOVEDIR)
	// An empty directory in one that cannot be changed holds nothing of the source.
	if isForbidden(err) {
		return true, nil
	}
	return false, err
}

// file removes a file, or its contents where only they can be removed.
func (t *trimming) file(name string) (remains bool, err error) {
	full := filepath.Join(t.dir, name)
	t.removed = true
	if t.dry {
		if !canRemove(full) && !canEmpty(full) {
			t.blocked = append(t.blocked, name)
		}
		return false, nil
	}
	switch err := unlink(full, 0); {
	case !isForbidden(err):
		return false, err
	case emptied(full):
		t.Emptied = append(t.Emptied, name)
	default:
		t.blocked = append(t.blocked, name)
	}
	return true, nil
}

// stays reports whether a file is to stay in the image, and notes by which patterns.
func (t *trimming) stays(name string) bool {
	for _, pattern := range t.include {
		if !t.matched[pattern] && matches(name, []string{pattern}) {
			t.matched[pattern] = true
		}
	}
	return t.keeps(name)
}

// keeps reports whether a file is to stay in the image.
func (d *Dir) keeps(name string) bool {
	return !slices.Contains(strings.Split(name, "/"), gitName) && matches(name, d.include) && !matches(name, d.exclude)
}

// Removes reports whether a name, relative to the source, is that of a file which Trim removes.
func (d *Dir) Removes(name string) bool {
	name = path.Clean(name)
	info, err := os.Stat(filepath.Join(d.dir, name))
	if !filepath.IsLocal(name) || err != nil || !info.Mode().IsRegular() || d.keeps(name) {
		return false
	}
	for above := name; above != "."; above = path.Dir(above) {
		if d.mounts.has(filepath.Join(d.dir, above)) {
			return false
		}
	}
	return true
}

// unlink removes a name, whose directory is made writable for that where this user may do so.
func unlink(full string, flags int) error {
	err := unix.Unlinkat(unix.AT_FDCWD, full, flags)
	if errors.Is(err, fs.ErrPermission) && openDir(filepath.Dir(full)) == nil {
		err = unix.Unlinkat(unix.AT_FDCWD, full, flags)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "removing", Path: full, Err: err}
	}
	return nil
}

// openDir gives the owner of a directory all rights to it. Others keep theirs: what stays in it is for the app.
func openDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return os.Chmod(dir, info.Mode()|0o700)
}

// canRemove reports whether this user may remove a file.
func canRemove(full string) bool {
	above, err := os.Stat(filepath.Dir(full))
	if err != nil || isFixed(filepath.Dir(full)) || isFixed(full) {
		return false
	}
	if isOwn(above) {
		return true
	}
	if unix.Faccessat(unix.AT_FDCWD, filepath.Dir(full), unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
		return false
	}
	info, err := os.Lstat(full)
	return err == nil && (above.Mode()&fs.ModeSticky == 0 || isOwn(info))
}

// canEmpty reports whether a file is this user's to empty, or has no contents: what is no regular file. Contents that
// have another name too may be needed under that.
func canEmpty(full string) bool {
	info, err := os.Lstat(full)
	if err != nil || !info.Mode().IsRegular() {
		return err == nil
	}
	if isFixed(full) {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && isOwn(info) && stat.Nlink == 1
}

// emptied removes a file's contents where canEmpty says so, and says whether there are none now.
func emptied(full string) bool {
	if !canEmpty(full) {
		return false
	}
	info, err := os.Lstat(full)
	if err != nil || !info.Mode().IsRegular() {
		return err == nil
	}
	if err := os.Chmod(full, 0o600); err != nil {
		return false
	}
	fd, err := unix.Open(full, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return err == nil && unix.Close(fd) == nil
}

// isForbidden reports whether an error says that something must not be changed.
func isForbidden(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
}

// isFixed reports whether nobody may change a file, nor what a directory holds: it is on a read-only file system, or has an
// attribute that says so. File systems without such attributes have none.
func isFixed(full string) bool {
	if errors.Is(unix.Faccessat(unix.AT_FDCWD, full, unix.W_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW), unix.EROFS) {
		return true
	}
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, full, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &stat)
	return err == nil && stat.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0
}

// isOwn reports whether a file belongs to the user who builds, who may then change its mode.
func isOwn(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// matches reports whether a pattern matches the file or a directory above it.
func matches(name string, patterns []string) bool {
	for name != "." && name != "/" {
		for _, pattern := range patterns {
			pattern = strings.Trim(path.Clean(pattern), "/")
			if ok, err := doublestar.Match(pattern, name); ok && err == nil {
				return true
			}
		}
		name = path.Dir(name)
	}
	return false
}
