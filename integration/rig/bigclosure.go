package rig

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed bigclosure.nix
var bigClosureExpression []byte

// BigClosure is a shop with more than 300 store paths and 1 GB: Python's scientific modules, servers, databases, run
// times of five languages and their libraries, a path for each of Debian's packages, in the rig's shared store.
type BigClosure struct {
	// Root is the application's own path, which refers to all others.
	Root string
	// Python and Nginx are paths of the closure with programs to measure: bin/python3 and bin/nginx.
	Python, Nginx string
}

// BigClosure builds the closure, which takes real Nix some minutes the first time. It is kept, also where the rig's
// nixpkgs changes later, so that what is measured with it stays comparable.
func (r *Rig) BigClosure(ctx context.Context) (*BigClosure, error) {
	n, err := r.bigNixpkgs(ctx)
	if err != nil {
		return nil, fmt.Errorf("building the big closure: %w", err)
	}
	dir, err := r.cached(ctx, "big", []string{"1", n.Source, string(bigClosureExpression), ""}, n.buildBig)
	if err != nil {
		return nil, fmt.Errorf("building the big closure: %w", err)
	}
	contents, err := os.ReadFile(filepath.Join(dir, "closure.json"))
	if err != nil {
		return nil, fmt.Errorf("building the big closure: %w", err)
	}
	var b BigClosure
	if err := json.Unmarshal(contents, &b); err != nil {
		return nil, fmt.Errorf("building the big closure: %w", err)
	}
	return &b, nil
}

// bigNixpkgs is the nixpkgs that the big closure was first built of.
func (r *Rig) bigNixpkgs(ctx context.Context) (*Nixpkgs, error) {
	store, err := r.Store(ctx)
	if err != nil {
		return nil, err
	}
	inputs := []string{"1", Suite, r.arch, store.Dir()}
	dir, err := r.cached(ctx, "bignixpkgs", inputs, func(ctx context.Context, dir, _ string) error {
		n, err := r.Nixpkgs(ctx)
		if err != nil {
			return err
		}
		contents, err := os.ReadFile(filepath.Join(n.dir, "nixpkgs.json"))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "nixpkgs.json"), contents, 0o644)
	})
	if err != nil {
		return nil, err
	}
	n := &Nixpkgs{Store: store, rig: r, dir: dir, suite: Suite, debs: map[string]Deb{}}
	return n, n.read()
}

// buildBig builds the closure and writes what BigClosure reads to dir.
func (n *Nixpkgs) buildBig(ctx context.Context, dir, _ string) error {
	n.rig.log("building a closure of more than 300 store paths: some minutes, once")
	expression := filepath.Join(dir, "shop.nix")
	if err := os.WriteFile(expression, bigClosureExpression, 0o644); err != nil {
		return err
	}
	roots, err := n.Realise(ctx, expression)
	if err != nil {
		return err
	}
	programs, err := n.Build(ctx, "python3", "nginx")
	if err != nil {
		return err
	}
	contents, err := json.Marshal(BigClosure{Root: roots[0], Python: programs[0], Nginx: programs[1]})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "closure.json"), contents, 0o644)
}
