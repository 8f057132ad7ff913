package rig

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The releases that tests run on. All are built from source, each from a module of its own.
const (
	packVersion       = "v0.38.2"
	actionlintVersion = "v1.7.10"
	// LifecycleVersion is the newest.
	LifecycleVersion = "v0.21.0"
	// HerokuLifecycleVersion is the nearest to v0.20.14 that can be built from its module: what heroku/builder:24 had in 2025.
	// Now it has v0.21.12, to which LifecycleVersion is the nearest.
	HerokuLifecycleVersion = "v0.20.12"
)

// lifecycleAPIs are the buildpack and platform APIs of each version, as in its own lifecycle.toml.
var lifecycleAPIs = map[string][2]string{
	LifecycleVersion: {
		`"0.7", "0.8", "0.9", "0.10", "0.11", "0.12"`,
		`"0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"`,
	},
	HerokuLifecycleVersion: {
		`"0.7", "0.8", "0.9", "0.10", "0.11"`,
		`"0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14"`,
	},
}

const lifecycleDescriptor = `[apis]
  [apis.buildpack]
    deprecated = []
    supported = [%s]
  [apis.platform]
    deprecated = []
    supported = [%s]

[lifecycle]
  version = "%s"
`

// phases are the names by which the lifecycle's one program is called.
var phases = []string{"analyzer", "builder", "creator", "detector", "exporter", "extender", "rebaser", "restorer"}

// module builds commands of a module that is not this one's dependency, and gives the directory with the programs.
func (r *Rig) module(ctx context.Context, module, version, flags string, commands ...string) (string, error) {
	inputs := append([]string{"2", module, version, flags, r.arch}, commands...)
	return r.cached(ctx, "module", inputs, func(ctx context.Context, dir, _ string) error {
		defer r.doing("building %s %s from source, which takes a minute or more, once", module, version)()
		source, err := os.MkdirTemp(dir, "source-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(source)
		text := fmt.Sprintf("module parts\n\ngo 1.26\n\nrequire %s %s\n", module, version)
		if err := os.WriteFile(filepath.Join(source, "go.mod"), []byte(text), 0o644); err != nil {
			return err
		}
		args := []string{"build", "-mod=mod", "-trimpath", "-ldflags=-s -w " + flags, "-o", dir + string(filepath.Separator)}
		command := exec.CommandContext(ctx, "go", append(args, commands...)...)
		command.Dir = source
		command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOARCH="+r.arch)
		_, err = output(command)
		return err
	})
}

// LifecycleDir gives a directory "lifecycle" with the newest lifecycle's programs under the names of its phases.
func (r *Rig) LifecycleDir(ctx context.Context) (string, error) {
	return r.lifecycleDir(ctx, LifecycleVersion)
}

func (r *Rig) lifecycleDir(ctx context.Context, version string) (string, error) {
	const module = "github.com/buildpacks/lifecycle"
	flags := "-X " + module + "/cmd.Version=" + version[1:]
	built, err := r.module(ctx, module, version, flags, module+"/cmd/lifecycle", module+"/cmd/launcher")
	if err != nil {
		return "", err
	}
	dir, err := r.cached(ctx, "lifecycle", []string{"1", built}, func(_ context.Context, dir, _ string) error {
		inner := filepath.Join(dir, "lifecycle")
		if err := os.Mkdir(inner, 0o755); err != nil {
			return err
		}
		for _, name := range []string{"lifecycle", "launcher"} {
			if err := os.Link(filepath.Join(built, name), filepath.Join(inner, name)); err != nil {
				return err
			}
		}
		for _, phase := range phases {
			if err := os.Symlink("lifecycle", filepath.Join(inner, phase)); err != nil {
				return err
			}
		}
		text := fmt.Sprintf(lifecycleDescriptor, lifecycleAPIs[version][0], lifecycleAPIs[version][1], version[1:])
		return os.WriteFile(filepath.Join(dir, "lifecycle.toml"), []byte(text), 0o644)
	})
	return filepath.Join(dir, "lifecycle"), err
}

// lifecycleTgz packs the lifecycle as its releases are.
func (r *Rig) lifecycleTgz(ctx context.Context, version string) (string, error) {
	from, err := r.lifecycleDir(ctx, version)
	if err != nil {
		return "", err
	}
	dir, err := r.cached(ctx, "lifecycle-tgz", []string{"1", from}, func(ctx context.Context, dir, _ string) error {
		_, err := run(ctx, dir, "tar", "-C", filepath.Dir(from), "--owner=0", "--group=0", "-czf",
			filepath.Join(dir, "lifecycle.tgz"), "lifecycle.toml", "lifecycle")
		return err
	})
	return filepath.Join(dir, "lifecycle.tgz"), err
}

// LifecycleTgz gives the newest lifecycle, packed as its releases are.
func (r *Rig) LifecycleTgz(ctx context.Context) (string, error) {
	return r.lifecycleTgz(ctx, LifecycleVersion)
}

// Actionlint gives the linter of GitHub's workflows, of the version that scripts/lint names.
func (r *Rig) Actionlint(ctx context.Context) (string, error) {
	const module = "github.com/rhysd/actionlint"
	built, err := r.host().module(ctx, module, actionlintVersion, "", module+"/cmd/actionlint")
	return filepath.Join(built, "actionlint"), err
}

// Pack is the pack program with a builder that has the lifecycle and no buildpacks.
type Pack struct {
	Images  Images
	Program string
	Builder string
	env     []string
	rig     *Rig
	user    int // who builds
}

// PackProgram gives the pack program.
func (r *Rig) PackProgram(ctx context.Context) (string, error) {
	const module = "github.com/buildpacks/pack"
	built, err := r.host().module(ctx, module, packVersion, "-X "+module+".Version="+packVersion[1:], module)
	return filepath.Join(built, "pack"), err
}

// Pack gives pack and its builder; it needs a Docker engine.
func (r *Rig) Pack(ctx context.Context) (*Pack, error) {
	return r.packWith(ctx, LifecycleVersion, User)
}

// HerokuPack is Pack with a builder like heroku/builder:24, as far as its user and a lifecycle of its series go.
func (r *Rig) HerokuPack(ctx context.Context, lifecycle string) (*Pack, error) {
	return r.packWith(ctx, lifecycle, HerokuUser)
}

func (r *Rig) packWith(ctx context.Context, lifecycle string, user int) (*Pack, error) {
	images, err := r.images(ctx, user)
	if err != nil {
		return nil, err
	}
	program, err := r.PackProgram(ctx)
	if err != nil {
		return nil, err
	}
	tgz, err := r.lifecycleTgz(ctx, lifecycle)
	if err != nil {
		return nil, err
	}
	api, err := apiVersion(ctx)
	if err != nil {
		return nil, err
	}
	p := &Pack{Images: *images, Program: program, rig: r, user: user}
	p.env = append(os.Environ(), "PACK_HOME="+filepath.Join(r.dir, "pack"), "DOCKER_API_VERSION="+api, "NO_COLOR=1",
		"PACK_VOLUME_KEY=nix-hydra-rig")
	p.Builder = "nix-hydra-rig/builder:" + shortSum(images.Build+images.Run+tgz)
	unlock, err := r.lock(ctx, "image-builder")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := run(ctx, "", "docker", "image", "inspect", p.Builder); err == nil {
		return p, nil
	}
	defer r.doing("creating builder %s", p.Builder)()
	return p, p.createBuilder(ctx, tgz)
}

// createBuilder makes the builder p.Builder, with buildpacks in directories, in order, where they are given.
func (p *Pack) createBuilder(ctx context.Context, tgz string, buildpacks ...string) error {
	dir, err := os.MkdirTemp(p.rig.dir, ".builder-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text := ""
	group := "\n[[order]]\n"
	for _, directory := range buildpacks {
		id, version, err := buildpackID(directory)
		if err != nil {
			return err
		}
		text += fmt.Sprintf("[[buildpacks]]\nuri = %q\n\n", "file://"+directory)
		group += fmt.Sprintf("[[order.group]]\nid = %q\nversion = %q\n", id, version)
	}
	text += fmt.Sprintf("[lifecycle]\nuri = \"file://%s\"\n\n[build]\nimage = %q\n\n[run]\n[[run.images]]\nimage = %q\n",
		tgz, p.Images.Build, p.Images.Run)
	if len(buildpacks) > 0 {
		text += group
	}
	config := filepath.Join(dir, "builder.toml")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	_, err = p.command(ctx, "builder", "create", p.Builder, "--config", config, "--pull-policy", "never")
	return err
}

// BuilderWith makes a builder that has buildpacks in directories, in order, under a name of the caller's.
func (p *Pack) BuilderWith(ctx context.Context, name string, buildpacks ...string) error {
	tgz, err := p.rig.lifecycleTgz(ctx, LifecycleVersion)
	if err != nil {
		return err
	}
	made := *p
	made.Builder = name
	return made.createBuilder(ctx, tgz, buildpacks...)
}

func (p *Pack) command(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, p.Program, args...)
	command.Env = p.env
	return output(command)
}

// BuildOptions say what to build, for pack and for the lifecycle alone.
type BuildOptions struct {
	App       string   // directory with the source
	Buildpack []string // directories or .cnb files, in order
	Image     string   // name of the image
	RunImage  string   // "" is a Debian, Scratch one that is empty but for its users
	Env       map[string]string
	// Bindings are service bindings by name, each a directory's files and their contents.
	Bindings map[string]map[string]string
	// Phases runs each phase in a container of its own, as pack does with strangers' buildpacks; else one does all.
	Phases bool
	// More are further arguments of pack build.
	More []string
	// Log gets the output while it comes, besides the result's Output. It may be nil.
	Log io.Writer
}

// Scratch is the run image that is empty but for its users.
const Scratch = "scratch"

// BuildResult is a finished build.
type BuildResult struct {
	Output string // all that was said
	Took   time.Duration
}

// Build runs pack build on the host's network, so that caches on loopback are reached. A failed build gives the
// output too.
func (p *Pack) Build(ctx context.Context, options BuildOptions) (*BuildResult, error) {
	dir, err := os.MkdirTemp("", "rig-pack-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	runImage := cmp.Or(options.RunImage, p.Images.Run)
	if runImage == Scratch {
		runImage = p.Images.RunScratch
	}
	args := []string{"build", options.Image, "--path", options.App, "--builder", p.Builder, "--run-image", runImage,
		"--pull-policy", "never", "--network", "host", "--no-color"}
	if options.Phases {
		args = append(args, "--lifecycle-image", p.Builder)
	} else {
		args = append(args, "--trust-builder", "--trust-extra-buildpacks")
	}
	for _, buildpack := range options.Buildpack {
		args = append(args, "--buildpack", buildpack)
	}
	for _, name := range slices.Sorted(maps.Keys(options.Env)) {
		args = append(args, "--env", name+"="+options.Env[name])
	}
	if len(options.Bindings) > 0 {
		bindings := filepath.Join(dir, "bindings")
		if err := writeBindings(bindings, options.Bindings); err != nil {
			return nil, err
		}
		args = append(args, "--volume", bindings+":/platform/bindings")
	}
	// Only root may give a socket to somebody else; without it, exports have to be short.
	if socket, closing, err := ServeEngine(dir, p.user, Group); err == nil {
		defer closing.Close()
		args = append(args, "--docker-host", "unix://"+socket)
	}
	command := exec.CommandContext(ctx, p.Program, append(args, options.More...)...)
	command.Env = p.env
	return logged(command, options.Log)
}

// logged runs a command with everything it says in the result, and in log where there is one.
func logged(command *exec.Cmd, log io.Writer) (*BuildResult, error) {
	var said bytes.Buffer
	var all io.Writer = &said
	if log != nil {
		all = io.MultiWriter(&said, log)
	}
	command.Stdout, command.Stderr = all, all
	start := time.Now()
	err := command.Run()
	result := &BuildResult{Output: said.String(), Took: time.Since(start)}
	if err != nil {
		err = &CommandError{Name: filepath.Base(command.Path), Args: command.Args[1:2], Stderr: said.String(), Err: err}
	}
	return result, err
}

func writeBindings(dir string, bindings map[string]map[string]string) error {
	var failed error
	for name, files := range bindings {
		failed = errors.Join(failed, writeFiles(filepath.Join(dir, name), files))
	}
	return failed
}

// ImageFiles lists the files of an image's file system by name, as tar headers: what later layers hide is left out.
func (r *Rig) ImageFiles(ctx context.Context, image string) (map[string]*tar.Header, error) {
	id, err := run(ctx, "", "docker", "create", image, "true")
	if err != nil {
		return nil, err
	}
	id = strings.TrimSpace(id)
	defer exec.Command("docker", "rm", id).Run()
	export := exec.CommandContext(ctx, "docker", "export", id)
	pipe, writer := io.Pipe()
	defer pipe.Close()
	export.Stdout = writer
	go func() { writer.CloseWithError(export.Run()) }()
	files := map[string]*tar.Header{}
	reader := tar.NewReader(pipe)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		files[strings.TrimSuffix(header.Name, "/")] = header
	}
}
