package hydra

import "time"

// Fast has waits that a test can wait for: the pauses between two attempts are parts of the time for an answer.
func (o Options) Fast() Options {
	o.Timeout = 2 * time.Second
	o.poll = poll{first: 2 * time.Millisecond, longest: 5 * time.Millisecond, line: time.Minute}
	return o
}

// SetMaxPages has fewer pages read to find a revision.
func (o *Options) SetMaxPages(n int) { o.maxPages = n }
