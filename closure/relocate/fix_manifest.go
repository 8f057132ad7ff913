package relocate

import (
	"bufio"
	"bytes"
	"cmp"
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
	if len(s.data) > maxMember {
		return nil, f.mustBeFree(s, format{name: "jar manifest", kind: Checksummed}, nil)
	}
	text := make([]byte, 0, len(s.data))
	eachUnfolded(s.data, func(at int) bool {
		text = append(text, s.data[at])
		return true
	})
	whole, err := f.text(source{data: text, name: s.name}, format{})
	if err := cmp.Or(err, sortEdits(whole)); err != nil || len(whole) == 0 {
		return nil, err
	}
	var edits []edit
	n := 0
	eachUnfolded(s.data, func(at int) bool {
		e := whole[0]
		if n >= e.from {
			last := len(edits) - 1
			if n > e.from && edits[last].to == at {
				edits[last].to, edits[last].data = at+1, e.data[n-e.from-len(edits[last].data):n-e.from+1]
			} else {
				edits = append(edits, edit{from: at, to: at + 1, data: e.data[n-e.from : n-e.from+1]})
			}
			last = len(edits) - 1
			edits[last].plain = e.plain && len(edits[last].data) == len(e.data)
		}
		if n++; n == e.to {
			whole = whole[1:]
		}
		return len(whole) > 0
	})
	return edits, nil
}

// eachUnfolded gives the places of a manifest's bytes but for the breaks within lines, as long as it is wanted.
func eachUnfolded(data []byte, each func(at int) bool) {
	for at := 0; at < len(data); {
		if n := fold(data[at:]); n > 0 {
			at += n
			continue
		}
		if !each(at) {
			return
		}
		at++
	}
}
