// Package imagetest makes images of this buildpack for tests: as a build and the lifecycle's exporter make them, of a small
// closure, to be altered in memory and written down.
package imagetest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
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
	T              *testing.T // to be failed, and to give temporary directories

	arch   string
	top    int // how many layers the run image has
	data   map[string]map[string]any
	result *closure.Result
	build  string // the label of the build
	volume bool   // the layers are on a volume
}

// Layer is one layer: what the label knows it as, and its entries.
type Layer struct {
	Name    string
	Entries []Entry
	Cut     bool   // the archive ends in the middle
	After   []byte // what comes after the archive
	// Rewrite, if set, changes the archive's bytes, Pack those that are stored.
	Rewrite, Pack func([]byte) []byte
}

// Entry is a file in a layer's archive.
type Entry struct {
	tar.Header
	Body string
}

const (
	// Dir has this buildpack's layers in the image, View the links to the store paths.
	Dir  = "/layers/nixproot_nix-hydra"
	View = Dir + "/" + launchlayer.View
)

// New makes an image of a small signed closure.
func New(t *testing.T, engine string) *Image { return newImage(t, engine, false) }

// NewOnVolume makes one whose layers were on a Kubernetes volume: it belongs to the pod's group, whose directories all belong
// to that, and anybody may write to it.
func NewOnVolume(t *testing.T, engine string) *Image { return newImage(t, engine, true) }

func newImage(t *testing.T, engine string, volume bool) *Image {
	f := &Image{T: t, OS: "linux", arch: runtime.GOARCH, data: map[string]map[string]any{}, volume: volume}
	launcher := filepath.Join(tempDir(t), "launch")
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

// SetProcess writes the process type into the layer and, where the label is to agree, there.
func (f *Image) SetProcess(p lifecycle.Process, label bool) {
	table := map[string]any{
		"buildpacks": []map[string]string{{"api": "0.10", "id": launchlayer.BuildpackID}},
		"processes": []map[string]any{{
			"type": p.Type, "command": p.Command, "args": p.Args, "direct": p.Direct, "buildpack-id": p.BuildpackID,
			"working-dir": p.WorkingDir,
		}},
	}
	raw, err := toml.Marshal(table)
	Expect(err).NotTo(HaveOccurred())
	f.Replace("/layers/config/metadata.toml", string(raw), "config")
	if label {
		raw, err := json.Marshal(map[string]any{"processes": []lifecycle.Process{p}})
		Expect(err).NotTo(HaveOccurred())
		f.build = string(raw)
	}
}

// LaunchConfig is the launcher's.
func (f *Image) LaunchConfig() launch.Config {
	config, err := launch.ParseConfig([]byte(f.Must(Dir + "/run/nix-hydra.json").Body))
	Expect(err).NotTo(HaveOccurred())
	return config
}

// SetLaunchConfig writes the launcher's configuration as the build does.
func (f *Image) SetLaunchConfig(config launch.Config) {
	name := filepath.Join(tempDir(f.T), launch.ConfigName)
	Expect(config.Write(name)).To(Succeed())
	raw, err := os.ReadFile(name)
	Expect(err).NotTo(HaveOccurred())
	f.Replace(Dir+"/run/nix-hydra.json", string(raw), "")
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
		text = strings.ReplaceAll(text, "SELF", p.String())
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
		info := &narinfo.NarInfo{StorePath: p, URL: p.Base() + ".nar", Compression: "none", NarHash: sha256.Sum256(raw.Bytes()),
			NarSize: int64(raw.Len()), References: slices.Sorted(slices.Values(refs))}
		info.Sigs = []narinfo.Signature{{Name: public.Name, Data: ed25519.Sign(key, []byte(info.Fingerprint()))}}
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

// AddLayer adds a layer at the end, with the directories above what it holds, as lifecycles write them.
func (f *Image) AddLayer(name string, entries ...Entry) {
	var all []Entry
	there := map[string]bool{"/": true, ".": true}
	for _, e := range entries {
		for _, dir := range f.directories(path.Dir(e.Name)) {
			if !there[dir.Name] {
				all = append(all, dir)
			}
			there[dir.Name] = true
		}
		there[e.Name] = true
		all = append(all, e)
	}
	f.Layers = append(f.Layers, Layer{Name: name, Entries: all})
}

// directories are those from the root to a place that lifecycles write to, as the image has them, without those that are
// something else.
func (f *Image) directories(place string) []Entry {
	first, _, _ := strings.Cut(strings.TrimPrefix(place, "/"), "/")
	if !slices.Contains([]string{"layers", "workspace", "cnb"}, first) {
		return nil
	}
	all := f.directories(path.Dir(place))
	e, _ := f.Find(place)
	switch {
	case e == nil:
		return append(all, Directory(place))
	case e.Typeflag == tar.TypeDir:
		return append(all, *e)
	}
	return all
}

// AddBelow puts a layer before all others, into the run image.
func (f *Image) AddBelow(entries ...Entry) {
	f.Layers = slices.Insert(f.Layers, 0, Layer{Name: "below", Entries: entries})
	f.top++
}

// Append adds entries to a layer.
func (f *Image) Append(name string, entries ...Entry) {
	for i := range f.Layers {
		if f.Layers[i].Name == name {
			f.Layers[i].Entries = append(f.Layers[i].Entries, entries...)
		}
	}
}

// Find is an Entry, and the layer it is in.
func (f *Image) Find(name string) (*Entry, *Layer) {
	for i := len(f.Layers) - 1; i >= 0; i-- {
		for j := range f.Layers[i].Entries {
			if f.Layers[i].Entries[j].Name == name {
				return &f.Layers[i].Entries[j], &f.Layers[i]
			}
		}
	}
	return nil, nil
}

// Must is an Entry that is there.
func (f *Image) Must(name string) *Entry {
	e, _ := f.Find(name)
	if e == nil {
		f.T.Fatal("the image has no ", name)
	}
	return e
}

// Remove takes an Entry, and what is below it, out of its layer.
func (f *Image) Remove(name string) {
	for i := range f.Layers {
		f.Layers[i].Entries = slices.DeleteFunc(f.Layers[i].Entries, func(e Entry) bool {
			return e.Name == name || strings.HasPrefix(e.Name, name+"/")
		})
	}
}

// Replace gives a file other contents, or adds it to a layer.
func (f *Image) Replace(name, body, layer string) {
	if e, _ := f.Find(name); e != nil {
		e.Body, e.Size = body, int64(len(body))
		return
	}
	f.Append(layer, Regular(name, body, 0o644))
}

// NamesWith are the names of entries that hold a text.
func (f *Image) NamesWith(text string) []string {
	var names []string
	for _, layer := range f.Layers {
		for _, e := range layer.Entries {
			if strings.Contains(e.Name, text) {
				names = append(names, e.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fromDisk adds a layer of this buildpack as the lifecycle's exporter writes it.
func (f *Image) fromDisk(name, layers string) {
	entries := []Entry{Directory("/layers"), Directory(Dir)}
	if f.volume {
		entries[0].Mode, entries[1].Mode = 0o2777, 0o2755
	}
	root := filepath.Join(layers, name)
	err := filepath.WalkDir(root, func(each string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(layers, each)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		place := path.Join(Dir, rel)
		switch {
		case d.IsDir():
			e := Directory(place)
			header, err := tar.FileInfoHeader(info, "")
			if err != nil {
				return err
			}
			e.Mode = header.Mode
			entries = append(entries, e)
		case info.Mode().IsRegular():
			raw, err := os.ReadFile(each)
			if err != nil {
				return err
			}
			entries = append(entries, Regular(place, string(raw), int64(info.Mode().Perm())))
		default:
			target, err := os.Readlink(each)
			if err != nil {
				return err
			}
			entries = append(entries, Symlink(place, target))
		}
		return nil
	})
	Expect(err).NotTo(HaveOccurred())
	f.AddLayer(name, entries...)
}

// Directory is a directory, which anybody may read.
func Directory(name string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, Uid: 1000, Gid: 1000}}
}

// Regular is a file.
func Regular(name, body string, mode int64) Entry {
	return Entry{tar.Header{
		Name: name, Typeflag: tar.TypeReg, Mode: mode, Uid: 1000, Gid: 1000, Size: int64(len(body)),
	}, body}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
}

// HardLink is a hard link.
func HardLink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o444}}
}

// Special is a device or a named pipe: kind is one of package tar.
func Special(name string, kind byte) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: kind, Mode: 0o666, Devmajor: 1, Devminor: 5}}
}

// Archive is a layer's uncompressed bytes.
func (l Layer) Archive() []byte {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, e := range l.Entries {
		header := e.Header
		Expect(w.WriteHeader(&header)).To(Succeed(), e.Name)
		_, err := w.Write([]byte(e.Body))
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(w.Close()).To(Succeed())
	if l.Cut {
		return text.Bytes()[:text.Len()/2]
	}
	archive := append(text.Bytes(), l.After...)
	if l.Rewrite != nil {
		return l.Rewrite(archive)
	}
	return archive
}

// metadata is the label's text for layers with these digests.
func (f *Image) metadata(digests map[string]string, top string) string {
	layers := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		if strings.HasPrefix(name, closure.LayerPrefix) || slices.Contains([]string{launchlayer.View, launchlayer.Run, launchlayer.Launcher}, name) {
			layers[name] = map[string]any{"sha": digests[name], "data": f.data[name], "launch": true}
		}
	}
	app := []map[string]string{{"sha": digests["app"]}}
	if digests["forged"] != "" {
		app = append(app, map[string]string{"sha": digests["forged"]})
	}
	raw, err := json.Marshal(map[string]any{
		"app": app, "sbom": map[string]string{"sha": digests["sbom"]},
		"config": map[string]string{"sha": digests["config"]}, "launcher": map[string]string{"sha": digests["launcher "]},
		"process-types": map[string]string{"sha": digests["process-types"]},
		"buildpacks":    []any{map[string]any{"key": launchlayer.BuildpackID, "version": "0.1.0", "layers": layers}},
		"runImage":      map[string]string{"topLayer": top, "reference": "run"},
	})
	Expect(err).NotTo(HaveOccurred())
	return string(raw)
}

// digests are those of the layers by name. The lifecycle's launcher has a blank after its name, as ours has it too.
func (f *Image) digests() (byName map[string]string, all []v1.Hash) {
	byName = map[string]string{}
	for _, layer := range f.Layers {
		sum := sha256.Sum256(layer.Archive())
		digest := "sha256:" + hex.EncodeToString(sum[:])
		name := layer.Name
		if name == launchlayer.Launcher && len(layer.Entries) > 0 && layer.Entries[0].Name == "/cnb" {
			name += " "
		}
		byName[name] = digest
		hash, err := v1.NewHash(digest)
		Expect(err).NotTo(HaveOccurred())
		all = append(all, hash)
	}
	return byName, all
}

// Write writes the image as docker save does, after it was altered: the label is the one from before unless relabel
// says otherwise.
func (f *Image) Write(name string, alter func(*Image)) {
	before, hashes := f.digests()
	text := f.metadata(before, hashes[f.top-1].String())
	if alter != nil {
		alter(f)
	}
	byName, hashes := f.digests()
	if f.Relabel {
		text = f.metadata(byName, hashes[f.top-1].String())
	}
	if f.Label != nil {
		text = f.Label(text)
	}
	config := &v1.ConfigFile{
		Architecture: f.arch, OS: f.OS, Config: f.Config, RootFS: v1.RootFS{Type: "layers", DiffIDs: hashes},
	}
	config.Config.Labels = maps.Clone(f.Config.Labels)
	if text != "" {
		config.Config.Labels[lifecycle.MetadataLabel] = text
	}
	config.Config.Labels[lifecycle.BuildLabel] = f.build
	raw, err := json.Marshal(config)
	Expect(err).NotTo(HaveOccurred())
	if f.Document != nil {
		raw = []byte(f.Document(string(raw)))
	}
	files := Layer{Entries: []Entry{Regular("config.json", string(raw), 0o644)}}
	var names []string
	for i, layer := range f.Layers {
		names = append(names, fmt.Sprintf("%d/layer.tar", i))
		archive := layer.Archive()
		if layer.Pack != nil {
			archive = layer.Pack(archive)
		}
		files.Entries = append(files.Entries, Regular(names[i], string(archive), 0o644))
	}
	raw, err = json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": nil, "Layers": names}})
	Expect(err).NotTo(HaveOccurred())
	files.Entries = append(files.Entries, Regular("manifest.json", string(raw), 0o644))
	Expect(os.WriteFile(name, files.Archive(), 0o644)).To(Succeed())
}

// tempDir is a directory that outlives the spec that asks for it.
func tempDir(t *testing.T) string {
	name, err := os.MkdirTemp("", "forged-")
	Expect(err).NotTo(HaveOccurred())
	return name
}
