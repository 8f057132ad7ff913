package nixproot

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
)

// FuzzRecord: a record of the last build and what the lifecycle says of the previous image's label are read or refused in
// a clean line, and only layers that both have, with the same digest, count as being in the image.
func FuzzRecord(f *testing.F) {
	const path = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app-1.0"
	good, err := json.Marshal(buildRecord{Format: recordFormat, System: "x86_64-linux", Key: "k",
		Layers: map[string]recordedLayer{"closure-0001-x": {DiffID: "sha256:1", Manifest: closure.Manifest{Version: 2, Format: 1}}}})
	if err != nil {
		f.Fatal(err)
	}
	label := "[[metadata.buildpacks]]\nkey = \"nixproot/nix-hydra\"\n[metadata.buildpacks.layers.closure-0001-x]\nsha = \"sha256:1\"\n"
	f.Add(string(good), label)
	f.Add(strings.Replace(string(good), `"roots":{`, `"roots":{"paths":["`+path+`"],"mainProgram":"a;b",`, 1), label)
	f.Add(`{"format":3,"system":"x86_64-linux","roots":{"paths":["`+path+`"]},"bins":[null,{"dir":"../..","programs":["-x","a b"]}],`+
		`"resources":{"`+path+`":["../../etc/passwd"]},"layers":{"../x":{"diffID":"","manifest":{"paths":["x"]}}}}`, "a = [[[[]]]]")
	f.Add(`{"format":9}`, strings.Repeat("a=1\n", 100))
	f.Fuzz(func(t *testing.T, record, analyzed string) {
		dir := t.TempDir()
		layers := filepath.Join(dir, "layers")
		for name, text := range map[string]string{
			filepath.Join(layers, recordLayer, recordName): record, filepath.Join(dir, "analyzed.toml"): analyzed,
		} {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		digests, err := previousLayers(t.Context(), layers, "nixproot/nix-hydra")
		clean(t, err)
		r, err := readRecord(t.Context(), layers, "x86_64-linux")
		clean(t, err)
		if err != nil {
			return
		}
		if r.validate() != nil || !isProgramName(r.Roots.MainProgram) {
			t.Fatalf("a record is taken that no build writes: %+v", r)
		}
		for _, layer := range r.inImage(digests) {
			if digests[layer] == "" || digests[layer] != r.Layers[layer].DiffID {
				t.Fatalf("layer %q is not in the image", layer)
			}
		}
		manifests := map[string]closure.Manifest{}
		for name, layer := range r.Layers {
			manifests[name] = layer.Manifest
		}
		found, notes := closure.ReadPrevious(manifests, relocate.View{})
		for _, note := range append(notes, found.CheckSignatures(nil)...) {
			if strings.ContainsAny(note, "\n\r\x1b\x00") {
				t.Fatalf("a note is not one clean line: %q", note)
			}
		}
	})
}

func clean(t *testing.T, err error) {
	if err != nil && strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
		t.Fatalf("an error is not one clean line: %q", err)
	}
}
