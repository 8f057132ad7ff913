package imagetest

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

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
