package relocate

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// keptInMemory is the size, in bytes, up to which an Inspection keeps a file in memory that it may have to look at as a
// whole. A larger one goes to a file that has no name.
const keptInMemory = 16 << 20

// keptOnDisk is the size up to which it keeps one at all. A larger one that would have to be looked at as a whole stands in
// the way.
const keptOnDisk = 4 << 30

// Inspection is a nar.Sink that finds out what relocating a path would come to, without writing it: as Rewrite and
// FixTree do it, but for the marks of Python byte code, for hashes in pages and lists, and for lengths in records of servers, which
// stand in hardly anybody's way.
type Inspection struct {
	*Rewriter
	fixer  *fixer
	self   storepath.Path
	refs   []storepath.Path
	temp   string
	keep   bool   // the file at hand is kept
	memory []byte // of the file at hand
	spool  *os.File
	most   int64 // bytes of a file that are kept
	size   int64 // of the file at hand, as far as it was kept
	// first is a file that may have to be rewritten with the one at hand.
	first *firstFile
}

// firstFile is one that waits for the file beside it that may have to be rewritten with it.
type firstFile struct {
	pending
	second string // its name
	memory []byte
	spool  *os.File
}

// Inspect returns an inspection of a path that refers to refs. Large files are kept in the directory temp for a moment.
func (v View) Inspect(self storepath.Path, refs []storepath.Path, temp string) *Inspection {
	i := &Inspection{self: self, refs: refs, temp: temp, most: keptOnDisk}
	i.Rewriter = v.Rewrite(self, refs, (*kept)(i))
	return i
}

// Entry goes on to the next file.
func (i *Inspection) Entry(e *nar.Entry) error {
	if err := i.decide(); err != nil {
		return err
	}
	i.keep = false
	return i.Rewriter.Entry(e)
}

// Close ends the archive.
func (i *Inspection) Close() error {
	if err := i.decide(); err != nil {
		return err
	}
	if err := i.decideFirst(nil); err != nil {
		return err
	}
	if err := i.Rewriter.Close(); err != nil {
		return err
	}
	if err := i.inspector.ctx.Err(); err != nil { // what was not looked at then is no blocker
		return fmt.Errorf("inspecting %s: %w", i.self, err)
	}
	for _, p := range i.report.pending {
		i.block(p, "")
	}
	i.report.pending = nil
	return nil
}

// Discard frees what the inspection holds, where the archive does not come to its end.
func (i *Inspection) Discard() {
	i.drop()
	i.dropFirst()
	i.Rewriter.Discard()
}

// decide looks at the last file as FixTree would.
func (i *Inspection) decide() error {
	defer i.drop()
	if i.buffer.left > 0 {
		return nil
	}
	if i.first != nil && i.first.second == i.file {
		if err := i.decideFirst(i.memory); err != nil {
			return err
		}
	}
	n := len(i.report.pending)
	if n == 0 || i.report.pending[n-1].file != i.file {
		return nil
	}
	p := i.report.pending[n-1]
	if path.Base(path.Dir(p.file)) == "jmods" && strings.HasSuffix(p.file, ".jmod") {
		return nil // whether it is harmless shows at the end
	}
	i.report.pending = i.report.pending[:n-1]
	if i.size > i.most {
		i.block(p, fmt.Sprintf("it is larger than the %d MiB that are kept to be looked at as a whole", i.most>>20))
		return nil
	}
	if second, ok := secondOf(p.file); ok {
		if err := i.decideFirst(nil); err != nil {
			return err
		}
		i.first = &firstFile{p, second, bytes.Clone(i.memory), i.spool}
		i.spool = nil
		return nil
	}
	return i.attempt(p, i.memory, i.spool, nil)
}

// decideFirst looks at the file that has waited for the one beside it, which is nil where that is not there.
func (i *Inspection) decideFirst(second []byte) error {
	if i.first == nil {
		return nil
	}
	defer i.dropFirst()
	return i.attempt(i.first.pending, i.first.memory, i.first.spool, func(name string) ([]byte, error) {
		if second == nil || path.Join(path.Dir(i.first.file), name) != i.first.second {
			return nil, absent(name)
		}
		return second, nil
	})
}

// attempt finds out how a file is rewritten that is in memory or in spool.
func (i *Inspection) attempt(p pending, data []byte, spool *os.File, read func(string) ([]byte, error)) error {
	if spool != nil {
		info, err := spool.Stat()
		if err != nil {
			return fmt.Errorf("inspecting %s: %w", i.self, err)
		}
		var unmap func()
		if data, unmap, err = mapFile(spool, info.Size()); err != nil {
			return fmt.Errorf("inspecting %s: %w", i.self, err)
		}
		defer unmap()
	}
	loan, err := memory.Of(i.inspector.ctx, i.view.budget.memory).Overdraw(i.inspector.ctx)
	if err != nil {
		return fmt.Errorf("inspecting %s: %w", i.self, err)
	}
	defer loan.Return()
	if i.fixer == nil {
		i.fixer = newFixer(i.inspector.ctx, i.view, Original{Path: i.self, References: i.refs}.paths())
		i.fixer.foreign = i.sawForeign
	}
	i.fixer.read = read
	var taken []Fixup
	if p.rewritten {
		taken = i.takeBack(p.file, data, i.view.budget)
	}
	edits, fixed, ok := i.fixer.attempt(data, p, &i.collector)
	if !ok && i.fixer.restored == 0 || ok && len(edits) == 0 {
		i.giveBack(taken, i.view.budget)
	}
	i.report.Fixups = append(i.report.Fixups, fixed...)
	return nil
}

// drop forgets the file at hand.
func (i *Inspection) drop() {
	i.memory, i.size = i.memory[:0], 0
	if i.spool != nil {
		_ = i.spool.Close()
		i.spool = nil
	}
}

// dropFirst forgets the file that waits.
func (i *Inspection) dropFirst() {
	if i.first != nil && i.first.spool != nil {
		_ = i.first.spool.Close()
	}
	i.first = nil
}

// kept is an inspection as the sink behind its rewriter.
type kept Inspection

func (*kept) Entry(*nar.Entry) error { return nil }
func (*kept) Close() error           { return nil }

// Write keeps contents that FixTree may have to look at. By then the rewriter has seen what the file is.
func (k *kept) Write(p []byte) (int, error) {
	s := k.Rewriter
	if !k.keep {
		if s.buffer.off > 0 || s.harmless != "" || s.format.fix == nil && !s.php && !s.format.trailer {
			return len(p), nil
		}
		k.keep = true
	}
	if k.size += int64(len(p)); k.size > k.most {
		size := k.size
		(*Inspection)(k).drop()
		k.size = size
		return len(p), nil
	}
	if k.spool == nil && len(k.memory)+len(p) > keptInMemory {
		spool, err := os.CreateTemp(k.temp, "inspect-")
		if err == nil {
			err = os.Remove(spool.Name())
		}
		if err == nil {
			_, err = spool.Write(k.memory)
		}
		if err != nil {
			return 0, fmt.Errorf("inspecting %s: %w", k.self, err)
		}
		k.spool, k.memory = spool, k.memory[:0]
	}
	if k.spool != nil {
		if _, err := k.spool.Write(p); err != nil {
			return 0, fmt.Errorf("inspecting %s: %w", k.self, err)
		}
		return len(p), nil
	}
	k.memory = append(k.memory, p...)
	return len(p), nil
}
