// Command repack is the builder of the rig's derivations: it turns Debian packages into a Nix store path whose
// programs find their loader, libraries and interpreters in other store paths. $spec says which: see Spec.
//
// It is a static program, so that builds need nothing of the machine they run on but dpkg-deb and tar.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Spec is what a derivation asks for, as JSON in the environment variable spec.
type Spec struct {
	// Out is the store path to make.
	Out string `json:"out"`
	// Debs are the packages' files.
	Debs []string `json:"debs"`
	// Inputs are the store paths in which libraries, interpreters and files named by their place in Debian are looked
	// up, in this order, after Out.
	Inputs []string `json:"inputs"`
	// Propagate are the store paths to list in nix-support/propagated-build-inputs.
	Propagate []string `json:"propagate"`
	// Tools is a directory with patchelf and its libraries, as their packages have them.
	Tools string `json:"tools"`
	// Loader is the dynamic loader's path below the C library's store path, LibC that path ("" when Out is it).
	Loader string `json:"loader"`
	LibC   string `json:"libc"`
	// Triplet is Debian's name of the architecture.
	Triplet string `json:"triplet"`
	// Site is the directory for Python modules, as "lib/python3.14/site-packages".
	Site string `json:"site"`
	// Links are further symbolic links: their places below Out, and their targets.
	Links map[string]string `json:"links"`
	// Retarget names files that a library has compiled in: the library, and for each file its place below Out.
	Retarget map[string]map[string]string `json:"retarget"`
	// Shell runs Post, a script that ends the build; Path is its PATH.
	Shell string `json:"shell"`
	Post  string `json:"post"`
	Path  string `json:"path"`
}

func main() {
	var spec Spec
	err := json.Unmarshal([]byte(os.Getenv("spec")), &spec)
	if err == nil {
		err = build(context.Background(), &spec)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "repack:", err)
		os.Exit(1)
	}
}

// build makes the store path.
func build(ctx context.Context, spec *Spec) error {
	tree := &tree{spec: spec, owners: map[string]string{}}
	if err := os.MkdirAll(spec.Out, 0o755); err != nil {
		return err
	}
	for _, name := range spec.Debs {
		if err := tree.add(ctx, name); err != nil {
			return fmt.Errorf("unpacking %s: %w", filepath.Base(name), err)
		}
	}
	for name, target := range spec.Links {
		if err := os.Symlink(target, filepath.Join(spec.Out, name)); err != nil {
			return err
		}
	}
	if err := tree.link(); err != nil {
		return fmt.Errorf("correcting links: %w", err)
	}
	if spec.LibC == "" {
		if err := tree.blindLoader(); err != nil {
			return fmt.Errorf("setting loader: %w", err)
		}
	}
	if err := tree.patch(ctx); err != nil {
		return fmt.Errorf("patching programs: %w", err)
	}
	for pattern, names := range spec.Retarget {
		if err := tree.retarget(pattern, names); err != nil {
			return fmt.Errorf("retargeting: %w", err)
		}
	}
	if len(spec.Propagate) > 0 {
		support := filepath.Join(spec.Out, "nix-support")
		if err := os.MkdirAll(support, 0o755); err != nil {
			return err
		}
		list := []byte(strings.Join(spec.Propagate, " ") + "\n")
		if err := os.WriteFile(filepath.Join(support, "propagated-build-inputs"), list, 0o644); err != nil {
			return err
		}
	}
	if spec.Post == "" {
		return nil
	}
	command := exec.CommandContext(ctx, spec.Shell, "-euo", "pipefail", "-c", spec.Post)
	command.Env = append(os.Environ(), "PATH="+spec.Path, "out="+spec.Out, "SOURCE_DATE_EPOCH=1", "LANG=C.UTF-8")
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("running the last step: %w", err)
	}
	return nil
}

// sorted gives the keys of a map in order.
func sorted(set map[string]string) []string {
	keys := make([]string, 0, len(set))
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
