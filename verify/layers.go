package verify

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/internal/boundedtoml"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

const (
	// maxConfig bounds a configuration, in bytes.
	maxConfig = 1 << 20
	// maxProgram bounds a program that is hashed, in bytes.
	maxProgram = 256 << 20
)

// layersCheck goes through this buildpack's layers directory.
type layersCheck struct {
	*Report
	options Options
	layers  *filetree.File
	// dir is where the layers are in the image; "" where that is not known, for layers on disk.
	dir string
	// architecture is the image's, "" for this machine's.
	architecture string
	manifests    map[string]closure.Manifest
	temp         string
	onDisk       bool

	config  launch.Config
	closure *ClosureReport
	// treeOf is where a store path is in the directory.
	treeOf map[storepath.Path]string
}

// check looks at every file in the directory.
func (c *layersCheck) check(ctx context.Context) error {
	var configErr error
	c.config, configErr = launchlayer.ReadConfig(c.layers)
	if c.onDisk && configErr == nil {
		c.dir = path.Dir(c.config.View)
	}
	var err error
	c.closure, err = Closure(ctx, c.layers, ClosureOptions{
		Keys: c.options.Keys, Manifests: c.manifests, View: launchlayer.View, Dir: c.dir, Temp: c.temp,
	})
	if err != nil {
		return err
	}
	c.Paths = append(c.Paths, c.closure.Paths...)
	c.treeOf = map[storepath.Path]string{}
	view, _ := closure.ViewOf(c.closure.Prefix) // one that is none was noted with its layer
	for _, each := range c.closure.Paths {
		c.treeOf[each.Path] = path.Join(each.Layer, closure.BaseName(each.Path, view))
	}
	for _, name := range c.closure.Extra {
		c.add(Extra, c.inImage(name), "it belongs to no store path")
	}
	for _, f := range c.closure.Altered {
		c.add(Altered, c.inImage(f.Where), "%s", f.Why)
	}
	c.members()
	c.anybodys()
	if configErr != nil {
		c.add(Altered, c.inImage(path.Join(launchlayer.Run, launch.ConfigName)), "%s", configErr)
	} else {
		c.unneeded()
		if err := c.run(); err != nil {
			return err
		}
	}
	c.launcher()
	return ctx.Err()
}

// inImage is a file's path in the image, or below the directory where that is not known.
func (c *layersCheck) inImage(name string) string { return path.Join(c.dir, name) }

// members names what belongs to no layer that this buildpack makes.
func (c *layersCheck) members() {
	known := []string{launchlayer.View, launchlayer.Launcher, launchlayer.Run, launchlayer.PRoot}
	for _, name := range c.layers.Names() {
		child := c.layers.Child(name)
		switch {
		case strings.HasPrefix(name, closure.LayerPrefix) && !strings.HasSuffix(name, ".toml"):
		case slices.Contains(known, name):
			if child.Kind != filetree.Directory {
				c.add(Altered, c.inImage(name), "it is a %s, not a layer", child.Kind)
			}
		case c.onDisk && c.buildTime(name):
		default:
			c.add(Extra, c.inImage(name), "this buildpack makes no such layer")
		}
	}
}

// buildTime reports whether something in a layers directory is of the build alone: the files that the lifecycle reads,
// and the layers that do not go into the image.
func (c *layersCheck) buildTime(name string) bool {
	for _, suffix := range []string{".toml", ".sbom.cdx.json", ".sbom.spdx.json", ".sbom.syft.json"} {
		if strings.HasSuffix(name, suffix) && c.layers.Child(name).Kind == filetree.Regular {
			return true
		}
	}
	if !slices.Contains(c.options.BuildLayers, name) {
		return false
	}
	var layer struct{ Types struct{ Launch bool } }
	raw, err := c.layers.Child(name + ".toml").ReadAll(maxConfig)
	if err == nil {
		_, err = boundedtoml.Decode(raw, &layer)
	}
	return err == nil && !layer.Types.Launch
}

// run checks what the launcher is told: that it leads to what was proven, and that its layer is as this program writes
// it for such a configuration.
func (c *layersCheck) run() error {
	c.configured()
	made := libcnb.Layers{Path: filepath.Join(c.temp, "made")}
	want, err := launchlayer.WriteRun(made, c.config)
	if err != nil {
		return fmt.Errorf("making the launcher's layer to compare: %w", err)
	}
	dir := filepath.Join(want.Path, "env.launch")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, value := range want.LaunchEnvironment {
		value = strings.ReplaceAll(value, made.Path, c.dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			return err
		}
	}
	return c.same(c.layers.Child(launchlayer.Run), want.Path, launchlayer.Run)
}

// wantedRoots compares the roots with the closure and with those of the command line, and names them.
func (c *layersCheck) wantedRoots(where string) {
	for _, root := range c.config.StorePaths {
		if p, err := storepath.Parse(root); err != nil || !c.closure.Has(p) {
			c.add(Altered, where, "it has the root %.200q, which is not in the closure", root)
		}
		c.Facts = append(c.Facts, "root      "+root)
		if p := storepath.Path(root); len(c.options.Roots) > 0 && !slices.Contains(c.options.Roots, p) {
			c.add(Altered, where, "it has the root %.200q, which --root does not name", root)
		}
	}
	for _, root := range c.options.Roots {
		if !slices.Contains(c.config.StorePaths, root.String()) {
			c.add(Altered, where, "the root %s is missing", root)
		}
	}
	if len(c.options.Roots) == 0 {
		c.NotCovered = append(c.NotCovered, "which roots were wanted (--root)")
	}
}

// proot checks PRoot's layer, which is there where the configuration names it.
func (c *layersCheck) proot(wanted bool) {
	layer := c.layers.Child(launchlayer.PRoot)
	where := c.inImage(path.Join(launchlayer.PRoot, "bin/proot"))
	if wanted && layer.Find("bin/proot") == nil {
		c.add(Altered, where, "it is missing")
	}
	layer.Walk(c.inImage(launchlayer.PRoot), func(name string, file *filetree.File) bool {
		switch {
		case name == where && file.Kind == filetree.Regular:
			c.rights(name, file)
			sum, err := digestOf(file)
			if err != nil {
				c.add(Altered, name, "%s", err)
			} else if !slices.Contains(c.options.PRoots, sum) {
				c.add(Unknown, name, "its digest is %s, which is no PRoot's that this buildpack pins", sum)
			}
		case file.Kind == filetree.Directory && strings.HasPrefix(where, name+"/"):
			c.rights(name, file)
		default:
			c.add(Extra, name, "this buildpack puts nothing but bin/proot there")
		}
		return true
	})
}

// rights notes what lets others write to a file or gives it more rights than its user has.
func (c *layersCheck) rights(name string, file *filetree.File) {
	if why := unusual(file, 0o755); why != "" {
		c.add(Altered, name, "%s", why)
	}
}

// launcher compares the launcher's layer with the launcher of this version.
func (c *layersCheck) launcher() {
	layer := c.layers.Child(launchlayer.Launcher)
	program := path.Join(launchlayer.Launcher, "bin", launch.ProcessProgramName)
	file := layer.Find(path.Join("bin", launch.ProcessProgramName))
	if file == nil || file.Kind != filetree.Regular {
		c.add(Altered, c.inImage(program), "the launcher is missing")
		return
	}
	sum, err := digestOf(file)
	if err != nil {
		c.add(Altered, c.inImage(program), "%s", err)
		return
	}
	var ownSum string
	if c.options.OwnLauncher != nil {
		ownSum = c.options.OwnLauncher(c.architecture)
	}
	switch {
	case c.options.Launcher != "" && c.options.Launcher != sum:
		c.add(Altered, c.inImage(program), "its digest is %s, --launcher says %s", sum, c.options.Launcher)
	case c.options.Launcher == "" && ownSum == "":
		c.add(Unknown, c.inImage(program), "its digest is %s, and there is no launcher beside this program to compare it with: "+
			"use bin/verify of the buildpack that made the image, or --launcher", sum)
	case c.options.Launcher == "" && sum != ownSum:
		c.add(Unknown, c.inImage(program), "its digest is %s, this version's launcher has %s: it was altered, or is another "+
			"version's, whose bin/verify can tell (or --launcher)", sum, ownSum)
	}
	// All else in the layer is the same in every version; an empty file stands for the program.
	stand := filepath.Join(c.temp, "launcher")
	made := libcnb.Layers{Path: filepath.Join(c.temp, "made")}
	if err := os.WriteFile(stand, nil, 0o755); err != nil {
		c.add(Unknown, c.inImage(launchlayer.Launcher), "%s", err)
		return
	}
	want, err := launchlayer.WriteLauncher(made, stand)
	if err == nil {
		err = c.same(layer, want.Path, launchlayer.Launcher, path.Join("bin", launch.ProcessProgramName))
	}
	if err != nil {
		c.add(Unknown, c.inImage(launchlayer.Launcher), "%s", err)
	}
}

// same compares a layer with one that was made to compare it with. Of the files in except, only the contents may
// differ.
func (c *layersCheck) same(layer *filetree.File, made, layerName string, except ...string) error {
	want, done, err := filetree.ReadDirectory(context.Background(), made)
	if err != nil {
		return err
	}
	defer done()
	layer.Walk("", func(name string, file *filetree.File) bool {
		other := want.Find(name)
		where := c.inImage(path.Join(layerName, name))
		switch {
		case other == nil:
			c.add(Extra, where, "this buildpack makes no such file")
			return false
		case other.Kind != file.Kind:
			c.add(Altered, where, "it is a %s, want a %s", file.Kind, other.Kind)
			return false
		case file.Kind == filetree.Symlink:
			if file.Target != other.Target {
				c.add(Altered, where, "it leads to %.200q, want %q", file.Target, other.Target)
			}
			return true
		}
		c.rights(where, file)
		if other.Mode&0o111 != file.Mode&0o111 {
			c.add(Altered, where, "its mode is %v, want %v", file.Mode, other.Mode)
		}
		if file.Kind == filetree.Regular && !slices.Contains(except, name) && !sameContents(file, other) {
			c.add(Altered, where, "it is not what this buildpack writes for this image")
		}
		return true
	})
	want.Walk("", func(name string, _ *filetree.File) bool {
		if layer.Find(name) == nil {
			c.add(Altered, c.inImage(path.Join(layerName, name)), "it is missing")
			return false
		}
		return true
	})
	return nil
}

// sameContents compares two small files.
func sameContents(a, b *filetree.File) bool {
	have, err := a.ReadAll(maxConfig)
	if err != nil {
		return false
	}
	want, err := b.ReadAll(maxConfig)
	return err == nil && bytes.Equal(have, want)
}

// digestOf is a program's digest.
func digestOf(program *filetree.File) (string, error) {
	if program.Size > maxProgram {
		return "", fmt.Errorf("it has %d bytes, more than a program", program.Size)
	}
	r, err := program.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	return launchlayer.Digest(r)
}
