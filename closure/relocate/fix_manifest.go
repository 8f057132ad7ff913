package relocate

import (
	"bufio"
	"bytes"
	"io"
	"path"
)

// The manifest of a jar has lines of at most 72 bytes: a longer one goes on behind a blank in the next (JAR File Specification,
// "Notes on Manifest and Signature Files"). So a store path may go over from one line to another.

// isManifest reports whether the file of that name is one.
func isManifest(name string) bool { return path.Base(name) == "MANIFEST.MF" }

// fold is how long the break within a line is that begins b, or 0.
func fold(b []byte) int {
	for _, end := range []string{"\r\n ", "\n ", "\r "} {
		if bytes.HasPrefix(b, []byte(end)) {
			return len(end)
		}
	}
	return 0
}

// unfolder reads a manifest without breaks within lines.
type unfolder struct{ *bufio.Reader }

func (u unfolder) Read(p []byte) (n int, err error) {
	for ; n < len(p); n++ {
		b, _ := u.Peek(len("\r\n "))
		for fold(b) > 0 {
			if _, err := u.Discard(fold(b)); err != nil {
				return n, err
			}
			b, _ = u.Peek(len("\r\n "))
		}
		if p[n], err = u.ReadByte(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// WriteTo is not to be had: it would leave the breaks in.
func (u unfolder) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{u}) }

// manifest looks at the lines of a manifest.
func (x *inspector) manifest(l *level, p location) error {
	p.name = ""
	return x.look(unfolder{l.Reader}, p)
}

// manifest rewrites references, and leaves the breaks where they are.
func (f *fixer) manifest(s source) ([]edit, error) {
	var text []byte
	var places []int
	for at := 0; at < len(s.data); {
		if n := fold(s.data[at:]); n > 0 {
			at += n
			continue
		}
		text, places = append(text, s.data[at]), append(places, at)
		at++
	}
	whole, err := f.text(source{data: text, name: s.name}, format{})
	if err != nil {
		return nil, err
	}
	var edits []edit
	for _, e := range whole {
		for from := e.from; from < e.to; {
			to := from + 1
			for to < e.to && places[to] == places[to-1]+1 {
				to++
			}
			edits = append(edits, edit{places[from], places[to-1] + 1, e.data[from-e.from : to-e.from], e.plain && to-from == e.to-e.from})
			from = to
		}
	}
	return edits, nil
}
