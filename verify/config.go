package verify

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

// environment reads where the image has its layers and the app, and names what of its environment no lifecycle sets.
func (c *imageCheck) environment() {
	c.layersDir, c.appDir = lifecycle.DefaultLayersDir, lifecycle.DefaultAppDir
	seen, home := map[string]bool{}, ""
	for _, variable := range c.img.Config.Config.Env {
		name, value, _ := strings.Cut(variable, "=")
		if seen[name] {
			c.add(Altered, name, "the image's environment has it twice")
		}
		seen[name] = true
		switch {
		case name == lifecycle.LayersDirEnv:
			c.layersDir = value
		case name == lifecycle.AppDirEnv:
			c.appDir = value
		case name == "PATH":
			c.searchPath(value)
		case name == "HOME" && isHarmless(name, value):
			home = value
		case !isHarmless(name, value):
			c.add(Unknown, name, "the image's environment sets it to %.200q, which the lifecycle does not and may change what runs",
				value)
		}
	}
	if !seen["PATH"] {
		c.add(Altered, "PATH", "the image's environment lacks it")
	}
	for name, dir := range map[string]*string{lifecycle.LayersDirEnv: &c.layersDir, lifecycle.AppDirEnv: &c.appDir} {
		if clean := path.Clean("/" + *dir); clean != *dir || isSystem(clean) {
			c.add(Altered, name, "the image's environment sets it to %.200q, which is no directory of its own", *dir)
			*dir = clean
		}
	}
	const readsHome = "where shells and interpreters look for what to run"
	switch {
	case below(home, lifecycle.RootDir), below(home, lifecycle.DefaultLayersDir), below(home, c.layersDir):
		c.add(Altered, "HOME", "the image's environment sets it to %.200q, %s", home, readsHome)
	case below(home, c.appDir):
		c.add(Unknown, "HOME", "the image's environment sets it to %.200q, among the app's files, %s", home, readsHome)
	}
	if c.layersDir != lifecycle.DefaultLayersDir {
		c.add(Unknown, lifecycle.LayersDirEnv, "the image's environment has the layers at %s instead of %s", c.layersDir, lifecycle.DefaultLayersDir)
	}
	if below(c.appDir, c.layersDir) || below(c.layersDir, c.appDir) || below(c.appDir, lifecycle.RootDir) {
		c.add(Altered, lifecycle.AppDirEnv, "the image's environment has the app at %s, among what is not the app's", c.appDir)
	}
	if !strings.HasPrefix(c.layersDir, "/") || c.layersDir == "/" {
		c.layersDir = lifecycle.DefaultLayersDir
	}
	if c.appDir == "/" {
		c.appDir = lifecycle.DefaultAppDir
	}
}

// isHarmless reports whether a variable is one that the lifecycle sets, or that run images set and nothing starts
// differently by: of those that name something, only names and no files.
func isHarmless(name, value string) bool {
	switch name {
	case "HOME":
		return path.IsAbs(value) && path.Clean(value) == value && isWord(value, "/")
	case "TZ": // "/" begins a file's name; Europe/Berlin does not
		return isWord(value, "/,<>") && !strings.HasPrefix(strings.TrimPrefix(value, ":"), "/") && !strings.Contains(value, "..")
	case "CNB_DEPRECATION_MODE":
		return value == "quiet" || value == "warn"
	case "LANG", "LANGUAGE", "TERM", "HOSTNAME", "USER", "STACK", "DEBIAN_FRONTEND", "container", "CNB_PLATFORM_API", "CNB_STACK_ID",
		"CNB_USER_ID", "CNB_GROUP_ID", "CNB_TARGET_OS", "CNB_TARGET_ARCH", "CNB_TARGET_ARCH_VARIANT", "CNB_TARGET_DISTRO_NAME",
		"CNB_TARGET_DISTRO_VERSION", "CNB_TARGET_ID":
		return isWord(value, "")
	}
	return strings.HasPrefix(name, "LC_") && isWord(value, "")
}

// isWord reports whether a value has nothing but letters, digits and signs that no program takes for more than that, or that
// are in also.
func isWord(value, also string) bool {
	return strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,:@+-"+also) == ""
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
func (c *imageCheck) searchPath(value string) {
	rest, ok := strings.CutPrefix(value, lifecycle.ProcessDir+":"+lifecycle.Dir)
	if !ok || rest != "" && rest[0] != ':' {
		c.add(Altered, "PATH", "it is %.200q, and does not begin with %s:%s", value, lifecycle.ProcessDir, lifecycle.Dir)
		rest = value
	}
	for _, dir := range strings.Split(strings.TrimPrefix(rest, ":"), ":") {
		switch dir {
		case "", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", lifecycle.ProcessDir, lifecycle.Dir:
		default:
			c.add(Unknown, "PATH", "it has %.200q", dir)
		}
	}
	if rest != "" && slices.Contains(strings.Split(rest[1:], ":"), "") && rest != ":" {
		c.add(Altered, "PATH", "it has an empty part, which is the app's directory")
	}
}

// labels reads what the lifecycle has noted about the layers, and compares. It reports whether the image has the label.
// A label proves nothing: anybody could have written it.
func (c *imageCheck) labels() bool {
	labels := c.img.Config.Config.Labels
	if _, ok := labels[lifecycle.MetadataLabel]; !ok {
		c.add(Altered, lifecycle.MetadataLabel, "the image has no such label")
		return false
	}
	metadata, err := lifecycle.ReadMetadata(labels)
	if err != nil {
		c.add(Altered, lifecycle.MetadataLabel, "%s", err)
		return true
	}
	if c.build, err = lifecycle.ReadBuild(labels); err != nil {
		c.add(Altered, lifecycle.BuildLabel, "%s", err)
	}
	c.manifests = map[string]closure.Manifest{}
	ours := false
	for _, buildpack := range metadata.Buildpacks {
		if buildpack.Key != launchlayer.BuildpackID {
			continue
		}
		ours = true
		for name, layer := range buildpack.Layers {
			if !strings.HasPrefix(name, closure.LayerPrefix) {
				continue
			}
			var data map[string]any
			err := json.Unmarshal(layer.Data, &data)
			if err == nil {
				c.manifests[name], err = closure.ParseManifest(data)
			}
			if err != nil {
				c.add(Altered, lifecycle.MetadataLabel, "the metadata of layer %.80q: %s", name, err)
			}
		}
	}
	c.layerDigests(metadata)
	return ours
}

// layerDigests compares the image's layers with those that the label lists, and finds where the run image ends.
func (c *imageCheck) layerDigests(metadata lifecycle.Metadata) {
	names := metadata.Names()
	var digests []string
	for _, layer := range c.img.Layers {
		digests = append(digests, layer.DiffID)
	}
	var known bool
	if c.above, known = metadata.RunImageLayers(digests); !known {
		c.add(Altered, lifecycle.MetadataLabel, "it says that the run image ends with layer %.100q, which the image does not have",
			metadata.RunImage.TopLayer)
	}
	for n, digest := range digests {
		name := names[digest]
		if noted := c.img.Layers[n].Annotations; len(noted) > 0 { // also a run image's: its digest does not cover them
			c.add(Unknown, digest, "layer %d of the image has the annotations %.200q, by which a runtime may make its files from "+
				"something else", n+1, noted)
		}
		switch {
		case n >= c.above && name == "":
			c.add(Extra, digest, "layer %d of the image, which its label does not list", n+1)
		case n < c.above && name != "":
			c.add(Altered, digest, "layer %d of the image, %s, is where the run image should be", n+1, name)
		}
	}
	for digest, name := range names {
		if !slices.Contains(digests, digest) {
			c.add(Altered, digest, "the label lists this layer as %s, and the image does not have it", name)
		}
	}
	run := "the run image"
	if c.above > 0 {
		run += " (up to layer " + digests[c.above-1] + ")"
	}
	c.NotCovered = append(c.NotCovered, run)
}

// annotations names those of the image that may reach the runtime.
func (c *imageCheck) annotations() {
	for _, name := range c.img.Annotations {
		if !strings.HasPrefix(name, "org.opencontainers.image.") && !strings.HasPrefix(name, "com.docker.official-images.") {
			c.add(Unknown, name, "the image has this annotation, which some engines give to the runtime, and may change what runs")
		}
	}
}

// unread names what other readers may find in the image's documents, and the labels that engines obey. Other labels say
// something of the image, and no engine asks them.
func (c *imageCheck) unread() {
	for _, name := range c.img.Unread {
		c.add(Unknown, name, "the image's documents have this name, which this program does not know and some engine may")
	}
	for name, value := range c.img.Config.Config.Labels {
		if slices.ContainsFunc(obeyedLabels, func(prefix string) bool { return isNamed(name, prefix) }) {
			c.add(Unknown, name, "the image has this label, which some engines obey, as %.200q", value)
		}
	}
	if kind := c.img.Config.RootFS.Type; kind != "layers" {
		c.add(Altered, "root file system", "it is of the type %.80q, want layers", kind)
	}
}

// obeyedLabels are labels, or begin labels, that Podman, nerdctl, containerd, CRI-O and Compose look for: rights of the container, updates,
// mounts, who a container belongs to. A container has the labels of its image, and so what watches containers finds them, too:
// commands to run in it (Watchtower, Ofelia, docker-volume-backup, Dev Containers), rights (balena), a command line for whoever
// starts it by its label (podman container runlabel), scripts to start by (Source-to-Image).
var obeyedLabels = []string{
	"io.containers.", "io.podman.", "PODMAN_", "nerdctl/", "containerd.io/", "io.containerd.", "io.cri-containerd.", "io.kubernetes.",
	"run.oci.", "com.docker.compose.", "com.centurylinklabs.watchtower.", "ofelia.", "docker-volume-backup.", "devcontainer.",
	"io.balena.features.", "io.openshift.s2i.", "RUN", "INSTALL", "UNINSTALL", "run", "install", "uninstall",
}

// isNamed reports whether a label is one of obeyedLabels: a whole name, or the beginning of one, up to a dot or another sign.
func isNamed(label, each string) bool {
	return label == each || strings.ContainsAny(each[len(each)-1:], "./_") && strings.HasPrefix(label, each)
}

// start checks how the image starts, beside its process types.
func (c *imageCheck) start() {
	config := c.img.Config.Config
	allowed := []string{lifecycle.Launcher}
	for _, p := range c.processes {
		allowed = append(allowed, path.Join(lifecycle.ProcessDir, p.Type))
	}
	if len(config.Entrypoint) != 1 || !slices.Contains(allowed, config.Entrypoint[0]) {
		c.add(Altered, "entrypoint", "it is %.200q, want a process type's", config.Entrypoint)
	} else {
		c.Facts = append(c.Facts, "starts    "+config.Entrypoint[0])
	}
	if len(config.Cmd) > 0 {
		c.add(Altered, "command", "the image gives the process the arguments %.200q, which no lifecycle does", config.Cmd)
	}
	if config.WorkingDir != c.appDir {
		c.add(Altered, "working directory", "it is %.200q, want %s", config.WorkingDir, c.appDir)
	}
	user, group, grouped := strings.Cut(config.User, ":")
	if !isAccount(user) || user == "0" || user == "root" || grouped && !isAccount(group) {
		c.add(Altered, "user", "it is %.80q: an image of buildpacks does not run as root, nor as who some runtime takes for root", config.User)
	}
	if config.Healthcheck != nil && len(config.Healthcheck.Test) > 0 && config.Healthcheck.Test[0] != "NONE" {
		c.add(Unknown, "health check", "the image runs %.200q, which no lifecycle has set", config.Healthcheck.Test)
	}
	if len(config.OnBuild) > 0 {
		c.add(Unknown, "ONBUILD", "the image has %.200q for images that are made from it", config.OnBuild)
	}
	if len(config.Shell) > 0 {
		c.add(Unknown, "shell", "the image has %.200q, which runs health checks and commands of images that are made from it", config.Shell)
	}
	for volume := range config.Volumes {
		if c.covers(path.Clean("/" + volume)) {
			c.add(Altered, "volume", "the image has one at %.200q, over what was proven", volume)
		}
	}
	if signal := strings.TrimPrefix(config.StopSignal, "SIG"); !slices.Contains([]string{"", "TERM", "15"}, signal) {
		c.add(Unknown, "stop signal", "it is %.80q, which no lifecycle sets", config.StopSignal)
	}
	if system := c.img.Config.OS; system != "linux" {
		c.add(Altered, "operating system", "it is %.80q, want linux", system)
	}
	if machine := c.img.Config.Architecture; machine != "amd64" && machine != "arm64" {
		c.add(Altered, "architecture", "it is %.80q, want amd64 or arm64", machine)
	}
}

// isAccount reports whether a user or group is a name, or a number, that every runtime reads in the same way. Some take "+0"
// for a number, and 4294967296 for 0 (CVE-2024-40635).
func isAccount(name string) bool {
	if n, err := strconv.ParseInt(name, 10, 32); err == nil {
		return strconv.FormatInt(n, 10) == name && n >= 0
	}
	return name != "" && !strings.ContainsAny(name[:1], "0123456789+-.@") && isWord(name, "") && !strings.ContainsAny(name, ",:+")
}

// covers reports whether a mount at a path lies over what was proven: a runtime follows links on its way.
func (c *imageCheck) covers(mount string) bool {
	if c.ours(mount) {
		return true
	}
	for dir := mount; dir != "/"; dir = path.Dir(dir) {
		file, real, err := c.root.Resolve(dir)
		if err != nil {
			return true
		}
		if file != nil {
			return c.ours(path.Join(real, strings.TrimPrefix(mount, dir)))
		}
	}
	return false
}
