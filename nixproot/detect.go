package nixproot

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buildpacks/libcnb/v2"
	"github.com/paketo-buildpacks/libpak/v2"
	"github.com/paketo-buildpacks/libpak/v2/log"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
)

// planEntry is the buildpack plan entry that this buildpack both provides and requires.
const planEntry = "nix-hydra"

const flakeFile = "flake.nix"

// entryFiles are the Nix expressions that make a source ours, in the order they are looked for.
var entryFiles = []string{"deploy.nix", flakeFile, "shell.nix", "default.nix"}

// Detect decides whether a source is ours.
type Detect struct {
	Logger log.Logger
}

// Detect passes on a Nix expression in the source or on settings that name the store paths, and says why either way.
func (d Detect) Detect(context libcnb.DetectContext) (libcnb.DetectResult, error) {
	result, err := d.detect(context)
	return result, explain(err)
}

func (d Detect) detect(context libcnb.DetectContext) (libcnb.DetectResult, error) {
	lookup, err := settings(context.Buildpack)
	if err != nil {
		return libcnb.DetectResult{}, err
	}
	config, err := ReadConfig(lookup, os.Getenv(libcnb.EnvTargetArch))
	if err != nil {
		return libcnb.DetectResult{}, err
	}
	chosen, err := findEntry(context.ApplicationPath, config)
	if err != nil {
		return libcnb.DetectResult{}, err
	}
	if err := chosen.checkNixpkgsConfig(context.ApplicationPath, lookup); err != nil {
		return libcnb.DetectResult{}, err
	}
	if chosen == (entry{}) {
		d.Logger.Bodyf("SKIPPED: no %s in the source, and none of BP_NIX_FILE, BP_NIX_FLAKE, BP_NIX_STORE_PATH and "+
			"BP_NIX_HYDRA_JOB is set", strings.Join(entryFiles, ", "))
		return libcnb.DetectResult{Pass: false}, nil
	}
	if err := checkInputs(context, config); err != nil {
		return libcnb.DetectResult{}, err
	}
	d.Logger.Bodyf("PASSED: %s", text.Printable(chosen.Why))
	return libcnb.DetectResult{
		Pass: true,
		Plans: []libcnb.BuildPlan{{
			Provides: []libcnb.BuildPlanProvide{{Name: planEntry}},
			Requires: []libcnb.BuildPlanRequire{{Name: planEntry}},
		}},
	}, nil
}

// checkInputs fails where the build would, for what it reads besides the settings: the Procfile and the service bindings.
func checkInputs(context libcnb.DetectContext, config Config) error {
	ctx, stop := interruptible()
	defer stop()
	if _, err := procfile.Read(ctx, context.ApplicationPath); err != nil {
		return err
	}
	_, bindings, err := readBindings(ctx, context.Platform.Bindings, context.Buildpack)
	if err != nil {
		return err
	}
	_, err = gatherCaches(config, bindings.Caches)
	return err
}

// entry is where a build gets its store paths from.
type entry struct {
	// File is the expression to evaluate, relative to the source; Flake is the flake reference. Both are empty where
	// nothing is evaluated.
	File  string
	Flake string
	// Why says how the entry was chosen and how to choose another.
	Why string
	// By is the setting that chose it, "" for none.
	By string
}

// Settings that only count where an expression is evaluated, where anything is, and outside of flakes.
var (
	ofExpressions = []string{"BP_NIX_ARGS", "BP_NIX_ARG_EXPRS", "BP_NIX_PATH", "NIXPKGS_ALLOW_UNFREE", "NIXPKGS_ALLOW_INSECURE",
		"NIXPKGS_ALLOW_BROKEN", "NIXPKGS_ALLOW_UNSUPPORTED_SYSTEM", "NIXPKGS_ALLOW_NONSOURCE", "NIXPKGS_CONFIG", nixPath}
	ofEvaluation = slices.Concat([]string{"BP_NIX_FLAKE", "BP_NIX_FILE", "BP_NIX_ATTRS", "NIX_ATTRIBUTES", "BP_NIX_SOURCE_NAME"},
		ofExpressions)
)

// nixPath is Nix's own variable, which a person may set and nothing here reads.
const nixPath = "NIX_PATH"

// idleSettings are given and do nothing, because another setting or the source decides.
type idleSettings struct {
	names   []string
	because string
}

// idle are the settings that do nothing for an entry.
func (e entry) idle(lookup Lookup) (all []idleSettings) {
	given := func(name string) string {
		value, ok := lookup(name)
		if !ok {
			return "" // a default is nobody's wish
		}
		return strings.TrimSpace(value)
	}
	add := func(because string, names ...string) {
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return given(name) == "" })
		if len(names) > 0 {
			all = append(all, idleSettings{names, because})
		}
	}
	add("only a started container reads them", "BPL_NIX_ENGINE", "BPL_NIX_LAUNCH_DEBUG")
	switch e.By {
	case "BP_NIX_STORE_PATH":
		add(e.By+" is set", append([]string{"BP_NIX_HYDRA_JOB", "BP_NIX_HYDRA_WAIT"}, ofEvaluation...)...)
		return all
	case "BP_NIX_HYDRA_JOB":
		add(e.By+" is set", ofEvaluation...)
		return all
	case "BP_NIX_FLAKE":
		add(e.By+" is set", append([]string{"BP_NIX_FILE"}, ofExpressions...)...)
	default:
		if e.Flake != "" {
			add("a flake is evaluated", ofExpressions...)
		} else {
			add("BP_NIX_PATH is read in its place", nixPath)
		}
	}
	if attrs := given("BP_NIX_ATTRS"); attrs != "" && attrs != given("NIX_ATTRIBUTES") {
		add("BP_NIX_ATTRS is set", "NIX_ATTRIBUTES")
	}
	return all
}

// findEntry chooses the entry: what the settings name, else the first of the known files. The zero entry means
// that there is none.
func findEntry(source string, config Config) (entry, error) {
	switch {
	case len(config.StorePaths) > 0:
		return entry{By: "BP_NIX_STORE_PATH", Why: "BP_NIX_STORE_PATH names the store paths; nothing is evaluated"}, nil
	case config.HydraJob != "":
		return entry{By: "BP_NIX_HYDRA_JOB", Why: fmt.Sprintf("BP_NIX_HYDRA_JOB: %s is asked for the outputs of %s; nothing is evaluated",
			redact.Text(config.HydraURL), config.HydraJob)}, nil
	case config.Flake != "":
		file, err := nixinstall.FlakeFile(source, config.Flake)
		if errors.Is(err, fs.ErrNotExist) {
			return entry{}, fmt.Errorf("BP_NIX_FLAKE is %q, and the source has no %s (is it in .gitignore or excluded from "+
				"the upload?)", config.Flake, file)
		} else if err != nil {
			return entry{}, fmt.Errorf("reading BP_NIX_FLAKE: %w", err)
		}
		return entry{Flake: config.Flake, By: "BP_NIX_FLAKE", Why: fmt.Sprintf("BP_NIX_FLAKE is %s", config.Flake)}, nil
	case config.File != "":
		file := filepath.Clean(config.File)
		if !filepath.IsLocal(file) {
			return entry{}, fmt.Errorf("BP_NIX_FILE is %q; it takes a path inside the source", config.File)
		}
		info, err := os.Stat(filepath.Join(source, file))
		if err != nil {
			return entry{}, fmt.Errorf("BP_NIX_FILE is %q, and the source has no such file (is it in .gitignore or "+
				"excluded from the upload?)", config.File)
		}
		if info.IsDir() {
			file = filepath.Join(file, "default.nix")
		}
		if err := isSourceFile(source, file); errors.Is(err, fs.ErrNotExist) {
			return entry{}, fmt.Errorf("BP_NIX_FILE is %q, and the source has no %s (is it in .gitignore or excluded from the upload?)",
				config.File, file)
		} else if err != nil {
			return entry{}, fmt.Errorf("BP_NIX_FILE is %q: %w; it takes a file inside the source", config.File, err)
		}
		return entryOf(file, fmt.Sprintf("BP_NIX_FILE is %s", file)), nil
	}
	for _, file := range entryFiles {
		switch err := isSourceFile(source, file); {
		case err == nil:
			return entryOf(file, fmt.Sprintf("%s found; set BP_NIX_FILE to evaluate another", file)), nil
		case errors.Is(err, regularfile.ErrOutside):
			return entry{}, fmt.Errorf("reading %s: %w; put the file itself there", file, err)
		}
	}
	return entry{}, nil
}

// isSourceFile fails for what is no regular file of the source, such as one that a link outside of it leads to.
func isSourceFile(source, file string) error {
	real, err := regularfile.Resolve(source, file)
	if err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Join(source, real)); err != nil || !info.Mode().IsRegular() {
		return cmp.Or(err, errors.New("it is no regular file"))
	}
	return nil
}

// entryOf is the entry of a file in the source. A flake.nix is nothing by itself: what is meant is its directory's flake.
func entryOf(file, why string) entry {
	dir, base := filepath.Split(file)
	if base != flakeFile {
		return entry{File: file, Why: why}
	}
	if dir != "" {
		dir = "./" + strings.TrimSuffix(dir, "/")
	}
	return entry{Flake: cmp.Or(dir, "."), Why: why}
}

// checkNixpkgsConfig fails where NIXPKGS_CONFIG names what the source does not have: nixpkgs takes that for no settings at all.
// An absolute name is none of the source's, and may be of the machine's own environment.
func (e entry) checkNixpkgsConfig(source string, lookup Lookup) error {
	file, _ := lookup("NIXPKGS_CONFIG")
	if file == "" || filepath.IsAbs(file) || e.File == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(source, file)); err != nil || !filepath.IsLocal(file) {
		return fmt.Errorf("NIXPKGS_CONFIG is %q, and the source has no such file (is it in .gitignore or excluded from the "+
			"upload?)", file)
	}
	return nil
}

// settings finds a setting in the environment, else its default in buildpack.toml. Its error may be a *misspeltError.
func settings(buildpack libcnb.Buildpack) (Lookup, error) {
	metadata, err := libpak.NewBuildModuleMetadata(buildpack.Metadata)
	if err != nil {
		return nil, fmt.Errorf("reading buildpack.toml: %w", err)
	}
	resolver, err := libpak.NewConfigurationResolver(metadata)
	if err != nil {
		return nil, fmt.Errorf("reading buildpack.toml: %w", err)
	}
	var names []string
	for _, c := range metadata.Configurations {
		names = append(names, c.Name)
	}
	return resolver.Resolve, checkNames(names, os.Environ())
}
