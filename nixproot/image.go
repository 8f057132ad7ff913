package nixproot

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/nixproot/nix-hydra-buildpack/closure"
)

// lifecycleLabel is where the lifecycle keeps the metadata of an image's layers, and layersDirEnv the variable of the
// image that names the folder with the layers of all buildpacks (buildpacks/spec, platform.md).
const (
	lifecycleLabel   = "io.buildpacks.lifecycle.metadata"
	layersDirEnv     = "CNB_LAYERS_DIR"
	defaultLayersDir = "/layers"
)

// openImage opens an OCI layout, or a file that docker save wrote.
func openImage(name string) (v1.Image, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("opening image: %w", err)
	}
	if !info.IsDir() {
		image, err := tarball.ImageFromPath(name, nil)
		if err != nil {
			return nil, fmt.Errorf("opening image %s: %w; it takes what docker save writes", name, err)
		}
		return image, nil
	}
	index, err := layout.ImageIndexFromPath(name)
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w; it takes an OCI layout or a layers folder", name, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", name, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("opening image %s: the layout holds %d images, it takes one", name, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// imageManifests reads the closure layers' metadata from an image's label.
func imageManifests(image v1.Image) (map[string]closure.Manifest, error) {
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the image's configuration: %w", err)
	}
	var metadata struct {
		Buildpacks []struct {
			Layers map[string]struct {
				Data map[string]any `json:"data"`
			} `json:"layers"`
		} `json:"buildpacks"`
	}
	if err := json.Unmarshal([]byte(config.Config.Labels[lifecycleLabel]), &metadata); err != nil {
		return nil, fmt.Errorf("reading the image's label %s: %w", lifecycleLabel, err)
	}
	manifests := map[string]closure.Manifest{}
	for _, buildpack := range metadata.Buildpacks {
		for name, layer := range buildpack.Layers {
			if !strings.HasPrefix(name, closure.LayerPrefix) {
				continue
			}
			manifest, err := closure.ParseManifest(layer.Data)
			if err != nil {
				return nil, fmt.Errorf("reading the image's metadata of layer %s: %w", name, err)
			}
			manifests[name] = manifest
		}
	}
	if len(manifests) == 0 {
		return nil, errNoClosure
	}
	return manifests, nil
}

// unpackClosure writes an image's closure and view layers below dir and returns the layers folder among them. The
// archive is a stranger's: nothing is written outside of dir, and nothing is written twice.
func unpackClosure(ctx context.Context, image v1.Image, dir string) (string, error) {
	layers, err := image.Layers()
	if err != nil {
		return "", fmt.Errorf("reading the image's layers: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	config, err := image.ConfigFile()
	if err != nil {
		return "", fmt.Errorf("reading the image's configuration: %w", err)
	}
	all := layersDir(config)
	folder := ""
	for _, layer := range layers {
		found, err := unpackLayer(ctx, layer, all, root)
		if err != nil {
			return "", fmt.Errorf("unpacking the image: %w", err)
		}
		if found != "" {
			folder = found
		}
	}
	if folder == "" {
		return "", errNoClosure
	}
	return filepath.Join(dir, folder), nil
}

// layersDir is the folder of all buildpacks' layers in an image, as names in its archives begin: without the first slash.
func layersDir(config *v1.ConfigFile) string {
	dir := defaultLayersDir
	for _, variable := range config.Config.Env {
		if value, ok := strings.CutPrefix(variable, layersDirEnv+"="); ok && value != "" {
			dir = value
		}
	}
	return strings.TrimPrefix(path.Clean("/"+dir), "/")
}

// unpackLayer unpacks one layer where it is one of ours below all, the folder of every buildpack's layers, and returns
// the layers folder it belongs to.
func unpackLayer(ctx context.Context, layer v1.Layer, all string, root *os.Root) (string, error) {
	content, err := layer.Uncompressed()
	if err != nil {
		return "", err
	}
	defer content.Close()
	folder := ""
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return folder, nil
		}
		if err != nil {
			return "", err
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		place, ours := closureLayer(all, name)
		if !ours {
			continue
		}
		folder = place
		if err := unpackEntry(root, name, header, archive); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
}

// closureLayer tells whether a name in an image is in a closure layer or in the view, and gives the layers folder of
// the buildpack, which is one of those in all.
func closureLayer(all, name string) (folder string, ours bool) {
	below, ok := strings.CutPrefix(name, all+"/")
	parts := strings.SplitN(below, "/", 3)
	if !ok || len(parts) < 2 {
		return "", false
	}
	return path.Join(all, parts[0]), strings.HasPrefix(parts[1], closure.LayerPrefix) || parts[1] == viewLayer
}

func unpackEntry(root *os.Root, name string, header *tar.Header, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(header.Linkname, name)
	case tar.TypeReg:
		file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, header.FileInfo().Mode().Perm()|0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, content)
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		return err
	}
	return fmt.Errorf("the archive has an entry of type %q", header.Typeflag)
}
