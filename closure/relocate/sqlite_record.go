package relocate

import "bytes"

// sqliteColumn is a value of a record, as it is stored.
type sqliteColumn struct {
	kind uint64 // the serial type
	data []byte
}

func (c sqliteColumn) isText() bool { return c.kind >= 12 }

// differs reports whether two values, of which one is no text, are not equal: a real number may be equal to an integer.
func (c sqliteColumn) differs(o sqliteColumn) bool {
	const null, real = 0, 7
	if c.isText() != o.isText() || (c.kind == null) != (o.kind == null) {
		return true
	}
	return (c.kind == real) == (o.kind == real) && (c.kind != o.kind || !bytes.Equal(c.data, o.data))
}

// number is a positive integer.
func (c sqliteColumn) number() uint64 {
	switch {
	case c.kind == 9:
		return 1
	case c.kind < 1 || c.kind > 6:
		return 0
	}
	n := uint64(0)
	for _, b := range c.data {
		n = n<<8 | uint64(b)
	}
	return n
}

// sqliteRecord takes a record apart.
func sqliteRecord(b []byte) ([]sqliteColumn, bool) {
	size, n := sqliteVarint(b)
	if n == 0 || size > uint64(len(b)) || size < uint64(n) {
		return nil, false
	}
	header, body := b[n:size], b[size:]
	var columns []sqliteColumn
	for len(header) > 0 {
		kind, n := sqliteVarint(header)
		if n == 0 || len(columns) == maxSQLiteColumns {
			return nil, false
		}
		header = header[n:]
		length := uint64(0)
		switch {
		case kind >= 12:
			length = (kind - 12) / 2
		case kind >= 1 && kind <= 7:
			length = [...]uint64{0, 1, 2, 3, 4, 6, 8, 8}[kind]
		}
		if length > uint64(len(body)) {
			return nil, false
		}
		columns = append(columns, sqliteColumn{kind, body[:length]})
		body = body[length:]
	}
	return columns, true
}

// sqliteVarint reads a number of one to nine bytes, the most significant first; n is 0 where there is none.
func sqliteVarint(b []byte) (v uint64, n int) {
	for n = 0; n < 9 && n < len(b); n++ {
		if n == 8 {
			return v<<8 | uint64(b[8]), 9
		}
		v = v<<7 | uint64(b[n]&0x7f)
		if b[n] < 0x80 {
			return v, n + 1
		}
	}
	return 0, 0
}
