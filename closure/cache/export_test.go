package cache

import "time"

// SetMaxUnsignedSize has less taken of what nobody signed.
func (o *Options) SetMaxUnsignedSize(n int64) { o.maxUnsignedSize = n }

// FastPatience is the patience of Fast.
const FastPatience = 150 * time.Millisecond

// Fast has waits that a test can wait for, and a busy machine keeps.
func (o Options) Fast() Options {
	o.policy = policy{
		backoff: time.Millisecond, timeout: 2 * time.Second, stall: 300 * time.Millisecond, patience: FastPatience, disable: 30 * time.Second,
	}
	return o
}

// SetBackoff has another wait before the second attempt, of options that are Fast.
func (o *Options) SetBackoff(d time.Duration) { o.policy.backoff = d }

// SetTimeout has connections and narinfos waited for as long, of options that are Fast.
func (o *Options) SetTimeout(d time.Duration) { o.policy.timeout = d }

// SetPatience has a better cache be silent for another time, of options that are Fast.
func (o *Options) SetPatience(d time.Duration) { o.policy.patience = d }

// SetDisable has caches disabled for another time, of options that are Fast.
func (o *Options) SetDisable(d time.Duration) { o.policy.disable = d }
