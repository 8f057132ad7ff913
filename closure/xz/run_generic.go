//go:build !amd64 || purego

package xz

func (d *lzma) run(limit int) error { return d.runGo(limit) }
