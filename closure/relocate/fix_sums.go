package relocate

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A list of checksums has the hashes of files beside it, as md5sum and sha256sum write and check them, and as a service worker of
// Angular's does (ngsw.json). Where such a file was rewritten, its hash is made anew.

// isSumList reports whether the file of that name is one.
func isSumList(name string) bool {
	_, ok := summed(name)
	return ok
}

// summed is the name of the file whose checksum one of that name is, or has among others: SHA256SUMS, app.tar.sha512,
// app_SHA256SUM, md5sums.txt.
func summed(name string) (file string, ok bool) {
	if name == "ngsw.json" {
		return "", true
	}
	list := strings.TrimSuffix(strings.ToLower(name), ".txt")
	list = strings.TrimSuffix(strings.TrimSuffix(list, "s"), "sum")
	for _, kind := range []string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512"} {
		before, ok := strings.CutSuffix(list, kind)
		switch {
		case !ok:
		case before == "":
			return "", true
		case strings.ContainsAny(before[len(before)-1:], "-_."):
			return name[:len(before)-1], true
		}
	}
	return "", false
}

var (
	sumLine   = regexp.MustCompile(`(?m)^([0-9a-f]{32,128}) [ *]([^\r\n]+)`)              // of coreutils
	sumTagged = regexp.MustCompile(`(?m)^[A-Z0-9-]+ \(([^\r\n]+)\) = ([0-9a-f]{32,128})`) // of BSD
	sumJSON   = regexp.MustCompile(`"/?([^"\\]+)" *: *"([0-9a-f]{40})"`)                  // of Angular
	sumAlone  = regexp.MustCompile(`^([0-9a-f]{32,128})\s*$`)
)

// sum is a file's hash in a list, and where it stands there.
type sum struct {
	from, to int
	file     string // below the store path
}

// sumsOf reads a list of checksums.
func sumsOf(list string, data []byte) (sums []sum) {
	dir := path.Dir(list)
	alone, _ := summed(path.Base(list))
	add := func(pattern *regexp.Regexp, digits, name int) {
		for _, at := range pattern.FindAllSubmatchIndex(data, maxEdits-len(sums)) {
			file := alone
			if name > 0 {
				file = string(data[at[2*name]:at[2*name+1]])
			}
			if file = path.Join(dir, file); fs.ValidPath(file) {
				sums = append(sums, sum{at[2*digits], at[2*digits+1], file})
			}
		}
	}
	if path.Base(list) == "ngsw.json" {
		add(sumJSON, 2, 1)
		return sums
	}
	add(sumLine, 1, 2)
	add(sumTagged, 2, 1)
	add(sumAlone, 1, 0)
	return sums
}

// hexSum is the hash of data that has as many digits, or "".
func hexSum(data []byte, digits int) string {
	for _, kind := range []func() hash.Hash{md5.New, sha1.New, sha256.New224, sha256.New, sha512.New384, sha512.New} {
		if h := kind(); hex.EncodedLen(h.Size()) == digits {
			h.Write(data)
			return hex.EncodeToString(h.Sum(nil))
		}
	}
	return ""
}

// fixSums makes hashes anew in lists of checksums.
func (v View) fixSums(ctx context.Context, dir string, o Original, r Report, c *collector) error {
	if v.IsZero() || len(r.sums.names) == 0 {
		return nil
	}
	t := newHashedTree(v, dir, o, c)
	for _, file := range r.rewritten.names {
		t.file(file)
	}
	for _, p := range r.pending {
		t.file(p.file)
	}
	for _, list := range r.sums.names {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := t.read(list)
		if err != nil {
			return err
		}
		if !isText(data) { // of another format, which may have a checksum over it
			continue
		}
		edits, err := t.sums(list, data)
		if err != nil {
			return err
		}
		if len(edits) == 0 {
			continue
		}
		if _, err := t.change(list, edits, fixups(list, data, edits)); err != nil {
			return err
		}
	}
	return nil
}

// sums are the edits of a list of checksums. What stands there is a file's hash only if the file had it before it was
// rewritten.
func (t *hashedTree) sums(list string, data []byte) (edits []edit, err error) {
	tree, err := os.OpenRoot(t.dir) // a symbolic link may lead anywhere
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	for _, s := range sumsOf(list, data) {
		f, digits := t.changed[s.file], s.to-s.from
		if f == nil || s.file == list {
			continue
		}
		if _, known := f.sums[digits]; !known {
			if f.sums[digits], err = t.changedSums(tree, s.file, digits); err != nil {
				return nil, err
			}
		}
		if sums := f.sums[digits]; sums[0] != sums[1] && sums[0] == string(data[s.from:s.to]) {
			edits = append(edits, edit{from: s.from, to: s.to, data: []byte(sums[1])})
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	return edits, nil
}

// changedSums are a file's hashes of so many digits, before and after it was rewritten, or none.
func (t *hashedTree) changedSums(tree *os.Root, file string, digits int) (sums [2]string, err error) {
	info, err := tree.Lstat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSource {
		return sums, nil
	}
	now, err := tree.ReadFile(file)
	if err != nil {
		return sums, err
	}
	was, err := t.before(file, now)
	return [2]string{hexSum(was, digits), hexSum(now, digits)}, err
}
