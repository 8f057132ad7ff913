package cache

import (
	"time"
)

// SetMaxUnsignedSize has less taken of what nobody signed.
func (o *Options) SetMaxUnsignedSize(n int64) { o.maxUnsignedSize = n }

// Fast has waits that a test can wait for, and a busy machine keeps. A cache that answers late is waited for, as a machine is
// late at times; a spec of what is done without it has a patience of its own.
func (o Options) Fast() Options {
	o.Stall = 300 * time.Millisecond
	o.Policy = Policy{Backoff: time.Millisecond, Timeout: 2 * time.Second, Patience: time.Minute, Disable: 30 * time.Second}
	return o
}
