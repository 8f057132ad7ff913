// Package integration tests the whole buildpack on real parts: real Nix builds and signs store paths, a real toolchain
// evaluates, real binary caches are served on loopback. This file and bare.go are what its tests share; the parts
// themselves come from integration/rig.
package integration
