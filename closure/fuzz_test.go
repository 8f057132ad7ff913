package closure_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// FuzzReadPrevious: metadata of layers that somebody else may have written is read or refused, says so in clean lines, and
// proves nothing that no trusted key signed and no content address makes.
func FuzzReadPrevious(f *testing.F) {
	f.Add(`{"closure-0001-abc": {"format": 1, "prefix": "/layers/nixproot_nix-hydra/view", "paths": []}}`)
	f.Add(`{"a": null, "b": {"format": "x"}, "c": {"paths": ["00bgd045z0d4icpbc2yyz4gx48ak44la-app 1 2 3"]}}`)
	g := newWorld(1, 12).signed()
	for _, groups := range []int{0, 3} {
		raw, err := json.Marshal((&closure.Result{Graph: g, Groups: plan(g, groups)}).Manifests())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw))
		f.Add(strings.Replace(string(raw), "prefix\":\"/nix/store", "prefix\":\"/layers/nixproot_nix-hydra/view", 99))
	}
	view, err := relocate.NewView("/layers/nixproot_nix-hydra/view")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var layers map[string]map[string]any
		if json.Unmarshal([]byte(text), &layers) != nil {
			return
		}
		manifests := map[string]closure.Manifest{}
		for name, metadata := range layers {
			if m, err := closure.ParseManifest(metadata); err == nil {
				manifests[name] = m
			}
		}
		previous, notes := closure.ReadPrevious(manifests, view)
		notes = append(notes, previous.CheckSignatures(nil)...)
		for _, note := range notes {
			if strings.ContainsAny(note, "\n\r\x1b\x00") {
				t.Fatalf("a note is not one clean line: %q", note)
			}
		}
		for p, n := range previous.Nodes {
			if _, err := storepath.Parse(p.String()); err != nil || n.Path != p {
				t.Fatalf("%q is taken as the store path of %q", p, n.Path)
			}
		}
		for p, n := range previous.Nodes { // without a key, only a content address can be a proof
			if n.CA == "" && n.Signature.Name != "" && previous.IsClosureOf([]storepath.Path{p}) != nil && len(notes) == 0 {
				t.Fatalf("%s is taken without a word", p)
			}
		}
		_ = previous.IsClosureOf(nil)
	})
}
