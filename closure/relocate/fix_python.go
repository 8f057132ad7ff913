package relocate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The header of a Python byte-code file (CPython Lib/importlib/_bootstrap_external.py, PEP 552): a magic number,
// flags, and either the source's time and size or the source's hash.
const (
	codeHeader = 16
	codeFlags  = 4 // where the flags are, four bytes
	codeProof  = 8 // where time and size or hash are, four and four bytes or eight

	// Flags.
	codeStamped   = 0
	codeUnchecked = 1
	codeChecked   = 3

	// The magic numbers of CPython 3.7 and of what comes before 20000, where Python 1 and 2 begin.
	firstMagic, lastMagic = 3394, 19999
	// storeTime is the time of every file in a Nix store.
	storeTime = 1
)

// code is a byte-code file's header.
type code struct {
	magic, flags, time, size uint32
	hash                     uint64
}

// codeOf reads the header that head begins with.
func codeOf(head []byte) (c code, ok bool) {
	if len(head) < codeHeader || head[2] != '\r' || head[3] != '\n' {
		return code{}, false
	}
	if number := binary.LittleEndian.Uint16(head); number < firstMagic || number > lastMagic {
		return code{}, false
	}
	return code{
		magic: binary.LittleEndian.Uint32(head),
		flags: binary.LittleEndian.Uint32(head[codeFlags:]),
		time:  binary.LittleEndian.Uint32(head[codeProof:]),
		size:  binary.LittleEndian.Uint32(head[codeProof+4:]),
		hash:  binary.LittleEndian.Uint64(head[codeProof:]),
	}, true
}

// noteCode notes a byte-code file whose time stamp is that of a source in a Nix store, the exporter's being another.
// Any other time stamp counts as stale in a Nix store too.
func (s *Rewriter) noteCode(head []byte) {
	if !strings.HasSuffix(s.file, ".pyc") {
		return
	}
	if c, ok := codeOf(head); ok && c.flags == codeStamped && c.time == storeTime && sourceOf(s.file) != "" {
		s.report.stamped.add(s.file)
	}
}

// markCode marks as not to be checked what was fresh in the store and counts as stale now.
func (v View) markCode(ctx context.Context, dir string, o Original, r Report, c *collector) error {
	fixed := map[string]bool{} // those that are of another format, too, by which the header is another already
	for _, f := range c.report.Fixups {
		fixed[f.File] = fixed[f.File] || f.Offset < codeProof
	}
	mark := func(file string, fresh func(code) (bool, error)) error {
		if err := ctx.Err(); err != nil || fixed[file] {
			return err
		}
		fix, err := fixCode(dir, file, fresh, func(fix Fixup) bool { return c.recordMark(v.budget, fix) })
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if fix != nil {
			c.report.Fixups = append(c.report.Fixups, *fix)
		}
		return nil
	}
	for _, file := range r.stamped.names {
		if err := mark(file, func(c code) (bool, error) { return sameSize(dir, sourceOf(file), c) }); err != nil {
			return err
		}
	}
	var compiled compiled
	sources := slices.Clone(r.sources.names) // by directory, as each is listed once
	slices.SortStableFunc(sources, func(a, b string) int { return strings.Compare(path.Dir(a), path.Dir(b)) })
	for _, source := range sources {
		files, err := compiled.of(dir, source)
		if err != nil {
			return err
		}
		h := sourceHash{view: v, dir: dir, source: source, original: o}
		for _, file := range files {
			if err := mark(file, h.is); err != nil {
				return err
			}
		}
	}
	return nil
}

// sourceOf names the source of "<dir>/__pycache__/<module>.<tag>.pyc", or gives "" for other files, which Python
// loads without looking for a source.
func sourceOf(file string) string {
	dir, base := path.Split(file)
	parent, cache := path.Split(strings.TrimSuffix(dir, "/"))
	module, _, tagged := strings.Cut(strings.TrimSuffix(base, ".pyc"), ".")
	if cache != "__pycache__" || !tagged {
		return ""
	}
	return parent + module + ".py"
}

const (
	// maxNames and maxNameBytes bound a nameList. Byte code beyond it counts as stale, which costs time at start-up.
	maxNames, maxNameBytes = 1 << 16, 8 << 20
	// maxSource bounds a file that is hashed, in bytes.
	maxSource = 16 << 20
)

// nameList is the names of some files of a path, as far as its bounds reach.
type nameList struct {
	names []string
	bytes int
	more  bool // there were more
}

func (l *nameList) add(name string) {
	if len(l.names) < maxNames && l.bytes+len(name) <= maxNameBytes {
		l.names, l.bytes = append(l.names, name), l.bytes+len(name)
		return
	}
	l.more = true
}

// endsWith reports whether name was added last.
func (l *nameList) endsWith(name string) bool {
	return len(l.names) > 0 && l.names[len(l.names)-1] == name
}

// compiled is the byte code of the directory that was looked at last.
type compiled struct {
	dir   string
	names []string // sorted
}

// of gives the byte code of a source, relative to dir as the source is.
func (c *compiled) of(dir, source string) ([]string, error) {
	cache := path.Join(path.Dir(source), "__pycache__")
	if cache != c.dir {
		var err error
		if c.names, err = listOwn(filepath.Join(dir, cache)); err != nil {
			return nil, err
		}
		c.dir = cache
	}
	module := strings.TrimSuffix(path.Base(source), ".py") + "."
	from, _ := slices.BinarySearch(c.names, module)
	var files []string
	for _, name := range c.names[from:] {
		if !strings.HasPrefix(name, module) {
			break
		}
		// Behind a module's name are the machine's and the optimisation's: m.cpython-311.opt-1.pyc.
		if strings.HasSuffix(name, ".pyc") && strings.Count(name[len(module):], ".") <= 2 {
			files = append(files, path.Join(cache, name))
		}
	}
	return files, nil
}

// listOwn lists a directory, sorted; a symlink to one, which may lead out of the tree, is none.
func listOwn(dir string) ([]string, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// sameSize reports whether the source has the size that its byte code says; the time is checked.
func sameSize(dir, source string, c code) (bool, error) {
	info, err := os.Lstat(filepath.Join(dir, source))
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular() && uint32(info.Size()) == c.size && c.flags == codeStamped, err
}

// sourceHash tells the hash of a source before it was rewritten, which depends on the byte code's magic number. However much
// byte code there is of one source, it is read once and hashed for a few versions of Python; more of it counts as stale.
type sourceHash struct {
	view        View
	dir, source string
	original    Original
	read        bool
	was         []byte
	hashes      map[uint32][2]uint64 // by magic number
}

// maxVersions is how many versions of Python have byte code of one source that is looked at.
const maxVersions = 16

// is reports whether the source had the hash that its byte code says.
func (h *sourceHash) is(c code) (bool, error) {
	if c.flags != codeChecked {
		return false, nil
	}
	if !h.read {
		h.read = true
		file := filepath.Join(h.dir, h.source)
		if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() || info.Size() > maxSource {
			return false, err
		}
		now, err := os.ReadFile(file)
		if err == nil {
			h.was, err = h.view.before(h.original, nil, h.source, now)
		}
		if err != nil {
			return false, err
		}
		h.hashes = make(map[uint32][2]uint64)
	}
	known, ok := h.hashes[c.magic]
	if !ok && h.hashes != nil && len(h.hashes) < maxVersions {
		// CPython hashes with SipHash-1-3 since 3.11, with SipHash-2-4 before (Python/pyhash.c, _Py_KeyedHash).
		known, ok = [2]uint64{siphash(1, 3, uint64(c.magic), h.was), siphash(2, 4, uint64(c.magic), h.was)}, true
		h.hashes[c.magic] = known
	}
	return ok && (c.hash == known[0] || c.hash == known[1]), nil
}

// fixCode marks the byte code at file as not to be checked, if it is fresh and record can take that.
func fixCode(dir, file string, fresh func(code) (bool, error), record func(Fixup) bool) (*Fixup, error) {
	name := filepath.Join(dir, file)
	before, err := os.Lstat(name)
	if err != nil || !before.Mode().IsRegular() {
		return nil, err
	}
	head, err := readHead(name, codeHeader)
	if err != nil {
		return nil, err
	}
	c, ok := codeOf(head)
	if !ok {
		return nil, nil
	}
	if ok, err := fresh(c); err != nil || !ok {
		return nil, err
	}
	flags := binary.LittleEndian.AppendUint32(nil, codeUnchecked)
	m := &Fixup{
		File: file, Offset: codeFlags, Length: int64(len(flags)), Was: bytes.Clone(head[codeFlags : codeFlags+len(flags)]),
	}
	if !record(*m) {
		return nil, nil
	}
	if err := writeAt(name, before, []edit{{from: codeFlags, data: flags}}); err != nil {
		return nil, err
	}
	return m, nil
}

// readHead reads a file's first bytes, as many as there are.
func readHead(name string, length int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, length))
}
