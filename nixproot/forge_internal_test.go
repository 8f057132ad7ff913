package nixproot

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
	"time"

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
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// forged is an image in pieces, as the lifecycle would export it, to be altered and written down.
type forged struct {
	t      *testing.T
	layers []forgedLayer
	config v1.Config
	arch   string
	top    int // how many layers the run image has
	data   map[string]map[string]any
	build  string // the label of the build
	// relabel has the label list the layers as they are after an alteration.
	relabel bool
	// label, if set, changes the label's text at the end.
	label func(string) string

	key     string // the public key
	app     storepath.Path
	lib     storepath.Path
	appFile string // the app's program, in the image
	bin     string // the directory with this version's launcher
}

// forgedLayer is one layer: what the label knows it as, and its entries.
type forgedLayer struct {
	name    string
	entries []entry
	cut     bool // the archive ends in the middle
}

type entry struct {
	tar.Header
	body string
}

const (
	forgedDir  = "/layers/nixproot_nix-hydra"
	forgedView = forgedDir + "/view"
)

// forge makes an image of a small signed closure.
func forge(t *testing.T, engine string) *forged {
	f := &forged{t: t, arch: runtime.GOARCH, data: map[string]map[string]any{}, bin: tempDir(t)}
	launcher := filepath.Join(f.bin, "launch")
	Expect(os.WriteFile(launcher, []byte("the launcher"), 0o755)).To(Succeed())
	result, layers := f.closure(engine)

	f.run("run image", dir("/etc"), file("/etc/passwd", "root:x:0:0", 0o644), dir("/usr"), dir("/usr/bin"),
		file("/usr/bin/env", "#!", 0o755), dir("/lib64"), link("/lib", "usr/lib"))
	f.top = 1
	for _, group := range result.Groups {
		f.fromDisk(group.Layer, layers.Path)
		f.data[group.Layer] = result.Manifests()[group.Layer].Metadata()
	}
	f.fromDisk(viewLayer, layers.Path)
	program := filepath.Join(forgedDir, f.groupOf(result, f.app), f.app.Base(), "bin")
	f.appFile = path.Join(program, "app")
	config := launch.Config{Engine: engine, View: forgedView, Bin: []string{program}, StorePaths: []string{f.app.String()}}
	if engine == launch.Unrelocated {
		config.Bin = []string{f.app.String() + "/bin"}
	}
	made, err := RunLayer(layers, config)
	Expect(err).NotTo(HaveOccurred())
	f.fromDisk(runLayer, layers.Path)
	for name, value := range made.LaunchEnvironment {
		f.append(runLayer, file(path.Join(forgedDir, runLayer, "env.launch", name),
			strings.ReplaceAll(value, layers.Path, forgedDir), 0o644))
	}
	_, err = LauncherLayer(layers, launcher)
	Expect(err).NotTo(HaveOccurred())
	f.fromDisk(launcherLayer, layers.Path)
	f.run("sbom", dir("/layers/sbom"), dir("/layers/sbom/launch"), file("/layers/sbom/launch/sbom.json", "{}", 0o644))
	f.run("app", dir("/workspace"), file("/workspace/Procfile", "web: run_proot.sh app\n", 0o644))
	f.run("launcher", dir("/cnb"), dir("/cnb/lifecycle"), file("/cnb/lifecycle/launcher", "the lifecycle's launcher", 0o755))
	f.run("config", dir("/layers/config"))
	f.run("process-types", dir("/cnb"), dir("/cnb/process"), link("/cnb/process/web", "/cnb/lifecycle/launcher"))
	f.processes(process{Type: "web", Command: []any{
		forgedDir + "/launcher/bin/nix-hydra-launch", "--process", "run_proot.sh app",
	}, Args: []string{}, Direct: true, BuildpackID: buildpackID}, true)
	f.config = v1.Config{
		User: "1000:1000", WorkingDir: "/workspace", Entrypoint: []string{"/cnb/process/web"}, Labels: map[string]string{},
		Env: []string{
			"PATH=/cnb/process:/cnb/lifecycle:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"CNB_LAYERS_DIR=/layers", "CNB_APP_DIR=/workspace", "CNB_PLATFORM_API=0.14", "CNB_DEPRECATION_MODE=quiet",
		},
	}
	return f
}

// clone is the same image, to be altered in another test.
func (f *forged) clone(t *testing.T) *forged {
	c := *f
	c.t, c.layers = t, nil
	for _, layer := range f.layers {
		layer.entries = slices.Clone(layer.entries)
		c.layers = append(c.layers, layer)
	}
	c.config.Env = slices.Clone(f.config.Env)
	c.config.Labels = maps.Clone(f.config.Labels)
	return &c
}

// processes writes the process type into the layer and, where the label is to agree, there.
func (f *forged) processes(p process, label bool) {
	table := map[string]any{
		"buildpacks": []map[string]string{{"api": "0.10", "id": buildpackID}},
		"processes": []map[string]any{{
			"type": p.Type, "command": p.Command, "args": p.Args, "direct": p.Direct, "buildpack-id": p.BuildpackID,
			"working-dir": p.WorkingDir,
		}},
	}
	raw, err := toml.Marshal(table)
	Expect(err).NotTo(HaveOccurred())
	f.replace("/layers/config/metadata.toml", string(raw), "config")
	if label {
		raw, err := json.Marshal(map[string]any{"processes": []process{p}})
		Expect(err).NotTo(HaveOccurred())
		f.build = string(raw)
	}
}

// configuration is the launcher's.
func (f *forged) configuration() launch.Config {
	config, err := launch.ParseConfig([]byte(f.must(forgedDir + "/run/nix-hydra.json").body))
	Expect(err).NotTo(HaveOccurred())
	return config
}

// configure writes the launcher's configuration as the build does.
func (f *forged) configure(config launch.Config) {
	name := filepath.Join(tempDir(f.t), launch.ConfigName)
	Expect(config.Write(name)).To(Succeed())
	raw, err := os.ReadFile(name)
	Expect(err).NotTo(HaveOccurred())
	f.replace(forgedDir+"/run/nix-hydra.json", string(raw), "")
}

// closure substitutes three signed paths from a cache and places them.
func (f *forged) closure(engine string) (*closure.Result, libcnb.Layers) {
	ctx := context.Background()
	seed := sha256.Sum256([]byte("forged"))
	key := ed25519.NewKeyFromSeed(seed[:])
	public := narinfo.PublicKey{Name: "forged-1", Key: key.Public().(ed25519.PublicKey)}
	f.key = public.String()
	store := tempDir(f.t)
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
	f.lib = add("lib", "a library, SELF\n")
	other := add("other", "another\n")
	f.app = add("app", "#!"+f.lib.String()+"/bin/lib\nSELF "+other.String()+"\n", f.lib, other)
	set, err := cache.Open(ctx, cache.Options{
		URLs: []string{"file://" + store}, Keys: narinfo.Keys{public}, RequireSigs: true,
		Retry: cache.RetryPolicy{Attempts: 1, Backoff: time.Millisecond},
	})
	Expect(err).NotTo(HaveOccurred())
	defer set.Close()
	layers := libcnb.Layers{Path: tempDir(f.t)}
	var layout relocate.Layout
	if engine == launch.EngineRelocate {
		layout, err = relocate.NewLayout(forgedView)
		Expect(err).NotTo(HaveOccurred())
	}
	staging := filepath.Join(layers.Path, stagingDir)
	result, err := closure.Substitute(ctx, closure.Options{
		Caches: set, Roots: []storepath.Path{f.app}, Staging: staging, Layout: layout,
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(closure.Install(ctx, result, staging, layers.Path)).To(Succeed())
	Expect(closure.View(ctx, filepath.Join(layers.Path, viewLayer), result.Groups, forgedDir, layout)).To(Succeed())
	return result, layers
}

func (f *forged) groupOf(result *closure.Result, p storepath.Path) string {
	for _, group := range result.Groups {
		if slices.Contains(group.Paths, p) {
			return group.Layer
		}
	}
	f.t.Fatal("no group has ", p)
	return ""
}

// run adds a layer at the end.
func (f *forged) run(name string, entries ...entry) {
	f.layers = append(f.layers, forgedLayer{name: name, entries: entries})
}

// first puts a layer before all others, into the run image.
func (f *forged) first(entries ...entry) {
	f.layers = slices.Insert(f.layers, 0, forgedLayer{name: "below", entries: entries})
	f.top++
}

// append adds entries to a layer.
func (f *forged) append(name string, entries ...entry) {
	for i := range f.layers {
		if f.layers[i].name == name {
			f.layers[i].entries = append(f.layers[i].entries, entries...)
		}
	}
}

// find is an entry, and the layer it is in.
func (f *forged) find(name string) (*entry, *forgedLayer) {
	for i := len(f.layers) - 1; i >= 0; i-- {
		for j := range f.layers[i].entries {
			if f.layers[i].entries[j].Name == name {
				return &f.layers[i].entries[j], &f.layers[i]
			}
		}
	}
	return nil, nil
}

// must is an entry that is there.
func (f *forged) must(name string) *entry {
	e, _ := f.find(name)
	if e == nil {
		f.t.Fatal("the image has no ", name)
	}
	return e
}

// remove takes an entry, and what is below it, out of its layer.
func (f *forged) remove(name string) {
	for i := range f.layers {
		f.layers[i].entries = slices.DeleteFunc(f.layers[i].entries, func(e entry) bool { return below(e.Name, name) })
	}
}

// replace gives a file other contents, or adds it to a layer.
func (f *forged) replace(name, body, layer string) {
	if e, _ := f.find(name); e != nil {
		e.body, e.Size = body, int64(len(body))
		return
	}
	f.append(layer, file(name, body, 0o644))
}

// withName are the names of entries that hold a text.
func (f *forged) withName(text string) []string {
	var names []string
	for _, layer := range f.layers {
		for _, e := range layer.entries {
			if strings.Contains(e.Name, text) {
				names = append(names, e.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fromDisk adds a layer of this buildpack as the lifecycle's exporter writes it.
func (f *forged) fromDisk(name, layers string) {
	entries := []entry{dir("/layers"), dir(forgedDir)}
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
		place := path.Join(forgedDir, rel)
		switch {
		case d.IsDir():
			e := dir(place)
			e.Mode = int64(info.Mode().Perm())
			entries = append(entries, e)
		case info.Mode().IsRegular():
			raw, err := os.ReadFile(each)
			if err != nil {
				return err
			}
			entries = append(entries, file(place, string(raw), int64(info.Mode().Perm())))
		default:
			target, err := os.Readlink(each)
			if err != nil {
				return err
			}
			entries = append(entries, link(place, target))
		}
		return nil
	})
	Expect(err).NotTo(HaveOccurred())
	f.run(name, entries...)
}

func dir(name string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, Uid: 1000, Gid: 1000}}
}

func file(name, body string, mode int64) entry {
	return entry{tar.Header{
		Name: name, Typeflag: tar.TypeReg, Mode: mode, Uid: 1000, Gid: 1000, Size: int64(len(body)),
	}, body}
}

func link(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
}

func hardLink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o444}}
}

func special(name string, kind byte) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: kind, Mode: 0o666, Devmajor: 1, Devminor: 5}}
}

// archive is a layer's uncompressed bytes.
func (l forgedLayer) archive() []byte {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, e := range l.entries {
		header := e.Header
		Expect(w.WriteHeader(&header)).To(Succeed(), e.Name)
		_, err := w.Write([]byte(e.body))
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(w.Close()).To(Succeed())
	if l.cut {
		return text.Bytes()[:text.Len()/2]
	}
	return text.Bytes()
}

// metadata is the label's text for layers with these digests.
func (f *forged) metadata(digests map[string]string, top string) string {
	layers := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		if strings.HasPrefix(name, closure.LayerPrefix) || slices.Contains([]string{viewLayer, runLayer, launcherLayer}, name) {
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
		"buildpacks":    []any{map[string]any{"key": buildpackID, "version": "0.1.0", "layers": layers}},
		"runImage":      map[string]string{"topLayer": top, "reference": "run"},
	})
	Expect(err).NotTo(HaveOccurred())
	return string(raw)
}

// digests are those of the layers by name. The lifecycle's launcher has a blank after its name, as ours has it too.
func (f *forged) digests() (byName map[string]string, all []v1.Hash) {
	byName = map[string]string{}
	for _, layer := range f.layers {
		sum := sha256.Sum256(layer.archive())
		digest := "sha256:" + hex.EncodeToString(sum[:])
		name := layer.name
		if name == launcherLayer && len(layer.entries) > 0 && layer.entries[0].Name == "/cnb" {
			name += " "
		}
		byName[name] = digest
		hash, err := v1.NewHash(digest)
		Expect(err).NotTo(HaveOccurred())
		all = append(all, hash)
	}
	return byName, all
}

// write writes the image as docker save does, after it was altered: the label is the one from before unless relabel
// says otherwise.
func (f *forged) write(name string, alter func(*forged)) {
	before, hashes := f.digests()
	text := f.metadata(before, hashes[f.top-1].String())
	if alter != nil {
		alter(f)
	}
	byName, hashes := f.digests()
	if f.relabel {
		text = f.metadata(byName, hashes[f.top-1].String())
	}
	if f.label != nil {
		text = f.label(text)
	}
	config := &v1.ConfigFile{
		Architecture: f.arch, OS: "linux", Config: f.config, RootFS: v1.RootFS{Type: "layers", DiffIDs: hashes},
	}
	config.Config.Labels = maps.Clone(f.config.Labels)
	if text != "" {
		config.Config.Labels[lifecycleLabel] = text
	}
	config.Config.Labels[buildLabel] = f.build
	raw, err := json.Marshal(config)
	Expect(err).NotTo(HaveOccurred())
	files := forgedLayer{entries: []entry{file("config.json", string(raw), 0o644)}}
	var names []string
	for i, layer := range f.layers {
		names = append(names, fmt.Sprintf("%d/layer.tar", i))
		files.entries = append(files.entries, file(names[i], string(layer.archive()), 0o644))
	}
	raw, err = json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": nil, "Layers": names}})
	Expect(err).NotTo(HaveOccurred())
	files.entries = append(files.entries, file("manifest.json", string(raw), 0o644))
	Expect(os.WriteFile(name, files.archive(), 0o644)).To(Succeed())
}

// verify runs the command on the image, and gives what it said.
func (f *forged) verify(alter func(*forged), more ...string) (int, string) {
	name := filepath.Join(f.t.TempDir(), "image.tar")
	f.write(name, alter)
	return f.verifyFile(name, more...)
}

func (f *forged) verifyFile(name string, more ...string) (int, string) {
	var out bytes.Buffer
	options, name, err := parseVerify(append(append([]string{"--key", f.key}, more...), name), &out)
	Expect(err).NotTo(HaveOccurred(), out.String())
	options.bin = f.bin
	v, err := verifyImage(context.Background(), name, options)
	if err != nil {
		return verifyFailed, err.Error()
	}
	return v.report(&out), out.String()
}

// tempDir is a directory that outlives the spec that asks for it.
func tempDir(t *testing.T) string {
	name, err := os.MkdirTemp("", "forged-")
	Expect(err).NotTo(HaveOccurred())
	return name
}
