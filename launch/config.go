// Package launch starts an app whose programs are a Nix closure inside the image: it reads a process type's command
// line, chooses the engine that lets the app see its store, and runs the app so that signals and exit status are the
// app's own. It is the whole of cmd/launch, and holds the Config by which the build tells it what the image contains.
package launch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// ConfigName is the Config's file name, in the directory above the launcher's bin.
	ConfigName = "nix-hydra.json"
	// ConfigEnv names the environment variable that holds a Config file's path. It wins over the file beside the launcher.
	ConfigEnv = "NIX_HYDRA_LAUNCH"
	// EngineEnv names the environment variable that asks for an engine at launch.
	EngineEnv = "BPL_NIX_ENGINE"
	// DebugEnv names the environment variable that makes the launcher say, on standard error, which engine it took
	// and why: "true" or "1".
	DebugEnv = "BPL_NIX_LAUNCH_DEBUG"
	// ProgramName and ProcessProgramName are the two names the launcher is installed under, in the launch layer's bin:
	// the first takes a command as its arguments, the second takes a Procfile line after --process.
	ProgramName        = "run_proot.sh"
	ProcessProgramName = "nix-hydra-launch"
	// FormatVersion is the Config.Format that this program writes and the only one it reads.
	FormatVersion = 1
)

// What Config.Engine, Config.Requested and BPL_NIX_ENGINE may say.
const (
	// EngineAuto leaves the choice to the build, or to the launcher's probes.
	EngineAuto = "auto"
	// EngineRelocate runs files whose store paths were rewritten to the layer they live in; nothing is needed.
	EngineRelocate = "relocate"
	// EngineNative uses the run image's own /nix/store.
	EngineNative = "native"
	// EngineUserns binds the view at /nix/store in a user and mount namespace.
	EngineUserns = "userns"
	// EngineProot binds the view at /nix/store by PRoot.
	EngineProot = "proot"
	// Unrelocated is the Config.Engine of an image whose files still name /nix/store.
	Unrelocated = "unrelocated"
)

// Config says what the image holds. The build writes it once, beside the launcher; the launcher only reads it.
type Config struct {
	// Format is FormatVersion; Write sets it.
	Format int `json:"format"`
	// Engine is EngineRelocate or Unrelocated.
	Engine string `json:"engine"`
	// Requested is what BP_NIX_ENGINE asked for: "" or one of the engines.
	Requested string `json:"requested,omitempty"`
	// View is the directory that holds a link per store path.
	View string `json:"view"`
	// Bin lists the directories put first on PATH, in the form the engine needs: real directories of the layers where the
	// closure is relocated, /nix/store/… otherwise.
	Bin []string `json:"bin"`
	// StorePaths are the closure's roots as /nix/store/…; where the run image itself has all of them, the native
	// engine works.
	StorePaths []string `json:"storePaths,omitempty"`
	// PRoot is the PRoot program's path, "" where the image holds none.
	PRoot string `json:"proot,omitempty"`
	// Shell is the closure's shell as /nix/store/…, "" where it has none.
	Shell string `json:"shell,omitempty"`
	// Defaults are variables by which the app finds what the closure has and a bare run image lacks.
	Defaults []EnvDefault `json:"defaults,omitempty"`
	// Reason says why the closure was not relocated, for messages; "" where it was.
	Reason string `json:"reason,omitempty"`
}

// EnvDefault points to something of the closure that programs otherwise look for at a fixed path of the operating system. It is
// set where the environment has none of the variables and the run image none of the files.
type EnvDefault struct {
	// Variables are set to Value, in which store paths are /nix/store/….
	Variables []string `json:"variables"`
	Value     string   `json:"value"`
	// Others are variables that say the same in another way, Files the paths of the run image where programs look.
	Others []string `json:"others,omitempty"`
	Files  []string `json:"files,omitempty"`
}

// ParseConfig reads a Config from JSON. Unknown fields are an error: they mean that another version wrote the file.
func ParseConfig(data []byte) (Config, error) {
	var head struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return Config{}, fmt.Errorf("parsing launch configuration: %w", err)
	}
	if head.Format == nil || *head.Format != FormatVersion {
		return Config{}, fmt.Errorf("parsing launch configuration: format is %s, this launcher reads %d: "+
			"launcher and image come from different builds, build the image again", formatText(head.Format), FormatVersion)
	}
	var c Config
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("parsing launch configuration: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("parsing launch configuration: %w", err)
	}
	return c, nil
}

// ReadConfig reads the Config in the file at path.
func ReadConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading launch configuration: %w", err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Write writes the Config, with Format set, to the file at path, by a rename so that no half of it is ever read.
func (c Config) Write(path string) error {
	c.Format = FormatVersion
	if err := c.Validate(); err != nil {
		return fmt.Errorf("writing launch configuration: %w", err)
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("writing launch configuration: %w", err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing launch configuration: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing launch configuration: %w", errors.Join(err, os.Remove(tmp)))
	}
	return nil
}

// Validate returns an error that names the first field whose value no build writes; nil where there is none.
func (c Config) Validate() error {
	if c.Engine != EngineRelocate && c.Engine != Unrelocated {
		return fmt.Errorf("engine is %q, want %q or %q", c.Engine, EngineRelocate, Unrelocated)
	}
	if c.Requested != "" && !KnownEngine(c.Requested) {
		return fmt.Errorf("requested engine is %q, %s", c.Requested, wantEngine)
	}
	if !filepath.IsAbs(c.View) {
		return fmt.Errorf("view is %q, want an absolute path", c.View)
	}
	for _, dir := range c.Bin {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("bin has %q, want absolute paths", dir)
		}
	}
	if c.PRoot != "" && !filepath.IsAbs(c.PRoot) {
		return fmt.Errorf("proot is %q, want an absolute path", c.PRoot)
	}
	return nil
}

// wantEngine is said of a name that is no engine's.
const wantEngine = "want one of auto, relocate, native, userns, proot"

// KnownEngine reports whether name is one that BP_NIX_ENGINE and BPL_NIX_ENGINE accept.
func KnownEngine(name string) bool {
	switch name {
	case EngineAuto, EngineRelocate, EngineNative, EngineUserns, EngineProot:
		return true
	}
	return false
}

// FindConfig returns the path of the Config file: the one named by NIX_HYDRA_LAUNCH, else the one in the directory above
// the launcher's own, links resolved. self is the launcher's path.
func FindConfig(getenv func(string) string, self string) (string, error) {
	if path := getenv(ConfigEnv); path != "" {
		return path, nil
	}
	real, err := filepath.EvalSymlinks(self)
	if err != nil {
		return "", fmt.Errorf("finding launch configuration: %w", err)
	}
	path := filepath.Join(filepath.Dir(filepath.Dir(real)), ConfigName)
	if _, err := os.Stat(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("finding launch configuration: no %s and %s is not set: build the image again", path,
				ConfigEnv)
		}
		return "", fmt.Errorf("finding launch configuration: %w", err)
	}
	return path, nil
}

func formatText(format *int) string {
	if format == nil {
		return "missing"
	}
	return fmt.Sprint(*format)
}
