// Package imagetest makes images of this buildpack for tests: as a build and the lifecycle's exporter make them, of a small
// closure, to be altered in memory and written down.
package imagetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/buildpacks/libcnb/v2"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

// Image is an image in pieces, as the lifecycle would export it.
type Image struct {
	Layers []Layer
	Config v1.Config
	OS     string
	// Relabel has the label list the layers as they are after an alteration.
	Relabel bool
	// Label, if set, changes the label's text at the end, Document that of the configuration.
	Label, Document func(string) string

	Key     string // the public key that signed the store paths
	App     storepath.Path
	Lib     storepath.Path // which App refers to
	Cache   string         // the URL of the binary cache that they came from
	AppFile string         // App's program, in the image
	// LayersDir has this buildpack's layers, but for their environment, on disk as a build leaves them.
	LayersDir string
	// LauncherSHA256 is the digest of this version's launcher, in hex.
	LauncherSHA256 string
	T              *testing.T // to be failed

	arch   string
	top    int // how many layers the run image has
	data   map[string]map[string]any
	result *closure.Result
	build  string // the label of the build
	volume bool   // the layers are on a volume
	// addressed is the name of the store path that no key signed, and its content address proves.
	addressed string
}

const (
	// Dir has this buildpack's layers in the image, View the links to the store paths.
	Dir  = "/layers/nixproot_nix-hydra"
	View = Dir + "/" + launchlayer.View
)

// New makes an image of a small signed closure.
func New(t *testing.T, engine string) *Image { return newImage(&Image{T: t}, engine) }

// NewOnVolume makes one whose layers were on a Kubernetes volume: it belongs to the pod's group, whose directories all belong
// to that, and anybody may write to it.
func NewOnVolume(t *testing.T, engine string) *Image {
	return newImage(&Image{T: t, volume: true}, engine)
}

// NewAddressed makes one in which no key signed the store path "app" or "other", and its content address proves it.
func NewAddressed(t *testing.T, engine, name string) *Image {
	return newImage(&Image{T: t, addressed: name}, engine)
}

func newImage(f *Image, engine string) *Image {
	f.OS, f.arch, f.data = "linux", runtime.GOARCH, map[string]map[string]any{}
	launcher := filepath.Join(tempDir(f.T), "launch")
	Expect(os.WriteFile(launcher, []byte("the launcher"), 0o755)).To(Succeed())
	sum := sha256.Sum256([]byte("the launcher"))
	f.LauncherSHA256 = hex.EncodeToString(sum[:])
	result, layers := f.closure(engine)
	f.result, f.LayersDir = result, layers.Path

	f.AddLayer("run image", Directory("/etc"), Regular("/etc/passwd", "root:x:0:0", 0o644), Directory("/usr"), Directory("/usr/bin"),
		Regular("/usr/bin/env", "#!", 0o755), Directory("/lib64"), Symlink("/lib", "usr/lib"))
	f.top = 1
	for _, group := range result.Groups {
		f.fromDisk(group.Layer, layers.Path)
		f.data[group.Layer] = result.Manifests()[group.Layer].Metadata()
	}
	f.fromDisk(launchlayer.View, layers.Path)
	program := path.Join(Dir, f.Tree(f.App), "bin")
	f.AppFile = path.Join(program, "app")
	config := launch.Config{Engine: engine, View: View, Bin: []string{program}, StorePaths: []string{f.App.String()}}
	if engine == launch.Unrelocated {
		config.Bin = []string{f.App.String() + "/bin"}
	}
	made, err := launchlayer.WriteRun(layers, config)
	Expect(err).NotTo(HaveOccurred())
	f.fromDisk(launchlayer.Run, layers.Path)
	f.Append(launchlayer.Run, Directory(path.Join(Dir, launchlayer.Run, "env.launch")))
	for name, value := range made.LaunchEnvironment {
		f.Append(launchlayer.Run, Regular(path.Join(Dir, launchlayer.Run, "env.launch", name),
			strings.ReplaceAll(value, layers.Path, Dir), 0o644))
	}
	_, err = launchlayer.WriteLauncher(layers, launcher)
	Expect(err).NotTo(HaveOccurred())
	f.fromDisk(launchlayer.Launcher, layers.Path)
	f.AddLayer("sbom", Directory("/layers/sbom"), Directory("/layers/sbom/launch"), Regular("/layers/sbom/launch/sbom.json", "{}", 0o644))
	f.AddLayer("app", Directory("/workspace"), Regular("/workspace/Procfile", "web: run_proot.sh app\n", 0o644))
	f.AddLayer("launcher", Directory("/cnb"), Directory("/cnb/lifecycle"), Regular("/cnb/lifecycle/launcher", "the lifecycle's launcher", 0o755))
	f.AddLayer("config", Directory("/layers/config"))
	f.AddLayer("process-types", Directory("/cnb"), Directory("/cnb/process"), Symlink("/cnb/process/web", "/cnb/lifecycle/launcher"))
	f.SetProcess(lifecycle.Process{Type: "web", Command: []any{
		Dir + "/launcher/bin/nix-hydra-launch", "--process", "run_proot.sh app",
	}, Args: []string{}, Direct: true, BuildpackID: launchlayer.BuildpackID}, true)
	f.Config = v1.Config{
		User: "1000:1000", WorkingDir: "/workspace", Entrypoint: []string{"/cnb/process/web"}, Labels: map[string]string{},
		Env: []string{
			"PATH=/cnb/process:/cnb/lifecycle:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"CNB_LAYERS_DIR=/layers", "CNB_APP_DIR=/workspace", "CNB_PLATFORM_API=0.14", "CNB_DEPRECATION_MODE=quiet",
		},
	}
	return f
}

// Clone is the same image, to be altered in another test.
func (f *Image) Clone(t *testing.T) *Image {
	c := *f
	c.T, c.Layers = t, nil
	for _, layer := range f.Layers {
		layer.Entries = slices.Clone(layer.Entries)
		c.Layers = append(c.Layers, layer)
	}
	c.Config.Env = slices.Clone(f.Config.Env)
	c.Config.Labels = maps.Clone(f.Config.Labels)
	return &c
}

// closure substitutes three signed paths from a cache and places them.
func (f *Image) closure(engine string) (*closure.Result, libcnb.Layers) {
	ctx := context.Background()
	seed := sha256.Sum256([]byte("forged"))
	key := ed25519.NewKeyFromSeed(seed[:])
	public := narinfo.PublicKey{Name: "forged-1", Key: key.Public().(ed25519.PublicKey)}
	f.Key = public.String()
	store := tempDir(f.T)
	f.Cache = "file://" + store
	add := func(name, text string, refs ...storepath.Path) storepath.Path {
		sum := sha256.Sum256([]byte(name))
		p := storepath.Path("/nix/store/" + storepath.Encode32(sum[:20]) + "-" + name)
		if name != f.addressed {
			text = strings.ReplaceAll(text, "SELF", p.String())
		}
		var raw bytes.Buffer
		w := nar.NewWriter(&raw)
		for _, e := range []*nar.Entry{
			{Kind: nar.Directory}, {Kind: nar.Directory, Path: "bin"},
			{Kind: nar.Regular, Path: "bin/" + name, Size: int64(len(text)), Executable: true},
		} {
			Expect(w.Entry(e)).To(Succeed())
		}
		_, err := w.Write([]byte(text))
		Expect(err).NotTo(HaveOccurred())
		Expect(w.Entry(&nar.Entry{Kind: nar.Symlink, Path: "bin/zz", Target: name})).To(Succeed())
		Expect(w.Entry(&nar.Entry{Kind: nar.Regular, Path: "empty"})).To(Succeed())
		Expect(w.Close()).To(Succeed())
		hash := storepath.Hash(sha256.Sum256(raw.Bytes()))
		refs = slices.Sorted(slices.Values(refs))
		if name == f.addressed {
			kind := "source"
			for _, ref := range refs {
				kind += ":" + ref.String()
			}
			p, err = storepath.Make(kind, hash, name)
			Expect(err).NotTo(HaveOccurred())
		}
		info := &narinfo.NarInfo{StorePath: p, URL: p.Base() + ".nar", Compression: "none", NarHash: hash,
			NarSize: int64(raw.Len()), References: refs}
		if name == f.addressed {
			info.CA = "fixed:r:" + hash.String()
		} else {
			info.Sigs = []narinfo.Signature{{Name: public.Name, Data: ed25519.Sign(key, []byte(info.Fingerprint()))}}
		}
		Expect(os.WriteFile(filepath.Join(store, info.URL), raw.Bytes(), 0o644)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(store, p.HashPart()+".narinfo"), []byte(info.String()), 0o644)).To(Succeed())
		return p
	}
	Expect(os.WriteFile(filepath.Join(store, "nix-cache-info"), []byte("StoreDir: /nix/store\n"), 0o644)).To(Succeed())
	f.Lib = add("lib", "a library, SELF\n")
	// An Erlang module: what it names is rewritten when all of it has been seen, and of that no record is needed.
	other := add("other", "FOR1\x00\x00\x00\x40BEAMStrT\x00\x00\x00\x32SELF\x00\x00\x00")
	f.App = add("app", "#!"+f.Lib.String()+"/bin/lib\nSELF "+other.String()+"\n", f.Lib, other)
	set, err := cache.Open(ctx, cache.Options{
		URLs: []string{f.Cache}, Keys: narinfo.Keys{public}, RequireSigs: true,
	})
	Expect(err).NotTo(HaveOccurred())
	defer set.Close()
	layers := libcnb.Layers{Path: tempDir(f.T)}
	if f.volume {
		Expect(os.Chmod(layers.Path, 0o755|fs.ModeSetgid)).To(Succeed())
	}
	var view relocate.View
	if engine == launch.EngineRelocate {
		view, err = relocate.NewView(View)
		Expect(err).NotTo(HaveOccurred())
	}
	staging := filepath.Join(layers.Path, ".staging")
	result, err := closure.Substitute(ctx, closure.Options{
		Caches: set, Roots: []storepath.Path{f.App}, Staging: staging, View: view,
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(closure.Install(ctx, result, staging, layers.Path)).To(Succeed())
	Expect(closure.WriteView(ctx, filepath.Join(layers.Path, launchlayer.View), result.Groups, Dir, view)).To(Succeed())
	return result, layers
}

// LayerOf is the name of the layer that holds a store path.
func (f *Image) LayerOf(p storepath.Path) string {
	for _, group := range f.result.Groups {
		if slices.Contains(group.Paths, p) {
			return group.Layer
		}
	}
	f.T.Fatal("no layer has ", p)
	return ""
}

// Tree is where a store path is below the layers directory.
func (f *Image) Tree(p storepath.Path) string {
	return path.Join(f.LayerOf(p), closure.BaseName(p, f.result.View))
}

// Manifests are the closure layers' metadata, by layer.
func (f *Image) Manifests() map[string]closure.Manifest { return f.result.Manifests() }

// tempDir is a directory whose name may stand in a URL, which that of a fuzzing test's seed may not.
func tempDir(t *testing.T) string {
	name, err := os.MkdirTemp("", "forged-")
	Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { Expect(nar.RemoveAll(name)).To(Succeed()) })
	return name
}
