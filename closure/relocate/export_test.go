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
