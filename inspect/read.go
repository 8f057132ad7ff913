package inspect

import (
	"context"
	"fmt"
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
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

// Read reads what an image on disk holds, as package image reads it, or a buildpack's layers directory as a build or a
// container has it. What is wrong with a part of it is among the report's problems.
func Read(ctx context.Context, name string) (*Report, error) {
	r := &Report{Name: name, Roots: []string{}, Processes: []Process{}, Layers: []Layer{}, Paths: []Path{}}
	read := r.readImage
	if info, err := os.Stat(name); err == nil && info.IsDir() && !image.IsImage(name) {
		read = r.readDirectory
	}
	err := read(ctx, name)
	for _, l := range r.Layers {
		r.Size += l.Size
	}
	return r, err
}

func (r *Report) readDirectory(ctx context.Context, name string) error {
	layers, done, err := closurelayer.Open(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	for _, each := range layers.Names() {
		if child := layers.Child(each); child.Kind == filetree.Directory {
			l := Layer{Number: len(r.Layers) + 1, Name: each}
			l.Files, l.Size = sizeOf(child)
			r.Layers = append(r.Layers, l)
		}
	}
	r.Name = filepath.Clean(name)
	r.readClosure(ctx, layers)
	return nil
}

func (r *Report) readImage(ctx context.Context, name string) error {
	img, err := image.Open(ctx, name)
	if err != nil {
		return err
	}
	defer img.Close()
	r.ID, r.Architecture = img.ID, img.Config.OS+"/"+img.Config.Architecture
	r.readLabels(img)
	layersDir := lifecycle.LayersDir(img.Config.Config.Env)
	overlay, err := img.Overlay(ctx, "", func(place string) bool { return describes(place, layersDir) })
	if err != nil {
		return err
	}
	defer overlay.Close()
	overlay.Root.Walk("/", func(_ string, f *filetree.File) bool {
		if f.Kind != filetree.Directory && f.Layer >= 0 && f.Layer < len(r.Layers) {
			r.Layers[f.Layer].Files++
			r.Layers[f.Layer].Size += f.Size
		}
		return true
	})
	layers, _, err := overlay.Root.Resolve(path.Join(layersDir, launchlayer.BuildpackDir))
	if err != nil || !closurelayer.Any(layers) {
		return fmt.Errorf("reading %s: %w: this buildpack did not make the image", name, closurelayer.ErrNone)
	}
	r.readClosure(ctx, layers)
	r.readCacheURLs(img.Config.Config.Labels[closure.CachesLabel])
	processes, err := lifecycle.ReadLaunch(overlay.Root.Find(layersDir))
	if err != nil {
		r.problem("process types", err)
	}
	for _, p := range processes.Processes {
		r.Processes = append(r.Processes, Process{Type: p.Type, Command: redact.Text(strings.Join(p.Argv(), " "))})
	}
	return ctx.Err()
}

// readLabels reads what the lifecycle has noted about the layers.
func (r *Report) readLabels(img *image.Image) {
	metadata, err := lifecycle.ReadMetadata(img.Config.Config.Labels)
	if err != nil {
		r.problem(lifecycle.MetadataLabel, err)
	}
	r.RunImage, r.RunImageName = metadata.RunImage.Reference, metadata.RunImage.Image
	for _, buildpack := range metadata.Buildpacks {
		if buildpack.Key == launchlayer.BuildpackID {
			r.Buildpack = buildpack.Key + " " + buildpack.Version
		}
	}
	var digests []string
	for _, l := range img.Layers {
		digests = append(digests, l.DiffID)
	}
	names := metadata.Names()
	run, _ := metadata.RunImageLayers(digests)
	for n, l := range img.Layers {
		what := names[l.DiffID]
		if what == "" {
			what = redact.Text(l.History)
		}
		if n < run {
			what = strings.TrimSuffix("run image: "+what, ": ")
		}
		r.Layers = append(r.Layers, Layer{Number: n + 1, DiffID: l.DiffID, Name: what, Stored: l.Size})
	}
}

func (r *Report) problem(where string, err error) {
	r.Problems = append(r.Problems, fmt.Sprintf("%s: %s", where, err))
}

// describes says of which files the contents are read: those that say what the others are.
func describes(place, layersDir string) bool {
	return strings.HasPrefix(place, layersDir+"/") &&
		slices.Contains([]string{closure.PathsName, launch.ConfigName, path.Base(lifecycle.ProcessTypes)}, path.Base(place))
}

// sizeOf counts files, and their bytes.
func sizeOf(root *filetree.File) (files int, size int64) {
	root.Walk("", func(_ string, f *filetree.File) bool {
		if f.Kind != filetree.Directory {
			files++
			size += f.Size
		}
		return true
	})
	return files, size
}

// readClosure adds the store paths in a buildpack's layers, and what the launcher is told.
func (r *Report) readClosure(ctx context.Context, layers *filetree.File) {
	config, err := launchlayer.ReadConfig(layers)
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	r.Engine, r.Requested, r.Reason = config.Engine, config.Requested, config.Reason
	r.Roots = append(r.Roots, config.StorePaths...)
	counts := map[string]int{}
	var reader closurelayer.Reader
	for _, name := range layers.Names() {
		layer := layers.Child(name)
		if !strings.HasPrefix(name, closure.LayerPrefix) || layer.Kind != filetree.Directory {
			continue
		}
		prefix, infos, err := reader.Read(ctx, layer)
		if err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("layer %s does not say what it holds: %s", name, err))
			continue
		}
		view, err := closure.ViewOf(prefix)
		if err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("layer %s: %s", name, err))
			continue
		}
		r.Prefix = prefix
		for _, info := range infos {
			r.Paths = append(r.Paths, pathOf(info, name, layer.Child(closure.BaseName(info.Path, view))))
			counts[name]++
		}
	}
	for i := range r.Layers {
		name := r.Layers[i].Name
		r.Layers[i].Paths = counts[name[strings.LastIndexByte(name, ':')+1:]]
	}
	r.Sort()
}

// readCacheURLs reads the label that says which cache each path came from; one without it says nothing.
func (r *Report) readCacheURLs(label string) {
	if label == "" {
		return
	}
	var paths []storepath.Path
	for _, p := range r.Paths {
		paths = append(paths, p.Path)
	}
	urls, err := closure.ReadCacheURLs(label, paths)
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	for i, p := range r.Paths {
		r.Paths[i].Cache = redact.Text(urls[p.Path])
	}
}

// pathOf is what a layer's path info says of a store path in it.
func pathOf(info closure.PathInfo, layer string, tree *filetree.File) Path {
	p := Path{
		Path: info.Path, Layer: layer, NarHash: info.NarHash, ContentAddress: info.CA, Fixups: len(info.Fixups),
		References: info.References,
	}
	var output string
	p.Name, p.Version, output = sbom.ParseName(info.Path.Name())
	if output != "" {
		p.Name += "-" + output
	}
	for _, signature := range info.Signatures {
		key, _, _ := strings.Cut(signature, ":")
		p.Keys = append(p.Keys, key)
	}
	p.Files, p.Size = sizeOf(tree)
	return p
}
