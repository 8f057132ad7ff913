package imagetest

import (
	"archive/tar"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

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

// AddProcess adds a process type of another buildpack, with its link, and to the label.
func (f *Image) AddProcess(p lifecycle.Process) {
	types := f.Must("/layers/config/metadata.toml")
	raw, err := toml.Marshal(map[string]any{
		"buildpacks": []map[string]string{{"api": "0.10", "id": p.BuildpackID}},
		"processes":  []lifecycle.Process{p},
	})
	Expect(err).NotTo(HaveOccurred())
	f.Replace(types.Name, types.Body+"\n"+string(raw), "config")
	f.Append("process-types", Symlink(path.Join("/cnb/process", p.Type), "/cnb/lifecycle/launcher"))
	var build struct {
		Processes []lifecycle.Process `json:"processes"`
	}
	Expect(json.Unmarshal([]byte(f.build), &build)).To(Succeed())
	build.Processes = append(build.Processes, p)
	raw, err = json.Marshal(build)
	Expect(err).NotTo(HaveOccurred())
	f.build = string(raw)
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
