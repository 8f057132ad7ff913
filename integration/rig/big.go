package rig

import (
	"context"
	"fmt"
	"path/filepath"
)

// BigOptions vary the big closure, to see what a change costs.
type BigOptions struct {
	Change string // changes the app's own path only
	Leaf   string // changes a leaf dependency of about a megabyte, a path that refers to it, and the app
}

// Big gives the root of a closure of more than 300 store paths and more than a gigabyte, built on the first call only.
func (n *Nixpkgs) Big(ctx context.Context, options BigOptions) (string, error) {
	outs, err := n.Realise(ctx, filepath.Join(n.Source, "big.nix"),
		"--argstr", "change", options.Change, "--argstr", "leaf", options.Leaf)
	if err != nil {
		return "", fmt.Errorf("building the big closure: %w", err)
	}
	return outs[0], nil
}

// BigCache gives a kept folder with a signed cache of the big closure. Its compression is Nix's name of one.
func (n *Nixpkgs) BigCache(ctx context.Context, compression string, key *Key, options BigOptions) (dir, root string, err error) {
	if root, err = n.Big(ctx, options); err != nil {
		return "", "", err
	}
	dir, err = n.rig.Cache(ctx, CacheOptions{Compression: compression, Key: key}, root)
	return dir, root, err
}
