package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// BuildpackOptions say how the buildpack is packaged for a test.
type BuildpackOptions struct {
	// Pinned keeps buildpack.toml as it is, so that its dependencies are downloaded when a build needs them.
	Pinned bool
	// BaseURL, when not empty, is where builds download the stand-ins from: the directory Downloads, served. Without it
	// they are part of the buildpack, as in an offline package.
	BaseURL string
}

// standin is a file in place of a dependency that buildpack.toml pins.
type standin struct{ id, version, file, sha256 string }

// Buildpack packages the buildpack of this checkout with scripts/package into dir, which pack build --buildpack takes, by
// default with dependencies made from Debian's packages in place of those that it pins.
func (r *Rig) Buildpack(ctx context.Context, dir string, options BuildpackOptions) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	_, err = run(ctx, root, filepath.Join(root, "scripts/package"), "--output", dir, "--arch", r.arch)
	if err != nil || options.Pinned {
		return err
	}
	if options.BaseURL != "" {
		return r.Repin(ctx, filepath.Join(dir, "buildpack.toml"), options.BaseURL)
	}
	standins, err := r.standins(ctx)
	if err != nil {
		return err
	}
	for _, s := range standins {
		if err := bundle(dir, s); err != nil {
			return fmt.Errorf("bundling %s: %w", s.id, err)
		}
	}
	return r.Repin(ctx, filepath.Join(dir, "buildpack.toml"), "https://stand-ins.invalid")
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
		{"nix", toolchain.Version, toolchain.Tarball, toolchain.SHA256},
		{"proot", proot.Version, proot.Program, proot.SHA256},
	}, nil
}

// bundle puts a stand-in where libpak looks before it downloads.
func bundle(dir string, s standin) error {
	contents, err := os.ReadFile(s.file)
	if err != nil {
		return err
	}
	return writeFiles(filepath.Join(dir, "dependencies"), map[string]string{
		s.sha256 + ".toml": fmt.Sprintf("id = %q\nchecksum = \"sha256:%s\"\n", s.id, s.sha256),
		filepath.Join(s.sha256, filepath.Base(s.file)): string(contents),
	})
}

// repin has a buildpack.toml pin the stand-ins in place of its dependencies for one architecture. Those for others stay.
func repin(file, base, arch string, standins []standin) error {
	var descriptor map[string]any
	if _, err := toml.DecodeFile(file, &descriptor); err != nil {
		return err
	}
	metadata, _ := descriptor["metadata"].(map[string]any)
	dependencies, _ := metadata["dependencies"].([]map[string]any)
	pinned := 0
	for _, d := range dependencies {
		at := slices.IndexFunc(standins, func(s standin) bool { return s.id == d["id"] })
		if at < 0 || !strings.Contains(fmt.Sprint(d["purls"]), "arch="+arch) {
			continue
		}
		s := standins[at]
		d["purls"] = []string{fmt.Sprintf("pkg:generic/%s@%s?arch=%s", s.id, s.version, arch)}
		d["version"], d["uri"], d["checksum"] = s.version, base+"/"+path.Base(s.file), "sha256:"+s.sha256
		pinned++
	}
	if pinned != len(standins) {
		return fmt.Errorf("%s does not pin Nix and PRoot for %s", file, arch)
	}
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(descriptor); err != nil {
		return err
	}
	return os.WriteFile(file, text.Bytes(), 0o644)
}
