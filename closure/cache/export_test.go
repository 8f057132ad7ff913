package cache

import "time"

// SetMaxUnsignedSize has less taken of what nobody signed.
func (o *Options) SetMaxUnsignedSize(n int64) { o.maxUnsignedSize = n }

// FastPatience is the patience of Fast.
const FastPatience = 150 * time.Millisecond

// Fast has waits that a test can wait for, and a busy machine keeps.
func (o Options) Fast() Options {
	o.Policy = Policy{
		Backoff: time.Millisecond, Timeout: 2 * time.Second, Stall: 300 * time.Millisecond, Patience: FastPatience, Disable: 30 * time.Second,
	}
	return o
}
