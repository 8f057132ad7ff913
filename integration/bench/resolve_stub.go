package bench

import (
	"context"
	"io"
)

func (b *Bench) launch(ctx context.Context) error                      { return nil }
func (b *Bench) rebuild(ctx context.Context) error                     { return nil }
func (b *Bench) resolve(ctx context.Context) error                     { return nil }
func relocateChild(ctx context.Context, a []string, w io.Writer) error { return nil }
func startsChild(ctx context.Context, a []string, w io.Writer) error   { return nil }
