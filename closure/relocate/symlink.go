package relocate

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// symlink gives what a symlink's target becomes. One more than are recorded stands in the way; without relocation, nothing can,
// and it is an error.
func (s *Rewriter) symlink(target string) (string, error) {
	if l, ok := s.absolute(target); ok {
		fix := Fixup{File: s.file, Length: int64(len(target)), Was: []byte(target)}
		if s.record(s.view.budget, fix) {
			s.fixedIn("relative symlink")
			s.report.Fixups = append(s.report.Fixups, fix)
			return l, nil
		}
		if s.view.IsZero() {
			return "", fmt.Errorf("recording where the symlinks of %s led: %w", s.self, errRecord)
		}
		s.found(BareHash, errRecord.Error())
		return target, nil
	}
	if s.view.IsZero() || len(target) < hashLen {
		return target, nil
	}
	var line bytes.Buffer
	contents := s.buffer
	s.buffer = searchBuffer{next: &line, search: func(buf []byte, from, to int) { s.scan.scan(buf, from, to, s) }}
	s.buffer.buf = make([]byte, 0, len(target))
	s.buffer.open(int64(len(target)))
	s.link = true
	_, _ = s.buffer.Write([]byte(target)) // a buffer takes everything
	s.buffer, s.link = contents, false
	s.report.References += s.written
	return line.String(), nil
}

// absolute turns a relative target that leads to a store path, "../../<hash>-<name>/lib", into the place of that path
// in the view: paths in layers are not each other's neighbours, whether they are relocated or not. One that leads out of the
// store ("../../../etc/hosts") becomes where it led: paths in layers lie deeper.
func (s *Rewriter) absolute(target string) (string, bool) {
	if strings.HasPrefix(target, "/") {
		return "", false
	}
	// Only "../" before the first name, so that no other symlink has a say in where the target leads.
	below := strings.TrimLeft(target, "./")
	if strings.Contains(below, "..") || !s.view.IsZero() && strings.Contains(below, s.view.dir) {
		return "", false
	}
	here := storepath.Dir
	if s.file != "" {
		here = path.Join(string(s.self), path.Dir(s.file))
	}
	place := path.Join(here, target)
	leads, ok := strings.CutPrefix(place, storePrefix)
	if !ok {
		return place, s.leaves(place)
	}
	if len(leads) < hashLen || !strings.Contains(target, leads[:hashLen]) {
		return "", false
	}
	member := s.known.find([]byte(leads))
	if member < 0 {
		return "", false
	}
	p := s.known.paths[member]
	base, tail, _ := strings.Cut(leads, "/")
	if base != p.Base() {
		return "", false
	}
	if tail != "" && !s.view.IsZero() {
		s.searchName(tail, "the symlink's target")
	}
	there := path.Join(s.view.Rename(p), tail)
	return there, len(there) <= nar.MaxTargetLen
}

// leaves reports whether a place that a relative target leads to is out of /nix: one in there was meant for another root.
func (s *Rewriter) leaves(place string) bool {
	if strings.HasPrefix(place+"/", path.Dir(storepath.Dir)+"/") || strings.HasPrefix(place, s.view.Dir()) {
		return false
	}
	s.searchName(place, "the symlink's target")
	return true
}
