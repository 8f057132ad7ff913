package launchlayer

import (
	"path/filepath"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// Contents is what an image holds, as far as the launcher has to be told of it. A build makes it of what it was asked for,
// and a verification of what it has proven, so that both come to the same configuration.
type Contents struct {
	// Dir is this buildpack's layers directory in the image.
	Dir string
	// Relocated says that the closure was; Requested is what BP_NIX_ENGINE asked for, and Reason says why the closure was
	// not relocated.
	Relocated         bool
	Requested, Reason string
	// Roots are the closure's, in the order in which the source names them.
	Roots []Root
	// Resources are the files of Resources and Shells that the closure has, by store path.
	Resources map[storepath.Path][]string
}

// Root is a store path that the source names.
type Root struct {
	Path storepath.Path
	// Bin is its bin directory in its layer; "" where it has none.
	Bin string
}

// Config is the launch configuration of an image that holds this. It depends on nothing else.
func (c Contents) Config() launch.Config {
	config := launch.Config{
		Engine: launch.Unrelocated, Requested: c.Requested, Reason: c.Reason, View: filepath.Join(c.Dir, View),
		Shell: c.find(Shells()),
	}
	if c.Relocated {
		config.Engine = launch.EngineRelocate
	}
	for _, root := range c.Roots {
		config.StorePaths = append(config.StorePaths, root.Path.String())
		switch {
		case root.Bin == "":
		case c.Relocated: // so that a program which looks for its files beside itself does not go through the view
			config.Bin = append(config.Bin, root.Bin)
		default:
			config.Bin = append(config.Bin, filepath.Join(root.Path.String(), "bin"))
		}
	}
	for _, r := range Resources() {
		if file := c.find(r.Files); file != "" {
			config.Defaults = append(config.Defaults, r.Default(file))
		}
	}
	if !c.Relocated && wantsPRoot(c.Requested) {
		config.PRoot = filepath.Join(c.Dir, PRoot, "bin", "proot")
	}
	return config
}

// WantsRelocation reports whether a value of BP_NIX_ENGINE asks for a relocated closure, where that is safe. No value does.
func WantsRelocation(requested string) bool {
	return slices.Contains([]string{"", launch.EngineAuto, launch.EngineRelocate}, requested)
}

// wantsPRoot reports whether a value of BP_NIX_ENGINE asks for PRoot in an image whose closure is not relocated.
func wantsPRoot(requested string) bool {
	return requested == launch.EngineAuto || requested == launch.EngineProot
}
