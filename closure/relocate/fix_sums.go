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

// isSumList reports whether the file of that name is one: SHA256SUMS, app.tar.sha512, md5sums.txt.
func isSumList(name string) bool {
	if name == "ngsw.json" {
		return true
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".txt")
	name = strings.TrimSuffix(strings.TrimSuffix(name, "s"), "sum")
	for _, kind := range []string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512"} {
		if before, ok := strings.CutSuffix(name, kind); ok {
			return before == "" || strings.ContainsAny(before[len(before)-1:], "-_.")
		}
	}
	return false
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
	add := func(pattern *regexp.Regexp, digits, name int) {
		for _, at := range pattern.FindAllSubmatchIndex(data, maxEdits-len(sums)) {
			file := stem(path.Base(list))
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
	t := newIntegrity(v, dir, o, c)
	t.maybe, t.hashed = map[string]bool{}, map[changedSum][2]string{}
	for _, file := range r.rewritten.names {
		t.maybe[file] = true
	}
	for _, p := range r.pending {
		t.maybe[p.file] = true
	}
	for file := range t.fixed {
		t.maybe[file] = true
	}
	for _, list := range r.sums.names {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := t.read(t.name(list))
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
		fixed, size := fixups(list, data, edits), int64(0)
		for _, f := range fixed {
			size += f.size()
		}
		if !c.record(size, v.budget) {
			c.blocker(Blocker{File: list, Offset: -1, Kind: Checksummed, Detail: "the hash of a file that was rewritten: " + errRecord.Error()})
			continue
		}
		before, err := os.Lstat(t.name(list))
		if err != nil {
			return err
		}
		if err := writeAt(t.name(list), before, edits); err != nil {
			return err
		}
		t.addFixups(fixed...)
		t.maybe[list] = true
	}
	return nil
}

// sums are the edits of a list of checksums. What stands there is a file's hash only if the file had it before it was
// rewritten.
func (t *integrity) sums(list string, data []byte) (edits []edit, err error) {
	tree, err := os.OpenRoot(t.dir) // a symbolic link may lead anywhere
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	for _, s := range sumsOf(list, data) {
		if s.file == list || !t.maybe[s.file] {
			continue
		}
		key := changedSum{s.file, s.to - s.from}
		sums, known := t.hashed[key]
		if !known {
			if sums, err = t.changedSums(tree, key); err != nil {
				return nil, err
			}
			t.hashed[key] = sums
		}
		if sums[0] != sums[1] && sums[0] == string(data[s.from:s.to]) {
			edits = append(edits, edit{from: s.from, to: s.to, data: []byte(sums[1])})
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	return edits, nil
}

// changedSum is a hash of so many digits of a file.
type changedSum struct {
	file   string
	digits int
}

// changedSums are the hashes of a file before and after it was rewritten, or none.
func (t *integrity) changedSums(tree *os.Root, of changedSum) (sums [2]string, err error) {
	info, err := tree.Lstat(of.file)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSource {
		return sums, nil
	}
	now, err := tree.ReadFile(of.file)
	if err != nil {
		return sums, err
	}
	was, err := t.view.before(t.o, t.fixups(of.file), of.file, now)
	return [2]string{hexSum(was, of.digits), hexSum(now, of.digits)}, err
}
