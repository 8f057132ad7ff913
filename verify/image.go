package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/closurelayer"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
)

// imageCheck goes through an image, file by file: whatever decides what it runs is proven, or named.
type imageCheck struct {
	*Report
	img     *image.Image
	options Options
	temp    string

	root      *filetree.File
	layersDir string
	appDir    string
	// above is the number of the first layer that is not the run image's.
	above int
	// manifests is the closure layers' metadata, by layer.
	manifests map[string]closure.Manifest
	build     lifecycle.Build
	processes []lifecycle.Process
}

// check looks at the whole image.
func (c *imageCheck) check(ctx context.Context) error {
	c.environment()
	c.annotations()
	c.unread()
	labelled := c.labels()
	overlay, err := c.img.Overlay(ctx, c.temp, c.keeps)
	if err != nil {
		return err
	}
	defer overlay.Close()
	c.root = overlay.Root
	directories := c.directories()
	if len(directories) == 0 && !labelled {
		return fmt.Errorf("%w: this buildpack did not make the image", closurelayer.ErrNone)
	}
	c.parents()
	c.implied()
	for _, note := range overlay.Notes {
		if note.Layer >= c.above || c.ours(note.Path) {
			c.add(Altered, note.Path, "layer %d of the image: %s", note.Layer+1, note.Text)
		}
	}
	for _, note := range overlay.WrittenByOthers {
		if note.Layer >= c.above {
			c.add(Unknown, c.img.Layers[note.Layer].DiffID, "layer %d of the image is not as a lifecycle writes layers, and tools may read "+
				"it in different ways: %s: %s", note.Layer+1, note.Path, note.Text)
		}
	}
	for _, dir := range directories {
		if err := c.layers(ctx, dir); err != nil {
			return err
		}
	}
	c.otherLayers()
	c.processTypes(ctx)
	c.lifecycleLauncher()
	c.NotCovered = append(c.NotCovered, "the app's own files in "+c.appDir)
	c.start()
	c.appRights()
	c.elsewhere()
	return ctx.Err()
}

// keeps says of which files the contents may be looked at.
func (c *imageCheck) keeps(name string) bool {
	return below(name, c.layersDir) || below(name, lifecycle.DefaultLayersDir) || below(name, lifecycle.RootDir) ||
		name == path.Join(c.appDir, procfile.Name)
}

// ours reports whether a path is where only the lifecycle and buildpacks put something.
func (c *imageCheck) ours(name string) bool {
	for _, dir := range []string{c.layersDir, lifecycle.DefaultLayersDir, lifecycle.ProcessDir, lifecycle.Dir} {
		if below(name, dir) || below(dir, name) {
			return true
		}
	}
	return false
}

// directories are those of this buildpack's layers, in the image: where it says that the layers are, and where
// they are by default, which is where a relocated closure may lead.
func (c *imageCheck) directories() []string {
	var found []string
	for _, all := range []string{c.layersDir, lifecycle.DefaultLayersDir} {
		dir := path.Join(all, launchlayer.BuildpackDir)
		if file, _, err := c.root.Resolve(dir); err == nil && file != nil && !slices.Contains(found, dir) {
			found = append(found, dir)
		}
	}
	return found
}

// parents checks that every directory on the way to what runs is one, and no link to another.
func (c *imageCheck) parents() {
	for _, dir := range []string{
		path.Join(c.layersDir, launchlayer.BuildpackDir), path.Join(c.layersDir, "config"), lifecycle.ProcessDir, lifecycle.Dir, c.appDir,
	} {
		for _, part := range ancestors(dir) {
			file := c.root.Find(part)
			if file == nil {
				if _, real, err := c.root.Resolve(part); err != nil || real == "" {
					c.add(Altered, part, "it is missing")
				}
				break
			}
			if file.Kind != filetree.Directory {
				c.add(Altered, part, "it is a %s%s, want a directory", file.Kind, leading(file))
				break
			}
			if below(part, lifecycle.RootDir) || below(part, c.layersDir) {
				if len(file.Attributes) > 0 {
					c.add(Altered, part, "it has the extended attribute %.80q", file.Attributes[0])
				}
				if file.Mode&0o022 != 0 && part != c.layersDir { // which is a volume of its own on Kubernetes, for anybody to write to
					c.add(Altered, part, "its mode is %v: others may write to it", file.Mode)
				}
				if file.Mode&0o555 != 0o555 {
					c.add(Altered, part, "its mode is %v: not everybody may enter and list it", file.Mode)
				}
			}
		}
	}
	slices.SortFunc(c.Problems, func(a, b Problem) int { return strings.Compare(a.Where+a.Why, b.Where+b.Why) })
	c.Problems = slices.Compact(c.Problems)
}

// implied names directories whose rights differ between runtimes.
func (c *imageCheck) implied() {
	c.root.Walk("/", func(name string, file *filetree.File) bool {
		if file.Implied && (c.ours(name) || below(name, c.appDir) || below(c.appDir, name)) {
			c.add(Altered, name, "a layer that has something in it has no entry for the directory itself: some runtimes let nobody enter it")
		}
		return file.Kind == filetree.Directory
	})
}

// leading says where a link leads.
func leading(file *filetree.File) string {
	if file.Kind != filetree.Symlink {
		return ""
	}
	return fmt.Sprintf(" to %.200q", file.Target)
}

// layers checks one directory of this buildpack's layers.
func (c *imageCheck) layers(ctx context.Context, dir string) error {
	layers := c.root.Find(dir)
	if layers == nil || layers.Kind != filetree.Directory {
		return nil // parents has said so
	}
	check := layersCheck{
		Report: c.Report, options: c.options, layers: layers, dir: dir, architecture: c.img.Config.Architecture,
		manifests: c.manifests, temp: filepath.Join(c.temp, "layers"+strings.ReplaceAll(dir, "/", "-")),
	}
	if err := os.Mkdir(check.temp, 0o755); err != nil {
		return err
	}
	err := check.check(ctx)
	if errors.Is(err, closurelayer.ErrNone) {
		c.add(Altered, dir, "it holds no closure")
		return nil
	}
	if err != nil {
		return err
	}
	// Also by a link, as the launcher would find it.
	if store, _, err := c.root.Resolve(storepath.Dir); check.config.Engine == launch.Unrelocated && (store != nil || err != nil) {
		c.add(Unknown, storepath.Dir, "the run image has a store of its own, which the launcher takes where it has every root")
	}
	return nil
}

// otherLayers names what else is in the layers directory.
func (c *imageCheck) otherLayers() {
	for _, all := range slices.Compact([]string{c.layersDir, lifecycle.DefaultLayersDir}) {
		dir := c.root.Find(all)
		for _, name := range dir.Names() {
			child, where := dir.Child(name), path.Join(all, name)
			switch name {
			case launchlayer.BuildpackDir:
			case "config":
				for _, each := range child.Names() {
					if each != path.Base(lifecycle.ProcessTypes) {
						c.add(Extra, path.Join(where, each), "the lifecycle puts nothing but process types there")
					}
				}
			case "sbom":
				c.bills(where, child)
			default:
				c.add(Extra, where, "it is another buildpack's: its environment and programs reach the app%s", hooks(child))
			}
		}
	}
}

// bills checks that the directory of the bills of materials holds nothing that a program could run or take for its own.
func (c *imageCheck) bills(where string, dir *filetree.File) {
	dir.Walk(where, func(name string, file *filetree.File) bool {
		switch {
		case file.Kind == filetree.Directory:
		case file.Kind != filetree.Regular:
			c.add(Altered, name, "it is a %s", file.Kind)
		case path.Ext(name) != ".json" || file.Mode&0o111 != 0 || len(file.Attributes) > 0:
			c.add(Extra, name, "it is no bill of materials")
		}
		return true
	})
	c.NotCovered = append(c.NotCovered, "what the bills of materials say")
}

// hooks says what of a buildpack's layers runs or is set before the app.
func hooks(dir *filetree.File) string {
	var found []string
	for _, layer := range dir.Names() {
		for _, name := range []string{"env", "env.launch", "exec.d", "profile.d", "bin", "lib"} {
			if dir.Child(layer).Child(name) != nil {
				found = append(found, path.Join(layer, name))
			}
		}
	}
	if len(found) == 0 {
		return ""
	}
	return " (" + strings.Join(found[:min(len(found), 20)], ", ") + ")"
}

// lifecycleLauncher checks what the lifecycle puts into an image beside the layers.
func (c *imageCheck) lifecycleLauncher() {
	dir := c.root.Find(lifecycle.Dir)
	for _, name := range dir.Names() {
		if name != path.Base(lifecycle.Launcher) {
			c.add(Extra, path.Join(lifecycle.Dir, name), "the lifecycle puts nothing but its launcher there, and it is on PATH")
		}
	}
	program := dir.Child(path.Base(lifecycle.Launcher))
	if program == nil || program.Kind != filetree.Regular || program.Mode&0o111 != 0o111 {
		c.add(Altered, lifecycle.Launcher, "the lifecycle's launcher is missing, or no program")
		return
	}
	if why := unusual(program, 0o755); why != "" {
		c.add(Altered, lifecycle.Launcher, "%s", why)
	}
	sum, err := digestOf(program)
	switch {
	case err != nil:
		c.add(Altered, lifecycle.Launcher, "%s", err)
	case c.options.Lifecycle != "" && c.options.Lifecycle != sum:
		c.add(Altered, lifecycle.Launcher, "its digest is %s, --lifecycle says %s", sum, c.options.Lifecycle)
	case c.options.Lifecycle == "":
		c.NotCovered = append(c.NotCovered, "the lifecycle's launcher (sha256:"+sum+", --lifecycle)")
	}
}

// appRights names what of the app's files gives a process rights that its user has not. Directories may have the group's bit,
// which they inherit from a volume.
func (c *imageCheck) appRights() {
	c.root.Find(c.appDir).Walk(c.appDir, func(name string, file *filetree.File) bool {
		switch {
		case file.Kind == filetree.Special:
			c.add(Unknown, name, "it is a %s", file.Kind)
		case len(file.Attributes) > 0:
			c.add(Unknown, name, "it has the extended attribute %.80q", file.Attributes[0])
		case file.Kind == filetree.Regular && file.Mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
			c.add(Unknown, name, "its mode is %v: it runs with the rights of its owner or group", file.Mode)
		}
		return true
	})
}

// elsewhere names what layers above the run image have outside of what the lifecycle writes to.
func (c *imageCheck) elsewhere() {
	whole := []string{c.layersDir, lifecycle.DefaultLayersDir, c.appDir}
	c.root.Walk("/", func(name string, file *filetree.File) bool {
		for _, dir := range whole {
			if below(name, dir) {
				return false
			}
		}
		if below(name, lifecycle.Dir) || below(name, lifecycle.ProcessDir) {
			return false
		}
		switch {
		case file.Layer < c.above:
			return file.Kind == filetree.Directory
		case name == "/":
			c.add(Extra, name, "layer %d of the image has an entry for it, which is not the run image's", file.Layer+1)
		}
		above := slices.ContainsFunc(append(whole, lifecycle.Dir, lifecycle.ProcessDir), func(dir string) bool { return below(dir, name) })
		if !above {
			c.add(Extra, name, "layer %d of the image has it, which is not the run image's: no build puts anything there",
				file.Layer+1)
		}
		return true
	})
}
