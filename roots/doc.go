// Package roots finds the store paths that a source has: those that its settings name, those that Hydra has built of
// its commit, or those that Nix's evaluation gives and the caches have. It never builds one. Where no cache has them it
// looks for the reason (whynot.go), in the order of what an answer costs: what the caches said, Hydra's builds, the
// upload against git, other systems, caches that the source lists, impurities. What it finds are values (finding.go).
package roots
