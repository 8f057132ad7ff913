package relocate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Rewriter is a nar.Sink that passes an archive on to the next one with references rewritten. It makes one pass, in
// memory that does not grow with the contents, and what it passes on does not depend on how they are cut into Write
// calls. After an error, its own or its source's, Discard ends it.
type Rewriter struct {
	collector
	view      View
	self      storepath.Path
	next      nar.Sink
	known     *members // the path itself and its references
	scan      *scanner
	split     splitSearch
	targets   []string // what references to scan.members.paths become
	buffer    searchBuffer
	inspector *inspector
	checksums checksumFiles
	names     ownNames

	// Of the file at hand:
	file     string
	java     string // the directory of a Java run-time environment's libraries
	harmless string // why nothing in it matters, or ""
	runs     bool   // it is a program or a library
	format   format
	inside   *pushed // the inspector at work on a file too large for the buffer
	fed      int64   // how much of the file it has got
	program  program
	written  int     // references rewritten
	unfixed  pending // what is left of it to FixTree
	script   wrapperScript
	php      bool // it is a PHP program, behind which a PHAR may stand
	link     bool // it is a symlink: a fixup would say what all of its target was
}

// Rewrite returns a Rewriter that passes everything on to next with every reference to self or refs rewritten.
//
// That of the zero View, for closures that are not relocated, rewrites none. It notes what FixTree has to look at, as the
// image's file times differ from those of a Nix store under every engine, and makes relative symlinks to other store paths
// absolute, as paths in layers are not each other's neighbours.
func (v View) Rewrite(self storepath.Path, refs []storepath.Path, next nar.Sink) *Rewriter {
	known := newMembers(append([]storepath.Path{self}, refs...))
	s := &Rewriter{view: v, self: self, next: next, known: known, scan: newScanner(v, known)}
	s.path, s.overrules = self, v.Overrules()
	if v.IsZero() {
		s.scan = newScanner(v, newMembers(nil))
		s.buffer = searchBuffer{next: next, search: func(buf []byte, from, _ int) {
			if from == 0 && s.buffer.off == 0 {
				s.noteCode(buf)
			}
		}}
		return s
	}
	for _, p := range known.paths {
		s.targets = append(s.targets, v.target(p))
	}
	for _, c := range v.Collisions(known.paths) {
		s.blocker(Blocker{Kind: Ambiguous, Detail: c.String()})
	}
	s.split.parts = newParts(known)
	s.inspector = newInspector(s.scan, s.split.parts, v.budget)
	s.inspector.found = func(kind Kind, detail, harmless string) {
		s.add(Blocker{File: s.file, Kind: kind, Detail: detail, Harmless: harmless})
	}
	s.inspector.foreign = s.sawForeign
	s.buffer = searchBuffer{next: next, search: s.search}
	return s
}

// SetContext has the rewriter end with ctx: what it is given then is an error, and it does not go on to look into what it has.
func (s *Rewriter) SetContext(ctx context.Context) {
	if s.inspector != nil {
		s.inspector.ctx = ctx
	}
}

// ended is the error of a rewriter whose context has ended.
func (s *Rewriter) ended() error {
	if s.inspector == nil || s.inspector.ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("relocating %s: %w", s.self, context.Cause(s.inspector.ctx))
}

// Entry passes e on, a symlink with its target rewritten.
func (s *Rewriter) Entry(e *nar.Entry) error {
	if err := s.ended(); err != nil {
		return err
	}
	if e.Kind == nar.Regular {
		s.java = javaFolder(s.java, e.Path)
	}
	s.file, s.harmless, s.format, s.written = e.Path, harmlessPlace(e.Path, s.java), format{}, 0
	s.unfixed, s.php, s.program, s.script = pending{file: e.Path}, false, program{}, wrapperScript{}
	// What ln -s makes of a store path: who knows the link's name knows where it leads.
	if e.Kind != nar.Symlink || e.Target != storePrefix+e.Name() {
		s.searchName(e.Name(), ownFile)
	}
	switch e.Kind {
	case nar.Regular:
		s.runs = e.Executable || strings.Contains(e.Name(), ".so")
		s.checksums.saw(e.Path)
		if isSumList(e.Name()) {
			s.report.sums.add(e.Path)
		}
		s.buffer.open(e.Size)
	case nar.Symlink:
		target, err := s.symlink(e.Target)
		if err != nil {
			return err
		}
		if target != e.Target {
			changed := *e
			changed.Target = target
			e = &changed
		}
	}
	return s.next.Entry(e)
}

// Write takes contents of the last entry and passes them on, some of them later.
func (s *Rewriter) Write(p []byte) (int, error) {
	if int64(len(p)) > s.buffer.left {
		return 0, fmt.Errorf("relocating %q: contents are longer than announced", s.file)
	}
	if _, err := s.buffer.Write(p); err != nil {
		return 0, err
	}
	return len(p), s.ended()
}

// Close ends the archive.
func (s *Rewriter) Close() error {
	s.Discard()
	for _, b := range s.checksums.blockers() {
		s.blocker(b)
	}
	s.jmods()
	for _, b := range s.names.blockers() {
		s.blocker(b)
	}
	s.checksums, s.names = checksumFiles{}, ownNames{}
	return s.next.Close()
}

// Discard frees what the rewriter holds besides memory, where the archive does not come to its end. It does not reach
// the next sink.
func (s *Rewriter) Discard() {
	if s.inside != nil {
		s.inside.stop()
		s.inside = nil
	}
	if s.inspector != nil {
		s.inspector.release()
	}
	s.buffer.release()
}

// Report is what was found so far; of the whole path after Close.
func (s *Rewriter) Report() Report { return s.result() }

// search looks at the places buf[from:to] of the file at hand.
func (s *Rewriter) search(buf []byte, from, to int) {
	defer s.recovered()
	if s.buffer.off == 0 && from == 0 {
		s.begin(buf)
	}
	s.inspect(buf)
	if s.format.name == elfName {
		s.program.search(buf, from, to, s.buffer.off)
	}
	if s.format.trailer && endsZip(buf, from, to, s.buffer.left) {
		s.leaveBlocker(Blocker{File: s.file, Kind: Opaque, Detail: "a zip archive behind something else"})
	}
	if s.format.name == elfName && s.buffer.left == 0 && bytes.HasSuffix(buf, []byte(lispMark)) {
		s.program.lisp = true
		s.leaveBlocker(Blocker{File: s.file, Kind: Opaque, Detail: "an SBCL core behind a program"})
	}
	if s.php {
		s.searchPHAR(buf, from, to)
	}
	if s.format.code {
		s.split.search(buf, from, to, s.buffer.off, s)
	}
	if s.format.name == beamName {
		regexps(buf, from, to, s.scan.members, func(_, member int) {
			s.found(Checksummed, fmt.Sprintf("the hash of %s in a compiled regular expression", s.scan.members.paths[member]))
		})
	}
	s.scan.scan(buf, from, to, s)
	if s.format.trailer && s.written > 0 && s.unfixed.count == 0 && hasZip(buf, from, to, s.buffer.left) {
		s.leaveBlocker(Blocker{File: s.file, Kind: Opaque, Detail: "a zip archive in something else"})
	}
	if s.buffer.left == 0 {
		s.end(buf)
	}
}

// recovered makes a blocker of a file that something here trips over: what is in an archive is not known to be what was
// signed as long as it is read, and ends no build.
func (s *Rewriter) recovered() {
	problem := recover()
	if problem == nil {
		return
	}
	if s.inside != nil {
		s.inside.stop()
		s.inside = nil
	}
	s.blocker(Blocker{File: s.file, Kind: Opaque, Detail: fmt.Sprintf("it cannot be read: %v", problem), Harmless: s.harmless})
}

// begin looks at a file's first bytes, or at all of it.
func (s *Rewriter) begin(buf []byte) {
	head := buf[:min(len(buf), wanted(buf))]
	name := nameIn(s.self, s.file)
	s.format = s.inspector.recognise(name, head)
	s.noteCode(head)
	if s.file != "" && beginsSumList(head) && !isSumList(name) { // or there is nothing beside it
		s.report.sums.add(s.file)
	}
	s.split.begin(head)
	if s.format.name == elfName {
		s.program.begin(head, s.buffer.off+int64(len(buf))+s.buffer.left)
	}
	s.php = s.format.fix == nil && isPHP(head)
	if s.format.opaque || s.format.always {
		s.found(Opaque, s.format.name)
	}
	if s.format.look == nil || s.harmless != "" {
		return // what would be found in a harmless place is not worth the time it takes to inflate
	}
	s.inspector.start(int64(len(buf)) + s.buffer.left)
	look := func(r io.Reader) { s.inspector.file(r, name) }
	if s.buffer.left == 0 {
		look(bytes.NewReader(buf))
		return
	}
	s.fed, s.inside = 0, newPushed(look)
}

// inspect gives the inspector what it has not seen.
func (s *Rewriter) inspect(buf []byte) {
	if s.inside == nil {
		return
	}
	s.inside.push(buf[s.fed-s.buffer.off:])
	s.fed = s.buffer.off + int64(len(buf))
	if s.buffer.left == 0 {
		s.inside.finish()
		s.inside = nil
	}
}

// end looks back at a whole file, of which buf is the last part.
func (s *Rewriter) end(buf []byte) {
	s.leaveFile()
	if s.written == 0 {
		return
	}
	s.report.References += s.written
	s.report.rewritten.add(s.file)
	if strings.HasSuffix(s.file, ".py") {
		s.report.sources.add(s.file)
	}
	if s.format.name != "script" && s.format.name != elfName { // which no page loads
		s.report.assets.add(s.file)
	}
	if s.runs {
		s.checksums.rewrote(s.file)
	}
	if table := tableEnd(buf); table != "" {
		s.found(Checksummed, table)
	}
	if why := s.program.checksum(s.file); why != "" {
		s.found(Checksummed, why)
	}
}

// ownFile is what a file's own name is called.
const ownFile = "the file's name"

// searchName looks for hashes where no reference can stand.
func (s *Rewriter) searchName(text, what string) {
	for i := 0; i+hashLen <= len(text); i++ {
		member := s.scan.members.find([]byte(text[i : i+hashLen]))
		if member < 0 || isMention([]byte(text), i) {
			continue
		}
		b := Blocker{File: s.file, Kind: BareHash, Detail: fmt.Sprintf("%s has the hash of %s", what, s.scan.members.paths[member]), Harmless: s.harmless}
		if what != ownFile || s.harmless != "" || !s.names.file(b) {
			s.blocker(b)
		}
	}
}

// searchPHAR looks for the end of the PHP program before a PHAR in buf[from:to]; behind it nothing may be rewritten.
func (s *Rewriter) searchPHAR(buf []byte, from, to int) {
	at := pharHalt(buf[from:min(len(buf), to+len(pharStub)-1)])
	if at < 0 {
		return
	}
	s.php = false
	s.format = format{name: pharName, kind: Checksummed, sealed: s.buffer.off + int64(from+at), fix: (*fixer).phar}
	s.found(Opaque, pharName)
}
