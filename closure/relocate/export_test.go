package relocate

// WithPending is the report as if nothing of what is left to FixTree could be put right.
func WithPending(r Report) Report {
	c := &collector{report: r}
	c.report.pending = nil
	for _, p := range r.pending {
		c.block(p, "")
	}
	return c.result()
}

// Inflated is how many bytes the rewriters of a view have looked at after inflating, or want to: what is left of what
// they may, taken from what they might.
func Inflated(l View) int64 { return inflateBase - l.budget.inflate.Load() }

// CompressedAnew is the same for what is compressed anew.
func CompressedAnew(l View) int64 { return compressBase - l.budget.anew.Load() }

// KeepAtMost has an inspection keep files of up to that many bytes.
func (i *Inspection) KeepAtMost(bytes int64) { i.most = bytes }

// PendingBlockers is how many blockers a report keeps of files that are left to FixTree.
func PendingBlockers(r Report) (n int) {
	for _, p := range r.pending {
		n += len(p.blockers)
	}
	return n
}
