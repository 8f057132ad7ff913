package nixproot

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/image"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/inspect"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

const inspectUsage = `usage: inspect [--json | --html] IMAGE
       inspect why [--json] IMAGE PATH
       inspect diff [--json] IMAGE OTHER
       inspect verify [OPTION]... IMAGE

Shows what is in IMAGE: by store path and by layer, how large, and who is said to have signed it; with --html as one
page with a treemap, which needs nothing else. It judges nothing of it: that is verify's, which bin/verify is too.

  why     the chain of references from a root to PATH, which is a store path or a part of its name
  diff    what OTHER has that IMAGE has not, and the other way round
  verify  who signed what, and whether anything was altered; inspect verify --help says more

IMAGE is a file that docker save wrote, an OCI layout (a directory or an archive), or a buildpack's layers directory.
`

// Inspect is the inspect command. It writes what it shows to out and returns the exit status: 0, or 2 where the image
// cannot be read.
func Inspect(args []string, out io.Writer) int {
	if len(args) > 0 && args[0] == "verify" {
		return Verify(args[1:], out)
	}
	flags := flag.NewFlagSet("inspect", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { fmt.Fprint(out, inspectUsage) }
	asJSON := flags.Bool("json", false, "")
	asHTML := flags.Bool("html", false, "")
	names, err := interspersed(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	verb, want := "", 1
	for i, name := range names[:min(len(names), 2)] { // before the image or after it
		if len(names) == 3 && (name == "why" || name == "diff") {
			verb, want, names = name, 2, slices.Delete(names, i, i+1)
			break
		}
	}
	if err != nil || len(names) != want || *asHTML && (*asJSON || verb != "") {
		if err == nil {
			flags.Usage()
		}
		return verifyFailed
	}
	shown, err := within(func(ctx context.Context) ([]byte, error) {
		var text bytes.Buffer
		err := inspectImage(ctx, &text, verb, names, *asJSON, *asHTML)
		return text.Bytes(), err
	})
	if err == nil {
		_, err = out.Write(shown)
	}
	if err != nil {
		fmt.Fprintf(out, "inspect: %s\n", inspect.Printable(err.Error()))
		return verifyFailed
	}
	return 0
}

// interspersed parses flags before, between and after other arguments.
func interspersed(flags *flag.FlagSet, args []string) (names []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return names, nil
		}
		names, args = append(names, flags.Arg(0)), flags.Args()[1:]
	}
}

// within does something that ends soon after a signal, whatever it is reading: a file system that does not answer would
// not let it end by itself.
func within[T any](do func(context.Context) (T, error)) (T, error) {
	ctx, stop := interruptible()
	defer stop()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(interruptedWithin):
		var none T
		return none, context.Cause(ctx)
	}
}

// inspectImage does what a verb says.
func inspectImage(ctx context.Context, out io.Writer, verb string, names []string, asJSON, asHTML bool) error {
	report, err := readReport(ctx, names[0])
	if err != nil {
		return err
	}
	switch {
	case verb == "why":
		all, err := report.Why(names[1])
		if err != nil || !asJSON {
			return errors.Join(err, inspect.WriteWhy(out, all))
		}
		return inspect.WriteJSON(out, all)
	case verb == "diff":
		other, err := readReport(ctx, names[1])
		if err != nil {
			return err
		}
		d := inspect.Compare(report, other)
		if asJSON {
			return d.JSON(out)
		}
		return d.Text(out)
	case asJSON:
		return report.JSON(out)
	case asHTML:
		return report.HTML(out)
	}
	return report.Text(out)
}

// readReport reads what an image, or a directory of layers, holds.
func readReport(ctx context.Context, name string) (*inspect.Report, error) {
	r := &inspect.Report{
		Name: name, Roots: []string{}, Processes: []inspect.Process{}, Layers: []inspect.Layer{}, Paths: []inspect.Path{},
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() && !image.IsImage(name) {
		layers, done, err := readLayers(ctx, name)
		if err != nil {
			return nil, err
		}
		defer done()
		for _, each := range layers.Names() {
			if child := layers.Child(each); child.Kind == filetree.Directory {
				l := inspect.Layer{Number: len(r.Layers) + 1, Name: each}
				l.Files, l.Size = sizeOf(child)
				r.Layers = append(r.Layers, l)
			}
		}
		r.Name = filepath.Clean(name)
		readClosure(ctx, r, layers)
		return r, nil
	}
	img, err := image.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	a := newAccount(img, "", verifyOptions{})
	a.environment()
	a.labels()
	overlay, err := img.Overlay(ctx, "", a.describes)
	if err != nil {
		return nil, err
	}
	defer overlay.Close()
	a.root = overlay.Root
	r.ID, r.Architecture = img.ID, img.Config.OS+"/"+img.Config.Architecture
	r.Buildpack, r.RunImage = a.version, a.runImage
	for n, l := range img.Layers {
		what := a.names[l.DiffID]
		if what == "" {
			what = l.History
		}
		if n < a.above {
			what = strings.TrimSuffix("run image: "+what, ": ")
		}
		r.Layers = append(r.Layers, inspect.Layer{Number: n + 1, DiffID: l.DiffID, Name: what, Stored: l.Size})
	}
	overlay.Root.Walk("/", func(_ string, f *filetree.File) bool {
		if f.Kind != filetree.Directory && f.Layer >= 0 && f.Layer < len(r.Layers) {
			r.Layers[f.Layer].Files++
			r.Layers[f.Layer].Size += f.Size
		}
		return true
	})
	layers, _, err := overlay.Root.Resolve(path.Join(a.layersDir, buildpackDir))
	if err != nil || !hasClosure(layers) {
		return nil, errNoClosure
	}
	readClosure(ctx, r, layers)
	a.readProcesses(path.Join(a.layersDir, processMetadata))
	for _, p := range a.processes {
		r.Processes = append(r.Processes, inspect.Process{Type: p.Type, Command: strings.Join(p.argv(), " ")})
	}
	for _, f := range a.findings {
		if f.word == altered {
			r.Problems = append(r.Problems, f.where+": "+f.why)
		}
	}
	return r, ctx.Err()
}

// describes says of which files inspect reads the contents: those that say what the others are.
func (a *account) describes(place string) bool {
	if !below(place, a.layersDir) {
		return false
	}
	return slices.Contains([]string{closure.RecordsName, launch.ConfigName, path.Base(processMetadata)}, path.Base(place))
}

func sizeOf(root *filetree.File) (files int, size int64) {
	root.Walk("", func(_ string, f *filetree.File) bool {
		if f.Kind != filetree.Directory {
			files++
			size += f.Size
		}
		return true
	})
	return files, size
}

// readClosure adds the store paths in a buildpack's layers, and what the launcher is told.
func readClosure(ctx context.Context, r *inspect.Report, layers *filetree.File) {
	f := folder{layers: layers}
	if err := f.readConfig(); err != nil {
		r.Problems = append(r.Problems, err.Error())
	} else {
		r.Engine, r.Requested, r.Reason = f.config.Engine, f.config.Requested, f.config.Reason
		r.Roots = append(r.Roots, f.config.StorePaths...)
	}
	counts := map[string]int{}
	for _, name := range layers.Names() {
		layer := layers.Child(name)
		if !strings.HasPrefix(name, closure.LayerPrefix) || layer.Kind != filetree.Directory {
			continue
		}
		prefix, records, err := closure.ReadRecords(ctx, layer)
		if err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("layer %s does not say what it holds: %s", name, err))
			continue
		}
		r.Prefix = prefix
		for _, record := range records {
			r.Paths = append(r.Paths, storePath(record, name, layer))
			counts[name]++
		}
	}
	for i := range r.Layers {
		name := r.Layers[i].Name
		r.Layers[i].Paths = counts[name[strings.LastIndexByte(name, ':')+1:]]
	}
	r.Sort()
}

func storePath(record closure.Record, name string, layer *filetree.File) inspect.Path {
	p := inspect.Path{
		Path: record.Path, Layer: name, NarHash: record.NarHash, ContentAddress: record.CA, Fixups: len(record.Fixups),
		References: record.References,
	}
	var output string
	p.Name, p.Version, output = sbom.ParseName(record.Path.Name())
	if output != "" {
		p.Name += "-" + output
	}
	for _, signature := range record.Signatures {
		key, _, _ := strings.Cut(signature, ":")
		p.Keys = append(p.Keys, key)
	}
	p.Files, p.Size = sizeOf(layer.Child(record.Path.Base()))
	return p
}
