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

// lifecycleLabel is where the lifecycle keeps the metadata of an image's layers (buildpacks/spec, platform.md).
const lifecycleLabel = "io.buildpacks.lifecycle.metadata"

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
	folder := ""
	for _, layer := range layers {
		found, err := unpackLayer(ctx, layer, root)
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

// unpackLayer unpacks one layer where it is one of ours, and returns the layers folder it belongs to.
func unpackLayer(ctx context.Context, layer v1.Layer, root *os.Root) (string, error) {
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
		place, ours := closureLayer(name)
		if !ours {
			continue
		}
		folder = place
		if err := unpackEntry(root, name, header, archive); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
}

// closureLayer tells whether a name in an image is in a closure layer or in the view, and gives the layers folder.
func closureLayer(name string) (folder string, ours bool) {
	parts := strings.SplitN(name, "/", 5)
	if len(parts) < 3 || parts[0] != "layers" {
		return "", false
	}
	ours = strings.HasPrefix(parts[2], closure.LayerPrefix) || parts[2] == viewLayer
	return path.Join(parts[0], parts[1]), ours
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
