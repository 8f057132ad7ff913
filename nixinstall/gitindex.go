package nixinstall

import (
	"bytes"
	"context"
	"crypto/sha1" // what git calls a file by
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// GitChanges are the differences between a folder and what git has of it, as slash-separated paths, sorted. Each of
// them makes the source another one than Hydra's.
type GitChanges struct {
	// Untracked are in the folder only: files, and folders that hold nothing of git's (git knows no empty folders).
	// They are what SourceOptions.Exclude takes.
	Untracked []string
	// Missing are in git only, Modified have another content, type or executable bit than in git.
	Missing, Modified []string
}

// IsZero reports whether nothing differs.
func (c GitChanges) IsZero() bool { return len(c.Untracked)+len(c.Missing)+len(c.Modified) == 0 }

// CompareWithGit compares a checkout with its git index, without a git program. ok is false where there is no index
// that can be read here: no checkout, or a split index.
func CompareWithGit(ctx context.Context, dir string) (changes GitChanges, ok bool, err error) {
	gitDir, err := gitDirOf(dir)
	if err != nil || gitDir == "" {
		return GitChanges{}, false, err
	}
	data, err := os.ReadFile(filepath.Join(gitDir, "index"))
	if errors.Is(err, fs.ErrNotExist) {
		return GitChanges{}, false, nil
	}
	if err != nil {
		return GitChanges{}, false, fmt.Errorf("reading the git index: %w", err)
	}
	newHash := sha1.New
	if id, known, err := GitIdentity(dir); err == nil && known && len(id.Rev) == hex.EncodedLen(sha256.Size) {
		newHash = sha256.New
	}
	entries, err := parseIndex(data, newHash().Size())
	if errors.Is(err, errSplitIndex) {
		return GitChanges{}, false, nil
	}
	if err != nil {
		return GitChanges{}, false, fmt.Errorf("reading the git index: %w", err)
	}
	c := &comparison{dir: dir, newHash: newHash, tracked: entries, folders: map[string]bool{}}
	for name := range entries {
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			c.folders[name[:i]] = true
		}
	}
	if err := c.walk(ctx, ""); err != nil {
		return GitChanges{}, false, fmt.Errorf("comparing %s with git: %w", dir, err)
	}
	for name := range entries {
		if !c.seen(name) {
			c.changes.Missing = append(c.changes.Missing, name)
		}
	}
	slices.Sort(c.changes.Missing)
	return c.changes, true, nil
}

// indexEntry is a file as the index has it.
type indexEntry struct {
	mode uint32
	id   []byte
	seen bool
}

// Modes of git's objects.
const (
	modeType      = 0o170000
	modeFolder    = 0o040000 // of a sparse index
	modeSymlink   = 0o120000
	modeSubmodule = 0o160000
	modeExec      = 0o100
)

type comparison struct {
	dir     string
	newHash func() hash.Hash
	tracked map[string]*indexEntry
	folders map[string]bool // that hold something tracked
	changes GitChanges
}

func (c *comparison) seen(name string) bool { return c.tracked[name].seen }

// walk compares what is below a folder that holds something tracked.
func (c *comparison) walk(ctx context.Context, rel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(c.dir, filepath.FromSlash(rel)))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if name == ".git" {
			continue
		}
		if rel != "" {
			name = rel + "/" + name
		}
		tracked := c.tracked[name]
		switch {
		case tracked != nil:
			tracked.seen = true
			if same, err := c.same(name, tracked); err != nil {
				return err
			} else if !same {
				c.changes.Modified = append(c.changes.Modified, name)
			}
		case entry.IsDir() && c.folders[name]:
			if err := c.walk(ctx, name); err != nil {
				return err
			}
		default:
			c.changes.Untracked = append(c.changes.Untracked, name)
		}
	}
	return nil
}

// same compares a file with the index.
func (c *comparison) same(name string, tracked *indexEntry) (bool, error) {
	full := filepath.Join(c.dir, filepath.FromSlash(name))
	info, err := os.Lstat(full)
	if err != nil {
		return false, err
	}
	var content []byte
	switch tracked.mode & modeType {
	case modeSubmodule, modeFolder:
		return info.IsDir(), nil
	case modeSymlink:
		if info.Mode().Type() != fs.ModeSymlink {
			return false, nil
		}
		target, err := os.Readlink(full)
		if err != nil {
			return false, err
		}
		content = []byte(target)
	default:
		if !info.Mode().IsRegular() || (tracked.mode&modeExec != 0) != (info.Mode()&modeExec != 0) {
			return false, nil
		}
		if content, err = os.ReadFile(full); err != nil {
			return false, err
		}
	}
	h := c.newHash()
	h.Write([]byte("blob " + strconv.Itoa(len(content)) + "\x00"))
	h.Write(content)
	return bytes.Equal(h.Sum(nil), tracked.id), nil
}

var errSplitIndex = errors.New("the index is split")

// parseIndex reads an index of version 2, 3 or 4 (git: Documentation/gitformat-index.txt).
func parseIndex(data []byte, idLen int) (map[string]*indexEntry, error) {
	const header, stat, extended = 12, 40, 0x4000
	if len(data) < header+idLen || string(data[:4]) != "DIRC" {
		return nil, errors.New("it is no index")
	}
	version, count := binary.BigEndian.Uint32(data[4:]), int(binary.BigEndian.Uint32(data[8:]))
	if version < 2 || version > 4 {
		return nil, fmt.Errorf("its version is %d, want 2, 3 or 4", version)
	}
	entries := map[string]*indexEntry{}
	rest, last := data[header:len(data)-idLen], ""
	for range count {
		fixed := stat + idLen + 2
		if len(rest) < fixed+2 {
			return nil, errors.New("it is cut off")
		}
		e := &indexEntry{mode: binary.BigEndian.Uint32(rest[24:]), id: rest[stat : stat+idLen]}
		if binary.BigEndian.Uint16(rest[stat+idLen:])&extended != 0 {
			fixed += 2
		}
		name, size, err := indexName(rest[fixed:], last, version)
		if err != nil {
			return nil, err
		}
		size += fixed
		if version < 4 {
			size = (size + 8) &^ 7 // at least one zero follows the name
		}
		if size > len(rest) {
			return nil, errors.New("it is cut off")
		}
		rest, last = rest[size:], name
		entries[name] = e
	}
	for len(rest) >= 8 {
		size := int(binary.BigEndian.Uint32(rest[4:]))
		if string(rest[:4]) == "link" {
			return nil, errSplitIndex
		}
		if size > len(rest)-8 {
			return nil, errors.New("an extension is cut off")
		}
		rest = rest[8+size:]
	}
	return entries, nil
}

// indexName reads an entry's name, which version 4 writes as a change of the last one. size is what it takes: in
// version 4 with the zero behind it, before that without.
func indexName(data []byte, last string, version uint32) (name string, size int, err error) {
	prefix := ""
	if version == 4 {
		strip, n := offsetVarint(data)
		if n == 0 || strip > len(last) {
			return "", 0, errors.New("a name is cut off")
		}
		prefix, data, size = last[:len(last)-strip], data[n:], n+1
	}
	end := bytes.IndexByte(data, 0)
	if end < 0 {
		return "", 0, errors.New("a name is cut off")
	}
	return prefix + string(data[:end]), size + end, nil
}

// offsetVarint reads the variable-length number that packs use for offsets; n is 0 where there is none.
func offsetVarint(data []byte) (value, n int) {
	for n < len(data) && n < 4 {
		b := data[n]
		n++
		value = value<<7 | int(b&0x7f)
		if b&0x80 == 0 {
			return value, n
		}
		value++
	}
	return 0, 0
}
