package roots

import "context"

// otherSystems are the systems that images are for, each with the one that a jobset was mostly written for instead.
var otherSystems = map[string]string{"x86_64-linux": "aarch64-linux", "aarch64-linux": "x86_64-linux"}

// otherSystem evaluates the source for the other system: where the caches have that, ours is what nobody builds.
func (d *diagnosis) otherSystem(ctx context.Context) []Finding {
	other, ok := otherSystems[d.Settings.System]
	if !ok {
		return nil
	}
	e := d.evaluation
	e.Settings.System, e.nix = other, e.nix.For(other)
	found, _, err := e.search(ctx, files{dir: d.Source, exclude: d.Exclude}, silent)
	if err != nil || found == nil { // an expression need not know the other system
		return nil
	}
	return []Finding{OtherSystem{
		Name: d.nearest.missing[0].Name(), System: d.Settings.System, Have: []string{other}, Cached: outputPaths(found.result)[0],
	}}
}
