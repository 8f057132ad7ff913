// Package image reads container images from disk: what docker save writes, and OCI layouts as directories or archives.
// Whoever wrote them is a stranger: what is read is bounded, held against the digests that the image is known by, and
// read in one way only, so that a container engine cannot see another image in the same file.
package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	// maxDocument bounds manifests and configurations, in bytes. Ours are some kilobytes for each hundred store paths.
	maxDocument = 16 << 20
	// maxLayers bounds the layers of an image; container engines take 127.
	maxLayers = 1024
	// MaxSize is how many bytes the layers of an image may have, unpacked.
	MaxSize = 64 << 30
	// zstdWindow bounds the memory of a layer's decompression.
	zstdWindow = 32 << 20
)

// Image is an image on disk.
type Image struct {
	Config *v1.ConfigFile
	// ID is the digest of the configuration, which is what docker calls the image's ID.
	ID     string
	Layers []Layer
	// Annotations are the names of what the image's manifest notes about the image, in order. Podman gives them to the
	// runtime as the container's, and runtimes obey some.
	Annotations []string
	// Unread are names in the image's documents that this package does not know, in order. Other readers may.
	Unread []string

	files store
}

// Layer is one layer of an image.
type Layer struct {
	// DiffID is the digest of the uncompressed archive.
	DiffID string
	// History is the line of the image's history about it, "" for none.
	History string
	// Size is what the layer takes in the image on disk, in bytes.
	Size int64
	// Annotations are the names of what the image's manifest notes about the layer, in order. By some of them runtimes make
	// the layer's files from something else than its archive (eStargz, zstd:chunked, Nydus).
	Annotations []string

	name   string // of its file
	digest string // of its file, "" where the format has none
}

// imageName is what an engine may call an image, which a file's path mostly is not (distribution/reference).
var imageName = regexp.MustCompile(`^[a-z0-9][a-z0-9._/:@-]*$`)

// ofTransport is an image by the name that containers-transports(5) gives it.
var ofTransport = regexp.MustCompile(`^(?:docker://|docker-daemon:|containers-storage:|oci:|dir:)`)

// Open opens the image at a path. Close it after use.
func Open(ctx context.Context, name string) (*Image, error) {
	files, err := openStore(ctx, name)
	if _, statErr := os.Stat(name); errors.Is(statErr, os.ErrNotExist) {
		if ofTransport.MatchString(name) {
			return nil, fmt.Errorf("opening image %s: there is no such file; skopeo copy %s oci-archive:FILE writes one", name, name)
		}
		if imageName.MatchString(name) && !strings.Contains(name, "://") && !strings.Contains(path.Base(name), ".tar") {
			return nil, fmt.Errorf("opening image %s: there is no such file; docker save %s -o FILE writes one of an engine's image", name, name)
		}
		return nil, fmt.Errorf("opening image %s: there is no such file", name)
	}
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", name, err)
	}
	img, err := read(files)
	if err != nil {
		files.close()
		return nil, fmt.Errorf("opening image %s: %w", name, err)
	}
	return img, nil
}

// Close closes the image.
func (i *Image) Close() error { return i.files.close() }

// read reads an image's documents. A store that has it in both formats has to have the same one.
func read(files store) (*Image, error) {
	var docker, oci *Image
	var err error
	if has(files, dockerManifest) {
		if docker, err = readDocker(files); err != nil {
			return nil, err
		}
	}
	if has(files, ociIndex) {
		if oci, err = readOCI(files); err != nil {
			return nil, err
		}
	}
	if docker == nil && has(files, legacyIndex) {
		return nil, fmt.Errorf("it has a %s and no %s: docker load takes another image than %s says from it", legacyIndex, dockerManifest,
			ociIndex)
	}
	switch {
	case docker == nil && oci == nil:
		return nil, errors.New("it takes what docker save writes, or an OCI layout")
	case docker == nil:
		return oci, nil
	case oci == nil:
		return docker, nil
	case docker.ID != oci.ID || len(docker.Layers) != len(oci.Layers):
		return nil, errors.New("it holds one image as manifest.json says and another as index.json says")
	}
	oci.Unread = sortedNames(oci.Unread, docker.Unread)
	return oci, nil
}

// The documents by which the formats are known.
const (
	dockerManifest = "manifest.json"
	ociIndex       = "index.json"
	// legacyIndex is what docker load reads where there is no dockerManifest.
	legacyIndex = "repositories"
)

func has(files store, name string) bool {
	file, _, err := files.open(name)
	if err == nil {
		file.Close()
	}
	return !errors.Is(err, os.ErrNotExist)
}

// readDocker reads docker save's format (moby/moby, image/tarexport).
func readDocker(files store) (*Image, error) {
	var manifests []struct {
		Config       string
		Layers       []string
		RepoTags     []string
		Parent       string
		LayerSources map[string]v1.Descriptor
	}
	unread, err := readJSON(files, dockerManifest, "", &manifests)
	if err != nil {
		return nil, err
	}
	if len(manifests) != 1 {
		return nil, fmt.Errorf("the archive holds %d images, it takes one", len(manifests))
	}
	img := &Image{files: files, Unread: unread}
	if err := img.readConfig(manifests[0].Config, ""); err != nil {
		return nil, err
	}
	for _, name := range manifests[0].Layers {
		img.Layers = append(img.Layers, Layer{name: name})
	}
	return img, img.complete()
}

// readOCI reads an OCI layout (opencontainers/image-spec, image-layout.md).
func readOCI(files store) (*Image, error) {
	var document ociDocument
	unread, err := readJSON(files, ociIndex, "", &document)
	if err != nil {
		return nil, err
	}
	for depth := 0; depth == 0 || document.isIndex(); depth++ {
		document.Manifests = slices.DeleteFunc(document.Manifests, isAttestation)
		if len(document.Manifests) != 1 || depth == 2 {
			return nil, severalImages(document.Manifests)
		}
		next := document.Manifests[0]
		document = ociDocument{}
		more, err := readJSON(files, blob(next.Digest), next.Digest.String(), &document)
		if err != nil {
			return nil, err
		}
		unread = append(unread, more...)
		if next.MediaType.IsIndex() != document.isIndex() || document.MediaType != "" && document.MediaType != next.MediaType {
			return nil, fmt.Errorf("%s is of the media type %q, and is said to be of %q", next.Digest, document.MediaType, next.MediaType)
		}
	}
	manifest := document.Manifest
	if kind := manifest.Config.MediaType; kind != types.OCIConfigJSON && kind != types.DockerConfigJSON {
		return nil, fmt.Errorf("its configuration has the media type %.80q, which is no image's", kind)
	}
	img := &Image{files: files, Unread: unread, Annotations: slices.Sorted(maps.Keys(manifest.Annotations))}
	if err := img.readConfig(blob(manifest.Config.Digest), manifest.Config.Digest.String()); err != nil {
		return nil, err
	}
	for _, layer := range manifest.Layers {
		if !layer.MediaType.IsLayer() || layer.MediaType == types.DockerForeignLayer {
			return nil, fmt.Errorf("a layer has the media type %q", layer.MediaType)
		}
		img.Layers = append(img.Layers, Layer{
			name: blob(layer.Digest), digest: layer.Digest.String(), Annotations: slices.Sorted(maps.Keys(layer.Annotations)),
		})
	}
	return img, img.complete()
}

// ociDocument is an index or a manifest. One that has what belongs to the other is either to some tool (CVE-2021-41190).
type ociDocument struct {
	v1.Manifest
	Manifests []v1.Descriptor `json:"manifests"`
}

// isAttestation reports whether a manifest is what BuildKit notes of an image beside it: of a platform that no engine has, so
// that none runs it.
func isAttestation(d v1.Descriptor) bool {
	return d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown" &&
		d.Annotations["vnd.docker.reference.type"] == "attestation-manifest"
}

// severalImages says that a layout does not hold one image, and how one of those for several machines is had.
func severalImages(all []v1.Descriptor) error {
	var platforms []string
	for _, each := range all {
		if each.Platform != nil {
			platforms = append(platforms, each.Platform.String())
		}
	}
	how := ""
	if len(all) > 1 && len(platforms) == len(all) {
		how = fmt.Sprintf(": %s; docker save --platform %s writes one of them", text.List(platforms, 8), text.List(platforms[:1], 1))
	}
	return fmt.Errorf("the layout holds %d images, it takes one%s", len(all), how)
}

// isIndex reports whether the document lists manifests.
func (d *ociDocument) isIndex() bool { return d.Manifests != nil }

// UnmarshalJSON refuses what could be either.
func (d *ociDocument) UnmarshalJSON(raw []byte) error {
	type plain ociDocument // without this method
	if err := json.Unmarshal(raw, (*plain)(d)); err != nil {
		return err
	}
	if d.isIndex() && (len(d.Layers) > 0 || d.Config.Digest != v1.Hash{}) {
		return errors.New("it is an index and a manifest at once")
	}
	return nil
}

func blob(digest v1.Hash) string { return path.Join("blobs", digest.Algorithm, digest.Hex) }

func (i *Image) readConfig(name, digest string) error {
	raw, unread, err := readDocument(i.files, name, digest, namesOf(reflect.TypeFor[v1.ConfigFile]()))
	if err != nil {
		return fmt.Errorf("reading the image's configuration: %w", err)
	}
	i.Unread = sortedNames(i.Unread, unread)
	sum := sha256.Sum256(raw)
	i.ID = "sha256:" + hex.EncodeToString(sum[:])
	if i.Config, err = v1.ParseConfigFile(bytes.NewReader(raw)); err != nil {
		return fmt.Errorf("reading the image's configuration: %w", err)
	}
	return nil
}

// complete adds what the configuration says of the layers.
func (i *Image) complete() error {
	if len(i.Layers) > maxLayers {
		return fmt.Errorf("it has %d layers, more than %d", len(i.Layers), maxLayers)
	}
	if len(i.Layers) != len(i.Config.RootFS.DiffIDs) {
		return fmt.Errorf("it has %d layers, and its configuration %d", len(i.Layers), len(i.Config.RootFS.DiffIDs))
	}
	var history []string
	for _, h := range i.Config.History {
		if !h.EmptyLayer {
			history = append(history, h.CreatedBy)
		}
	}
	for n := range i.Layers {
		layer := &i.Layers[n]
		layer.DiffID = i.Config.RootFS.DiffIDs[n].String()
		if len(history) == len(i.Layers) {
			layer.History = history[n]
		}
		file, size, err := i.files.open(layer.name)
		if err != nil {
			return fmt.Errorf("reading layer %s: %w", layer.DiffID, err)
		}
		file.Close()
		layer.Size = size
	}
	return nil
}

// readJSON reads a document of a store, and gives the names in it that v does not know.
func readJSON(files store, name, digest string, v any) (unread []string, err error) {
	t := reflect.TypeOf(v).Elem()
	known := namesOf(t)
	if t == reflect.TypeFor[ociDocument]() {
		known = fieldsOf(t)
	}
	raw, unread, err := readDocument(files, name, digest, known)
	if err != nil {
		return nil, fmt.Errorf("reading %.200s: %w", name, err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("reading %.200s: %w", name, err)
	}
	return unread, nil
}

// maxValues bounds the values in a document: what is read of many small ones takes a hundred times their bytes.
const maxValues = 128 << 10

// values counts what begins a value in JSON. Labels are texts that may hold any number of the same signs.
func values(raw []byte) (n int) {
	inText := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case !inText && (c == ',' || c == ':' || c == '{' || c == '['):
			n++
		}
	}
	return n
}

// readDocument reads a document, and gives the names in it that are none of known's.
func readDocument(files store, name, digest string, known *names) (raw []byte, unread []string, err error) {
	file, size, err := files.openDocument(name)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if size > maxDocument {
		return nil, nil, fmt.Errorf("it has %d bytes, more than %d", size, maxDocument)
	}
	raw, err = io.ReadAll(io.LimitReader(file, maxDocument))
	if err != nil {
		return nil, nil, err
	}
	if n := values(raw); n > maxValues {
		return nil, nil, fmt.Errorf("it has %d values, more than %d", n, maxValues)
	}
	if unread, err = unambiguous(raw, known); err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(raw)
	if got := "sha256:" + hex.EncodeToString(sum[:]); digest != "" && got != digest {
		return nil, nil, fmt.Errorf("its digest is %s, want %s", got, digest)
	}
	return raw, unread, nil
}

// IsImage reports whether a directory is an OCI layout.
func IsImage(dir string) bool {
	info, err := os.Lstat(path.Join(dir, ociIndex))
	return err == nil && info.Mode().IsRegular()
}
