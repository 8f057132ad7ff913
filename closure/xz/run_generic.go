//go:build !amd64

package xz

func (d *lzma) run(limit int) error { return d.runGo(limit) }
