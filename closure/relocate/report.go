package relocate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Kind is why a place could not be rewritten, or may not be.
type Kind string

// The kinds of blocker.
const (
	BareHash       Kind = "hash without /nix/store before it"
	Compressed     Kind = "reference in compressed data"
	Checksummed    Kind = "reference in checksummed data"
	WideText       Kind = "reference in UTF-16 or UTF-32 text"
	HashKeyed      Kind = "reference in a table keyed by its hash"
	RelativePath   Kind = "reference in a relative path"
	SplitReference Kind = "split reference"
	Opaque         Kind = "data that cannot be looked into"
	RelocatedName  Kind = "name that a relocated path could have"
	Ambiguous      Kind = "store paths that the view cannot tell apart"
)

// Blocker is a place that names a store path, or could, and that rewriting does not reach or would break.
type Blocker struct {
	File     string // slash-separated, below the store path; "" is the path itself
	Kind     Kind
	Detail   string // what was found, and where inside the file
	Harmless string // why it does not matter; "" means that it blocks relocation
	Overrule string // the glob by which somebody takes it as harmless, or ""
}

// Fixup is a change made to a file beyond the rewriting of plain references: a checksum that a format checks, a member
// compressed anew, the mark that byte code is fresh, a symlink's target. It says what stood there, so that Undo can
// take it back.
type Fixup struct {
	File   string // as in a Blocker
	Offset int64  // in bytes, in the file as it is now; of a symlink, 0
	Length int64  // bytes that stand there now; of a symlink, of its target
	Was    []byte // what stood there; of a symlink, its whole target
}

// size is about what a fixup takes where it is recorded, in bytes.
func (f Fixup) size() int64 {
	const rest = 64 // numbers and names of fields
	return int64(len(f.Was)+recorded(f.File)) + rest
}

// recorded is how many bytes a name takes in JSON, at most.
func recorded(name string) (n int) {
	const escape = len("\\u0000")
	for _, c := range []byte(name) {
		if n++; c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			n += escape - 1
		}
	}
	return n
}

const (
	// maxBlockers bounds the blockers kept of each sort; more are counted.
	maxBlockers = 32
	// maxOverruled bounds the files kept that were overruled, maxOverruledBytes what they take where they are recorded.
	maxOverruled, maxOverruledBytes = 1024, 512 << 10
	// maxForeign bounds the foreign hash parts kept.
	maxForeign = 1024
)

// Report is what relocating one store path found.
type Report struct {
	References int // rewritten
	// Blockers are the first of those that block and the first of the harmless ones, of many files one each, in the order of the
	// archive.
	Blockers []Blocker
	// Blocking and Harmless count all blockers, those left out of Blockers included.
	Blocking, Harmless int
	// Fixed counts the files that were rewritten as a whole, by their formats, and references in wide text.
	Fixed map[string]int
	// Overruled are the files with blockers that somebody takes as harmless, the first blocker of each, at most 1024, of half a
	// MiB where they are recorded.
	Overruled []Blocker
	// Foreign are the hash parts of store paths that are named in full but belong neither to the path nor to its
	// references, sorted, at most 1024; more are a blocker. They are left as they are: most name what was only needed
	// for building. One that belongs to the closure nevertheless is a reference that would lead nowhere.
	Foreign []string
	Fixups  []Fixup
	// Wrappers are the files that FixWrappers has to look at, at most 1024.
	Wrappers []string

	pending []pending // files that FixTree has to rewrite
	sources nameList  // Python sources that were rewritten
	stamped nameList  // Python byte code with the time stamp of a Nix store
	assets  nameList  // files that were rewritten, but for programs
	sums    nameList  // lists of checksums
	// rewritten are the files that were.
	rewritten nameList
	spoilt    nameList // compressed pages with a blocker
}

// Relocatable reports whether nothing blocks.
func (r Report) Relocatable() bool { return r.Blocking == 0 }

// Complete reports whether nothing is left to FixTree and FixWrappers but the marks of byte code and hashes in pages, which are
// all recorded.
func (r Report) Complete() bool { return len(r.pending)+len(r.Wrappers) == 0 }

// pending is a file that has references where a Rewriter may not rewrite them. FixTree rewrites it; where it cannot,
// the blockers count.
type pending struct {
	file     string
	format   string
	blockers []Blocker
	count    int // of all, those left out included
	// rewritten says that a Rewriter has recorded fixups of it.
	rewritten bool
}

const (
	// maxPending bounds the pending files of a path.
	maxPending = 1 << 14
)

// collector gathers a Report within its bounds.
type collector struct {
	report    Report
	path      storepath.Path
	overrules Overrules
	fixed     int64 // bytes that fixups record
	overruled int   // bytes that what was overruled takes
	foreign   map[[hashLen]byte]bool
	crowded   bool // there were more
	// unpacked is what was compressed in files that were rewritten as a whole.
	unpacked map[string]*packedText
}

func (c *collector) blocker(b Blocker) {
	if glob := c.overrules.Match(c.path, b.File); b.Harmless == "" && b.Kind.Overrulable() && glob != "" {
		b.Harmless, b.Overrule = "taken as harmless by "+glob, glob
		size := recorded(b.File) + recorded(b.Detail) + recorded(glob)
		if known := c.report.Overruled; len(known) < maxOverruled && c.overruled+size <= maxOverruledBytes &&
			!slices.ContainsFunc(known, func(o Blocker) bool { return o.File == b.File }) {
			c.report.Overruled, c.overruled = append(known, b), c.overruled+size
		}
	}
	if isPackedPage(b.File) && !c.report.spoilt.endsWith(b.File) {
		c.report.spoilt.add(b.File)
	}
	count := &c.report.Blocking
	if b.Harmless != "" {
		count = &c.report.Harmless
	}
	*count++
	c.keep(b)
}

// keep keeps the first blockers of a sort, and of each further file the first, in the place of another file's further ones: who
// takes all files that are named as harmless should not be told of others then.
func (c *collector) keep(b Blocker) {
	kept, further, known := 0, -1, false
	var last Blocker
	for i, k := range c.report.Blockers {
		if (k.Harmless == "") != (b.Harmless == "") {
			continue
		}
		if kept > 0 && k.alike(last) {
			further = i
		}
		kept, last, known = kept+1, k, known || k.alike(b)
	}
	switch {
	case kept < maxBlockers:
		c.report.Blockers = append(c.report.Blockers, b)
	case !known && further >= 0:
		c.report.Blockers = append(slices.Delete(c.report.Blockers, further, further+1), b)
	}
}

// alike reports whether two blockers are of one file, and the same word helps against both.
func (b Blocker) alike(other Blocker) bool {
	return b.File == other.File && b.Kind.Overrulable() == other.Kind.Overrulable()
}

// fixedIn counts what is not a plain reference.
func (c *collector) fixedIn(format string) {
	if c.report.Fixed == nil {
		c.report.Fixed = make(map[string]int)
	}
	c.report.Fixed[format]++
}

// leave leaves a file to FixTree.
func (c *collector) leave(p pending) {
	if len(c.report.pending) < maxPending {
		c.report.pending = append(c.report.pending, p)
		return
	}
	c.block(p, "")
}

// block takes the blockers of a file that cannot be rewritten.
func (c *collector) block(p pending, why string) {
	for _, b := range p.blockers {
		if why != "" && !strings.Contains(b.Detail, why) {
			b.Detail += ": " + why
		}
		c.blocker(b)
	}
	if more := p.count - len(p.blockers); c.overrules.Match(c.path, p.file) == "" {
		c.report.Blocking += more
	}
}

// record takes what fixups take, and reports whether that was there, in the path and in all of its closure.
func (c *collector) record(b *budget, fixups ...Fixup) bool {
	n := int64(0)
	for _, f := range fixups {
		n += f.size()
	}
	if c.fixed+n > maxPathFixups || !b.record(n) {
		return false
	}
	c.fixed += n
	return true
}

// recordMark is record for the mark of byte code, which is done without where there is little room: what cannot be recorded of
// other files stands in the way.
func (c *collector) recordMark(b *budget, mark Fixup) bool {
	const left = 4 // the part of all room that is kept
	if c.fixed+mark.size() > maxPathFixups-maxPathFixups/left || b != nil && b.fixups.Load() < maxClosureFixups/left {
		return false
	}
	return c.record(b, mark)
}

// unrecord gives back what a fixup took that is none any more.
func (c *collector) unrecord(b *budget, f Fixup) {
	c.fixed -= f.size()
	b.fixups.Add(f.size())
}

// takeBack takes back in data, a file's contents, what a Rewriter has recorded of that file. They are no fixups any more.
func (c *collector) takeBack(file string, data []byte, b *budget) (taken []Fixup) {
	c.report.Fixups = slices.DeleteFunc(c.report.Fixups, func(f Fixup) bool {
		if f.File != file {
			return false
		}
		copy(data[f.Offset:], f.Was)
		c.unrecord(b, f)
		taken = append(taken, f)
		return true
	})
	return taken
}

// giveBack has what was taken back be fixups again, as it stays.
func (c *collector) giveBack(taken []Fixup, b *budget) {
	for _, f := range taken {
		c.fixed += f.size()
		b.fixups.Add(-f.size())
	}
	c.report.Fixups = append(c.report.Fixups, taken...)
}

func (c *collector) sawForeign(hash []byte) {
	if len(c.foreign) >= maxForeign {
		if !c.crowded && !c.foreign[[hashLen]byte(hash)] {
			c.crowded = true
			c.blocker(Blocker{Kind: Opaque, Detail: fmt.Sprintf(
				"it names more than %d store paths that it does not refer to, too many to tell whether one is in the closure",
				maxForeign)})
		}
		return
	}
	if c.foreign == nil {
		c.foreign = make(map[[hashLen]byte]bool)
	}
	c.foreign[[hashLen]byte(hash)] = true
}

// result is a copy that later finds do not change.
func (c *collector) result() Report {
	r := c.report
	r.Blockers = slices.Clone(r.Blockers)
	r.Fixups = slices.Clone(r.Fixups)
	r.Overruled = slices.Clone(r.Overruled)
	r.Wrappers = slices.Clone(r.Wrappers)
	r.Fixed = maps.Clone(r.Fixed)
	for hash := range c.foreign {
		r.Foreign = append(r.Foreign, string(hash[:]))
	}
	slices.Sort(r.Foreign)
	return r
}
