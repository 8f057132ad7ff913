// Package gitfiles reads of a checkout's .git what a build takes from it, without a git program: the revision, the
// remote, the time and number of commits, and which files a commit holds. It reads loose objects, packs (version 2) and
// the index (versions 2 to 4), as git describes them in Documentation/gitformat-pack.adoc, gitformat-index.adoc and
// gitrepository-layout.adoc.
//
// A .git is whatever its writer wants it to be. Libraries that read one (go-git) hold whole objects and follow whatever
// they find; here everything is bounded, in bytes, objects and depth, ends with its context, and is checked against
// its object name. What is beyond a bound is an error, and a build without a revision.
package gitfiles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
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

// Limits for what strangers may have written. Linux has 90,000 files in 6,000 directories, a history of 1.3 million
// commits, and objects that are smaller than these but for a few test files of other projects.
const (
	maxFiles     = 1 << 19 // of a commit, and entries of an index
	maxTrees     = 1 << 17 // directories of a commit
	maxNames     = 32 << 20
	maxObject    = 32 << 20 // bytes of one object
	maxCommit    = 1 << 20  // bytes of a commit, and of each that it is a change of
	maxTree      = 8 << 20  // bytes of a tree, the same: 200,000 files in one directory
	maxDirectory = 64       // depth of directories
	maxDeltas    = 256      // length of a chain of deltas; git makes 50, and 250 where it is told to be aggressive
	maxSmall     = 1 << 20  // bytes of a file such as HEAD or config
	maxRefs      = 64 << 20 // bytes of packed-refs
	maxStores    = 32       // object directories, with those that are borrowed from
	maxPacks     = 1 << 10  // packs of all object directories
	maxCommits   = 1_500_000
	maxBytes     = 4 << 30 // read and inflated, by one Repository
)

// Repository is a checkout's .git. It is for one goroutine.
type Repository struct {
	dir, common string
	settings    settings
	stores      []string // directories of objects
	packs       []*pack
	packsKnown  bool
	hashSize    int
	// remaining is how many bytes may still be read and inflated.
	remaining int64
}

// Open opens the repository of the checkout at dir. It is nil where dir is no checkout, or one that was sent without
// its repository.
func Open(ctx context.Context, dir string) (*Repository, error) {
	gitDir, err := find(ctx, dir)
	if err != nil || gitDir == "" {
		return nil, err
	}
	r := &Repository{dir: gitDir, common: gitDir, hashSize: 20, remaining: maxBytes}
	switch text, err := regularfile.Read(ctx, filepath.Join(gitDir, "commondir"), maxSmall); {
	case err == nil:
		r.common = below(gitDir, strings.TrimSpace(string(text)))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("opening %s: %w", gitDir, err)
	}
	switch text, err := regularfile.Read(ctx, filepath.Join(r.common, "config"), maxSmall); {
	case err == nil:
		r.settings = parseSettings(string(text))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("opening %s: %w", gitDir, err)
	}
	if r.settings.objectFormat == "sha256" {
		r.hashSize = 32
	}
	if err := r.addStores(ctx); err != nil {
		return nil, fmt.Errorf("opening %s: %w", gitDir, err)
	}
	return r, nil
}

// find is the directory that dir/.git is or names; "" where there is none.
func find(ctx context.Context, dir string) (string, error) {
	dotGit := filepath.Join(dir, ".git")
	info, err := os.Stat(dotGit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("opening %s: %w", dotGit, err)
	case info.IsDir():
		return dotGit, nil
	}
	text, err := regularfile.Read(ctx, dotGit, maxSmall)
	if err != nil {
		return "", fmt.Errorf("opening %s: %w", dotGit, err)
	}
	place, found := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir:")
	if !found {
		return "", fmt.Errorf("opening %s: it is a file without a line gitdir", dotGit)
	}
	gitDir := below(dir, strings.TrimSpace(place))
	if info, err := os.Stat(gitDir); err != nil || !info.IsDir() {
		return "", nil // a worktree or submodule that was sent without the repository it belongs to
	}
	return gitDir, nil
}

// addStores finds the directory of objects, and those that it borrows from, each once.
func (r *Repository) addStores(ctx context.Context) error {
	r.stores = []string{filepath.Join(r.common, "objects")}
	for i := 0; i < len(r.stores); i++ {
		text, err := regularfile.Read(ctx, filepath.Join(r.stores[i], "info", "alternates"), maxSmall)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			// A store that is named again counts too: no repository borrows from itself thousands of times.
			if len(r.stores) >= maxStores {
				return fmt.Errorf("it borrows objects from %d other directories or more", maxStores)
			}
			r.stores = append(r.stores, below(r.stores[i], line))
		}
	}
	return nil
}

// Close closes the packs.
func (r *Repository) Close() error {
	var err error
	for _, p := range r.packs {
		err = errors.Join(err, p.close())
	}
	return err
}

// errTooMuch is a repository of which too much would have to be read.
var errTooMuch = fmt.Errorf("more than %d bytes would have to be read", int64(maxBytes))

// metered is what is read from in, as long as the context and the repository's budget allow.
func (r *Repository) metered(ctx context.Context, in io.Reader) io.Reader {
	return meter{r: r, in: regularfile.NewReader(ctx, in)}
}

type meter struct {
	r  *Repository
	in io.Reader
}

// Read reads and counts.
func (m meter) Read(p []byte) (int, error) {
	n, err := m.in.Read(p)
	if m.r.remaining -= int64(n); m.r.remaining < 0 {
		return n, errTooMuch
	}
	return n, err
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

// ErrAbsent is an object that is not here: the repository is a partial or broken one.
var ErrAbsent = errors.New("the object is not in this repository")

// Commit reads a commit by its full object name in hex. The error is ErrAbsent where it is not here.
func (r *Repository) Commit(ctx context.Context, rev string) (Commit, error) {
	data, err := r.read(ctx, rev, "commit")
	if err != nil {
		return Commit{}, fmt.Errorf("reading commit %.80q: %w", rev, err)
	}
	c := parseCommit(string(data))
	if c.Tree == "" {
		return Commit{}, fmt.Errorf("reading commit %s: it names no tree", rev)
	}
	return c, nil
}

func parseCommit(text string) Commit {
	var c Commit
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "":
			return c
		case "tree":
			c.Tree = value
		case "parent":
			c.Parents = append(c.Parents, value)
		case "committer":
			fields := strings.Fields(value)
			if len(fields) < 2 {
				continue
			}
			var seconds int64
			if _, err := fmt.Sscanf(fields[len(fields)-2], "%d", &seconds); err == nil {
				c.Time = time.Unix(seconds, 0).UTC()
			}
		}
	}
	return c
}

// Count is the number of commits that a revision is made of, itself included. It reads the whole history, and so
// takes its time; 0 where the history is not all here.
func (r *Repository) Count(ctx context.Context, rev string) (int64, error) {
	if info, err := os.Stat(filepath.Join(r.common, "shallow")); err == nil && info.Mode().IsRegular() {
		return 0, nil
	}
	first, err := r.name(rev)
	if err != nil {
		return 0, err
	}
	seen := map[objectName]struct{}{first: {}}
	for queue := []objectName{first}; len(queue) > 0; {
		last := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		commit, err := r.Commit(ctx, last.hex(r.hashSize))
		if errors.Is(err, ErrAbsent) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("counting commits: %w", err)
		}
		for _, parent := range commit.Parents {
			name, err := r.name(parent)
			if err != nil {
				return 0, fmt.Errorf("counting commits: %w", err)
			}
			if _, known := seen[name]; known {
				continue
			}
			if len(seen) >= maxCommits {
				return 0, fmt.Errorf("counting commits: there are more than %d", maxCommits)
			}
			seen[name] = struct{}{}
			queue = append(queue, name)
		}
	}
	return int64(len(seen)), nil
}

// Snapshot is the files of a commit, by its full object name; where the commit's objects are not here, of the index.
func (r *Repository) Snapshot(ctx context.Context, rev string) (*Snapshot, error) {
	w := walk{r: r, files: map[string]File{}, read: map[string][]byte{}}
	c, err := r.Commit(ctx, rev)
	if err == nil {
		err = w.tree(ctx, c.Tree, "", 0)
	}
	if err == nil {
		return &Snapshot{Files: w.files, From: "commit " + rev[:min(12, len(rev))]}, nil
	}
	if !errors.Is(err, ErrAbsent) {
		return nil, err
	}
	w.files = nil
	s, indexErr := r.index(ctx)
	if indexErr != nil {
		return nil, errors.Join(err, indexErr)
	}
	return s, nil
}

// walk goes through the trees of a commit.
type walk struct {
	r     *Repository
	files map[string]File
	trees int
	names int // bytes
	// read are trees that were read, as many of the first as have maxRead bytes: the same one may stand in many places.
	read  map[string][]byte
	bytes int
}

// maxRead bounds the trees that a walk remembers.
const maxRead = 16 << 20

// data reads a tree, once where it can.
func (w *walk) data(ctx context.Context, id string) ([]byte, error) {
	if data, known := w.read[id]; known {
		return data, ctx.Err()
	}
	data, err := w.r.read(ctx, id, "tree")
	if err == nil && w.bytes+len(data) <= maxRead {
		w.read[id] = data
		w.bytes += len(data)
	}
	return data, err
}

// tree adds a tree's files.
func (w *walk) tree(ctx context.Context, id, prefix string, depth int) error {
	w.trees++
	switch {
	case depth > maxDirectory:
		return fmt.Errorf("reading tree %s: directories are nested more than %d deep", id, maxDirectory)
	case w.trees > maxTrees:
		return fmt.Errorf("reading tree %s: there are more than %d directories", id, maxTrees)
	}
	data, err := w.data(ctx, id)
	if err != nil {
		return fmt.Errorf("reading tree %s: %w", id, err)
	}
	for len(data) > 0 {
		var entry treeEntry
		if entry, data, err = nextEntry(data, w.r.hashSize); err != nil {
			return fmt.Errorf("reading tree %s: %w", id, err)
		}
		name := prefix + entry.name
		if w.names += len(name); w.names > maxNames || len(w.files) >= maxFiles {
			return fmt.Errorf("reading tree %s: there are more than %d files, or %d bytes of names", id, maxFiles, maxNames)
		}
		if entry.mode != tree {
			w.files[name] = File{Mode: normal(entry.mode), ID: entry.id}
		} else if err := w.tree(ctx, entry.id, name+"/", depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Blob is a file's content.
func (r *Repository) Blob(ctx context.Context, id string) ([]byte, error) {
	data, err := r.read(ctx, id, "blob")
	if err != nil {
		return nil, fmt.Errorf("reading blob %.80q: %w", id, err)
	}
	return data, nil
}

func below(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
