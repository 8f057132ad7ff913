// Package rig makes real parts for tests, benches and scripts on any Debian or Ubuntu machine with Go, as root or as
// a user: Debian packages, a runnable Nix, a Nix release tarball, stores with real derivations, signed binary caches,
// base images, pack and the lifecycle. Nothing is installed on the machine: everything lives in one cache folder,
// $NIX_HYDRA_CACHE or nix-hydra-buildpack in the user's cache folder, and is made once.
//
//	r, err := rig.Open(rig.Options{})
//	dir, err := r.Debs(ctx, rig.Suite, "proot")           // a folder with usr/bin/proot and its libraries
package rig
