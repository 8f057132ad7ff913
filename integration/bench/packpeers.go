package bench

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// peers brings the same closures into the same engine as people do who have Nix where they build: "nix copy" into a
// store, and its paths in layers by "docker load".
func (p *packer) peers(ctx context.Context, changed *change, first, second phases) error {
	store, err := p.b.newDir()
	if err != nil {
		return err
	}
	defer p.b.discard(store)
	for _, push := range []struct {
		name  string
		roots []storepath.Path
		infos map[storepath.Path]*narinfo.NarInfo
		ours  phases
	}{{"first", p.f.roots, p.f.infos, first}, {"change", changed.roots, changed.infos, second}} {
		copying, err := p.nixCopy(ctx, store, push.roots)
		if err != nil {
			return err
		}
		p.b.row("pack.engine."+push.name+".nix_copy", seconds(copying), "s", "")
		g := graph(push.roots, push.infos)
		for _, peer := range []struct {
			name string
			Grouping
		}{{"dockertools", AutoLayer}, {"nix2container", Popularity}} {
			loading, err := p.load(ctx, "nix-hydra-bench/"+peer.name, store, peer.Grouping(g, closure.DefaultLayers))
			if err != nil {
				return err
			}
			name := "pack.engine." + push.name + "." + peer.name
			p.b.row(name, seconds(copying+loading), "s", "")
			p.b.row(name+"_against_ours", seconds(copying+loading)/seconds(push.ours.whole()), "ratio", "")
			if push.name == "change" {
				p.b.row(name+"_against_ours_by_registry", seconds(copying+loading)/seconds(p.pulled), "ratio", ">=5")
			}
		}
	}
	for _, name := range []string{"dockertools", "nix2container"} {
		_ = docker(ctx, "image", "rm", "--force", "nix-hydra-bench/"+name)
	}
	return nil
}

// nixCopy has Nix copy a closure to the store of a directory.
func (p *packer) nixCopy(ctx context.Context, store string, roots []storepath.Path) (time.Duration, error) {
	nix, err := p.b.Rig.Nix(ctx)
	if err != nil {
		return 0, err
	}
	args := []string{"--extra-experimental-features", "nix-command", "copy", "--from", p.cache.URL, "--to", "local?root=" + store,
		"--option", "trusted-public-keys", p.f.public}
	for _, root := range roots {
		args = append(args, string(root))
	}
	command := exec.CommandContext(ctx, filepath.Join(nix.Bin, "nix"), args...)
	command.Env = append(nixEnvironment(filepath.Join(store, "home")), "PATH="+os.Getenv("PATH"))
	start := time.Now()
	if out, err := command.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("nix copy: %w: %s", err, tail(string(out)))
	}
	return time.Since(start), nil
}

// load makes an image of groups of store paths, a layer each, and loads it into the engine, as the script does that
// nixpkgs' streamLayeredImage makes, and skopeo for nix2container: both write all layers to the engine whatever it has,
// after hashing them. (pkgs/build-support/docker/stream_layered_image.py in NixOS/nixpkgs; docker-daemon transport of
// containers/image. Neither project's programs can be had here, so this is their work done in Go.)
func (p *packer) load(ctx context.Context, image, store string, groups [][]storepath.Path) (time.Duration, error) {
	start := time.Now()
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(writeImage(writer, image, store, groups)) }()
	command := exec.CommandContext(ctx, "docker", "load", "--quiet")
	command.Stdin = reader
	out, err := command.CombinedOutput()
	if err = errors.Join(err, reader.Close()); err != nil {
		return 0, fmt.Errorf("loading %s: %w: %s", image, err, tail(string(out)))
	}
	return time.Since(start), nil
}

// writeImage writes an image as docker load takes it.
func writeImage(w io.Writer, image, store string, groups [][]storepath.Path) error {
	out := tar.NewWriter(w)
	var names, diffIDs []string
	for _, paths := range groups {
		sum := sha256.New()
		size := &countingWriter{Writer: sum}
		if err := writeLayer(size, store, paths); err != nil {
			return err
		}
		digest := hex.EncodeToString(sum.Sum(nil))
		names, diffIDs = append(names, digest+".tar"), append(diffIDs, "sha256:"+digest)
		if err := out.WriteHeader(&tar.Header{Name: digest + ".tar", Mode: 0o644, Size: size.n}); err != nil {
			return err
		}
		if err := writeLayer(out, store, paths); err != nil {
			return err
		}
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{image + ":latest"}, "Layers": names}})
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"config.json": config, "manifest.json": manifest} {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return out.Close()
}

// writeLayer writes a layer of store paths.
func writeLayer(w io.Writer, store string, paths []storepath.Path) error {
	out := tar.NewWriter(w)
	for _, p := range paths {
		err := filepath.WalkDir(filepath.Join(store, string(p)), func(file string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return addFile(out, strings.TrimPrefix(file, store+"/"), file, entry)
		})
		if err != nil {
			return err
		}
	}
	return out.Close()
}

// addFile writes a file to an archive by a name.
func addFile(w *tar.Writer, name, file string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	target := ""
	if info.Mode().Type() == fs.ModeSymlink {
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name, header.ModTime = name, time.Unix(1, 0)
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	if err := w.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	contents, err := os.Open(file)
	if err != nil {
		return err
	}
	defer contents.Close()
	_, err = io.Copy(w, contents)
	return err
}
