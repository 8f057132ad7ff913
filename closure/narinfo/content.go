package narinfo

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// ContentCheck compares an archive with the content address that its narinfo claims. Without it a cache that nobody
// trusts could claim the address of one thing and serve another, with a NarHash of its own making. Nix does the same:
// LocalStore::addToStore in NixOS/nix, src/libstore/local-store.cc.
//
// The bytes of the NAR are written to it, in order, and then Verify is asked.
type ContentCheck struct {
	info *NarInfo
	ca   *contentAddress
	hash hash.Hash
	to   interface {
		io.Writer
		finish() error
	}
}

// ContentCheck prepares the check of n's archive. VerifyCA comes first: this trusts that the address makes the path.
func (n *NarInfo) ContentCheck() (*ContentCheck, error) {
	ca, err := parseCA(n.CA)
	if err != nil {
		return nil, &FieldError{Field: "CA", Problem: err.Error()}
	}
	c := &ContentCheck{info: n, ca: ca}
	switch ca.algorithm {
	case "md5":
		c.hash = md5.New()
	case "sha1":
		c.hash = sha1.New()
	case "sha256":
		c.hash = sha256.New()
	case "sha512":
		c.hash = sha512.New()
	}
	switch {
	case ca.method != caNAR:
		c.to = &onlyFile{to: c.hash}
	case n.refersToItself():
		c.to = &modulo{to: c.hash, self: []byte(n.StorePath.HashPart())}
	default:
		c.to = whole{c.hash}
	}
	return c, nil
}

// Write takes in the next bytes of the NAR.
func (c *ContentCheck) Write(p []byte) (int, error) { return c.to.Write(p) }

// Verify says, once the whole NAR was written, whether it is what its address says.
func (c *ContentCheck) Verify() error {
	err := c.to.finish()
	got := c.hash.Sum(nil)
	if m, self := c.to.(*modulo); self && err == nil && !bytes.Equal(got, c.ca.digest) {
		if err = m.addOffsets(); err == nil && bytes.Equal(c.hash.Sum(nil), c.ca.digest) {
			return nil
		}
	}
	if err == nil && !bytes.Equal(got, c.ca.digest) {
		err = fmt.Errorf("its contents have the %s %s", c.ca.algorithm, storepath.Encode32(got))
	}
	if err != nil {
		return fmt.Errorf("checking %s against its content address %s: %w", c.info.StorePath, c.info.CA, err)
	}
	return nil
}

// whole hashes the NAR as it is.
type whole struct{ io.Writer }

func (whole) finish() error { return nil }

// onlyFile hashes the contents of a NAR that is one file, not executable.
type onlyFile struct {
	to   io.Writer
	head []byte
	left uint64
}

// fileHead is how the NAR of such a file begins: the length of its contents follows.
const fileHead = "\x0d\x00\x00\x00\x00\x00\x00\x00nix-archive-1\x00\x00\x00" +
	"\x01\x00\x00\x00\x00\x00\x00\x00(\x00\x00\x00\x00\x00\x00\x00" +
	"\x04\x00\x00\x00\x00\x00\x00\x00type\x00\x00\x00\x00" +
	"\x07\x00\x00\x00\x00\x00\x00\x00regular\x00" +
	"\x08\x00\x00\x00\x00\x00\x00\x00contents"

func (f *onlyFile) Write(p []byte) (int, error) {
	n := len(p)
	const want = len(fileHead) + 8
	if missing := want - len(f.head); missing > 0 {
		taken := min(missing, len(p))
		f.head = append(f.head, p[:taken]...)
		p = p[taken:]
		if len(f.head) == want {
			f.left = binary.LittleEndian.Uint64(f.head[len(fileHead):])
		}
	}
	contents := p[:min(uint64(len(p)), f.left)]
	f.left -= uint64(len(contents))
	if _, err := f.to.Write(contents); err != nil {
		return 0, err
	}
	return n, nil
}

func (f *onlyFile) finish() error {
	if !bytes.HasPrefix(f.head, []byte(fileHead)) {
		return errors.New("it is not a single file, or it is executable")
	}
	if len(f.head) < len(fileHead)+8 || f.left > 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// modulo hashes a NAR that refers to itself: with zeros where its own hash part is. Nix until 2.14 hashed "|" and the
// offset of each such place after it. Since then HashModuloSink still means to, but nothing fills its list of offsets
// (NixOS/nix: src/libstore/references.cc, RewritingSink::matches). Both kinds of address are in use, and with the newer
// one a zeroed reference and a real one have the same address, in Nix as here.
type modulo struct {
	to      io.Writer
	self    []byte
	pending []byte // not hashed yet, as the hash part may begin in it
	offset  int64  // of pending in the NAR
	offsets []int64
	many    bool // there are more offsets than are kept, so that an old address cannot be checked
}

// maxOffsets bounds the references to itself that are kept of a NAR: whoever serves it may have it refer to itself all over.
const maxOffsets = 1 << 20

func (m *modulo) Write(p []byte) (int, error) {
	m.pending = append(m.pending, p...)
	for from := 0; ; {
		i := bytes.Index(m.pending[from:], m.self)
		if i < 0 {
			break
		}
		from += i
		if m.many = m.many || len(m.offsets) == maxOffsets; !m.many {
			m.offsets = append(m.offsets, m.offset+int64(from))
		}
		clear(m.pending[from : from+len(m.self)])
		from += len(m.self)
	}
	if err := m.flush(max(0, len(m.pending)-len(m.self)+1)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flush hashes the first n bytes of what is pending.
func (m *modulo) flush(n int) error {
	_, err := m.to.Write(m.pending[:n])
	m.pending = m.pending[:copy(m.pending, m.pending[n:])]
	m.offset += int64(n)
	return err
}

func (m *modulo) finish() error { return m.flush(len(m.pending)) }

// addOffsets hashes what older versions of Nix hashed after the NAR.
func (m *modulo) addOffsets() error {
	if m.many {
		return fmt.Errorf("it refers to itself more than %d times, and is not what Nix since 2.15 would have addressed so", maxOffsets)
	}
	for _, offset := range m.offsets {
		if _, err := fmt.Fprintf(m.to, "|%d", offset); err != nil {
			return err
		}
	}
	return nil
}
