package relocate

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

// A list of checksums has the hashes of files beside it, as md5sum and sha256sum write and check them, and as a service worker of
// Angular's does (ngsw.json), or of the parts of one file, as Hadoop has them (.part-00000.crc). Where such a file was rewritten, its
// hash is made anew, and then that of the list in others.

// isSumList reports whether the file of that name is one, compressed or not.
func isSumList(name string) bool {
	if isPacked(name) {
		name = stem(name)
	}
	_, ok := summed(name)
	return ok || crcOf(name) != ""
}

// beginsSumList reports whether a file that begins so has a checksum and a name in its first line.
func beginsSumList(head []byte) bool {
	digits := 0
	for digits < len(head) && digits <= 2*sha512.Size && (isBase32[head[digits]] || head[digits] == 'e') {
		digits++
	}
	return digits >= 2*md5.Size && sumLine.Match(head[:min(len(head), digits+len("  x"))])
}

// summed is the name of the file whose checksum one of that name is, or has among others: SHA256SUMS, app.tar.sha512,
// app_SHA256SUM, md5sums.txt, checksums.txt.
func summed(name string) (file string, ok bool) {
	if name == "ngsw.json" {
		return "", true
	}
	list := strings.TrimSuffix(strings.ToLower(name), ".txt")
	list = strings.TrimSuffix(strings.TrimSuffix(list, "s"), "sum")
	for _, kind := range []string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512", "check"} {
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
	name     string // as the list has it
}

// sumsOf reads a list of checksums.
func sumsOf(list string, data []byte) (sums []sum) {
	alone, _ := summed(path.Base(list))
	add := func(pattern *regexp.Regexp, digits, name int) {
		for _, at := range pattern.FindAllSubmatchIndex(data, maxEdits-len(sums)) {
			file := alone
			if name > 0 {
				file = string(data[at[2*name]:at[2*name+1]])
			}
			sums = append(sums, sum{at[2*digits], at[2*digits+1], file})
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

// maxFolders is how many folders of an app's own address (its base href) a service worker's list may name before a file.
const maxFolders = 8

// files are those, below the store path, that a name in a list may mean: a path of the store or of the view, one from where the
// list lies, one from the store path; in a service worker's list, one below the app's address.
func (l *sumLists) files(list, name string) (files []string) {
	for _, root := range []string{string(l.o.Path), l.view.Rename(l.o.Path)} {
		if below, ok := strings.CutPrefix(name, root+"/"); ok {
			return []string{path.Clean(below)}
		}
	}
	dir := path.Dir(list)
	files = []string{path.Join(dir, name)}
	if path.Base(list) != "ngsw.json" {
		return append(files, path.Clean(name))
	}
	for range maxFolders {
		_, below, ok := strings.Cut(name, "/")
		if !ok {
			break
		}
		files, name = append(files, path.Join(dir, below)), below
	}
	return files
}

// hexSums are the hashes of so many digits of what a file was that holds now, and of that, or none. The file may be of any size.
func (t *hashedTree) hexSums(file string, now []byte, digits int) (sums [2]string, err error) {
	for _, kind := range []func() hash.Hash{md5.New, sha1.New, sha256.New224, sha256.New, sha512.New384, sha512.New} {
		if was, is := kind(), kind(); hex.EncodedLen(is.Size()) == digits {
			is.Write(now)
			err = t.view.undone(t.o, t.fixups(file), file, now, was)
			return [2]string{hex.EncodeToString(was.Sum(nil)), hex.EncodeToString(is.Sum(nil))}, err
		}
	}
	return sums, nil
}

// sumLists are the lists of checksums of a tree.
type sumLists struct {
	*hashedTree
	root  *os.Root        // as a symbolic link may lead anywhere
	lists map[string]bool // whether they were gone over
	fixer *fixer          // of compressed ones
}

// fixSums makes hashes anew in lists of checksums.
func (v View) fixSums(ctx context.Context, dir string, o Original, r Report, c *collector) error {
	if v.IsZero() || len(r.sums.names) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	l := &sumLists{hashedTree: newHashedTree(v, dir, o, c), root: root, lists: map[string]bool{}}
	for _, file := range r.rewritten.names {
		l.file(file)
	}
	for _, p := range r.pending {
		l.file(p.file)
	}
	for _, list := range r.sums.names {
		l.lists[list] = false
	}
	if slices.ContainsFunc(r.sums.names, isPacked) {
		loan, err := memory.Of(ctx, v.budget.memory).Overdraw(ctx)
		if err != nil {
			return err
		}
		defer loan.Return()
		l.fixer = newFixer(ctx, v, o.paths())
	}
	for _, list := range r.sums.names {
		if err := l.become(ctx, list, 0); err != nil {
			return err
		}
	}
	return nil
}

// become makes hashes anew in a list, behind those in lists whose hashes it has.
func (l *sumLists) become(ctx context.Context, list string, depth int) error {
	if err := ctx.Err(); err != nil || l.lists[list] {
		return err
	}
	l.lists[list] = true
	switch {
	case depth > maxChained:
		l.c.blocker(hashBlocker(list, "the hash of a list of checksums that has the hash of another, and so on"))
		return nil
	case isPacked(list):
		return l.packed(list)
	case crcOf(list) != "":
		return l.crc(ctx, list, depth)
	}
	data, err := l.read(list)
	if err != nil || !isText(data) { // of another format, which may have a checksum over it
		return err
	}
	first := l.listsIn(list, data)
	if len(first) > 0 {
		data = nil // or there would be one of each list in a row
		for _, other := range first {
			if err := l.become(ctx, other, depth+1); err != nil {
				return err
			}
		}
		if data, err = l.read(list); err != nil {
			return err
		}
	}
	edits, err := l.sums(list, data)
	if err != nil || len(edits) == 0 {
		return err
	}
	return l.rewrite(list, data, edits)
}

// listsIn are the lists that a list has the hashes of and that were not gone over, once each.
func (l *sumLists) listsIn(list string, data []byte) (others []string) {
	seen := map[string]bool{}
	for _, s := range sumsOf(list, data) {
		for _, file := range l.files(list, s.name) {
			if done, known := l.lists[file]; known && !done && !seen[file] {
				seen[file], others = true, append(others, file)
			}
		}
	}
	return others
}

// packed makes hashes anew in a compressed list. It may have been compressed anew already, and is so once more as it was.
func (l *sumLists) packed(list string) error {
	if harmlessPlace(list, "") != "" {
		return nil
	}
	now, err := l.read(list)
	if err != nil {
		return err
	}
	was, err := l.before(list, now)
	if err != nil {
		return err
	}
	found, f := false, l.fixer
	f.edits, f.packed, f.replaced = 0, 0, 0
	f.sums = func(data []byte) ([]edit, error) {
		edits, err := l.sums(stem(list), data)
		found = found || len(edits) > 0
		return edits, err
	}
	edits, err := f.safely(source{data: was, name: path.Base(list)})
	switch {
	case !found:
		return nil // and what else is wrong with it was said before
	case err != nil:
		b := hashedPage(list)
		b.Detail += ": " + err.Error()
		l.c.blocker(b)
		return nil
	}
	known, taken := l.changed[list], l.c.takeBack(list, slices.Clone(now), l.view.budget)
	delete(l.changed, list)
	ok, err := l.replace(list, now, apply(was, edits), fixups(list, was, edits))
	if !ok {
		l.c.giveBack(taken, l.view.budget)
		l.changed[list] = known
	}
	return err
}

// sums are the edits of a list of checksums. What stands there is a file's hash only if the file had it before it was
// rewritten.
func (l *sumLists) sums(list string, data []byte) (edits []edit, err error) {
	for _, s := range sumsOf(list, data) {
		for _, file := range l.files(list, s.name) {
			sums, err := l.sumsNow(file, s.to-s.from)
			if err != nil {
				return nil, err
			}
			if sums[0] != string(data[s.from:s.to]) || file == list {
				continue
			}
			l.stays(file)
			if sums[0] != sums[1] {
				edits = append(edits, edit{from: s.from, to: s.to, data: []byte(sums[1])})
			}
			break
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	return edits, nil
}

// stays has a file, whose checksum a list has, not be changed once more as a wrapper.
func (l *sumLists) stays(file string) {
	l.c.report.Wrappers = slices.DeleteFunc(l.c.report.Wrappers, func(wrapper string) bool { return wrapper == file })
}

// sumsNow are a file's hashes of so many digits, before and after it was rewritten, or none.
func (l *sumLists) sumsNow(file string, digits int) (sums [2]string, err error) {
	f := l.changed[file]
	if f == nil || !fs.ValidPath(file) {
		return sums, nil
	}
	if _, known := f.sums[digits]; !known {
		if f.sums[digits], err = l.changedSums(file, digits); err != nil {
			return sums, err
		}
	}
	return f.sums[digits], nil
}

// changedSums are a file's hashes of so many digits, before and after it was rewritten, or none.
func (l *sumLists) changedSums(file string, digits int) (sums [2]string, err error) {
	info, err := l.root.Lstat(file)
	if err != nil || !info.Mode().IsRegular() {
		return sums, nil
	}
	opened, err := l.root.Open(file)
	if err != nil {
		return sums, err
	}
	defer opened.Close()
	now, unmap, err := mapFile(opened, info.Size())
	if err != nil {
		return sums, err
	}
	defer unmap()
	return l.hexSums(file, now, digits)
}

// contents is what a file held before it was rewritten and what it holds now; nil where that is not looked at.
func (l *sumLists) contents(file string) (was, now []byte, err error) {
	info, err := l.root.Lstat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSource {
		return nil, nil, nil
	}
	if now, err = l.root.ReadFile(file); err != nil {
		return nil, nil, err
	}
	was, err = l.before(file, now)
	return was, now, err
}

// crcOf is the name of the file whose parts' checksums one of that name has (Hadoop ChecksumFileSystem.java), or "".
func crcOf(name string) string {
	base, ok := strings.CutPrefix(path.Base(name), ".")
	of, is := strings.CutSuffix(base, ".crc")
	if !ok || !is {
		return ""
	}
	return of
}

// crcs are the checksums of the parts of data, of so many bytes each.
func crcs(data []byte, size int, table *crc32.Table) (sums []byte) {
	for part := range slices.Chunk(data, size) {
		sums = binary.BigEndian.AppendUint32(sums, crc32.Checksum(part, table))
	}
	return sums
}

// crc makes the checksums of a file's parts anew: behind a mark, how many bytes a part has, and a checksum of each.
func (l *sumLists) crc(ctx context.Context, list string, depth int) error {
	const mark, header = "crc\x00", 8
	file := path.Join(path.Dir(list), crcOf(list))
	if _, known := l.lists[file]; known { // one of which there are checksums itself
		if err := l.become(ctx, file, depth+1); err != nil {
			return err
		}
	}
	if l.changed[file] == nil {
		return nil
	}
	data, err := l.read(list)
	if err != nil || len(data) < header || !bytes.HasPrefix(data, []byte(mark)) {
		return err
	}
	was, now, err := l.contents(file)
	size, sums := int(binary.BigEndian.Uint32(data[len(mark):])), data[header:]
	if err != nil || size == 0 || len(sums)/4 != (len(was)+size-1)/size {
		return err
	}
	for _, polynomial := range []uint32{crc32.IEEE, crc32.Castagnoli} {
		if table := crc32.MakeTable(polynomial); bytes.Equal(crcs(was, size, table), sums) && !bytes.Equal(was, now) {
			l.stays(file)
			return l.rewrite(list, data, []edit{{from: header, to: len(data), data: crcs(now, size, table)}})
		}
	}
	return nil
}
