// Package nar reads, writes, unpacks and dumps Nix archives.
//
// A Nix archive (NAR) is the one serialization of a file tree that Nix hashes: names, contents, executable bits and
// symlinks, and nothing else. The format is that of NixOS/nix, src/libutil/archive.cc. Everything here is stricter
// than an unpacker has to be: whatever a Reader accepts is byte for byte what Nix would dump for that tree, so a tree
// that was unpacked can always be dumped back to the hash it was signed with.
package nar

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// MaxNameLen is the longest name of a directory entry, in bytes: what Linux file systems can hold (NAME_MAX).
	MaxNameLen = 255
	// MaxTargetLen is the longest symlink target, in bytes: what Linux can hold (PATH_MAX less its NUL).
	MaxTargetLen = 4095
	// MaxPathLen is the longest path of an entry below the root, in bytes. Nix opens what it dumps by absolute path,
	// so no store path can hold a longer one.
	MaxPathLen = 4095
	// MaxDepth is how many directories may be nested. Nix had no limit and has one of 64 since 2.34, which caches
	// filled by older ones may exceed; an unpacker holds a file descriptor per open directory.
	MaxDepth = 1024
)

// The words of the format.
const (
	magic       = "nix-archive-1"
	wordOpen    = "("
	wordClose   = ")"
	wordType    = "type"
	wordRegular = "regular"
	wordSymlink = "symlink"
	wordDir     = "directory"
	wordExec    = "executable"
	wordData    = "contents"
	wordTarget  = "target"
	wordEntry   = "entry"
	wordName    = "name"
	wordNode    = "node"
)

// align is what every string of a NAR is padded to with zeros.
const align = 8

// Kind is what an Entry is.
type Kind uint8

// The three kinds of file that a NAR can hold.
const (
	Directory Kind = iota + 1
	Regular
	Symlink
)

// String names the kind as the format does.
func (k Kind) String() string {
	switch k {
	case Directory:
		return wordDir
	case Regular:
		return wordRegular
	case Symlink:
		return wordSymlink
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// Entry is one file, symlink or directory of an archive.
type Entry struct {
	Path       string // slash-separated and relative; "" is the root; not always UTF-8
	Kind       Kind
	Executable bool   // of a Regular
	Size       int64  // of a Regular, in bytes
	Target     string // of a Symlink
}

// Name is the last component of the entry's path, "" for the root.
func (e *Entry) Name() string { return e.Path[strings.LastIndexByte(e.Path, '/')+1:] }

// Error says at which entry an archive or a tree could not be read or written.
type Error struct {
	Path string // the entry, "" is the root
	Err  error
}

// Error names the entry and the problem.
func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("nar: root: %v", e.Err)
	}
	return fmt.Sprintf("nar: entry %q: %v", e.Path, e.Err)
}

// Unwrap gives the problem itself, for instance io.ErrUnexpectedEOF or what the file system said.
func (e *Error) Unwrap() error { return e.Err }

// at wraps err with the entry's path once; io.EOF and nil pass through.
func at(path string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if already := (*Error)(nil); errors.As(err, &already) {
		return err
	}
	return &Error{Path: path, Err: err}
}

// checkName applies the rule for names in a directory: what Nix refuses, and what Linux cannot hold.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("a name is empty")
	case len(name) > MaxNameLen:
		return fmt.Errorf("a name is %d bytes long, more than %d", len(name), MaxNameLen)
	case name == ".", name == "..":
		return fmt.Errorf("a name may not be %q", name)
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return fmt.Errorf("the name %q has the character %q", name, name[i])
		}
	}
	return nil
}

// checkTarget applies the rule for symlink targets.
func checkTarget(target string) error {
	switch {
	case target == "":
		return errors.New("symlink target is empty")
	case len(target) > MaxTargetLen:
		return fmt.Errorf("symlink target is %d bytes long, more than %d", len(target), MaxTargetLen)
	case strings.IndexByte(target, 0) >= 0:
		return errors.New("symlink target has a NUL character")
	}
	return nil
}

// padding is the number of zeros after a string of n bytes.
func padding(n int64) int { return int(-n & (align - 1)) }
