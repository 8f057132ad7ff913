package nixproot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/image"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// Where the lifecycle and its launcher have things in an image (buildpacks/spec, platform.md; buildpacks/lifecycle,
// launch and platform/launch).
const (
	// lifecycleLabel and buildLabel are where the lifecycle keeps the metadata of an image's layers and of its build.
	lifecycleLabel = "io.buildpacks.lifecycle.metadata"
	buildLabel     = "io.buildpacks.build.metadata"

	layersDirEnv     = "CNB_LAYERS_DIR"
	appDirEnv        = "CNB_APP_DIR"
	defaultLayersDir = "/layers"
	defaultAppDir    = "/workspace"
	cnbDir           = "/cnb"
	lifecycleDir     = "/cnb/lifecycle"
	lifecycleProgram = "/cnb/lifecycle/launcher"
	processDir       = "/cnb/process"

	// buildpackDir is this buildpack's directory among the layers, its ID as the lifecycle writes it.
	buildpackDir = "nixproot_nix-hydra"
	buildpackID  = "nixproot/nix-hydra"
	// processMetadata is where the process types are, below the layers directory.
	processMetadata = "config/metadata.toml"
)

const (
	// maxLabel bounds a label, and maxLabelValues what is in it. Ten thousand store paths make 3 MB.
	maxLabel       = 4 << 20
	maxLabelValues = 1 << 20
	// maxProcesses bounds the file with the process types, in bytes.
	maxProcesses = 1 << 20
)

// account is what verify finds of an image, file by file: whatever decides what it runs is proven, or named.
type account struct {
	verdict
	img     *image.Image
	options verifyOptions
	scratch string

	root      *filetree.File
	layersDir string
	appDir    string
	// above is the number of the first layer that is not the run image's.
	above int
	// manifests is the closure layers' metadata, by layer.
	manifests map[string]closure.Manifest
	build     buildMetadata
	processes []process
	// names are what the label calls the layers, by digest; version is this buildpack's, and runImage the run image.
	names             map[string]string
	version, runImage string
}

// process is a process type, as the lifecycle's launcher reads it.
type process struct {
	Type        string   `toml:"type" json:"type"`
	Command     any      `toml:"command" json:"command"`
	Args        []string `toml:"args" json:"args"`
	Direct      bool     `toml:"direct" json:"direct"`
	BuildpackID string   `toml:"buildpack-id" json:"buildpackID"`
	WorkingDir  string   `toml:"working-dir" json:"working-dir"`
}

// argv is the process's whole command line. Older platforms have its first word apart.
func (p process) argv() []string {
	var words []string
	switch command := p.Command.(type) {
	case string:
		words = []string{command}
	case []any:
		for _, word := range command {
			words = append(words, fmt.Sprint(word))
		}
	}
	return append(words, p.Args...)
}

// buildMetadata is what the label of the build says.
type buildMetadata struct {
	Processes []process `json:"processes"`
}

// layersMetadata is what the label of the layers says.
type layersMetadata struct {
	App          []layerDigest `json:"app"`
	SBOM         layerDigest   `json:"sbom"`
	Config       layerDigest   `json:"config"`
	Launcher     layerDigest   `json:"launcher"`
	ProcessTypes layerDigest   `json:"process-types"`
	Buildpacks   []struct {
		Key     string `json:"key"`
		Version string `json:"version"`
		Layers  map[string]struct {
			SHA  string          `json:"sha"`
			Data json.RawMessage `json:"data"`
		} `json:"layers"`
	} `json:"buildpacks"`
	RunImage struct {
		TopLayer  string `json:"topLayer"`
		Reference string `json:"reference"`
	} `json:"runImage"`
}

type layerDigest struct {
	SHA string `json:"sha"`
}

func newAccount(img *image.Image, scratch string, options verifyOptions) *account {
	return &account{img: img, scratch: scratch, options: options}
}

// check looks at the whole image.
func (a *account) check(ctx context.Context) error {
	a.environment()
	labelled := a.labels()
	overlay, err := a.img.Overlay(ctx, a.scratch, a.keeps)
	if err != nil {
		return err
	}
	defer overlay.Close()
	a.root = overlay.Root
	folders := a.folders()
	if len(folders) == 0 && !labelled {
		return errNoClosure
	}
	a.places()
	for _, note := range overlay.Notes {
		if note.Layer >= a.above || a.ours(note.Path) {
			a.add(altered, note.Path, "layer %d of the image: %s", note.Layer+1, note.Text)
		}
	}
	for _, dir := range folders {
		if err := a.folder(ctx, dir); err != nil {
			return err
		}
	}
	a.layersMembers()
	a.processTypes()
	a.lifecycle()
	a.start()
	a.elsewhere()
	a.accept()
	return ctx.Err()
}

// errNoClosure says that an image is not one of ours.
var errNoClosure = errors.New("the image has no closure layers: it was not made by this buildpack")

// below reports whether a path is a directory or in it.
func below(place, dir string) bool {
	return place == dir || strings.HasPrefix(place, strings.TrimSuffix(dir, "/")+"/")
}

// keeps says of which files the contents may be looked at.
func (a *account) keeps(place string) bool {
	return below(place, a.layersDir) || below(place, defaultLayersDir) || below(place, cnbDir) ||
		place == path.Join(a.appDir, procfileName)
}

// ours reports whether a path is where only the lifecycle and buildpacks put something.
func (a *account) ours(place string) bool {
	for _, dir := range []string{a.layersDir, defaultLayersDir, processDir, lifecycleDir} {
		if below(place, dir) || below(dir, place) {
			return true
		}
	}
	return false
}

// folders are the directories of this buildpack's layers, in the image: where it says that the layers are, and where
// they are by default, which is where a relocated closure may lead.
func (a *account) folders() []string {
	var found []string
	for _, all := range []string{a.layersDir, defaultLayersDir} {
		dir := path.Join(all, buildpackDir)
		if file, _, err := a.root.Resolve(dir); err == nil && file != nil && !slices.Contains(found, dir) {
			found = append(found, dir)
		}
	}
	return found
}

// places checks that every directory on the way to what runs is one, and no link to another.
func (a *account) places() {
	for _, dir := range []string{
		path.Join(a.layersDir, buildpackDir), path.Join(a.layersDir, "config"), processDir, lifecycleDir, a.appDir,
	} {
		for _, part := range ancestors(dir) {
			file := a.root.Find(part)
			if file == nil {
				if _, real, err := a.root.Resolve(part); err != nil || real == "" {
					a.add(altered, part, "it is missing")
				}
				break
			}
			if file.Kind != filetree.Directory {
				a.add(altered, part, "it is a %s%s, want a directory", file.Kind, leading(file))
				break
			}
			if below(part, cnbDir) || below(part, a.layersDir) {
				if len(file.Attributes) > 0 {
					a.add(altered, part, "it has the extended attribute %.80q", file.Attributes[0])
				}
				if file.Mode&0o022 != 0 {
					a.add(altered, part, "its mode is %v: others may write to it", file.Mode)
				}
				if file.Mode&0o111 != 0o111 {
					a.add(altered, part, "its mode is %v: not everybody may enter it", file.Mode)
				}
			}
		}
	}
	slices.SortFunc(a.findings, func(x, y finding) int { return strings.Compare(x.where+x.why, y.where+y.why) })
	a.findings = slices.Compact(a.findings)
}

// leading says where a link leads.
func leading(file *filetree.File) string {
	if file.Kind != filetree.Symlink {
		return ""
	}
	return fmt.Sprintf(" to %.200q", file.Target)
}

// ancestors are the directories above a path, and itself, from the top.
func ancestors(place string) []string {
	var all []string
	for ; place != "/"; place = path.Dir(place) {
		all = append(all, place)
	}
	slices.Reverse(all)
	return all
}

// folder checks one directory of this buildpack's layers.
func (a *account) folder(ctx context.Context, dir string) error {
	layers := a.root.Find(dir)
	if layers == nil || layers.Kind != filetree.Directory {
		return nil // places has said so
	}
	v := verdict{}
	f := folder{
		verdict: &v, options: a.options, layers: layers, dir: dir, architecture: a.img.Config.Architecture,
		manifests: a.manifests, scratch: path.Join(a.scratch, "folder"+strings.ReplaceAll(dir, "/", "-")),
	}
	if err := makeDir(f.scratch); err != nil {
		return err
	}
	err := f.check(ctx)
	if errors.Is(err, closure.ErrNoClosure) {
		v.add(altered, dir, "it holds no closure")
		err = nil
	}
	if err != nil {
		return err
	}
	a.findings = append(a.findings, v.findings...)
	a.facts = append(a.facts, v.facts...)
	a.uncovered = append(a.uncovered, v.uncovered...)
	switch {
	case a.audit == nil:
		a.audit = v.audit
	case v.audit != nil:
		a.audit.Paths = append(a.audit.Paths, v.audit.Paths...)
	}
	if f.config.Engine == launch.Unrelocated && a.root.Find("/nix/store") != nil {
		a.add(unknown, "/nix/store", "the run image has a store of its own, which the launcher takes where it has every root")
	}
	return nil
}

// layersMembers names what else is in the layers directory.
func (a *account) layersMembers() {
	for _, all := range slices.Compact([]string{a.layersDir, defaultLayersDir}) {
		dir := a.root.Find(all)
		for _, name := range dir.Names() {
			child, place := dir.Child(name), path.Join(all, name)
			switch name {
			case buildpackDir:
			case "config":
				for _, each := range child.Names() {
					if each != path.Base(processMetadata) {
						a.add(extra, path.Join(place, each), "the lifecycle puts nothing but process types there")
					}
				}
			case "sbom":
				child.Walk(place, func(each string, file *filetree.File) bool {
					if file.Kind != filetree.Directory && file.Kind != filetree.Regular {
						a.add(altered, each, "it is a %s", file.Kind)
					}
					return true
				})
			default:
				a.add(extra, place, "it is another buildpack's: its environment and programs reach the app%s", a.hooks(child))
			}
		}
	}
}

// hooks says what of a buildpack's layers runs or is set before the app.
func (a *account) hooks(dir *filetree.File) string {
	var found []string
	for _, layer := range dir.Names() {
		for _, name := range []string{"env", "env.launch", "exec.d", "profile.d", "bin", "lib"} {
			if dir.Child(layer).Child(name) != nil {
				found = append(found, path.Join(layer, name))
			}
		}
	}
	if len(found) == 0 {
		return ""
	}
	return " (" + strings.Join(found[:min(len(found), 20)], ", ") + ")"
}

// lifecycle checks what the lifecycle puts into an image beside the layers.
func (a *account) lifecycle() {
	dir := a.root.Find(lifecycleDir)
	for _, name := range dir.Names() {
		if name != path.Base(lifecycleProgram) {
			a.add(extra, path.Join(lifecycleDir, name), "the lifecycle puts nothing but its launcher there, and it is on PATH")
		}
	}
	program := dir.Child(path.Base(lifecycleProgram))
	if program == nil || program.Kind != filetree.Regular || program.Mode&0o111 != 0o111 {
		a.add(altered, lifecycleProgram, "the lifecycle's launcher is missing, or no program")
		return
	}
	if program.Mode&^0o755 != 0 || len(program.Attributes) > 0 {
		a.add(altered, lifecycleProgram, "its mode is %v and it has the extended attributes %q", program.Mode, program.Attributes)
	}
	sum, err := digestFile(program)
	switch {
	case err != nil:
		a.add(altered, lifecycleProgram, "%s", err)
	case a.options.lifecycle != "" && a.options.lifecycle != sum:
		a.add(altered, lifecycleProgram, "its digest is %s, --lifecycle says %s", sum, a.options.lifecycle)
	case a.options.lifecycle == "":
		a.uncovered = append(a.uncovered, "the lifecycle's launcher (sha256:"+sum+", --lifecycle)")
	}
}

// launchMetadata is what the lifecycle's launcher reads.
type launchMetadata struct {
	Processes  []process `toml:"processes"`
	Buildpacks []struct {
		ID string `toml:"id"`
	} `toml:"buildpacks"`
}

// readProcesses reads the process types. What is wrong with the file is a finding.
func (a *account) readProcesses(where string) (metadata launchMetadata, ok bool) {
	file := a.root.Find(where)
	if file == nil {
		a.add(altered, where, "the process types are missing")
		return metadata, false
	}
	raw, err := file.ReadAll(maxProcesses)
	var decoded toml.MetaData
	if err == nil {
		decoded, err = toml.Decode(string(raw), &metadata)
	}
	if err != nil {
		a.add(altered, where, "%s", oneLine(err))
		return metadata, false
	}
	for _, key := range decoded.Keys() { // a decoder takes "Command" for "command", and of both either
		if name := key[len(key)-1]; len(key) <= 2 && name != strings.ToLower(name) {
			a.add(altered, where, "it has the key %.80q, which the lifecycle does not write", key.String())
		}
	}
	a.processes = metadata.Processes
	return metadata, true
}

// processTypes checks what is run by which name.
func (a *account) processTypes() {
	where := path.Join(a.layersDir, processMetadata)
	metadata, ok := a.readProcesses(where)
	if !ok {
		return
	}
	for _, buildpack := range metadata.Buildpacks {
		// The lifecycle's launcher takes environment and programs from the directory of each.
		switch name := strings.ReplaceAll(buildpack.ID, "/", "_"); {
		case slices.Contains([]string{"", ".", "..", "config", "sbom"}, name), strings.Contains(name, "\x00"):
			a.add(altered, where, "it names the buildpack %.80q", buildpack.ID)
		}
	}
	procfile := a.procfile()
	for _, p := range a.processes {
		a.processType(where, p, procfile)
	}
	a.sameProcesses(where)
	a.processLinks()
}

// procfile are the commands that the Procfile in the image gives, where it keeps one.
func (a *account) procfile() map[string]string {
	commands := map[string]string{}
	file := a.root.Find(path.Join(a.appDir, procfileName))
	if file == nil || file.Kind != filetree.Regular {
		return commands
	}
	raw, err := file.ReadAll(maxProcfile)
	if err != nil {
		return commands
	}
	parsed, err := ParseProcfile(string(raw))
	if err != nil {
		return commands
	}
	for _, entry := range parsed.Entries {
		commands[entry.Type] = entry.Command
	}
	return commands
}

// processType checks one process type: it is started by this buildpack's launcher, in the app's directory.
func (a *account) processType(where string, p process, procfile map[string]string) {
	launcher := path.Join(a.layersDir, buildpackDir, launcherLayer, "bin", launch.ProcessProgramName)
	argv := p.argv()
	a.facts = append(a.facts, fmt.Sprintf("process   %s: %s", p.Type, strings.Join(argv, " ")))
	switch {
	case p.BuildpackID != buildpackID:
		a.add(extra, where, "the process type %.80q is the buildpack's %.80q", p.Type, p.BuildpackID)
		return
	case len(argv) != 3 || argv[0] != launcher || argv[1] != "--process":
		a.add(altered, where, "the process type %.80q is not started by the launcher but by %.200q", p.Type, argv)
	case !p.Direct:
		a.add(altered, where, "the process type %.80q is started through a shell", p.Type)
	case p.WorkingDir != "" && p.WorkingDir != a.appDir:
		a.add(altered, where, "the process type %.80q is started in %.200q", p.Type, p.WorkingDir)
	}
	if command, ok := procfile[p.Type]; ok && len(argv) == 3 && command != argv[2] {
		a.add(altered, where, "the process type %.80q runs %.200q, and the Procfile has %.200q", p.Type, argv[2], command)
	}
}

// sameProcesses compares the process types with those that the label says were built.
func (a *account) sameProcesses(where string) {
	line := func(p process) string { return fmt.Sprintf("%s: %q", p.Type, p.argv()) }
	var have, want []string
	for _, p := range a.processes {
		have = append(have, line(p))
	}
	for _, p := range a.build.Processes {
		want = append(want, line(p))
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		a.add(altered, where, "its process types are not those that the image's label says were built")
	}
}

// processLinks checks the links by which process types are started.
func (a *account) processLinks() {
	dir := a.root.Find(processDir)
	types := map[string]bool{}
	for _, p := range a.processes {
		if types[p.Type] {
			a.add(altered, processDir, "the process type %.80q is there twice", p.Type)
		}
		types[p.Type] = true
		link := dir.Child(p.Type)
		if link == nil || link.Kind != filetree.Symlink || link.Target != lifecycleProgram {
			a.add(altered, path.Join(processDir, p.Type), "it does not lead to the lifecycle's launcher")
		}
	}
	for _, name := range dir.Names() {
		if !types[name] {
			a.add(extra, path.Join(processDir, name), "it is no process type's, and it is on PATH")
		}
	}
}

// elsewhere names what layers above the run image have outside of what the lifecycle writes to.
func (a *account) elsewhere() {
	whole := []string{a.layersDir, defaultLayersDir, a.appDir}
	a.root.Walk("/", func(place string, file *filetree.File) bool {
		for _, dir := range whole {
			if below(place, dir) {
				return false
			}
		}
		if below(place, lifecycleDir) || below(place, processDir) {
			return false
		}
		if file.Layer < a.above {
			return file.Kind == filetree.Directory
		}
		above := slices.ContainsFunc(append(whole, lifecycleDir, processDir), func(dir string) bool { return below(dir, place) })
		if !above {
			a.add(extra, place, "layer %d of the image has it, which is not the run image's: no build puts anything there",
				file.Layer+1)
		}
		return true
	})
}

// accept drops the findings about what the person at the command line answers for.
func (a *account) accept() {
	a.findings = slices.DeleteFunc(a.findings, func(f finding) bool {
		return f.word != altered && slices.ContainsFunc(a.options.accept, func(name string) bool {
			return f.where == name || strings.HasPrefix(name, "/") && below(f.where, path.Clean(name))
		})
	})
	for _, name := range a.options.accept {
		a.uncovered = append(a.uncovered, name+" (--accept)")
	}
}
