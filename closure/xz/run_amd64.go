//go:build !purego

package xz

// decode decodes until the dictionary is written up to limit. It gives 0 when it got there, or to a match that goes
// round the circle's end, which is then pending; else 1 for corrupt data. d.full is left to the caller.
//
//go:noescape
func decode(d *lzma, limit int) int

// run decodes until the dictionary is written up to limit, which is at most its size. A match that does not fit is
// continued by the next call.
func (d *lzma) run(limit int) error {
	if d.portable {
		return d.runGo(limit)
	}
	for d.pos < limit {
		start := d.pos
		failed := decode(d, limit)
		d.full = min(d.full+d.pos-start, d.window)
		if failed != 0 {
			return errCorrupt
		}
		if d.pos < limit {
			d.copyPending(limit)
		}
	}
	return nil
}
