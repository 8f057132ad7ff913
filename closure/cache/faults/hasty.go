package faults

import (
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache/internal/policy"
)

// Policy are the times that a client waits; what is 0 is as in a build.
type Policy = policy.Policy

// Hasty has a client wait as a test can.
func Hasty(o cache.Options, p Policy) cache.Options { return o.WithPolicy(p) }
