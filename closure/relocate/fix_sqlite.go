package relocate

import (
	"bytes"
	"encoding/binary"
	"math"
	"sort"
)

// sqliteMark begins an SQLite database (sqlite.org/fileformat2.html).
const sqliteMark = "SQLite format 3\x00"

const (
	sqliteIndexInterior, sqliteTableInterior = 2, 5
	sqliteIndexLeaf, sqliteTableLeaf         = 10, 13
	// maxSQLiteDepth is deeper than any b-tree of 2^32 pages.
	maxSQLiteDepth = 40
	// maxSQLiteTables bounds the tables and indices of a database, maxSQLiteName their names, in bytes, and
	// maxSQLiteOptions what a virtual table says of other ones: of all that something is kept.
	maxSQLiteTables, maxSQLiteName, maxSQLiteOptions = 1 << 14, 1 << 9, 16
	// maxSQLiteColumns is the most columns that a table may have, SQLITE_MAX_COLUMN, and a record behind them.
	maxSQLiteColumns = 1 << 15
	// maxSQLiteSQL is the longest statement that SQLite takes unless it was built otherwise, in bytes.
	maxSQLiteSQL = 1_000_000
	// statementCost is how much longer it takes to look at a statement than to inflate it.
	statementCost = 256
)

// sqlite rewrites a database in place, provided that no index has to be sorted anew: the rewritten text has to stand
// in the same order among its neighbours, under each of SQLite's own collations.
func (f *fixer) sqlite(s source) ([]edit, error) {
	edits, loose, err := f.references(s)
	if err != nil {
		return nil, err
	}
	d, err := newSQLite(f, s.data, edits)
	if err != nil {
		return nil, err
	}
	schema, err := d.schema()
	if err != nil {
		return nil, err
	}
	for _, tree := range schema.trees {
		d.last, d.lastNow, d.changed, d.columns = nil, nil, false, 0
		if err := d.cells(tree.root, 0, d.compare); err != nil {
			return nil, err
		}
		if d.changed && d.columns&^schema.unindexed[tree.table] != 0 {
			if why := schema.derived(tree.table); why != "" {
				return nil, blockedBy(HashKeyed, "a reference in the table %.200q, of which there is %s", tree.table, why)
			}
		}
	}
	if d.text && schema.collations != "" {
		return nil, blockedBy(HashKeyed, "a reference in an index, with %s", schema.collations)
	}
	if len(d.broken) > 0 && len(s.data) > maxMember {
		return nil, errSQLiteSize
	}
	if err := sortEdits(d.broken); err != nil {
		return nil, err
	}
	for _, at := range loose {
		if d.alone(at) {
			return nil, blockedBy(HashKeyed, "a hash without /nix/store before it")
		}
	}
	return append(edits, d.broken...), nil
}

var errSQLiteSize = blockedBy(HashKeyed, "a reference in a database of more than %d MiB", maxMember>>20)

// sqliteFile is a database before and after it is rewritten.
type sqliteFile struct {
	f          *fixer
	data, now  []byte
	page       int // size in bytes
	usable     int
	seen       map[uint32]bool
	broken     []edit   // parts of references that go over from one page to another
	text       bool     // a reference stands in an index
	collations []string // those of SQLite's that a column or index may have
	changed    bool     // one stands in the b-tree at hand
	columns    uint64   // those that one stands in, a bit for each
	// The entry of an index that was looked at last.
	last, lastNow []byte
}

func newSQLite(f *fixer, data []byte, edits []edit) (*sqliteFile, error) {
	if len(data) < 100 {
		return nil, errMalformed
	}
	d := &sqliteFile{f: f, data: data, now: data, page: int(binary.BigEndian.Uint16(data[16:])), seen: map[uint32]bool{},
		collations: []string{"binary"}}
	if d.page == 1 {
		d.page = 64 << 10
	}
	d.usable = d.page - int(data[20])
	if d.page < 512 || d.page&(d.page-1) != 0 || d.usable < 480 {
		return nil, errMalformed
	}
	if len(edits) > 0 {
		if err := sortEdits(edits); err != nil {
			return nil, err
		}
		if len(data) > maxMember {
			return nil, errSQLiteSize
		}
		d.now = apply(data, edits)
	}
	return d, nil
}

// cells calls visit with each record below a page in order, before and after rewriting, and whether the text in it, not a
// number, says where it stands.
func (d *sqliteFile) cells(number uint32, depth int, visit func(payload, now []byte, sorted bool) error) error {
	at := int64(number-1) * int64(d.page)
	if number == 0 || at+int64(d.page) > int64(len(d.data)) || depth > maxSQLiteDepth || d.seen[number] {
		return errMalformed
	}
	d.seen[number] = true
	page := d.data[at : at+int64(d.page)]
	head := 0
	if number == 1 {
		head = 100
	}
	kind, count, first := page[head], int(binary.BigEndian.Uint16(page[head+3:])), head+8
	interior := kind == sqliteIndexInterior || kind == sqliteTableInterior
	if interior {
		first += 4
	}
	if kind != sqliteTableLeaf && kind != sqliteIndexLeaf && !interior || first+2*count > len(page) {
		return errMalformed
	}
	for i := range count {
		cell := int(binary.BigEndian.Uint16(page[first+2*i:]))
		if cell+4 > len(page) {
			return errMalformed
		}
		if interior {
			if err := d.cells(binary.BigEndian.Uint32(page[cell:]), depth+1, visit); err != nil {
				return err
			}
			cell += 4
		}
		if kind == sqliteTableInterior {
			continue
		}
		payload, now, err := d.payload(at, cell, kind)
		if err != nil {
			return err
		}
		if err := visit(payload, now, kind != sqliteTableLeaf); err != nil {
			return err
		}
	}
	if interior {
		return d.cells(binary.BigEndian.Uint32(page[head+8:]), depth+1, visit)
	}
	return nil
}

// payload puts a cell's record together, before and after rewriting.
func (d *sqliteFile) payload(page int64, cell int, kind byte) (was, now []byte, err error) {
	begin := page + int64(cell)
	size, n := sqliteVarint(d.data[begin : page+int64(d.page)])
	begin += int64(n)
	if n == 0 || size > uint64(len(d.data)) {
		return nil, nil, errMalformed
	}
	if !d.f.budget.inflated(int64(size)) { // cells may lie over each other
		return nil, nil, errBudget
	}
	if err := d.f.inspector.ctx.Err(); err != nil {
		return nil, nil, err
	}
	most := (d.usable-12)*64/255 - 23
	if kind == sqliteTableLeaf {
		_, n := sqliteVarint(d.data[begin : page+int64(d.page)])
		begin += int64(n)
		most = d.usable - 35
	}
	local := int(size)
	if local > most {
		least := (d.usable-12)*32/255 - 23
		if local = least + (int(size)-least)%(d.usable-4); local > most {
			local = least
		}
	}
	end := begin + int64(local)
	if end > page+int64(d.page) {
		return nil, nil, errMalformed
	}
	if local == int(size) {
		return d.data[begin:end], d.now[begin:end], nil
	}
	if end+4 > page+int64(d.page) { // of the page that it goes on with
		return nil, nil, errMalformed
	}
	was = bytes.Clone(d.data[begin:end])
	parts := []sqlitePart{{0, int(begin)}}
	next := binary.BigEndian.Uint32(d.data[end:])
	for len(was) < int(size) {
		at := int64(next-1) * int64(d.page)
		if next == 0 || at+int64(d.page) > int64(len(d.data)) || d.seen[next] {
			return nil, nil, errMalformed
		}
		d.seen[next] = true
		n := min(int(size)-len(was), d.usable-4)
		parts = append(parts, sqlitePart{len(was), int(at) + 4})
		was = append(was, d.data[at+4:at+4+int64(n)]...)
		next = binary.BigEndian.Uint32(d.data[at:])
	}
	now, err = d.across(was, parts)
	return was, now, err
}

// sqlitePart is where a record goes on with another page.
type sqlitePart struct{ from, file int }

// across rewrites a record of several parts. What goes over from one page to another is put down part by part.
func (d *sqliteFile) across(record []byte, parts []sqlitePart) ([]byte, error) {
	edits, err := d.f.text(source{data: record}, format{})
	if err == nil {
		err = sortEdits(edits)
	}
	if err != nil || len(edits) == 0 {
		return record, err
	}
	for _, e := range edits {
		i := sort.Search(len(parts), func(i int) bool { return parts[i].from > e.from }) - 1
		if i+1 == len(parts) || e.to <= parts[i+1].from {
			continue // it stands in plain sight
		}
		for from := e.from; from < e.to; i++ {
			to := e.to
			if i+1 < len(parts) {
				to = min(to, parts[i+1].from)
			}
			at := parts[i].file + from - parts[i].from
			d.broken = append(d.broken, edit{from: at, to: at + to - from, data: e.data[from-e.from : to-e.from]})
			from = to
		}
	}
	return apply(record, edits), nil
}

// alone reports whether a hash at a place is of no reference that is rewritten, and on a page that is in use.
func (d *sqliteFile) alone(at int) bool {
	i := sort.Search(len(d.broken), func(i int) bool { return d.broken[i].to > at })
	return d.seen[uint32(at/d.page)+1] && (i == len(d.broken) || d.broken[i].from > at)
}

// compare makes sure that an index entry stands in the same order to the one before as it did.
func (d *sqliteFile) compare(payload, now []byte, sorted bool) error {
	if !bytes.Equal(payload, now) {
		d.changed = true
		d.columns |= changedColumns(payload, now)
	}
	if !sorted {
		return nil
	}
	last, lastNow := d.last, d.lastNow
	d.last, d.lastNow = payload, now
	if bytes.Equal(payload, now) && bytes.Equal(last, lastNow) {
		return nil
	}
	d.text = true
	if last == nil {
		return nil
	}
	a, okA := sqliteRecord(last)
	b, okB := sqliteRecord(payload)
	aNow, okANow := sqliteRecord(lastNow)
	bNow, okBNow := sqliteRecord(now)
	if !okA || !okB || !okANow || !okBNow || len(a) != len(aNow) || len(b) != len(bNow) {
		return errMalformed
	}
	for i := range min(len(a), len(b)) {
		if !a[i].isText() || !b[i].isText() {
			if a[i].differs(b[i]) {
				return nil
			}
			continue
		}
		tie := false
		for _, collation := range d.collations {
			fold := sqliteCollations[collation]
			left, right := fold(a[i].data), fold(b[i].data)
			was, is := bytes.Compare(left, right), bytes.Compare(fold(aNow[i].data), fold(bNow[i].data))
			if was != is {
				return blockedBy(HashKeyed, "a reference in an index, which would not be sorted any more")
			}
			tie = tie || was == 0
		}
		if !tie {
			return nil
		}
	}
	return nil
}

// sqliteCollations are SQLite's own, each by what makes equal what it takes for equal, in either encoding: the columns behind it
// say then where an entry stands. NOCASE knows the letters of ASCII only.
var sqliteCollations = map[string]func(text []byte) []byte{
	"binary": func(text []byte) []byte { return text },
	"nocase": func(text []byte) []byte {
		text = bytes.Clone(text)
		for i, c := range text {
			if 'A' <= c && c <= 'Z' {
				text[i] += 'a' - 'A'
			}
		}
		return text
	},
	"rtrim": func(text []byte) []byte { return bytes.TrimRight(text, " \x00") },
}

// changedColumns gives the columns of a record that are rewritten, a bit for each; all where there are too many.
func changedColumns(payload, now []byte) (columns uint64) {
	was, _ := sqliteRecord(payload)
	is, ok := sqliteRecord(now)
	if !ok || len(was) != len(is) || len(was) > 64 {
		return math.MaxUint64
	}
	for i := range was {
		if !bytes.Equal(was[i].data, is[i].data) {
			columns |= 1 << i
		}
	}
	return columns
}
