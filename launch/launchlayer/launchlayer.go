// Package launchlayer writes the layers by which an image starts its app: the launcher's program, and what the launcher is
// told. What it writes depends on its arguments alone, so that an image can be compared with it.
package launchlayer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
)

const (
	// BuildpackID is this buildpack's, BuildpackDir its directory among the layers of an image, as the lifecycle names it.
	BuildpackID  = "nixproot/nix-hydra"
	BuildpackDir = "nixproot_nix-hydra"
	// BuildpackAPI is the API that buildpack.toml declares, and by which the lifecycle's launcher reads the layers.
	BuildpackAPI = "0.10"
)

// The names of the buildpack's layers that are in the image, beside those that hold store paths.
const (
	// Launcher holds the launcher's program. It is the same in every image that this version makes, and so a layer of its
	// own: it never moves again.
	Launcher = "launcher"
	// Run holds the launcher's configuration. The specification keeps the name "launch" for itself.
	Run = "run"
	// View holds one link per store path; what relocated files refer to.
	View = "view"
	// PRoot holds the program of that name, where its engine may be used.
	PRoot = "proot"
)

// WriteLauncher writes the layer of the launcher's program, under both its names. A link leads to its configuration in
// the run layer, for whoever starts it without the image's environment.
func WriteLauncher(layers libcnb.Layers, launcher string) (libcnb.Layer, error) {
	layer, err := newLayer(layers, Launcher)
	if err != nil {
		return layer, err
	}
	if err := InstallProgram(launcher, filepath.Join(layer.Path, "bin", launch.ProcessProgramName)); err != nil {
		return layer, fmt.Errorf("installing the launcher: %w", err)
	}
	for link, target := range map[string]string{
		filepath.Join("bin", launch.ProgramName): launch.ProcessProgramName,
		launch.ConfigName:                        filepath.Join("..", Run, launch.ConfigName),
	} {
		if err := os.Symlink(target, filepath.Join(layer.Path, link)); err != nil {
			return layer, fmt.Errorf("installing the launcher: %w", err)
		}
	}
	return layer, nil
}

// WriteRun writes the layer that says what the image holds: the launcher's configuration, and PATH.
func WriteRun(layers libcnb.Layers, config launch.Config) (libcnb.Layer, error) {
	layer, err := newLayer(layers, Run)
	if err != nil {
		return layer, err
	}
	configPath := filepath.Join(layer.Path, launch.ConfigName)
	if err := config.Write(configPath); err != nil {
		return layer, err
	}
	layer.LaunchEnvironment.Override(launch.ConfigEnv, configPath)
	if config.Engine == launch.EngineRelocate {
		layer.LaunchEnvironment["PATH.append"] = strings.Join(config.Bin, string(os.PathListSeparator))
		layer.LaunchEnvironment["PATH.delim"] = string(os.PathListSeparator)
	}
	return layer, nil
}

// newLayer is an empty layer of the image.
func newLayer(layers libcnb.Layers, name string) (libcnb.Layer, error) {
	layer, err := layers.Layer(name)
	if err != nil {
		return layer, err
	}
	if layer, err = layer.Reset(); err != nil {
		return layer, err
	}
	layer.LayerTypes = libcnb.LayerTypes{Launch: true}
	return layer, nil
}

// Processes are the image's process types, which the launcher in layer starts. It expands the command, so that $PORT,
// quoting and shell syntax work in a run image without a shell; arguments given at launch come after those of the command.
func Processes(layer libcnb.Layer, entries []procfile.Entry) []libcnb.Process {
	launcher := filepath.Join(layer.Path, "bin", launch.ProcessProgramName)
	hasWeb := slices.ContainsFunc(entries, func(e procfile.Entry) bool { return e.Type == WebType })
	var processes []libcnb.Process
	for _, entry := range entries {
		processes = append(processes, libcnb.Process{
			Type:    entry.Type,
			Command: []string{launcher, "--process", entry.Command},
			Default: entry.Type == WebType || !hasWeb && len(entries) == 1,
		})
	}
	return processes
}

// WebType is the process type that an image starts by default.
const WebType = "web"

// maxConfig bounds the launcher's configuration, in bytes.
const maxConfig = 1 << 20

// ReadConfig reads what the launcher is told from a buildpack's layers directory.
func ReadConfig(layers *filetree.File) (launch.Config, error) {
	file := layers.Child(Run).Child(launch.ConfigName)
	if file == nil {
		return launch.Config{}, errors.New("the launcher's configuration is missing")
	}
	raw, err := file.ReadAll(maxConfig)
	if err != nil {
		return launch.Config{}, err
	}
	return launch.ParseConfig(raw)
}

// InstallProgram copies a program, and makes the directories above it.
func InstallProgram(from, to string) error {
	const mode = 0o755
	if err := os.MkdirAll(filepath.Dir(to), mode); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(mode), out.Close())
}

// Digest is the SHA-256 of a program, in hex.
func Digest(program io.Reader) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, program); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
