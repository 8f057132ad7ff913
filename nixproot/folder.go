package nixproot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

const (
	// maxConfig bounds the launcher's configuration, in bytes.
	maxConfig = 1 << 20
	// maxProgram bounds a program that is hashed, in bytes.
	maxProgram = 256 << 20
)

// folder is this buildpack's layers directory, as verify looks at it.
type folder struct {
	*verdict
	options verifyOptions
	layers  *filetree.File
	// dir is where the layers are in the image; "" where that is not known, for layers on disk.
	dir string
	// architecture is the image's, "" for this machine's.
	architecture string
	manifests    map[string]closure.Manifest
	scratch      string
	onDisk       bool

	config launch.Config
}

// check looks at every file in the directory.
func (f *folder) check(ctx context.Context) error {
	configErr := f.readConfig()
	if f.onDisk && configErr == nil {
		f.dir = path.Dir(f.config.View)
	}
	audit, err := closure.Verify(ctx, f.layers, closure.VerifyOptions{
		Keys: narinfo.Keys(f.options.keys), Manifests: f.manifests, View: viewLayer, Dir: f.dir, Temp: f.scratch,
	})
	if err != nil {
		return err
	}
	f.audit = audit
	for _, name := range audit.Extra {
		f.add(extra, f.place(name), "it belongs to no store path")
	}
	for _, text := range audit.Altered {
		name, why, _ := strings.Cut(text, ": ")
		f.add(altered, f.place(name), "%s", why)
	}
	f.members()
	if configErr != nil {
		f.add(altered, f.place(path.Join(runLayer, launch.ConfigName)), "%s", configErr)
	} else if err := f.run(); err != nil {
		return err
	}
	f.launcher()
	return ctx.Err()
}

// place is a file's path in the image, or below the directory.
func (f *folder) place(name string) string { return path.Join(f.dir, name) }

// members names what belongs to no layer that this buildpack makes.
func (f *folder) members() {
	known := []string{viewLayer, launcherLayer, runLayer, prootLayer}
	for _, name := range f.layers.Names() {
		child := f.layers.Child(name)
		switch {
		case strings.HasPrefix(name, closure.LayerPrefix) && !strings.HasSuffix(name, ".toml"):
		case slices.Contains(known, name):
			if child.Kind != filetree.Directory {
				f.add(altered, f.place(name), "it is a %s, not a layer", child.Kind)
			}
		case f.onDisk && f.buildTime(name):
		default:
			f.add(extra, f.place(name), "this buildpack makes no such layer")
		}
	}
}

// buildTime reports whether something in a layers directory is of the build alone: the files that the lifecycle reads,
// and the layers that do not go into the image.
func (f *folder) buildTime(name string) bool {
	for _, suffix := range []string{".toml", ".sbom.cdx.json", ".sbom.spdx.json", ".sbom.syft.json"} {
		if strings.HasSuffix(name, suffix) && f.layers.Child(name).Kind == filetree.Regular {
			return true
		}
	}
	if !slices.Contains([]string{recordLayer, toolchainLayer, evaluationLayer}, name) {
		return false
	}
	var layer struct{ Types struct{ Launch bool } }
	raw, err := f.layers.Child(name + ".toml").ReadAll(maxConfig)
	if err == nil {
		_, err = toml.Decode(string(raw), &layer)
	}
	return err == nil && !layer.Types.Launch
}

// readConfig reads what the launcher is told.
func (f *folder) readConfig() error {
	file := f.layers.Child(runLayer).Child(launch.ConfigName)
	if file == nil {
		return errors.New("the launcher's configuration is missing")
	}
	raw, err := file.ReadAll(maxConfig)
	if err == nil {
		f.config, err = launch.ParseConfig(raw)
	}
	return err
}

// run checks what the launcher is told: that it leads to what was proven, and that its layer is as this program writes
// it for such a configuration.
func (f *folder) run() error {
	f.configured()
	made := libcnb.Layers{Path: filepath.Join(f.scratch, "made")}
	want, err := RunLayer(made, f.config)
	if err != nil {
		return fmt.Errorf("making the launcher's layer to compare: %w", err)
	}
	dir := filepath.Join(want.Path, "env.launch")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, value := range want.LaunchEnvironment {
		value = strings.ReplaceAll(value, made.Path, f.dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			return err
		}
	}
	return f.same(f.layers.Child(runLayer), want.Path, runLayer)
}

// configured holds what the configuration names against what was proven.
func (f *folder) configured() {
	where := f.place(path.Join(runLayer, launch.ConfigName))
	c := f.config
	relocated := c.Engine == launch.EngineRelocate
	if c.View != f.place(viewLayer) {
		f.add(altered, where, "it has the view at %.200q, want %s", c.View, f.place(viewLayer))
	}
	if relocated == (f.audit.Prefix == storepath.Dir) {
		f.add(altered, where, "its engine is %s, while the closure was made for %s", c.Engine, f.audit.Prefix)
	}
	for _, dir := range c.Bin {
		if !f.isBin(dir, relocated) {
			f.add(altered, where, "it has %.200q first on PATH, which is no path's in the closure", dir)
		}
	}
	for _, root := range c.StorePaths {
		if p, err := storepath.Parse(root); err != nil || !f.audit.Has(p) {
			f.add(altered, where, "it has the root %.200q, which is not in the closure", root)
		}
	}
	if c.Shell != "" && !f.isShell(c.Shell) {
		f.add(altered, where, "it has the shell %.200q, which is no path's in the closure", c.Shell)
	}
	for _, d := range c.Defaults {
		if !f.isDefault(d) {
			f.add(altered, where, "it sets %.200q to %.200q, which this buildpack does not", d.Variables, d.Value)
		}
	}
	f.wantedRoots(where)
	if c.PRoot != "" && c.PRoot != f.place(path.Join(prootLayer, "bin/proot")) {
		f.add(altered, where, "it has PRoot at %.200q", c.PRoot)
	}
	f.proot(c.PRoot != "")
}

// wantedRoots compares the roots with those of the command line, and names them.
func (f *folder) wantedRoots(where string) {
	for _, root := range f.config.StorePaths {
		f.facts = append(f.facts, "root      "+root)
		if p := storepath.Path(root); len(f.options.roots) > 0 && !slices.Contains(f.options.roots, p) {
			f.add(altered, where, "it has the root %.200q, which --root does not name", root)
		}
	}
	for _, root := range f.options.roots {
		if !slices.Contains(f.config.StorePaths, root.String()) {
			f.add(altered, where, "the root %s is missing", root)
		}
	}
	if len(f.options.roots) == 0 {
		f.uncovered = append(f.uncovered, "which roots were wanted (--root)")
	}
}

// isShell reports whether a program is in a path of the closure, by its name in a store.
func (f *folder) isShell(program string) bool {
	p, err := storepath.Parse(path.Dir(path.Dir(program)))
	return err == nil && program == path.Join(p.String(), "bin", path.Base(program)) && f.audit.Has(p)
}

// isDefault reports whether variables point to what a path of the closure has, as this buildpack has them do.
func (f *folder) isDefault(d launch.EnvDefault) bool {
	return slices.ContainsFunc(resources(), func(r resource) bool {
		value, ok := strings.CutPrefix(d.Value, r.before)
		return ok && slices.Equal(d.Variables, r.standard.Variables) && slices.Equal(d.Others, r.standard.Others) &&
			slices.Equal(d.Files, r.standard.Files) && slices.ContainsFunc(r.files, func(file string) bool {
			p, err := storepath.Parse(strings.TrimSuffix(value, "/"+file))
			return err == nil && value == p.String()+"/"+file && f.audit.Has(p)
		})
	})
}

// isBin reports whether a directory that goes on PATH is a proven path's bin.
func (f *folder) isBin(dir string, relocated bool) bool {
	parent, ok := strings.CutSuffix(dir, "/bin")
	if !ok {
		return false
	}
	p, err := storepath.FromBase(path.Base(parent))
	if err != nil || !f.audit.Has(p) {
		return false
	}
	if !relocated {
		return parent == p.String()
	}
	return slices.ContainsFunc(f.audit.Paths, func(a closure.Audited) bool {
		return a.Path == p && parent == f.place(path.Join(a.Layer, p.Base()))
	})
}

// proot checks PRoot's layer, which is there where the configuration names it.
func (f *folder) proot(wanted bool) {
	layer := f.layers.Child(prootLayer)
	where := f.place(path.Join(prootLayer, "bin/proot"))
	if wanted && layer.Find("bin/proot") == nil {
		f.add(altered, where, "it is missing")
	}
	layer.Walk(f.place(prootLayer), func(place string, file *filetree.File) bool {
		switch {
		case place == where && file.Kind == filetree.Regular:
			f.rights(place, file)
			sum, err := digestFile(file)
			if err != nil {
				f.add(altered, place, "%s", err)
			} else if !slices.Contains(f.options.ownPRoots(), sum) {
				f.add(unknown, place, "its digest is %s, which is no PRoot's that this buildpack pins", sum)
			}
		case file.Kind == filetree.Directory && strings.HasPrefix(where, place+"/"):
			f.rights(place, file)
		default:
			f.add(extra, place, "this buildpack puts nothing but bin/proot there")
		}
		return true
	})
}

// rights notes what lets others write to a file or gives it more rights than its user has.
func (f *folder) rights(place string, file *filetree.File) {
	switch {
	case file.Mode&^0o755 != 0:
		f.add(altered, place, "its mode is %v", file.Mode)
	case len(file.Attributes) > 0:
		f.add(altered, place, "it has the extended attribute %.80q", file.Attributes[0])
	}
}

// launcher compares the launcher's layer with the launcher of this version.
func (f *folder) launcher() {
	layer := f.layers.Child(launcherLayer)
	program := path.Join(launcherLayer, "bin", launch.ProcessProgramName)
	file := layer.Find(path.Join("bin", launch.ProcessProgramName))
	if file == nil || file.Kind != filetree.Regular {
		f.add(altered, f.place(program), "the launcher is missing")
		return
	}
	sum, err := digestFile(file)
	if err != nil {
		f.add(altered, f.place(program), "%s", err)
		return
	}
	ownSum, err := digestOnDisk(f.options.ownLauncher(f.architecture))
	if err != nil {
		ownSum = ""
	}
	switch {
	case f.options.launcher != "" && f.options.launcher != sum:
		f.add(altered, f.place(program), "its digest is %s, --launcher says %s", sum, f.options.launcher)
	case f.options.launcher == "" && ownSum == "":
		f.add(unknown, f.place(program), "its digest is %s, and there is no launcher beside this program to compare it with: "+
			"use bin/verify of the buildpack that made the image, or --launcher", sum)
	case f.options.launcher == "" && sum != ownSum:
		f.add(unknown, f.place(program), "its digest is %s, this version's launcher has %s: it was altered, or is another "+
			"version's, whose bin/verify can tell (or --launcher)", sum, ownSum)
	}
	// All else in the layer is the same in every version; an empty file stands for the program.
	stand := filepath.Join(f.scratch, "launcher")
	made := libcnb.Layers{Path: filepath.Join(f.scratch, "made")}
	if err := os.WriteFile(stand, nil, 0o755); err != nil {
		f.add(unknown, f.place(launcherLayer), "%s", err)
		return
	}
	want, err := LauncherLayer(made, stand)
	if err == nil {
		err = f.same(layer, want.Path, launcherLayer, path.Join("bin", launch.ProcessProgramName))
	}
	if err != nil {
		f.add(unknown, f.place(launcherLayer), "%s", err)
	}
}

// same compares a layer with one that was made to compare it with. Of the files in except, only the contents may
// differ.
func (f *folder) same(layer *filetree.File, made, name string, except ...string) error {
	want, done, err := filetree.ReadDirectory(context.Background(), made)
	if err != nil {
		return err
	}
	defer done()
	layer.Walk("", func(place string, file *filetree.File) bool {
		other := want.Find(place)
		where := f.place(path.Join(name, place))
		switch {
		case other == nil:
			f.add(extra, where, "this buildpack makes no such file")
			return false
		case other.Kind != file.Kind:
			f.add(altered, where, "it is a %s, want a %s", file.Kind, other.Kind)
			return false
		case file.Kind == filetree.Symlink:
			if file.Target != other.Target {
				f.add(altered, where, "it leads to %.200q, want %q", file.Target, other.Target)
			}
			return true
		}
		f.rights(where, file)
		if other.Mode&0o111 != file.Mode&0o111 {
			f.add(altered, where, "its mode is %v, want %v", file.Mode, other.Mode)
		}
		if file.Kind == filetree.Regular && !slices.Contains(except, place) && !sameContents(file, other) {
			f.add(altered, where, "it is not what this buildpack writes for this image")
		}
		return true
	})
	want.Walk("", func(place string, _ *filetree.File) bool {
		if layer.Find(place) == nil {
			f.add(altered, f.place(path.Join(name, place)), "it is missing")
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

// digestFile is the SHA-256 of a program, in hex.
func digestFile(file *filetree.File) (string, error) {
	if file.Size > maxProgram {
		return "", fmt.Errorf("it has %d bytes, more than a program", file.Size)
	}
	r, err := file.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func digestOnDisk(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, errors.New("it is not a file"))
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(file, maxProgram)); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
