package relocate

import (
	"bytes"
	"fmt"
	"strconv"
)

// What a Rewriter does with what its scanner and the inspector find in the file at hand.

func (s *Rewriter) reference(i, member int) {
	kind, detail := s.format.kind, s.format.name
	at := s.buffer.off + int64(i-behind)
	if s.format.fix != nil && kind == "" {
		kind = Checksummed // or what is beside it in the file
	}
	if kind != "" && at >= s.format.sealed {
		s.found(kind, fmt.Sprintf("%s in %s", s.scan.members.paths[member], detail))
		return
	}
	if isRelative(s.buffer.buf, i-behind, s.format.pools) {
		s.relative(member)
		return
	}
	if kind, detail = s.program.sealed(at); kind != "" {
		s.leaveBlocker(Blocker{File: s.file, Kind: kind,
			Detail: fmt.Sprintf("%s in %s", s.scan.members.paths[member], detail)})
		return
	}
	s.written++
	s.wrapper(i)
	s.buffer.patch(i-behind, []byte(s.targets[member]))
}

// relative reports a reference that goes on from "..". It is left as it is, and leads out of /nix/store where a symlink or a
// program has it.
func (s *Rewriter) relative(member int) {
	b := Blocker{File: s.file, Kind: RelativePath,
		Detail: "../" + s.scan.members.paths[member].String(), Harmless: s.harmless}
	if !s.format.pools && !s.link && b.Harmless == "" {
		b.Harmless = "a path relative to its own place, as in source maps; it is left as it is"
	}
	s.blocker(b)
}

func (s *Rewriter) foreign(i int) { s.sawForeign(s.buffer.buf[i : i+hashLen]) }

func (s *Rewriter) bareHash(i, member int) {
	if isMention(s.buffer.buf, i) {
		return
	}
	if from, slash := escapedReference(nameIn(s.self, s.file), s.buffer.buf, i); slash != "" {
		if data := escaped(s.targets[member], slash); data != nil && s.rewritten(from, data, "text with escaped slashes") {
			return
		}
	}
	detail := "the hash of " + string(s.scan.members.paths[member]) // there may be one at each byte
	if s.harmless == "" && s.format.fix == nil && !s.format.opaque &&
		s.names.mention(Blocker{File: s.file, Kind: BareHash, Detail: detail}, s.ownName(s.buffer.buf, i)) {
		return
	}
	s.found(BareHash, detail)
}

func (s *Rewriter) wideHash(i, width, member int) {
	if s.wideReference(i, width, member) {
		return
	}
	detail := "the hash of " + string(s.scan.members.paths[member]) + " in UTF-" + strconv.Itoa(8*width)
	at := s.buffer.off + int64(i)
	if kind, where := s.program.sealed(at); kind != "" {
		s.leaveBlocker(Blocker{File: s.file, Kind: kind, Detail: detail + " in " + where})
		return
	}
	if s.format.kind != "" && s.format.fix == nil {
		s.found(s.format.kind, detail+" in "+s.format.name)
		return
	}
	s.found(WideText, detail)
}

// wideReference rewrites a reference in UTF-16 or UTF-32, if it is whole.
func (s *Rewriter) wideReference(i, width, member int) bool {
	from, ok := wideReference(s.buffer.buf, i, width)
	return ok && s.rewritten(from, widen(s.targets[member], width), fmt.Sprintf("UTF-%d", 8*width))
}

// rewritten makes data stand at buf[from:] and records what stood there: Undo looks for plain references only.
func (s *Rewriter) rewritten(from int, data []byte, how string) bool {
	if kind, _ := s.program.sealed(s.buffer.off + int64(from)); kind != "" ||
		s.format.kind != "" || s.format.fix != nil || s.link {
		return false
	}
	s.unfixed.rewritten = true
	fix := Fixup{File: s.file, Offset: s.buffer.off + int64(from),
		Length: int64(len(data)), Was: bytes.Clone(s.buffer.buf[from : from+len(data)])}
	if !s.record(s.view.budget, fix) {
		return false
	}
	s.report.Fixups = append(s.report.Fixups, fix)
	s.fixedIn(how)
	s.buffer.patch(from, data)
	s.written++
	return true
}

func (s *Rewriter) splitPart(member int) {
	s.found(SplitReference, fmt.Sprintf("a part of %s", s.scan.members.paths[member]))
}

func (s *Rewriter) relocatedName(int) {
	s.found(RelocatedName, fmt.Sprintf("%s and %d characters of a hash", s.scan.name, s.view.keep))
}

// found reports a blocker of the file at hand.
func (s *Rewriter) found(kind Kind, detail string) {
	b := Blocker{File: s.file, Kind: kind, Detail: detail, Harmless: s.harmless}
	if kind == RelocatedName {
		b.Harmless = "" // undoing would take it for a reference, wherever it stands
	}
	s.add(b)
}

// add takes a blocker of the file at hand. Where the file's format can be rewritten as a whole, FixTree has a try.
func (s *Rewriter) add(b Blocker) {
	fixable := b.Kind == Compressed || b.Kind == Checksummed || b.Kind == HashKeyed || b.Kind == Opaque || b.Kind == WideText ||
		b.Kind == BareHash && s.format.always || // the rest may be on another page
		s.format.settles && b.Kind.Overrulable()
	if b.Harmless == "" && s.format.fix != nil && fixable {
		s.leaveBlocker(b)
		return
	}
	s.blocker(b)
}

// leaveBlocker leaves a blocker of the file at hand to FixTree.
func (s *Rewriter) leaveBlocker(b Blocker) {
	if s.harmless != "" {
		b.Harmless = s.harmless
		s.blocker(b)
		return
	}
	// Of more files than are named if all of them block, one is enough to say so.
	few := len(s.report.pending) < maxBlockers || len(s.unfixed.blockers) == 0
	if s.unfixed.count++; few && len(s.unfixed.blockers) < maxBlockers {
		s.unfixed.blockers = append(s.unfixed.blockers, b)
	}
}

// leaveFile leaves the file at hand to FixTree, where something of it is left.
func (s *Rewriter) leaveFile() {
	if s.unfixed.count > 0 {
		s.unfixed.format = s.format.name
		switch {
		case len(s.program.snapshots) > 0:
			s.unfixed.format = "V8 start-up snapshot in a program"
		case len(s.program.constants) > 0:
			s.unfixed.format = "constants of Nuitka's in a program"
		case s.program.lisp:
			s.unfixed.format = "SBCL core behind a program"
		case s.format.name == "":
			s.unfixed.format = "zip behind other data"
		}
		s.leave(s.unfixed)
	}
}
