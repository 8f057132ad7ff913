package hydra

import (
	"context"
	"time"
)

// Fast has waits that a test can wait for: the pauses between two attempts are parts of the time for an answer.
func (o Options) Fast() Options {
	o.Timeout = 2 * time.Second
	o.poll = poll{first: 2 * time.Millisecond, longest: 5 * time.Millisecond, line: time.Minute}
	return o
}

// SetMaxPages has fewer pages read to find a revision.
func (o *Options) SetMaxPages(n int) { o.maxPages = n }

// What the rules and bounds of a revision's search are tested by.
var (
	SameRepository = sameRepository
	SplitFlake     = splitFlake
)

// LatestEvals is latestEvals, whose pages are tested.
func (c *Client) LatestEvals(ctx context.Context, project, jobset string, n int) ([]Eval, error) {
	return c.latestEvals(ctx, project, jobset, n)
}
