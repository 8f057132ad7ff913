package nixinstall

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/closure/xz"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

const (
	maxReleaseEntries = 500_000
	maxReleaseBytes   = 8 << 30
	maxXZDictionary   = 128 << 20 // what xz -9 asks for, twice
)

// releaseName is the directory that everything in a release tarball is in.
var releaseName = regexp.MustCompile(`^nix-([0-9][0-9A-Za-z.+_-]*?)-((?:x86_64|aarch64|i686|armv[67]l|riscv64)-linux)$`)

// release is an unpacked release tarball.
type release struct {
	version, system string
	sha256          string // hex, of the tarball
	dir             string // holds store/
	paths           []registration
}

// unpackRelease unpacks store/ and .reginfo of a release tarball into dir, an empty directory. Whatever else is at the
// top of a release, its install scripts, stays out; anything outside a store path is refused.
func unpackRelease(ctx context.Context, tarball, dir string) (*release, error) {
	f, err := os.Open(tarball)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	stream := xz.NewReader(regularfile.NewReader(ctx, io.TeeReader(f, sum)), xz.Options{MaxWindow: maxXZDictionary})
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	u := &unpacking{release: &release{dir: dir}, root: root, copying: make([]byte, 256<<10)}
	if err := u.all(ctx, tar.NewReader(stream)); err != nil {
		return nil, err
	}
	// What follows the archive's end belongs to the file, and so to its hash.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return nil, err
	}
	if _, err := io.Copy(sum, f); err != nil {
		return nil, err
	}
	u.release.sha256 = hex.EncodeToString(sum.Sum(nil))
	return u.release, u.complete()
}

// unpacking is a release tarball being unpacked.
type unpacking struct {
	release *release
	root    *os.Root // links that lead out of it are not followed
	top     string
	entries int
	bytes   int64
	copying []byte
	reginfo bool
}

func (u *unpacking) all(ctx context.Context, t *tar.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		if u.entries++; u.entries > maxReleaseEntries {
			return fmt.Errorf("the archive has more than %d entries", maxReleaseEntries)
		}
		if err := u.entry(h, t); err != nil {
			return fmt.Errorf("entry %.120q: %w", h.Name, err)
		}
	}
}

// entry unpacks one entry, or leaves it out.
func (u *unpacking) entry(h *tar.Header, contents io.Reader) error {
	name := path.Clean(h.Name)
	if path.IsAbs(h.Name) || name == ".." || strings.HasPrefix(name, "../") {
		return errors.New("it leads out of the archive")
	}
	if name == "." {
		return nil
	}
	top, rest, _ := strings.Cut(name, "/")
	if err := u.enterTop(top); err != nil {
		return err
	}
	inStore, isStore := strings.CutPrefix(rest, "store/")
	switch {
	case rest == ".reginfo" && h.Typeflag == tar.TypeReg:
		regs, err := parseRegistrations(contents)
		u.release.paths, u.reginfo = regs, true
		return err
	case isStore:
		base, _, _ := strings.Cut(inStore, "/")
		if _, err := storepath.FromBase(base); err != nil {
			return err
		}
		return u.write(h, rest, contents)
	case rest == "store" && h.Typeflag == tar.TypeDir, !strings.Contains(rest, "/"):
		return nil
	}
	return errors.New("a release has nothing there")
}

// enterTop takes version and system from the directory that everything is in.
func (u *unpacking) enterTop(top string) error {
	if u.top == top {
		return nil
	}
	found := releaseName.FindStringSubmatch(top)
	if u.top != "" || found == nil {
		return errors.New("a release is one directory nix-VERSION-SYSTEM")
	}
	u.top, u.release.version, u.release.system = top, found[1], found[2]
	return nil
}

func (u *unpacking) write(h *tar.Header, name string, contents io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		return u.root.MkdirAll(name, 0o755)
	}
	if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return u.file(h, name, contents)
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		target := path.Clean(h.Linkname)
		inTop, ok := strings.CutPrefix(target, u.top+"/store/")
		if !ok {
			return fmt.Errorf("it is a hard link to %.120q, which is not in the store", h.Linkname)
		}
		return u.root.Link("store/"+inTop, name)
	}
	return fmt.Errorf("it is neither a file, a directory nor a link (type %q)", h.Typeflag)
}

func (u *unpacking) file(h *tar.Header, name string, contents io.Reader) error {
	if u.bytes += h.Size; u.bytes > maxReleaseBytes {
		return fmt.Errorf("the archive is larger than %d bytes", int64(maxReleaseBytes))
	}
	mode := os.FileMode(0o644)
	if h.Mode&0o100 != 0 {
		mode = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(writerOnly{f}, contents, u.copying)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// writerOnly hides a file's ReadFrom, which would not use the buffer that there is.
type writerOnly struct{ io.Writer }

// complete checks that what is registered is there, and nothing else.
func (u *unpacking) complete() error {
	if !u.reginfo || len(u.release.paths) == 0 {
		return errors.New("the archive has no .reginfo with paths: it is no Nix release in the official layout")
	}
	known := map[string]bool{}
	for _, reg := range u.release.paths {
		known[reg.Path.Base()] = true
		if _, err := os.Lstat(filepath.Join(u.release.dir, "store", reg.Path.Base())); err != nil {
			return fmt.Errorf("%s is registered, but not in the archive", reg.Path)
		}
	}
	entries, err := os.ReadDir(filepath.Join(u.release.dir, "store"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !known[entry.Name()] {
			return fmt.Errorf("store path %s is in the archive, but not registered", entry.Name())
		}
	}
	return nil
}
