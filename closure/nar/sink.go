package nar

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Sink receives an archive's entries in the order a Reader gives them: Entry for each, after a Regular one Write
// calls that total exactly its Size, and Close after the last. A directory ends where the first entry outside it
// begins. A Sink keeps its first error; after an error nothing but that error is to be expected of it.
type Sink interface {
	Entry(e *Entry) error
	Write(p []byte) (int, error)
	Close() error
}

// Copy sends the whole archive of src to dst and closes dst once the archive, and with it the source, ended as it
// should. buf, if it is 8 KiB or longer, is what src reads through, unless src has read before; nil lets it make its
// own. dst is not closed after an error.
func Copy(dst Sink, src *Reader, buf []byte) error {
	if src.buf == nil && len(buf) >= minBuffer {
		src.buf = buf
	}
	for {
		e, err := src.Next()
		if err == io.EOF {
			return dst.Close()
		}
		if err != nil {
			return err
		}
		if err := dst.Entry(e); err != nil {
			return err
		}
		if _, err := src.WriteTo(dst); err != nil {
			return err
		}
	}
}

// sequence follows the calls that a Sink gets and refuses those that no archive could cause, so that a Sink writes
// well-formed archives, and only below its root, whoever calls it.
type sequence struct {
	started bool
	path    string // of the last entry
	kind    Kind
	open    int // directories open
	left    int64
}

// enter checks that e can follow what came before. It returns how many directories end before e begins.
func (s *sequence) enter(e *Entry) (ended int, err error) {
	if s.left > 0 {
		return 0, at(s.path, fmt.Errorf("%d bytes of contents are missing", s.left))
	}
	if err := s.check(e); err != nil {
		return 0, at(e.Path, err)
	}
	if e.Path != "" {
		ended = s.open - 1 - strings.Count(e.Path, "/")
		s.open -= ended
	}
	s.started, s.path, s.kind = true, e.Path, e.Kind
	switch e.Kind {
	case Directory:
		s.open++
	case Regular:
		s.left = e.Size
	}
	return ended, nil
}

func (s *sequence) check(e *Entry) error {
	switch e.Kind {
	case Directory:
	case Regular:
		if e.Size < 0 {
			return fmt.Errorf("file size %d is out of range", e.Size)
		}
	case Symlink:
		if err := checkTarget(e.Target); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown %v", e.Kind)
	}
	if !s.started || e.Path == "" {
		if s.started || e.Path != "" {
			return errors.New("the root must come first, and once")
		}
		return nil
	}
	return s.checkOrder(e.Path)
}

// checkOrder checks that path lies in a directory that is still open, after everything that it holds already.
func (s *sequence) checkOrder(path string) error {
	if len(path) > MaxPathLen {
		return fmt.Errorf("the path is longer than %d bytes", MaxPathLen)
	}
	var dir, name string
	if slash := strings.LastIndexByte(path, '/'); slash >= 0 {
		dir, name = path[:slash], path[slash+1:]
		if dir == "" {
			return errors.New("the path is absolute")
		}
	} else {
		name = path
	}
	if err := checkName(name); err != nil {
		return err
	}
	if s.path == dir {
		if s.kind != Directory {
			return fmt.Errorf("its parent is a %v, not a directory", s.kind)
		}
		if s.open == MaxDepth {
			return fmt.Errorf("more than %d directories are nested", MaxDepth)
		}
		return nil
	}
	rest := s.path
	if dir != "" {
		var inside bool
		if rest, inside = strings.CutPrefix(s.path, dir+"/"); !inside {
			return errors.New("its parent is not an open directory")
		}
	}
	before, _, _ := strings.Cut(rest, "/")
	if name <= before {
		return fmt.Errorf("the name comes after %q, want strictly increasing names", before)
	}
	return nil
}

// write checks that n more bytes of contents are due.
func (s *sequence) write(n int) error {
	if int64(n) > s.left {
		return at(s.path, fmt.Errorf("%d bytes of contents too many", int64(n)-s.left))
	}
	s.left -= int64(n)
	return nil
}

// end checks that the archive is complete.
func (s *sequence) end() error {
	if !s.started {
		return at("", errors.New("the archive has no root"))
	}
	if s.left > 0 {
		return at(s.path, fmt.Errorf("%d bytes of contents are missing", s.left))
	}
	return nil
}
