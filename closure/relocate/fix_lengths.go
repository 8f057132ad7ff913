package relocate

import (
	"bytes"
	"cmp"
	"context"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// A server may have the lengths of the files on record that it sends, from when the app was built, and says them to browsers before
// it reads a file: Nitro in its own program ("/a.js.gz": {"size": 14193, …}), ASP.NET Core in a list of endpoints ("AssetFile":
// "a.js.gz", … {"Name": "Content-Length", "Value": "14186"}). A file that was compressed anew keeps its length where that can be
// done; where it has another now, the record has to say so.

// lengthText is a length in a script or in JSON. Minifiers leave out what they can.
var lengthText = regexp.MustCompile(`(?:[Ss]ize|[Ll]ength)["']?(?:, ?["'][Vv]alue["'])? ?: ?["']?([1-9][0-9]{0,15})\b`)

const (
	// lengthNear is how far from a length the name of its file stands, at most.
	lengthNear = 1 << 10
	// maxResized bounds the files of one length that are told apart.
	maxResized = 16
)

// lengths are the files of a tree that have another length than before.
type lengths struct {
	*hashedTree
	was  map[int64][]resized // by what they had
	seen int                 // places with such a length
}

type resized struct {
	file string // below the store path
	now  int64
}

// find finds those files by what fixups say of them, as long as they are there.
func (l *lengths) find() error {
	l.was = map[int64][]resized{}
	for _, file := range slices.Sorted(maps.Keys(l.changed)) {
		grown := int64(0)
		for _, f := range l.fixups(file) {
			grown += f.Length - int64(len(f.Was))
		}
		if grown == 0 {
			continue
		}
		info, err := os.Lstat(l.name(file))
		if err != nil {
			return err
		}
		if was := info.Size() - grown; info.Mode().IsRegular() && len(l.was[was]) < maxResized {
			l.was[was] = append(l.was[was], resized{file, info.Size()})
		}
	}
	return nil
}

// fixLengths puts lengths right that scripts and lists have of files that have another now.
func (v View) fixLengths(ctx context.Context, dir string, o Original, c *collector) error {
	if v.IsZero() {
		return nil
	}
	l := &lengths{hashedTree: newHashedTree(v, dir, o, c)}
	if err := l.find(); err != nil || len(l.was) == 0 {
		return err
	}
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err = cmp.Or(err, ctx.Err()); err != nil || !d.Type().IsRegular() || !isPage(name) || hasScripts(name) {
			return err
		}
		file, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		return l.fix(filepath.ToSlash(file))
	})
}

// fix puts those right that one file has.
func (l *lengths) fix(file string) error {
	data, err := l.read(file)
	if err != nil || !l.names(data) {
		return err
	}
	var edits []edit
	var list []Fixup
	for _, at := range lengthText.FindAllSubmatchIndex(data, maxEdits) {
		from, to := at[2], at[3]
		now := l.at(data, from, to)
		switch {
		case now == nil && l.seen <= maxEdits:
			continue
		case len(now) != to-from || isSealed(file, data) || l.seen > maxEdits:
			l.c.blocker(hashBlocker(file, "the length of a file that was compressed anew"))
			return nil
		}
		edits = append(edits, edit{from: from, to: to, data: now})
		list = append(list, Fixup{File: file, Offset: int64(from), Length: int64(to - from), Was: bytes.Clone(data[from:to])})
	}
	if len(edits) == 0 {
		return nil
	}
	_, err = l.change(file, edits, list)
	return err
}

// names reports whether data may have the name of such a file, which is found faster than lengths are.
func (l *lengths) names(data []byte) bool {
	const most = 16 // which takes as long
	if len(l.was) > most {
		return true
	}
	for _, files := range l.was {
		if slices.ContainsFunc(files, func(f resized) bool { return bytes.Contains(data, []byte(path.Base(f.file))) }) {
			return true
		}
	}
	return false
}

// at is what the length at data[from:to] is now, or nil if it is that of no file whose name stands near it: of several, the
// nearest, and of those with the same name the one of whose path more stands there.
func (l *lengths) at(data []byte, from, to int) (now []byte) {
	was, err := strconv.ParseInt(string(data[from:to]), 10, 64)
	if err != nil || l.was[was] == nil {
		return nil
	}
	l.seen++
	nearest, most := lengthNear, 0
	for _, f := range l.was[was] {
		for _, end := range namesNear(data, from, to, path.Base(f.file)) {
			distance, same := max(from-end, end-to), sameEnd(f.file, data[:end])
			if distance < nearest || distance == nearest && same > most {
				nearest, most, now = distance, same, strconv.AppendInt(nil, f.now, 10)
			}
		}
	}
	return now
}

// namesNear are the ends of the name before data[from:to] and of that behind it, if they are near.
func namesNear(data []byte, from, to int, name string) (ends []int) {
	start := max(0, from-lengthNear)
	if at := bytes.LastIndex(data[start:from], []byte(name)); at >= 0 {
		ends = append(ends, start+at+len(name))
	}
	if at := bytes.Index(data[to:min(len(data), to+lengthNear)], []byte(name)); at >= 0 {
		ends = append(ends, to+at+len(name))
	}
	return slices.DeleteFunc(ends, func(end int) bool { // another name that ends as this one does
		return end > len(name) && isNameChar(data[end-len(name)-1])
	})
}

// sameEnd is how many bytes two texts have in common at their ends.
func sameEnd(a string, b []byte) (n int) {
	for n < min(len(a), len(b)) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}
