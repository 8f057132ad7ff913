package cache

import (
	"cmp"
	"time"
)

// Policy is how patient a Set is: a request that fails is made again a few times, each time after a longer pause; when that
// does not help, its cache is disabled for a while and the next one by priority is asked, as Nix does it (NixOS/nix
// src/libstore/http-binary-cache-store.cc and filetransfer.cc). A time that is 0 stands for a build's, by which a dead cache costs
// seconds and a flapping one is waited for. Only tests have others.
type Policy struct {
	// Backoff is the wait before the second attempt; 0 means 250 ms. Each further one is up to twice as long, with a
	// bound, and partly left to chance.
	Backoff time.Duration
	// Timeout is how long to wait for a connection (Nix: connect-timeout), for a whole narinfo, and for a NAR's first byte
	// where another cache has the NAR; 0 means 15 s.
	Timeout time.Duration
	// Patience is how long a better cache may stay silent once another one can be used or has given a valid answer, and
	// how long a pause it may ask for before a NAR is fetched from another one; 0 means 1 s.
	Patience time.Duration
	// Disable is how long a cache is disabled: asked only where no other one has a path, and once where it had failed. A
	// server's Retry-After counts up to as much. 0 means 60 s.
	Disable time.Duration
}

func (p Policy) withDefaults() Policy {
	return Policy{
		Backoff: cmp.Or(p.Backoff, 250*time.Millisecond), Timeout: cmp.Or(p.Timeout, 15*time.Second),
		Patience: cmp.Or(p.Patience, time.Second), Disable: cmp.Or(p.Disable, time.Minute),
	}
}
