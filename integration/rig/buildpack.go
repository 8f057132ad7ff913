package rig

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/BurntSushi/toml"
)

// Buildpack is the buildpack, unpacked.
type Buildpack struct {
	// Dir is what pack build --buildpack takes.
	Dir string
	// Toolchain says where its Nix comes from, and PRoot the same of PRoot, for people.
	Toolchain, PRoot string
}

// BuildpackOptions say how the buildpack is packaged for a test.
type BuildpackOptions struct {
	// Pinned keeps buildpack.toml as it is, so that its dependencies are downloaded when a build needs them.
	Pinned bool
	// BaseURL, when not empty, is where builds download the stand-ins from: the directory Downloads, served. Without it
	// they are part of the buildpack, as in an offline package.
	BaseURL string
}

// standin is a file in place of a dependency that buildpack.toml pins.
type standin struct {
	id, name, version string
	file, sha256      string
}

// Buildpack packages the buildpack of this checkout with scripts/package into dir, by default with dependencies made
// from Debian's packages in place of those that it pins.
func (r *Rig) Buildpack(ctx context.Context, dir string, options BuildpackOptions) (*Buildpack, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := run(ctx, root, filepath.Join(root, "scripts/package"), "--output", dir, "--arch", r.arch); err != nil {
		return nil, err
	}
	if options.Pinned {
		return &Buildpack{Dir: dir, Toolchain: "the pinned release", PRoot: "the pinned release"}, nil
	}
	standins, err := r.standins(ctx)
	if err != nil {
		return nil, err
	}
	base := options.BaseURL
	if base == "" {
		base = "https://stand-ins.invalid"
		for _, s := range standins {
			if err := bundle(dir, s); err != nil {
				return nil, fmt.Errorf("bundling %s: %w", s.name, err)
			}
		}
	}
	if err := r.Repin(ctx, filepath.Join(dir, "buildpack.toml"), base); err != nil {
		return nil, err
	}
	built := &Buildpack{Dir: dir}
	for _, s := range standins {
		text := fmt.Sprintf("%s %s, made from Debian's package", s.name, s.version)
		if s.id == "nix" {
			built.Toolchain = text
		} else {
			built.PRoot = text
		}
	}
	return built, nil
}

// Repin has a buildpack.toml pin the stand-ins, which are downloaded from below base: the directory Downloads, served.
func (r *Rig) Repin(ctx context.Context, file, base string) error {
	standins, err := r.standins(ctx)
	if err != nil {
		return err
	}
	if err := repin(file, base, r.arch, standins); err != nil {
		return fmt.Errorf("pinning stand-ins: %w", err)
	}
	return nil
}

// Downloads gives a directory with the stand-ins under the names that a buildpack with a BaseURL asks for.
func (r *Rig) Downloads(ctx context.Context) (string, error) {
	standins, err := r.standins(ctx)
	if err != nil {
		return "", err
	}
	inputs := []string{"1"}
	for _, s := range standins {
		inputs = append(inputs, s.file)
	}
	return r.cached(ctx, "downloads", inputs, func(_ context.Context, dir, _ string) error {
		for _, s := range standins {
			if err := os.Link(s.file, filepath.Join(dir, filepath.Base(s.file))); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *Rig) standins(ctx context.Context) ([]standin, error) {
	toolchain, err := r.Toolchain(ctx)
	if err != nil {
		return nil, err
	}
	proot, err := r.PRoot(ctx)
	if err != nil {
		return nil, err
	}
	return []standin{
		{"nix", "Nix", toolchain.Version, toolchain.Tarball, toolchain.SHA256},
		{"proot", "PRoot", proot.Version, proot.Program, proot.SHA256},
	}, nil
}

// bundle puts a stand-in where libpak looks before it downloads.
func bundle(dir string, s standin) error {
	directory := filepath.Join(dir, "dependencies", s.sha256)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	contents, err := os.ReadFile(s.file)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("id = %q\nchecksum = \"sha256:%s\"\n", s.id, s.sha256)
	if err := os.WriteFile(directory+".toml", []byte(text), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, filepath.Base(s.file)), contents, 0o644)
}

// repin rewrites the dependencies of a buildpack.toml.
func repin(file, base, arch string, standins []standin) error {
	var descriptor map[string]any
	if _, err := toml.DecodeFile(file, &descriptor); err != nil {
		return err
	}
	metadata, ok := descriptor["metadata"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s has no metadata", file)
	}
	var dependencies []map[string]any
	for _, s := range standins {
		dependencies = append(dependencies, map[string]any{
			"id": s.id, "name": s.name, "version": s.version,
			"uri":      base + "/" + path.Base(s.file),
			"checksum": "sha256:" + s.sha256,
			"purls":    []string{fmt.Sprintf("pkg:generic/%s@%s?arch=%s", s.id, s.version, arch)},
			"licenses": []map[string]any{{"type": "GPL-2.0-or-later", "uri": "https://www.debian.org/legal/licenses/"}},
		})
	}
	metadata["dependencies"] = dependencies
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	err = toml.NewEncoder(out).Encode(descriptor)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}
