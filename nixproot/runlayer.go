package nixproot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

const (
	// launcherLayer holds the launcher's program. It is the same in every image that this version makes, and so a layer
	// of its own: it never moves again.
	launcherLayer = "launcher"
	// runLayer holds the launcher's configuration. The specification keeps the name "launch" for itself.
	runLayer = "run"
)

// LauncherLayer writes the layer of the launcher's program, under both its names. A link leads to its configuration in
// the run layer, for whoever starts it without the image's environment.
func LauncherLayer(layers libcnb.Layers, launcher string) (libcnb.Layer, error) {
	layer, err := layers.Layer(launcherLayer)
	if err != nil {
		return layer, err
	}
	if layer, err = layer.Reset(); err != nil {
		return layer, err
	}
	layer.LayerTypes = libcnb.LayerTypes{Launch: true}
	if err := copyFile(launcher, filepath.Join(layer.Path, "bin", launch.ProcessProgramName), 0o755); err != nil {
		return layer, fmt.Errorf("installing the launcher: %w", err)
	}
	for link, target := range map[string]string{
		filepath.Join("bin", launch.ProgramName): launch.ProcessProgramName,
		launch.ConfigName:                        filepath.Join("..", runLayer, launch.ConfigName),
	} {
		if err := os.Symlink(target, filepath.Join(layer.Path, link)); err != nil {
			return layer, fmt.Errorf("installing the launcher: %w", err)
		}
	}
	return layer, nil
}

// RunLayer writes the layer that says what the image holds: the launcher's configuration, and PATH.
func RunLayer(layers libcnb.Layers, config launch.Config) (libcnb.Layer, error) {
	layer, err := layers.Layer(runLayer)
	if err != nil {
		return layer, err
	}
	if layer, err = layer.Reset(); err != nil {
		return layer, err
	}
	layer.LayerTypes = libcnb.LayerTypes{Launch: true}
	configPath := filepath.Join(layer.Path, launch.ConfigName)
	if err := config.Write(configPath); err != nil {
		return layer, err
	}
	layer.LaunchEnvironment.Override(launch.ConfigEnv, configPath)
	if config.Engine == launch.EngineRelocate {
		for _, dir := range config.Bin {
			layer.LaunchEnvironment["PATH.append"] = joinPath(layer.LaunchEnvironment["PATH.append"], dir)
		}
		layer.LaunchEnvironment["PATH.delim"] = string(os.PathListSeparator)
	}
	return layer, nil
}

func joinPath(list, dir string) string {
	if list == "" {
		return dir
	}
	return list + string(os.PathListSeparator) + dir
}

// Processes are the image's process types. The launcher expands the command, so that $PORT, quoting and shell syntax
// work in a run image without a shell; arguments given at launch come after those of the command.
func Processes(launcherLayer libcnb.Layer, entries []ProcfileEntry) []libcnb.Process {
	launcher := filepath.Join(launcherLayer.Path, "bin", launch.ProcessProgramName)
	hasWeb := slices.ContainsFunc(entries, func(e ProcfileEntry) bool { return e.Type == webType })
	var processes []libcnb.Process
	for i, entry := range entries {
		processes = append(processes, libcnb.Process{
			Type:    entry.Type,
			Command: []string{launcher, "--process", entry.Command},
			Default: entry.Type == webType || (!hasWeb && len(entries) == 1 && i == 0),
		})
	}
	return processes
}

// webType is the process type that an image starts by default.
const webType = "web"
