package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Sample copies a directory of samples/ to a new directory, with nixpkgs.json pinning the rig's stand-in for nixpkgs, and
// gives the copy's place below dir.
func (n *Nixpkgs) Sample(ctx context.Context, name, dir string) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	copied := filepath.Join(dir, name)
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(root, "samples", name))); err != nil {
		return "", fmt.Errorf("copying sample %s: %w", name, err)
	}
	return copied, n.WritePin(copied)
}

// WritePin writes the stand-in's pin as nixpkgs.json to a directory.
func (n *Nixpkgs) WritePin(dir string) error {
	pin, err := json.MarshalIndent(n.Pin, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "nixpkgs.json"), append(pin, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing pin: %w", err)
	}
	return nil
}

// HydraBuild is what a Hydra has of a revision once it has built it.
type HydraBuild struct {
	Source string   // the source's store path
	Drvs   []string // the derivations
	Paths  []string // their outputs
}

// AsHydra does with a source what Hydra does: everything named exactly .git is left out, the rest is put into the
// store under a name, and a file of it is evaluated from there, with more arguments of nix-instantiate, and built.
func (n *Nixpkgs) AsHydra(ctx context.Context, source, name, file string, args ...string) (*HydraBuild, error) {
	work, err := os.MkdirTemp(n.rig.dir, ".hydra-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	clean := filepath.Join(work, name)
	if _, err := run(ctx, "", "cp", "-r", "--no-preserve=ownership", source, clean); err != nil {
		return nil, err
	}
	if err := dropGit(clean); err != nil {
		return nil, err
	}
	added, err := n.Store.Run(ctx, "nix-store", "--add-fixed", "--recursive", "sha256", clean)
	if err != nil {
		return nil, err
	}
	built := &HydraBuild{Source: strings.TrimSpace(added)}
	args = append([]string{"-I", "nixpkgs=" + n.Source, filepath.Join(built.Source, file)}, args...)
	if built.Drvs, err = n.Store.Lines(ctx, "nix-instantiate", args...); err != nil {
		return nil, fmt.Errorf("evaluating: %w", err)
	}
	built.Paths, err = n.RealiseDrvs(ctx, built.Drvs...)
	return built, err
}

// dropGit removes everything named .git.
func dropGit(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Name() != ".git" {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if entry.IsDir() {
			return filepath.SkipDir
		}
		return nil
	})
}
