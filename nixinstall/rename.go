package nixinstall

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// RenameSource computes what an evaluation would have found had its source been called another name: from is the
// source's path in that evaluation, to the same content's path under the other name (SourcePath gives it). It does
// so in the derivations themselves, without evaluating again, and so takes a fraction of the time.
//
// A name reaches a derivation where an expression copies its own directory under that directory's base name, or writes
// its place down. Where an expression does something else with it, the answer is a path that nobody has built;
// an answer that a cache has is always right, since a store path stands for everything it is made from.
func (t Toolchain) RenameSource(ctx context.Context, r Result, from, to storepath.Path) (Result, error) {
	if from == to {
		return r, nil
	}
	unaffected, done := t.renames.of(from)
	defer done()
	n := &renaming{
		unaffected: unaffected, read: t.ReadDrv, from: from, to: to,
		done: map[storepath.Path]*renamed{}, sources: map[storepath.Path]storepath.Path{},
		narHash: func(p storepath.Path) (storepath.Hash, error) {
			return narHash(ctx, t.settings.physical(p.String()), func(string) bool { return true })
		},
	}
	out := Result{Notes: r.Notes, Used: r.Used}
	for _, d := range r.Derivations {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		again, err := n.drv(d.Drv)
		if err != nil {
			return Result{}, fmt.Errorf("renaming the source to %s: %w", to.Name(), err)
		}
		d.Name = strings.ReplaceAll(d.Name, from.Base(), to.Base())
		d.Drv, d.Outputs = again.path, maps.Clone(d.Outputs)
		for name := range d.Outputs {
			d.Outputs[name] = again.outputs[name]
		}
		out.Derivations = append(out.Derivations, d)
	}
	out.install()
	return out, nil
}

// unaffected holds the derivations that no source name reaches: most of them, and the same ones for every name.
type unaffected struct {
	mu   sync.Mutex
	from storepath.Path
	drvs map[storepath.Path]*renamed
}

// of is what is held for one evaluated source, to be read and added to until done is called.
func (u *unaffected) of(from storepath.Path) (drvs map[storepath.Path]*renamed, done func()) {
	if u == nil {
		return map[storepath.Path]*renamed{}, func() {}
	}
	u.mu.Lock()
	if u.from != from {
		u.from, u.drvs = from, map[storepath.Path]*renamed{}
	}
	return u.drvs, u.mu.Unlock
}

// renaming is one name being replaced by another in a graph of derivations.
type renaming struct {
	unaffected map[storepath.Path]*renamed

	read     func(storepath.Path) (*Drv, error)
	narHash  func(storepath.Path) (storepath.Hash, error)
	from, to storepath.Path
	done     map[storepath.Path]*renamed
	sources  map[storepath.Path]storepath.Path
}

// renamed is a derivation under the new name.
type renamed struct {
	path    storepath.Path
	outputs map[string]storepath.Path
	modulo  string
	// replaced are the old and new texts that depend on the name; none where nothing changed.
	replaced []string
}

// known is a derivation that was looked at before.
func (n *renaming) known(p storepath.Path) *renamed {
	if r := n.unaffected[p]; r != nil {
		return r
	}
	return n.done[p]
}

// drv renames one derivation and everything it is made from.
func (n *renaming) drv(p storepath.Path) (*renamed, error) {
	if known := n.known(p); known != nil {
		return known, nil
	}
	old, err := n.read(p)
	if err != nil {
		return nil, err
	}
	pairs := []string{}
	again := *old
	again.InputDrvs = map[storepath.Path][]string{}
	for _, input := range slices.Sorted(maps.Keys(old.InputDrvs)) {
		r, err := n.drv(input)
		if err != nil {
			return nil, err
		}
		again.InputDrvs[r.path] = old.InputDrvs[input]
		pairs = append(pairs, r.replaced...)
	}
	again.InputSrcs = nil
	for _, src := range old.InputSrcs {
		moved, err := n.source(src)
		if err != nil {
			return nil, err
		}
		if moved != src {
			pairs = append(pairs, src.String(), moved.String())
		}
		again.InputSrcs = append(again.InputSrcs, moved)
	}
	slices.Sort(again.InputSrcs)
	pairs = append(pairs, n.from.Base(), n.to.Base())
	again.replace(strings.NewReplacer(pairs...))
	result, err := n.finish(p, old, &again)
	if err == nil {
		n.done[p] = result
	}
	return result, err
}

// source is the path of an input source under the new name: a copy of the source, whole or filtered, is called by
// the base name of the directory it was made from. A derivation's own text can be a source, too.
func (n *renaming) source(p storepath.Path) (storepath.Path, error) {
	if p == n.from {
		return n.to, nil
	}
	if strings.HasSuffix(p.Name(), ".drv") {
		r, err := n.drv(p)
		if err != nil {
			return "", err
		}
		return r.path, nil
	}
	if !strings.Contains(p.Name(), n.from.Base()) {
		return p, nil
	}
	if known, ok := n.sources[p]; ok {
		return known, nil
	}
	hash, err := n.narHash(p)
	if err != nil {
		return "", err
	}
	if was, err := fixedPath(hash, p.Name()); err != nil || was != p {
		return "", fmt.Errorf("%s is no plain copy of a directory", p)
	}
	moved, err := fixedPath(hash, strings.ReplaceAll(p.Name(), n.from.Base(), n.to.Base()))
	n.sources[p] = moved
	return moved, err
}

// replace rewrites every text of the derivation.
func (d *Drv) replace(r *strings.Replacer) {
	d.Builder = r.Replace(d.Builder)
	d.Args = slices.Clone(d.Args)
	for i, arg := range d.Args {
		d.Args[i] = r.Replace(arg)
	}
	env := make(map[string]string, len(d.Env))
	for name, value := range d.Env {
		env[name] = r.Replace(value)
	}
	d.Env = env
}

// finish computes the derivation's new places. What it computes for the old ones must be what Nix wrote: that
// guards against derivations of a kind that is not known here.
func (n *renaming) finish(p storepath.Path, old, again *Drv) (*renamed, error) {
	was := strings.TrimSuffix(p.Name(), ".drv")
	name := strings.ReplaceAll(was, n.from.Base(), n.to.Base())
	touched := name != was || again.String() != old.String()
	outputs, err := again.fillInOutputPaths(name, n.moduloOf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	result := &renamed{outputs: outputs}
	if result.path, err = again.drvPath(name); err != nil {
		return nil, err
	}
	if result.modulo, err = again.modulo(false, n.moduloOf); err != nil {
		return nil, err
	}
	for output, o := range old.Outputs {
		if o.Path != outputs[output] {
			result.replaced = append(result.replaced, o.Path.String(), outputs[output].String())
		}
	}
	if result.path != p {
		result.replaced = append(result.replaced, p.String(), result.path.String())
	}
	if oldPath, err := old.drvPath(was); err != nil || oldPath != p || !touched && len(result.replaced) > 0 {
		return nil, fmt.Errorf("%s is a derivation of an unknown kind", p)
	}
	if !touched {
		n.unaffected[p] = result
	}
	n.done[result.path] = result
	return result, nil
}

// moduloOf is the hash of a derivation that was renamed before, by its new path.
func (n *renaming) moduloOf(p storepath.Path) (string, error) {
	if known := n.known(p); known != nil {
		return known.modulo, nil
	}
	return "", fmt.Errorf("%s was not looked at", p)
}

// fillInOutputPaths computes the output paths of the derivation and writes them into it.
func (d *Drv) fillInOutputPaths(name string, input moduloFunc) (map[string]storepath.Path, error) {
	outputs := map[string]storepath.Path{}
	if d.IsFixedOutput() {
		outputs["out"] = d.Outputs["out"].Path
		return outputs, nil
	}
	masked, err := d.modulo(true, input)
	if err != nil {
		return nil, err
	}
	written := map[string]DrvOutput{}
	for output, o := range d.Outputs {
		if o.Path == "" || o.HashAlgo != "" {
			return nil, fmt.Errorf("output %q has no path before it is built", output)
		}
		p, err := outputPath(masked, name, output)
		if err != nil {
			return nil, err
		}
		written[output], outputs[output] = DrvOutput{Path: p}, p
		if _, ok := d.Env[output]; ok {
			d.Env[output] = p.String()
		}
	}
	d.Outputs = written
	return outputs, nil
}
