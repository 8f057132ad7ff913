package rig

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Key is a pair of keys that signs store paths.
type Key struct {
	Name   string // as "hydra.example.org-1"
	File   string // the secret key's file
	Public string // as it stands in trusted-public-keys
}

// Key gives the pair of keys with a name, the same one every time.
func (r *Rig) Key(ctx context.Context, name string) (*Key, error) {
	nix, err := r.Nix(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := r.cached(ctx, "key", []string{name}, func(ctx context.Context, dir, _ string) error {
		program := filepath.Join(nix.Bin, "nix")
		features := []string{"--extra-experimental-features", "nix-command", "key"}
		secret, err := run(ctx, dir, program, append(features, "generate-secret", "--key-name", name)...)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(secret), 0o600); err != nil {
			return err
		}
		convert := exec.CommandContext(ctx, program, append(features, "convert-secret-to-public")...)
		convert.Stdin = strings.NewReader(secret)
		public, err := output(convert)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "public"), []byte(public), 0o644)
	})
	if err != nil {
		return nil, err
	}
	public, err := os.ReadFile(filepath.Join(dir, "public"))
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", name, err)
	}
	return &Key{Name: name, File: filepath.Join(dir, "secret"), Public: strings.TrimSpace(string(public))}, nil
}

// CacheOptions say how a binary cache is written.
type CacheOptions struct {
	// Compression is Nix's name of it: "zstd" (when empty), "xz", "none", "bzip2", "br", "gzip".
	Compression string
	// Level is the compression's level; 0 is Nix's default.
	Level int
	// Key signs the paths. Nil leaves them unsigned.
	Key *Key
}

// Cache writes the closure of store paths to a binary cache in dir, which may have paths already. Real Nix compresses
// and signs.
func (s *Store) Cache(ctx context.Context, dir string, options CacheOptions, paths ...string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("writing binary cache: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing binary cache: %w", err)
	}
	settings := url.Values{"parallel-compression": {"true"}, "compression": {"zstd"}}
	if options.Compression != "" {
		settings.Set("compression", options.Compression)
	}
	if options.Level != 0 {
		settings.Set("compression-level", fmt.Sprint(options.Level))
	}
	if options.Key != nil {
		settings.Set("secret-key", options.Key.File)
	}
	args := []string{"copy", "--no-check-sigs", "--to", "file://" + dir + "?" + settings.Encode()}
	if _, err := s.RunIn(ctx, dir, "nix", append(args, paths...)...); err != nil {
		return fmt.Errorf("writing binary cache: %w", err)
	}
	return nil
}

// Cache gives a directory with a binary cache of the closure of store paths in the rig's shared store. The same call
// gives the same directory: copy it before changing it.
func (r *Rig) Cache(ctx context.Context, options CacheOptions, paths ...string) (string, error) {
	store, err := r.Store(ctx)
	if err != nil {
		return "", err
	}
	inputs := append([]string{"1", options.Compression, fmt.Sprint(options.Level)}, paths...)
	if options.Key != nil {
		inputs = append(inputs, options.Key.Public)
	}
	return r.cached(ctx, "cache", inputs, func(ctx context.Context, dir, _ string) error {
		return store.Cache(ctx, dir, options, paths...)
	})
}

// Closure gives the closure of store paths, dependencies first.
func (s *Store) Closure(ctx context.Context, paths ...string) ([]string, error) {
	return s.Lines(ctx, "nix-store", append([]string{"--query", "--requisites"}, paths...)...)
}
