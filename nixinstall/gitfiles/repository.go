// Package gitfiles reads which files a commit holds, and what is in them, from a checkout's .git, without a git
// program. It reads loose objects, packs (version 2) and the index (versions 2 to 4), as git describes them in
// Documentation/gitformat-pack.adoc, gitformat-index.adoc and gitrepository-layout.adoc.
package gitfiles

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Mode is a file's mode as git knows it.
type Mode uint32

// The modes of files in a commit.
const (
	Regular    Mode = 0o100644
	Executable Mode = 0o100755
	Symlink    Mode = 0o120000
	Submodule  Mode = 0o160000 // a commit of another repository, whose files are not here

	tree Mode = 0o040000
)

// File is a file of a commit: its mode and its blob's object name in hex.
type File struct {
	Mode Mode
	ID   string
}

// Snapshot is all files of a commit or of the index, by slash-separated path.
type Snapshot struct {
	Files map[string]File
	// From says where they were read from: "commit 0123456789ab" or "the index".
	From string
}

// Repository is a checkout's .git.
type Repository struct {
	dir, common string
	stores      []string // folders of objects
	packs       []*pack
	hashSize    int
}

// Limits for what strangers may have written.
const (
	maxFiles  = 1 << 20
	maxObject = 256 << 20 // bytes of one object
	maxDepth  = 64        // of folders, and of deltas
	maxSmall  = 1 << 20
)

// Open opens the repository of the checkout at dir. It is nil where dir is no checkout, or one that was sent without
// its repository.
func Open(dir string) (*Repository, error) {
	gitDir := filepath.Join(dir, ".git")
	info, err := os.Stat(gitDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", gitDir, err)
	}
	if !info.IsDir() {
		text, err := readSmall(gitDir)
		place, found := strings.CutPrefix(strings.TrimSpace(text), "gitdir:")
		if err != nil || !found {
			return nil, fmt.Errorf("opening %s: it is a file without a line gitdir", gitDir)
		}
		if gitDir = below(dir, strings.TrimSpace(place)); !isDir(gitDir) {
			return nil, nil
		}
	}
	r := &Repository{dir: gitDir, common: gitDir, hashSize: 20}
	if text, err := readSmall(filepath.Join(gitDir, "commondir")); err == nil {
		r.common = below(gitDir, strings.TrimSpace(text))
	}
	if text, err := readSmall(filepath.Join(r.common, "config")); err == nil &&
		strings.Contains(strings.ToLower(strings.ReplaceAll(text, " ", "")), "objectformat=sha256") {
		r.hashSize = 32
	}
	r.addStore(filepath.Join(r.common, "objects"), maxAlternates)
	return r, r.openPacks()
}

// maxAlternates is how far a repository may borrow from others that borrow.
const maxAlternates = 5

// addStore adds a folder of objects, and those that it borrows from.
func (r *Repository) addStore(dir string, depth int) {
	r.stores = append(r.stores, dir)
	text, err := readSmall(filepath.Join(dir, "info", "alternates"))
	if err != nil || depth == 0 {
		return
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			r.addStore(below(dir, line), depth-1)
		}
	}
}

// Close closes the packs.
func (r *Repository) Close() error {
	var err error
	for _, p := range r.packs {
		err = errors.Join(err, p.close())
	}
	r.packs = nil
	return err
}

// Commit is what a commit says about itself.
type Commit struct {
	// Tree is its files' object name.
	Tree string
	// Time is when it was committed.
	Time time.Time
	// Parents are the commits it follows.
	Parents []string
}

// Commit reads a commit by its full object name in hex.
func (r *Repository) Commit(rev string) (Commit, error) {
	data, err := r.read(rev, "commit")
	if err != nil {
		return Commit{}, fmt.Errorf("reading commit %s: %w", rev, err)
	}
	var c Commit
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "":
			return c, c.check(rev)
		case "tree":
			c.Tree = value
		case "parent":
			c.Parents = append(c.Parents, value)
		case "committer":
			fields := strings.Fields(value)
			if len(fields) >= 2 {
				var seconds int64
				if _, err := fmt.Sscanf(fields[len(fields)-2], "%d", &seconds); err == nil {
					c.Time = time.Unix(seconds, 0).UTC()
				}
			}
		}
	}
	return c, c.check(rev)
}

func (c Commit) check(rev string) error {
	if c.Tree == "" {
		return fmt.Errorf("reading commit %s: it names no tree", rev)
	}
	return nil
}

// Snapshot is the files of a commit, by its full object name; where the commit's objects are not here, of the index.
func (r *Repository) Snapshot(rev string) (*Snapshot, error) {
	s := &Snapshot{Files: map[string]File{}, From: "commit " + rev[:min(12, len(rev))]}
	c, err := r.Commit(rev)
	if err == nil {
		err = r.walk(s, c.Tree, "", 0)
	}
	if err == nil {
		return s, nil
	}
	s, indexErr := r.index()
	if indexErr != nil {
		return nil, errors.Join(err, indexErr)
	}
	return s, nil
}

// walk adds a tree's files.
func (r *Repository) walk(s *Snapshot, id, prefix string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("reading tree %s: folders are nested more than %d deep", id, maxDepth)
	}
	data, err := r.read(id, "tree")
	if err != nil {
		return fmt.Errorf("reading tree %s: %w", id, err)
	}
	for len(data) > 0 {
		head, _, found := strings.Cut(string(data[:min(len(data), maxName)]), "\x00")
		at := len(head) + 1
		if !found || len(data) < at+r.hashSize {
			return fmt.Errorf("reading tree %s: it is cut off", id)
		}
		var mode Mode
		octal, name, _ := strings.Cut(head, " ")
		if _, err := fmt.Sscanf(octal, "%o", &mode); err != nil || !isName(name) {
			return fmt.Errorf("reading tree %s: entry %.80q is none", id, head)
		}
		child := hex.EncodeToString(data[at : at+r.hashSize])
		data = data[at+r.hashSize:]
		if mode == tree {
			if err := r.walk(s, child, prefix+name+"/", depth+1); err != nil {
				return err
			}
			continue
		}
		if len(s.Files) >= maxFiles {
			return fmt.Errorf("reading tree %s: more than %d files", id, maxFiles)
		}
		s.Files[prefix+name] = File{Mode: normal(mode), ID: child}
	}
	return nil
}

// maxName bounds an entry's mode and name.
const maxName = 4096 + 16

// normal is one of the four modes; ancient repositories have others for regular files.
func normal(m Mode) Mode {
	switch m {
	case Symlink, Submodule:
		return m
	}
	if m&0o100 != 0 {
		return Executable
	}
	return Regular
}

func isName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.Contains(name, "/")
}

// Blob is a file's content.
func (r *Repository) Blob(id string) ([]byte, error) {
	data, err := r.read(id, "blob")
	if err != nil {
		return nil, fmt.Errorf("reading blob %s: %w", id, err)
	}
	return data, nil
}

func below(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
