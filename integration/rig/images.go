package rig

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	imagename "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// BaseSuite is the Debian suite of the base images: the stable one, older than what Suite has.
const BaseSuite = "trixie"

// User and Group own what a build makes, as in most builders.
const (
	User  = 1001
	Group = 1000
	// HerokuUser owns it in Heroku's builders (heroku/base-images).
	HerokuUser = 1000
)

// runPackages make the Debian run image: about what Heroku's has.
var runPackages = []string{
	"base-files", "base-passwd", "bash", "ca-certificates", "coreutils", "curl", "dash", "debianutils", "diffutils",
	"dpkg", "findutils", "grep", "gzip", "hostname", "libc-bin", "mawk", "ncurses-base", "perl-base", "procps", "sed", "tar",
	"tzdata", "util-linux", "xz-utils", "zstd",
}

// buildPackages are added in the build image.
var buildPackages = []string{"git", "jq", "file"}

// pathEnv is the PATH of the images.
const pathEnv = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Images are base images in the Docker engine.
type Images struct {
	// Build is a Debian with the user and the settings that a build needs.
	Build string
	// Run is a Debian; RunScratch is nothing but the user and /tmp.
	Run, RunScratch string
}

// Images gives the base images, loaded into the Docker engine when missing.
func (r *Rig) Images(ctx context.Context) (*Images, error) { return r.images(ctx, User) }

// images is Images with another user than User.
func (r *Rig) images(ctx context.Context, user int) (*Images, error) {
	if err := r.Docker(ctx); err != nil {
		return nil, err
	}
	api, err := apiVersion(ctx)
	if err != nil {
		return nil, err
	}
	run := v1.Config{
		User: fmt.Sprintf("%d:%d", user, Group),
		Env:  []string{pathEnv},
	}
	debian := run
	debian.Labels = map[string]string{
		"io.buildpacks.base.distro.name": "debian", "io.buildpacks.base.distro.version": "13",
	}
	building := debian
	building.Env = append(slices.Clone(run.Env), fmt.Sprintf("CNB_USER_ID=%d", user), fmt.Sprintf("CNB_GROUP_ID=%d", Group),
		// Engines refuse clients that speak a newer API than they do.
		"DOCKER_API_VERSION="+api)
	images := &Images{}
	for _, image := range []struct {
		name     *string
		kind     string
		config   v1.Config
		packages []string
	}{
		{&images.Build, "build", building, slices.Concat(runPackages, buildPackages)},
		{&images.Run, "run", debian, runPackages},
		{&images.RunScratch, "run-scratch", run, nil},
	} {
		if *image.name, err = r.loadImage(ctx, image.kind, image.config, image.packages...); err != nil {
			return nil, fmt.Errorf("loading base image: %w", err)
		}
	}
	return images, nil
}

// loadImage makes an image of a root file system and gives its name, which stands for its contents. Engines of before
// 2023 take no architecture when they import a file system, so the image comes with its configuration.
func (r *Rig) loadImage(ctx context.Context, kind string, config v1.Config, packages ...string) (string, error) {
	root, err := r.root(ctx, packages...)
	if err != nil {
		return "", err
	}
	key, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	tag, err := imagename.NewTag("nix-hydra-rig/" + kind + ":" + filepath.Base(root) + shortSum(r.arch+string(key)))
	if err != nil {
		return "", err
	}
	unlock, err := r.lock(ctx, "image-"+kind)
	if err != nil {
		return "", err
	}
	defer unlock()
	name := tag.String()
	if _, err := run(ctx, "", "docker", "image", "inspect", name); err == nil {
		return name, nil
	}
	defer r.doing("loading base image %s", name)()
	image, err := r.rootImage(root, config)
	if err != nil {
		return "", err
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(tarball.Write(tag, image, writer)) }()
	command := exec.CommandContext(ctx, "docker", "load", "--quiet")
	command.Stdin = reader
	_, err = output(command)
	return name, errors.Join(err, reader.Close())
}

// rootImage is an image of a root file system.
func (r *Rig) rootImage(root string, config v1.Config) (v1.Image, error) {
	layer, err := tarball.LayerFromFile(filepath.Join(root, rootTar), tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", r.arch, config
	return mutate.ConfigFile(image, file)
}

// root gives a directory with a Debian of BaseSuite that has these packages, twice: in the directory rootDir, and as the
// file rootTar, in which everybody's files are their own. Without packages it has the users and /tmp only. No package's
// scripts have run.
func (r *Rig) root(ctx context.Context, packages ...string) (string, error) {
	inputs := append([]string{"5", BaseSuite, r.arch}, packages...)
	return r.cached(ctx, "root", inputs, func(ctx context.Context, dir, _ string) error {
		root := filepath.Join(dir, rootDir)
		if err := os.Mkdir(root, 0o755); err != nil {
			return err
		}
		if len(packages) > 0 {
			if err := r.unpack(ctx, root, BaseSuite, packages...); err != nil {
				return err
			}
		}
		if err := furnish(root); err != nil {
			return err
		}
		return packRoot(ctx, root, filepath.Join(dir, rootTar))
	})
}

const rootDir, rootTar = "root", "root.tar"

// homes are the users of the images, besides root.
var homes = map[string]int{"home/cnb": User, "home/heroku": HerokuUser}

// furnish makes what packages' scripts would have made: accounts, certificates, the name of awk. Documentation goes.
func furnish(root string) error {
	passwd := "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	for _, home := range slices.Sorted(maps.Keys(homes)) {
		passwd += fmt.Sprintf("%s:x:%d:%d::/%s:/bin/bash\n", filepath.Base(home), homes[home], Group, home)
	}
	files := map[string]string{
		"etc/passwd": passwd,
		"etc/group":  fmt.Sprintf("root:x:0:\nnogroup:x:65534:\ncnb:x:%d:\n", Group),
	}
	certificates, err := filepath.Glob(filepath.Join(root, "usr/share/ca-certificates/*/*"))
	if err != nil {
		return err
	}
	for _, name := range certificates {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files["etc/ssl/certs/ca-certificates.crt"] += string(text)
	}
	if err := writeFiles(root, files); err != nil {
		return err
	}
	for _, name := range []string{"tmp", "root", "home/cnb", "home/heroku"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(root, "usr/bin/mawk")); err == nil {
		if err := os.Symlink("mawk", filepath.Join(root, "usr/bin/awk")); err != nil {
			return err
		}
	}
	return errors.Join(
		os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky), os.Chmod(filepath.Join(root, "root"), 0o700),
		os.RemoveAll(filepath.Join(root, "usr/share/doc")), os.RemoveAll(filepath.Join(root, "usr/share/man")),
		os.RemoveAll(filepath.Join(root, "usr/share/locale")),
	)
}

// packRoot packs a root file system. All of it is root's but for the homes.
func packRoot(ctx context.Context, root, archive string) error {
	pack := func(how string, user, group int, names ...string) error {
		args := append([]string{how, archive, "--owner=" + strconv.Itoa(user), "--group=" + strconv.Itoa(group)}, fixedTar...)
		_, err := run(ctx, root, "tar", append(args, names...)...)
		return err
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	all := []string{"--anchored", "--exclude=home/*"}
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	err = pack("-cf", 0, 0, all...)
	for _, home := range slices.Sorted(maps.Keys(homes)) {
		err = errors.Join(err, pack("-rf", homes[home], Group, home))
	}
	return err
}

// ImageSize is an image's size in bytes, as the engine counts it.
func (r *Rig) ImageSize(ctx context.Context, image string) (int64, error) {
	out, err := run(ctx, "", "docker", "image", "inspect", "--format", "{{.Size}}", image)
	if err != nil {
		return 0, err
	}
	var size int64
	_, err = fmt.Sscan(out, &size)
	return size, err
}
