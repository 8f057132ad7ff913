package relocate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	arMark = "!<arch>\n"
	// arHeader is the size of what stands before each member, and arSize where its size stands in that.
	arHeader, arSize = 60, 48
)

// ar rewrites the members of an ar archive (ar(5)), a static library or a Debian package, and what their headers say of
// their sizes. What is no archive as a whole is text.
func (f *fixer) ar(s source) ([]edit, error) {
	edits, err := f.arMembers(s)
	if errors.Is(err, errMalformed) {
		return f.unread(s, format{code: true})
	}
	return edits, err
}

// arMembers rewrites members. Where the archive has an index of symbols, which knows their places, none may move.
func (f *fixer) arMembers(s source) ([]edit, error) {
	var edits []edit
	indexed, resized := false, false
	for at := len(arMark); at < len(s.data); {
		begin := at + arHeader
		if begin > len(s.data) {
			return nil, errMalformed
		}
		header := s.data[at:begin]
		size, err := strconv.Atoi(strings.TrimRight(string(header[arSize:arSize+10]), " "))
		if err != nil || size < 0 || size > len(s.data)-begin {
			return nil, errMalformed
		}
		name, end := strings.TrimRight(string(header[:16]), " "), begin+size
		indexed = indexed || name == "/" || name == "/SYM64/" || strings.HasPrefix(name, "__.SYMDEF")
		inner, err := f.rewrite(s.in(s.data[begin:end], strings.TrimRight(name, "/")))
		if err != nil {
			return nil, err
		}
		next := min(end+size&1, len(s.data))
		if sameLength(inner) {
			edits = append(edits, moved(inner, begin)...)
		} else {
			resized = true
			if err := cmp.Or(sortEdits(inner), f.countPacked(size)); err != nil {
				return nil, err
			}
			data := apply(s.data[begin:end], inner)
			edits = append(edits, edit{from: at + arSize, to: at + arSize + 10, data: fmt.Appendf(nil, "%-10d", len(data))},
				edit{from: begin, to: next, data: append(data, bytes.Repeat([]byte{'\n'}, len(data)&1)...)})
		}
		at = next
	}
	if indexed && resized {
		return nil, blockedBy(Compressed, "a reference in an ar archive with an index of its members' places")
	}
	return edits, nil
}
