package relocate

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	// largeProgram is the size, in bytes, from which a program may hold a whole V8 or BoringSSL.
	largeProgram = 512 << 10
	// integrityNote ends the header of libgcrypt's ELF note with a checksum: its type, NT_FDO_INTEGRITY, and its name
	// (libgcrypt src/fips.c).
	integrityNote = "\x8e\x2a\xfe\xcaFDO\x00"
	// integrityTest is what a BoringSSL built as FIPS module says when its checksum is wrong (BoringSSL
	// crypto/fipsmodule/bcm.c; AWS-LC has the same).
	integrityTest = "FIPS integrity test"
)

// program is what is known of an ELF file that a rewriting may break.
type program struct {
	size      int64 // bytes
	large     bool
	note      bool // libgcrypt's
	boring    bool // it has BoringSSL's integrity test
	lisp      bool // an SBCL core stands behind it
	snapshots []snapshot
	constants []constants // of Nuitka's
}

// begin looks at the first bytes of an ELF file of size bytes.
func (p *program) begin(head []byte, size int64) {
	p.size, p.large = size, size >= largeProgram
	p.note = bytes.Contains(head, []byte(integrityNote))
}

// search looks at the places buf[from:to]; buf begins at off.
func (p *program) search(buf []byte, from, to int, off int64) {
	p.constants = findConstants(p.constants, buf, from, to, off, p.size)
	if !p.large {
		return
	}
	p.snapshots = findSnapshots(p.snapshots, buf, from, to, off)
	if !p.boring {
		p.boring = bytes.Contains(buf[from:min(len(buf), to+len(integrityTest)-1)], []byte(integrityTest))
	}
}

// sealed says why a reference at a place of the file may not be rewritten, or "".
func (p *program) sealed(at int64) (Kind, string) {
	for _, s := range p.snapshots {
		if s.from <= at && at < s.end {
			return Checksummed, s.String()
		}
	}
	for _, c := range p.constants {
		if c.from <= at && at < c.end {
			return Checksummed, "constants of Nuitka's"
		}
	}
	return "", ""
}

// checksum says which checksum over itself the file has lost by being rewritten, or "".
func (p *program) checksum(file string) string {
	switch {
	case path.Base(file) == "fips.so":
		return "OpenSSL's FIPS provider was rewritten, and fipsmodule.cnf has its checksum"
	case p.note:
		return "it was rewritten and has a checksum over itself in the note FDO integrity"
	case p.boring:
		return "it was rewritten and has BoringSSL's checksum over its FIPS module"
	}
	return ""
}

// checksumFiles pairs files that hold the checksum of another with programs and libraries that were rewritten. Either may
// come first.
type checksumFiles struct {
	files     []string // *.hmac, *.chk
	rewritten []string // base names
}

// maxChecksumFiles bounds both lists; beyond it every checksum counts as that of a rewritten file.
const maxChecksumFiles = 1 << 14

// saw notes the file if it is a checksum: of fipscheck, libgcrypt, GnuTLS, libkcapi (.hmac), of NSS (.chk).
func (s *checksumFiles) saw(file string) {
	if (strings.HasSuffix(file, ".hmac") || strings.HasSuffix(file, ".chk")) && len(s.files) < maxChecksumFiles {
		s.files = append(s.files, file)
	}
}

// rewrote notes that a program or library was changed.
func (s *checksumFiles) rewrote(file string) {
	if len(s.rewritten) < maxChecksumFiles {
		s.rewritten = append(s.rewritten, path.Base(file))
	}
}

// rewrittenAs is the file among those that were rewritten, which are sorted, whose checksum bears a name, or "": that which
// programs ask for, libx.so.1, while the file may be libx.so.1.2.
func (s *checksumFiles) rewrittenAs(name string) string {
	for _, wanted := range []string{name, name + "."} {
		at, found := slices.BinarySearch(s.rewritten, wanted)
		if found || at < len(s.rewritten) && wanted != name && strings.HasPrefix(s.rewritten[at], wanted) {
			return s.rewritten[at]
		}
	}
	if len(s.rewritten) == maxChecksumFiles {
		return s.rewritten[0]
	}
	return ""
}

// blockers lists the checksums that are no longer right.
func (s *checksumFiles) blockers() []Blocker {
	var found []Blocker
	slices.Sort(s.rewritten)
	for _, file := range s.files {
		base := strings.TrimPrefix(path.Base(file), ".")
		nss := strings.HasSuffix(base, ".chk")
		of := strings.TrimSuffix(strings.TrimSuffix(base, ".hmac"), ".chk")
		name := s.rewrittenAs(of)
		if name == "" {
			continue
		}
		b := Blocker{File: file, Kind: Checksummed}
		b.Detail = fmt.Sprintf("the checksum of %s, which was rewritten", name)
		if nss {
			b.Harmless = "every NSS has one and looks at it in FIPS mode only"
		}
		found = append(found, b)
	}
	return found
}
