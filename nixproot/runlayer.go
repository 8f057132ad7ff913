package nixproot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// runLayer is the launch layer's name: the specification keeps "launch" for itself.
const runLayer = "run"

// RunLayer writes the layer that starts the app: the launcher under both its names, its configuration, and PATH.
func RunLayer(layers libcnb.Layers, launcher string, config launch.Config) (libcnb.Layer, error) {
	layer, err := layers.Layer(runLayer)
	if err != nil {
		return layer, err
	}
	if layer, err = layer.Reset(); err != nil {
		return layer, err
	}
	layer.LayerTypes = libcnb.LayerTypes{Launch: true}
	program := filepath.Join(layer.Path, "bin", launch.ProcessProgramName)
	if err := copyFile(launcher, program, 0o755); err != nil {
		return layer, fmt.Errorf("installing the launcher: %w", err)
	}
	if err := os.Symlink(launch.ProcessProgramName, filepath.Join(layer.Path, "bin", launch.ProgramName)); err != nil {
		return layer, fmt.Errorf("installing the launcher: %w", err)
	}
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
func Processes(run libcnb.Layer, entries []ProcfileEntry) []libcnb.Process {
	launcher := filepath.Join(run.Path, "bin", launch.ProcessProgramName)
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
