package relocate

import (
	"bytes"
	"path"
)

// A path may have copies of files by their names in the store ($out/etc/<hash>-x.conf). Such a name stays as it is, and so does
// what names the file by it: below the path's own store path, of which the hash in front becomes another, or in a symbolic link of
// the same path. Both fit each other then. Which files there are shows at the archive's end.

// maxOwnNames bounds the names, and the places that name them, of a path.
const maxOwnNames = 1 << 12

// ownNames are files whose names have a hash, and what may name one.
type ownNames struct {
	files    []Blocker
	mentions []mention
}

// mention is what a file says of another of the same path, at the place that is a blocker if there is none.
type mention struct {
	Blocker
	of string // below the store path
}

// file takes a file whose name has a hash, if there is room.
func (o *ownNames) file(b Blocker) bool {
	if len(o.files) == maxOwnNames {
		return false
	}
	o.files = append(o.files, b)
	return true
}

// mention takes the place that may name a file, if there is room.
func (o *ownNames) mention(b Blocker, of string) bool {
	if of == "" || len(o.mentions) == maxOwnNames {
		return false
	}
	o.mentions = append(o.mentions, mention{b, of})
	return true
}

// blockers are the names that nothing names as they are, and the places that name no file.
func (o *ownNames) blockers() (list []Blocker) {
	named := map[string]bool{}
	for _, f := range o.files {
		named[f.File] = false
	}
	for _, m := range o.mentions {
		if _, there := named[m.of]; there {
			named[m.of] = true
		} else {
			list = append(list, m.Blocker)
		}
	}
	for _, f := range o.files {
		if !named[f.File] {
			list = append(list, f)
		}
	}
	return list
}

// ownName is the file of the same path that the text with a hash at buf[i:] names, or "".
func (s *Rewriter) ownName(buf []byte, i int) string {
	end := i + hashLen
	for end < len(buf) && end < i+ahead && isNameChar(buf[end]) {
		end++
	}
	if s.link && !bytes.HasPrefix(buf, []byte("/")) {
		return path.Join(path.Dir(s.file), string(buf[:end]))
	}
	before, own := buf[max(0, i-lookback):i], string(s.self)+"/"
	at := bytes.LastIndex(before, []byte(own))
	if at < 0 || end == i+ahead {
		return ""
	}
	return path.Clean(string(before[at+len(own):]) + string(buf[i:end]))
}
