// Package lifecycle reads what the Cloud Native Buildpacks lifecycle writes into an image beside the buildpacks' layers, its
// labels and the process types, and computes the digests that it gives to layers. What it reads is bounded, and proves
// nothing: whoever can write an image can write all of it.
//
// The formats are those of buildpacks/spec, platform.md, and of buildpacks/lifecycle, packages launch and platform/files.
package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/internal/boundedtoml"
)

// The labels of an image.
const (
	// MetadataLabel has the metadata of the image's layers, BuildLabel that of its build.
	MetadataLabel = "io.buildpacks.lifecycle.metadata"
	BuildLabel    = "io.buildpacks.build.metadata"
)

// Where things are in an image.
const (
	// LayersDirEnv and AppDirEnv are the variables that say where the layers and the app are, which follow by default.
	LayersDirEnv     = "CNB_LAYERS_DIR"
	AppDirEnv        = "CNB_APP_DIR"
	DefaultLayersDir = "/layers"
	DefaultAppDir    = "/workspace"
	// RootDir has what is the lifecycle's alone: in Dir the Launcher, and in ProcessDir a link to that per process type.
	RootDir    = "/cnb"
	Dir        = "/cnb/lifecycle"
	Launcher   = "/cnb/lifecycle/launcher"
	ProcessDir = "/cnb/process"
	// ProcessTypes is the file with the process types, below the layers directory.
	ProcessTypes = "config/metadata.toml"
)

const (
	// maxLabel bounds a label, and MaxLabelValues what is in it. Ten thousand store paths make 3 MB.
	maxLabel       = 4 << 20
	MaxLabelValues = 1 << 20
	// maxProcessTypes bounds the file with the process types, in bytes.
	maxProcessTypes = 1 << 20
)

// Process is a process type, as the lifecycle's launcher reads it.
type Process struct {
	Type        string   `toml:"type" json:"type"`
	Command     any      `toml:"command" json:"command"`
	Args        []string `toml:"args" json:"args"`
	Direct      bool     `toml:"direct" json:"direct"`
	BuildpackID string   `toml:"buildpack-id" json:"buildpackID"`
	WorkingDir  string   `toml:"working-dir" json:"working-dir"`
	// Default is of older lifecycles, ExecEnv the execution environments that have the process; none for all.
	Default bool     `toml:"default" json:"default"`
	ExecEnv []string `toml:"exec-env" json:"exec-env"`
}

// Argv is the process's whole command line. Older platforms have its first word apart.
func (p Process) Argv() []string {
	var argv []string
	switch command := p.Command.(type) {
	case string:
		argv = []string{command}
	case []any:
		for _, arg := range command {
			argv = append(argv, fmt.Sprint(arg))
		}
	}
	return append(argv, p.Args...)
}

// Build is the metadata of an image's build.
type Build struct {
	Processes []Process `json:"processes"`
}

// Metadata is the metadata of an image's layers.
type Metadata struct {
	App          []Layer `json:"app"`
	SBOM         Layer   `json:"sbom"`
	Config       Layer   `json:"config"`
	Launcher     Layer   `json:"launcher"`
	ProcessTypes Layer   `json:"process-types"`
	Buildpacks   []struct {
		Key     string           `json:"key"`
		Version string           `json:"version"`
		Layers  map[string]Layer `json:"layers"`
	} `json:"buildpacks"`
	RunImage struct {
		TopLayer  string `json:"topLayer"`
		Reference string `json:"reference"`
		// Image is its name, as the builder or the platform gave it.
		Image string `json:"image"`
	} `json:"runImage"`
}

// Layer is what the metadata says of a layer: the digest of its uncompressed archive, and what a buildpack has noted.
type Layer struct {
	SHA  string          `json:"sha"`
	Data json.RawMessage `json:"data"`
}

// LayersDir is where an image has its layers, by its environment.
func LayersDir(env []string) string {
	dir := DefaultLayersDir
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, LayersDirEnv+"="); ok {
			dir = path.Clean("/" + value)
		}
	}
	if dir == "/" {
		return DefaultLayersDir
	}
	return dir
}

// ReadMetadata reads the metadata of an image's layers from its labels.
func ReadMetadata(labels map[string]string) (m Metadata, err error) {
	err = readLabel(labels[MetadataLabel], &m)
	return m, err
}

// ReadBuild reads the metadata of an image's build from its labels.
func ReadBuild(labels map[string]string) (b Build, err error) {
	err = readLabel(labels[BuildLabel], &b)
	return b, err
}

func readLabel(text string, v any) error {
	switch {
	case text == "":
		return errors.New("the image has no such label")
	case len(text) > maxLabel || strings.Count(text, ",")+strings.Count(text, "[")+strings.Count(text, "{") > MaxLabelValues:
		return fmt.Errorf("it is longer than any that a build writes, %d bytes", len(text))
	}
	return json.Unmarshal([]byte(text), v)
}

// Names says by their digests what the layers are.
func (m Metadata) Names() map[string]string {
	names := map[string]string{}
	add := func(layer Layer, name string) {
		if layer.SHA != "" {
			names[layer.SHA] = name
		}
	}
	for _, app := range m.App {
		add(app, "the app's")
	}
	add(m.SBOM, "the bill of materials")
	add(m.Config, "the launcher's configuration")
	add(m.Launcher, "the lifecycle's launcher")
	add(m.ProcessTypes, "the process types")
	for _, buildpack := range m.Buildpacks {
		for name, layer := range buildpack.Layers {
			add(layer, buildpack.Key+":"+name)
		}
	}
	return names
}

// RunImageLayers is how many of an image's layers, from the lowest, are its run image's; ok is false where the image does
// not have the layer that is said to be the run image's last, and those below the first that has a name are counted.
func (m Metadata) RunImageLayers(digests []string) (n int, ok bool) {
	if n = slices.Index(digests, m.RunImage.TopLayer) + 1; n > 0 || m.RunImage.TopLayer == "" {
		return n, true
	}
	names := m.Names()
	return max(slices.IndexFunc(digests, func(digest string) bool { return names[digest] != "" }), 0), false
}

// Launch is what the lifecycle's launcher reads.
type Launch struct {
	Processes  []Process `toml:"processes"`
	Buildpacks []struct {
		API string `toml:"api"`
		ID  string `toml:"id"`
	} `toml:"buildpacks"`
}

// launchKeys are those that the lifecycle's launcher reads.
var launchKeys = []string{
	"processes", "type", "command", "args", "direct", "default", "buildpack-id", "working-dir", "exec-env", "buildpacks", "api", "id",
}

// LayersOf is the name of the directory, in that of all layers, from which the lifecycle's launcher takes a buildpack's layers.
func LayersOf(buildpackID string) string { return strings.ReplaceAll(buildpackID, "/", "_") }

// ReadLaunch reads the process types from an image's layers directory. A key that is not spelled as the lifecycle spells it
// is an error, as another decoder than this one may read it as another or not at all; so is one that no process type has.
func ReadLaunch(layersDir *filetree.File) (l Launch, err error) {
	file := layersDir.Find(ProcessTypes)
	if file == nil {
		return l, errors.New("the process types are missing")
	}
	raw, err := file.ReadAll(maxProcessTypes)
	if err != nil {
		return l, err
	}
	decoded, err := boundedtoml.Decode(raw, &l)
	if err != nil {
		return l, err
	}
	for _, key := range decoded.Undecoded() { // the file has more than the launcher reads
		if key[0] == "processes" {
			return l, fmt.Errorf("it has the key %.80q, which the lifecycle does not write", key.String())
		}
	}
	for _, key := range decoded.Keys() { // a decoder takes "Command" and "proceſſes" for others, and of both either
		if name := key[len(key)-1]; len(key) <= 2 && slices.ContainsFunc(launchKeys, func(k string) bool { return k != name && strings.EqualFold(k, name) }) {
			return l, fmt.Errorf("it has the key %.80q, which the lifecycle does not write", key.String())
		}
	}
	return l, nil
}
