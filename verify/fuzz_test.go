package verify_test

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
)

// FuzzAlterations alters one thing in an image, wherever it is, with a label that agrees: none is called intact but for what the
// report says that it does not cover.
func FuzzAlterations(f *testing.F) {
	for how := range uint32(kindsOfAlteration) {
		for which := range uint32(8) {
			f.Add(which*7919+how, uint8(how), which*104_729+how*31)
		}
	}
	made := map[string]*imagetest.Image{}
	f.Fuzz(func(t *testing.T, which uint32, how uint8, value uint32) {
		RegisterTestingT(t)
		engine := []string{launch.EngineRelocate, launch.Unrelocated}[which%2]
		if made[engine] == nil {
			made[engine] = imagetest.New(t, engine)
		}
		a := alteration{Image: made[engine].Clone(t), which: int(which / 2), value: int(value)}
		report, out := verifyImage(a.Image, func(f *imagetest.Image) {
			f.Relabel = true
			a.make(int(how) % kindsOfAlteration)
		})
		if a.what != "" && intact(report) {
			t.Errorf("%s, %s: %s", engine, a.what, out)
		}
	})
}

// alteration is one thing to change in an image: the which-th of its kind, to something that value chooses.
type alteration struct {
	*imagetest.Image
	which, value int
	what         string // was changed; "" for nothing
}

const kindsOfAlteration = 8

func (a *alteration) make(how int) {
	switch how {
	case 0:
		a.entry("a bit", func(e *imagetest.Entry) bool { return e.Size > 0 && e.Name != lifecycle.Launcher }, func(e *imagetest.Entry) {
			body := []byte(e.Body)
			body[a.value%len(body)] ^= 1 << (a.value / len(body) % 8)
			e.Body = string(body)
		})
	case 1:
		kinds := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo}
		a.entry("a kind", anyEntry, func(e *imagetest.Entry) {
			kinds = slices.DeleteFunc(kinds, func(kind byte) bool { return kind == e.Typeflag })
			e.Typeflag, e.Body, e.Size, e.Linkname = kinds[a.value%len(kinds)], "", 0, ""
			if e.Typeflag == tar.TypeSymlink {
				e.Linkname = "/usr/bin/env"
			}
		})
	case 2:
		a.entry("gone", anyEntry, func(e *imagetest.Entry) { a.Remove(e.Name) })
	case 3:
		a.entry("a file more", func(e *imagetest.Entry) bool { return e.Typeflag == tar.TypeDir }, func(e *imagetest.Entry) {
			name := path.Join(e.Name, fmt.Sprintf("more-%x", a.value))
			_, layer := a.Find(e.Name)
			layer.Entries = append(layer.Entries, []imagetest.Entry{
				evilFile(name), emptyFile(name), imagetest.Symlink(name, "/usr/bin"), imagetest.Directory(path.Join(e.Name, "lib")),
			}[a.value%4])
		})
	case 4:
		a.entry("a link", func(e *imagetest.Entry) bool { return e.Typeflag == tar.TypeSymlink }, func(e *imagetest.Entry) {
			e.Linkname = []string{e.Linkname + "/", "./" + e.Linkname, "/" + e.Linkname, "/proc/self/root/" + e.Linkname}[a.value%4]
		})
	case 5:
		a.entry("a time", anyEntry, func(e *imagetest.Entry) { e.ModTime = e.ModTime.Add(time.Duration(1+a.value) * time.Second) })
	case 6:
		a.entry("rights", func(e *imagetest.Entry) bool { return e.Typeflag == tar.TypeReg }, func(e *imagetest.Entry) {
			e.Mode ^= []int64{0o020, 0o002, 0o4000, 0o2000, 0o044, 0o400}[a.value%6]
		})
	case 7:
		a.document()
	}
}

func anyEntry(*imagetest.Entry) bool { return true }

// entry changes one of those that are fit for it. The run image, the app's files and bills of materials are not covered.
func (a *alteration) entry(what string, fit func(*imagetest.Entry) bool, change func(*imagetest.Entry)) {
	var all []*imagetest.Entry
	for i := range a.Layers[1:] {
		for j := range a.Layers[1+i].Entries {
			e := &a.Layers[1+i].Entries[j]
			if fit(e) && !strings.HasPrefix(e.Name, "/workspace/") && e.Name != "/workspace" && !strings.HasPrefix(e.Name, "/layers/sbom") {
				all = append(all, e)
			}
		}
	}
	e := all[a.which%len(all)]
	a.what = what + " of " + e.Name
	change(e)
}

// document changes a value of the configuration, or leaves it away.
func (a *alteration) document() {
	a.Document = func(text string) string {
		var document map[string]any
		Expect(json.Unmarshal([]byte(text), &document)).To(Succeed())
		type place struct {
			name string
			set  func(any)
			was  any
		}
		var places []place
		var visit func(value any, name string)
		visit = func(value any, name string) {
			switch value := value.(type) {
			case map[string]any:
				for _, key := range slices.Sorted(maps.Keys(value)) {
					places = append(places, place{name + "." + key, func(v any) { value[key] = v }, value[key]})
					visit(value[key], name+"."+key)
				}
			case []any:
				for i, each := range value {
					places = append(places, place{fmt.Sprintf("%s[%d]", name, i), func(v any) { value[i] = v }, each})
					visit(each, fmt.Sprintf("%s[%d]", name, i))
				}
			}
		}
		visit(document, "")
		at := places[a.which%len(places)]
		was, err := json.Marshal(at.was)
		Expect(err).NotTo(HaveOccurred())
		raw := []string{`"x"`, `""`, `7`, `true`, `null`, `[]`, `["x"]`, `{"x":"y"}`}[a.value%8]
		// When it was made says nothing of what runs; another user is one, as long as he is none of root's.
		if raw == string(was) || at.name == ".created" || at.name == ".config.User" && raw == `"x"` {
			return text
		}
		var value any
		Expect(json.Unmarshal([]byte(raw), &value)).To(Succeed())
		at.set(value)
		a.what = at.name + " as " + raw
		changed, err := json.Marshal(document)
		Expect(err).NotTo(HaveOccurred())
		return string(changed)
	}
}
