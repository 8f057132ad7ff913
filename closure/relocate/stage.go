package relocate

import (
	"fmt"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Stage is a nar.Sink that passes an archive on to the next one with references rewritten. It makes one pass, in
// memory that does not grow with the archive, and what it passes on does not depend on how the contents are cut into
// Write calls.
type Stage struct {
	collector
	layout  Layout
	self    storepath.Path
	next    nar.Sink
	scan    *scanner
	targets []string // what references to scan.members.paths become
	window  window

	file     string
	harmless string // why nothing in file matters, or ""
}

// Rewrite returns a stage that passes everything on to next with every reference to self or refs rewritten.
func (l Layout) Rewrite(self storepath.Path, refs []storepath.Path, next nar.Sink) *Stage {
	known := newMembers(append([]storepath.Path{self}, refs...))
	s := &Stage{layout: l, self: self, next: next, scan: newScanner(l, known)}
	for _, p := range known.paths {
		s.targets = append(s.targets, l.target(p))
	}
	for _, c := range l.Collisions(known.paths) {
		s.hazard(Hazard{Offset: -1, Kind: Ambiguous, Detail: c.String()})
	}
	s.window = window{next: next, search: func(buf []byte, from, to int) { s.scan.scan(buf, from, to, s) }}
	return s
}

// Entry passes e on, a symlink with its target rewritten.
func (s *Stage) Entry(e *nar.Entry) error {
	s.file = e.Path
	s.searchName(e.Name())
	switch e.Kind {
	case nar.Regular:
		s.window.open(e.Size)
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
func (s *Stage) Write(p []byte) (int, error) {
	if int64(len(p)) > s.window.left {
		return 0, fmt.Errorf("relocating %q: contents are longer than announced", s.file)
	}
	if err := s.window.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the archive.
func (s *Stage) Close() error { return s.next.Close() }

// Report is what was found so far; of the whole path after Close.
func (s *Stage) Report() Report { return s.result() }

// searchName looks for hashes in a file's name.
func (s *Stage) searchName(name string) {
	for i := 0; i+hashLen <= len(name); i++ {
		if member := s.scan.members.find([]byte(name[i : i+hashLen])); member >= 0 {
			s.found(-1, BareHash, fmt.Sprintf("the file's name has the hash of %s", s.scan.members.paths[member]))
		}
	}
}

// symlink rewrites a symlink's target.
func (s *Stage) symlink(target string) (string, error) {
	sink := &memory{}
	w := window{next: sink, search: s.window.search}
	defer func(contents window) { s.window = contents }(s.window)
	s.window = w
	s.window.open(int64(len(target)))
	if err := s.window.write([]byte(target)); err != nil {
		return "", err
	}
	return string(sink.data), nil
}

type memory struct{ data []byte }

func (m *memory) Write(p []byte) (int, error) {
	m.data = append(m.data, p...)
	return len(p), nil
}

// found reports a hazard of the current file.
func (s *Stage) found(i int, kind Kind, detail string) {
	at := int64(-1)
	if i >= 0 {
		at = s.window.off + int64(i)
	}
	s.hazard(Hazard{File: s.file, Offset: at, Kind: kind, Detail: detail, Harmless: s.harmless})
}

func (s *Stage) reference(i, member int) {
	if s.layout.IsZero() {
		return
	}
	s.report.References++
	s.window.patch(i-behind, []byte(s.targets[member]))
}

func (s *Stage) foreign(i int) { s.sawForeign(s.window.buf[i : i+hashLen]) }

func (s *Stage) bareHash(i, member int) {
	s.found(i, BareHash, fmt.Sprintf("the hash of %s", s.scan.members.paths[member]))
}

func (s *Stage) wideHash(i, width, member int) {
	s.found(i, WideText, fmt.Sprintf("the hash of %s in UTF-%d", s.scan.members.paths[member], 8*width))
}

func (s *Stage) relocatedName(i int) {
	s.found(i, RelocatedName, fmt.Sprintf("%s and %d characters of a hash", s.scan.name, s.layout.keep))
}

func (s *Stage) landmark(int, []byte) {}
