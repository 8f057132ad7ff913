package nixproot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
)

// environment reads where the image has its layers and the app, and names what of its environment no lifecycle sets.
func (a *account) environment() {
	a.layersDir, a.appDir = defaultLayersDir, defaultAppDir
	seen := map[string]bool{}
	for _, variable := range a.img.Config.Config.Env {
		name, value, _ := strings.Cut(variable, "=")
		if seen[name] {
			a.add(altered, name, "the image's environment has it twice")
		}
		seen[name] = true
		switch {
		case name == layersDirEnv:
			a.layersDir = value
		case name == appDirEnv:
			a.appDir = value
		case name == "PATH":
			a.searchPath(value)
		case !isHarmless(name):
			a.add(unknown, name, "the image's environment sets it to %.200q, which the lifecycle does not and may change what runs",
				value)
		}
	}
	for name, dir := range map[string]*string{layersDirEnv: &a.layersDir, appDirEnv: &a.appDir} {
		if clean := path.Clean("/" + *dir); clean != *dir || isSystem(clean) {
			a.add(altered, name, "the image's environment sets it to %.200q, which is no directory of its own", *dir)
			*dir = clean
		}
	}
	if a.layersDir != defaultLayersDir {
		a.add(unknown, layersDirEnv, "the image's environment has the layers at %s instead of %s", a.layersDir, defaultLayersDir)
	}
	if below(a.appDir, a.layersDir) || below(a.layersDir, a.appDir) || below(a.appDir, cnbDir) {
		a.add(altered, appDirEnv, "the image's environment has the app at %s, among what is not the app's", a.appDir)
	}
	if !strings.HasPrefix(a.layersDir, "/") || a.layersDir == "/" {
		a.layersDir = defaultLayersDir
	}
	if a.appDir == "/" {
		a.appDir = defaultAppDir
	}
}

// isHarmless reports whether a variable is one that the lifecycle sets, or that run images set and nothing starts
// differently by.
func isHarmless(name string) bool {
	switch name {
	case "HOME", "LANG", "LANGUAGE", "TZ", "TERM", "HOSTNAME", "USER", "STACK", "DEBIAN_FRONTEND", "container",
		"CNB_PLATFORM_API", "CNB_DEPRECATION_MODE", "CNB_STACK_ID", "CNB_USER_ID", "CNB_GROUP_ID", "CNB_EXEC_ENV":
		return true
	}
	return strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "CNB_TARGET_")
}

// isSystem reports whether a directory belongs to the run image.
func isSystem(dir string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(dir, "/"), "/")
	return slices.Contains([]string{
		"", "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "nix", "proc", "root", "run", "sbin", "sys", "usr",
		"var", "cnb",
	}, first)
}

// searchPath checks that the image's PATH has nothing but the lifecycle's directories and those of the run image.
func (a *account) searchPath(value string) {
	rest, ok := strings.CutPrefix(value, processDir+":"+lifecycleDir)
	if !ok || rest != "" && rest[0] != ':' {
		a.add(altered, "PATH", "it is %.200q, and does not begin with %s:%s", value, processDir, lifecycleDir)
		rest = value
	}
	for _, dir := range strings.Split(strings.TrimPrefix(rest, ":"), ":") {
		switch dir {
		case "", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", processDir, lifecycleDir:
		default:
			a.add(unknown, "PATH", "it has %.200q", dir)
		}
	}
	if rest != "" && slices.Contains(strings.Split(rest[1:], ":"), "") && rest != ":" {
		a.add(altered, "PATH", "it has an empty part, which is the app's directory")
	}
}

// labels reads what the lifecycle has noted about the layers, and compares. It reports whether the image has the label.
// A label proves nothing: anybody could have written it.
func (a *account) labels() bool {
	labels := a.img.Config.Config.Labels
	text, ok := labels[lifecycleLabel]
	if !ok {
		a.add(altered, lifecycleLabel, "the image has no such label")
		return false
	}
	var metadata layersMetadata
	if err := readLabel(text, &metadata); err != nil {
		a.add(altered, lifecycleLabel, "%s", err)
		return true
	}
	if err := readLabel(labels[buildLabel], &a.build); err != nil {
		a.add(altered, buildLabel, "%s", err)
	}
	a.manifests = map[string]closure.Manifest{}
	ours := false
	for _, buildpack := range metadata.Buildpacks {
		if buildpack.Key != buildpackID {
			continue
		}
		ours, a.version = true, buildpack.Key+" "+buildpack.Version
		for name, layer := range buildpack.Layers {
			if !strings.HasPrefix(name, closure.LayerPrefix) {
				continue
			}
			var data map[string]any
			err := json.Unmarshal(layer.Data, &data)
			if err == nil {
				a.manifests[name], err = closure.ParseManifest(data)
			}
			if err != nil {
				a.add(altered, lifecycleLabel, "the metadata of layer %.80q: %s", name, err)
			}
		}
	}
	a.layerDigests(metadata)
	return ours
}

// readLabel reads a label within bounds.
func readLabel(text string, v any) error {
	switch {
	case text == "":
		return errors.New("the image has no such label")
	case len(text) > maxLabel || strings.Count(text, ",")+strings.Count(text, "[")+strings.Count(text, "{") > maxLabelValues:
		return fmt.Errorf("it is longer than any that a build writes, %d bytes", len(text))
	}
	return json.Unmarshal([]byte(text), v)
}

// layerDigests compares the image's layers with those that the label lists, and finds where the run image ends.
func (a *account) layerDigests(metadata layersMetadata) {
	names := map[string]string{}
	list := func(digest, name string) {
		if digest != "" {
			names[digest] = name
		}
	}
	for _, app := range metadata.App {
		list(app.SHA, "the app's")
	}
	list(metadata.SBOM.SHA, "the bill of materials")
	list(metadata.Config.SHA, "the launcher's configuration")
	list(metadata.Launcher.SHA, "the lifecycle's launcher")
	list(metadata.ProcessTypes.SHA, "the process types")
	for _, buildpack := range metadata.Buildpacks {
		for name, layer := range buildpack.Layers {
			list(layer.SHA, buildpack.Key+":"+name)
		}
	}
	a.names, a.runImage = names, metadata.RunImage.Reference
	top := metadata.RunImage.TopLayer
	diffs := make([]string, 0, len(a.img.Layers))
	for _, layer := range a.img.Layers {
		diffs = append(diffs, layer.DiffID)
	}
	a.above = slices.Index(diffs, top) + 1
	if a.above == 0 && top != "" {
		a.add(altered, lifecycleLabel, "it says that the run image ends with layer %.100q, which the image does not have", top)
		a.above = max(slices.IndexFunc(diffs, func(diff string) bool { return names[diff] != "" }), 0)
	}
	for n, diff := range diffs {
		name := names[diff]
		switch {
		case n >= a.above && name == "":
			a.add(extra, diff, "layer %d of the image, which its label does not list", n+1)
		case n < a.above && name != "":
			a.add(altered, diff, "layer %d of the image, %s, is where the run image should be", n+1, name)
		}
	}
	for diff, name := range names {
		if !slices.Contains(diffs, diff) {
			a.add(altered, diff, "the label lists this layer as %s, and the image does not have it", name)
		}
	}
	run := "the run image"
	if a.above > 0 {
		run += " (up to layer " + diffs[a.above-1] + ")"
	}
	a.uncovered = append(a.uncovered, run)
}

// start checks how the image starts, beside its process types.
func (a *account) start() {
	c := a.img.Config.Config
	allowed := []string{lifecycleProgram}
	for _, p := range a.processes {
		allowed = append(allowed, path.Join(processDir, p.Type))
	}
	if len(c.Entrypoint) != 1 || !slices.Contains(allowed, c.Entrypoint[0]) {
		a.add(altered, "entrypoint", "it is %.200q, want a process type's", c.Entrypoint)
	} else {
		a.facts = append(a.facts, "starts    "+c.Entrypoint[0])
	}
	if len(c.Cmd) > 0 {
		a.add(altered, "command", "the image gives the process the arguments %.200q, which no lifecycle does", c.Cmd)
	}
	if c.WorkingDir != a.appDir {
		a.add(altered, "working directory", "it is %.200q, want %s", c.WorkingDir, a.appDir)
	}
	user, _, _ := strings.Cut(c.User, ":")
	if n, err := strconv.Atoi(user); user == "" || user == "root" || err == nil && n == 0 { // as runtimes read it: "+0" too
		a.add(altered, "user", "it is %.80q: an image of buildpacks does not run as root", c.User)
	}
	if c.Healthcheck != nil && len(c.Healthcheck.Test) > 0 && c.Healthcheck.Test[0] != "NONE" {
		a.add(unknown, "health check", "the image runs %.200q, which no lifecycle has set", c.Healthcheck.Test)
	}
	if len(c.OnBuild) > 0 {
		a.add(unknown, "ONBUILD", "the image has %.200q for images that are made from it", c.OnBuild)
	}
	for volume := range c.Volumes {
		if a.ours(path.Clean("/" + volume)) {
			a.add(altered, "volume", "the image has one at %.200q, over what was proven", volume)
		}
	}
}

func makeDir(name string) error { return os.MkdirAll(name, 0o755) }
