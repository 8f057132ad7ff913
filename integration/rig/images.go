package rig

import (
	"archive/tar"
	"bytes"
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
	"strings"
	"time"

	imagename "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig/deb"
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
	"findutils", "grep", "gzip", "hostname", "libc-bin", "mawk", "ncurses-base", "perl-base", "procps", "sed", "tar",
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
	build, err := r.RootTar(ctx, append(append([]string{}, runPackages...), buildPackages...)...)
	if err != nil {
		return nil, err
	}
	runTar, err := r.RootTar(ctx, runPackages...)
	if err != nil {
		return nil, err
	}
	scratch, err := r.RootTar(ctx)
	if err != nil {
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
		name   *string
		kind   string
		tar    string
		config v1.Config
	}{
		{&images.Build, "build", build, building},
		{&images.Run, "run", runTar, debian},
		{&images.RunScratch, "run-scratch", scratch, run},
	} {
		if *image.name, err = r.loadImage(ctx, image.kind, image.tar, image.config); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// plainImage is a Docker image with a small Debian in it.
func (r *Rig) plainImage(ctx context.Context) (string, error) {
	images, err := r.Images(ctx)
	if err != nil {
		return "", err
	}
	return images.Run, nil
}

// loadImage makes an image of a root file system and gives its name, which stands for its contents. Engines of before
// 2023 take no architecture when they import a file system, so the image comes with its configuration.
func (r *Rig) loadImage(ctx context.Context, kind, rootTar string, config v1.Config) (string, error) {
	key, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	name := "nix-hydra-rig/" + kind + ":" + filepath.Base(filepath.Dir(rootTar)) + shortSum(r.arch+string(key))
	unlock, err := r.lock(ctx, "image-"+kind)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := run(ctx, "", "docker", "image", "inspect", name); err == nil {
		return name, nil
	}
	defer r.doing("loading base image %s", name)()
	if err := r.load(ctx, name, rootTar, config); err != nil {
		return "", fmt.Errorf("loading base image: %w", err)
	}
	return name, nil
}

func (r *Rig) load(ctx context.Context, name, rootTar string, config v1.Config) error {
	tag, err := imagename.NewTag(name)
	if err != nil {
		return err
	}
	image, err := r.rootImage(rootTar, config)
	if err != nil {
		return err
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(tarball.Write(tag, image, writer)) }()
	command := exec.CommandContext(ctx, "docker", "load", "--quiet")
	command.Stdin = reader
	_, err = output(command)
	return errors.Join(err, reader.Close())
}

// rootImage is an image of a root file system.
func (r *Rig) rootImage(rootTar string, config v1.Config) (v1.Image, error) {
	layer, err := tarball.LayerFromFile(rootTar, tarball.WithCompressionLevel(gzip.BestSpeed))
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

// RootTar gives a tar file with the root file system of a Debian of BaseSuite that has these packages, with the user
// that builds and apps run as. Without packages it has that user and /tmp only. No package's scripts have run.
func (r *Rig) RootTar(ctx context.Context, packages ...string) (string, error) {
	inputs := append([]string{"4", BaseSuite, r.arch}, packages...)
	dir, err := r.cached(ctx, "root", inputs, func(ctx context.Context, dir, _ string) error {
		var files []string
		if len(packages) > 0 {
			var err error
			if files, err = r.debFiles(ctx, BaseSuite, packages...); err != nil {
				return err
			}
		}
		out, err := os.Create(filepath.Join(dir, "root.tar"))
		if err != nil {
			return err
		}
		err = writeRoot(out, files)
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
		return err
	})
	return filepath.Join(dir, "root.tar"), err
}

// root is a root file system being written.
type root struct {
	tar    *tar.Writer
	seen   map[string]bool
	certs  map[string][]byte
	epoch  time.Time
	merged bool
}

func writeRoot(w io.Writer, files []string) error {
	out := &root{tar: tar.NewWriter(w), seen: map[string]bool{}, certs: map[string][]byte{}, epoch: time.Unix(1, 0)}
	if len(files) > 0 {
		for _, name := range []string{"bin", "lib", "lib64", "sbin"} {
			if err := out.link(name, "usr/"+name); err != nil {
				return err
			}
		}
		out.merged = true
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		err = deb.Walk(file, out.add)
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("unpacking %s: %w", filepath.Base(name), err)
		}
	}
	if err := out.finish(); err != nil {
		return err
	}
	return out.tar.Close()
}

// add takes a file of a package.
func (o *root) add(header *tar.Header, contents io.Reader) error {
	first, rest, _ := strings.Cut(header.Name, "/")
	switch first {
	case "bin", "lib", "lib64", "sbin":
		if rest == "" {
			return nil
		}
		header.Name = "usr/" + header.Name
	}
	if strings.HasPrefix(header.Name, "usr/share/doc/") || strings.HasPrefix(header.Name, "usr/share/man/") ||
		strings.HasPrefix(header.Name, "usr/share/locale/") {
		return nil
	}
	if o.seen[header.Name] {
		return nil
	}
	o.seen[header.Name] = true
	header.Uname, header.Gname, header.Format = "", "", tar.FormatPAX
	if err := o.tar.WriteHeader(header); err != nil {
		return err
	}
	if strings.HasPrefix(header.Name, "usr/share/ca-certificates/") && header.Typeflag == tar.TypeReg {
		var copied bytes.Buffer
		if _, err := io.Copy(io.MultiWriter(o.tar, &copied), contents); err != nil {
			return err
		}
		o.certs[header.Name] = copied.Bytes()
		return nil
	}
	_, err := io.Copy(o.tar, contents)
	return err
}

// finish writes what packages' scripts would have made: accounts, certificates, the shell's and awk's names.
func (o *root) finish() error {
	accounts := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" +
			fmt.Sprintf("cnb:x:%d:%d::/home/cnb:/bin/bash\n", User, Group) +
			fmt.Sprintf("heroku:x:%d:%d::/home/heroku:/bin/bash\n", HerokuUser, Group),
		"etc/group": fmt.Sprintf("root:x:0:\nnogroup:x:65534:\ncnb:x:%d:\n", Group),
	}
	for _, directory := range []struct {
		name  string
		mode  int64
		owner int
	}{{"tmp", 0o1777, 0}, {"home", 0o755, 0}, {"home/cnb", 0o755, User}, {"home/heroku", 0o755, HerokuUser}, {"root", 0o700, 0}, {"etc", 0o755, 0}} {
		if o.seen[directory.name] {
			continue
		}
		header := &tar.Header{Typeflag: tar.TypeDir, Name: directory.name + "/", Mode: directory.mode, ModTime: o.epoch}
		if directory.owner != 0 {
			header.Uid, header.Gid = directory.owner, Group
		}
		if err := o.tar.WriteHeader(header); err != nil {
			return err
		}
	}
	for _, name := range []string{"etc/passwd", "etc/group"} {
		if err := o.file(name, []byte(accounts[name])); err != nil {
			return err
		}
	}
	if !o.merged {
		return nil
	}
	for _, pair := range [][2]string{{"usr/bin/awk", "mawk"}, {"usr/bin/sh", "dash"}} {
		if !o.seen[pair[0]] && o.seen["usr/bin/"+pair[1]] {
			if err := o.link(pair[0], pair[1]); err != nil {
				return err
			}
		}
	}
	if len(o.certs) == 0 {
		return nil
	}
	var bundle []byte
	for _, name := range slices.Sorted(maps.Keys(o.certs)) {
		bundle = append(bundle, o.certs[name]...)
	}
	return o.file("etc/ssl/certs/ca-certificates.crt", bundle)
}

func (o *root) link(name, target string) error {
	o.seen[name] = true
	return o.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: o.epoch,
	})
}

func (o *root) file(name string, contents []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(contents)), ModTime: o.epoch}
	if err := o.tar.WriteHeader(header); err != nil {
		return err
	}
	_, err := o.tar.Write(contents)
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
