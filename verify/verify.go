// Package verify proves what an image of this buildpack runs: that each store path is what a trusted key signed, and that
// everything else which decides what the image starts is as this buildpack and the lifecycle make it, or is named. It needs
// nothing but the image and the keys, and believes nothing that the image says of itself.
package verify

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/closurelayer"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image"
)

// Options says what to hold an image against. All of it may be left out; what cannot be told then is in the report.
type Options struct {
	// Keys are the keys that store paths have to be signed by.
	Keys narinfo.Keys
	// Roots are the roots that the image has to have, and no others.
	Roots []storepath.Path
	// Accept names what the caller answers for: environment variables, files, directories with what is in them.
	Accept []string
	// Launcher and Lifecycle are the SHA-256 of this buildpack's and of the lifecycle's launcher, in hex.
	Launcher, Lifecycle string
	// OwnLauncher is the SHA-256 to compare with where Launcher is "": that of the launcher which this version of the
	// buildpack puts into images of an architecture, as Go names it; "" where it is not known.
	OwnLauncher func(architecture string) string
	// BuildLayers are the names of the layers that the buildpack makes for the build alone: a layers directory has them, an
	// image does not.
	BuildLayers []string
	// PRoots are the SHA-256 of the PRoot programs that the buildpack pins, in hex.
	PRoots []string
}

// Report is what Image found.
type Report struct {
	// Paths are the store paths, in order.
	Paths []Path
	// Problems are what is not as it should be, in order.
	Problems []Problem
	// Accepted are what would be Problems, had Options.Accept not named them.
	Accepted []Accepted
	// Facts are lines about what cannot be proven, for people to compare.
	Facts []string
	// NotCovered is what the report says nothing about, beyond what the app itself does.
	NotCovered []string
	// More says that there are more problems than Problems has.
	More bool
}

// maxProblems bounds the problems that are kept. Of each kind many fewer are listed.
const maxProblems = 50_000

// Problem is something beside the store paths that is not as it should be, or that nobody can account for.
type Problem struct {
	Kind  Kind
	Where string // a file in the image, or what else it is about
	Why   string
}

// Accepted is a problem that the caller answers for.
type Accepted struct {
	Problem
	By string // the one of Options.Accept that is about it
}

// Kind is how bad a problem is.
type Kind string

const (
	// Altered is not what was made.
	Altered Kind = "ALTERED"
	// Extra belongs to nothing that was made.
	Extra Kind = "EXTRA"
	// Unknown may be right, and this program cannot tell.
	Unknown Kind = "UNKNOWN"
)

func (r *Report) add(kind Kind, where, format string, args ...any) {
	if r.More = len(r.Problems) >= maxProblems; r.More {
		return
	}
	r.Problems = append(r.Problems, Problem{kind, where, fmt.Sprintf(format, args...)})
}

// Intact reports whether all store paths are what a trusted key signed, and nothing else was found.
func (r *Report) Intact() bool {
	for _, p := range r.Paths {
		if p.Problem != "" || p.Signed == "" {
			return false
		}
	}
	return len(r.Problems) == 0 && !r.More
}

// Image verifies an image on disk, as package image reads it, or a buildpack's layers directory as a build or a container
// has it. An error means that it could not be read, or that there is no closure of this buildpack in it.
func Image(ctx context.Context, name string, options Options) (*Report, error) {
	temp, err := os.MkdirTemp("", "nix-hydra-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	defer func() { _ = nar.RemoveAll(temp) }()
	r := &Report{}
	read := verifyImage
	if info, err := os.Stat(name); err == nil && info.IsDir() && !image.IsImage(name) {
		read = verifyDirectory
	}
	if err := read(ctx, r, name, temp, options); err != nil {
		return nil, err
	}
	r.accept(options.Accept)
	r.sort()
	return r, nil
}

// accept takes out the problems about what the person at the command line answers for, and says which those are.
func (r *Report) accept(names []string) {
	used := map[string]bool{}
	r.Problems = slices.DeleteFunc(r.Problems, func(f Problem) bool {
		by := slices.IndexFunc(names, func(name string) bool {
			return f.Where == name || strings.HasPrefix(name, "/") && below(f.Where, path.Clean(name))
		})
		if f.Kind == Altered || by < 0 {
			return false
		}
		name := names[by]
		used[name] = true
		r.Accepted = append(r.Accepted, Accepted{f, name})
		return true
	})
	for _, name := range names {
		if used[name] {
			r.NotCovered = append(r.NotCovered, name+" (--accept)")
		} else {
			r.Facts = append(r.Facts, "unused    --accept "+name+" is about nothing that was found")
		}
	}
}

func verifyImage(ctx context.Context, r *Report, name, temp string, options Options) error {
	img, err := image.Open(ctx, name)
	if err != nil {
		return err
	}
	defer img.Close()
	c := imageCheck{Report: r, img: img, temp: temp, options: options}
	return c.check(ctx)
}

func verifyDirectory(ctx context.Context, r *Report, name, temp string, options Options) error {
	layers, done, err := closurelayer.Open(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	r.NotCovered = append(r.NotCovered, "how the directory gets into a container")
	c := layersCheck{Report: r, options: options, layers: layers, temp: temp, onDisk: true}
	return c.check(ctx)
}

// below reports whether a path is a directory or in it.
func below(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// ancestors are the directories above a path, and itself, from the top.
func ancestors(name string) []string {
	if name == "/" || name == "." {
		return nil
	}
	return append(ancestors(path.Dir(name)), name)
}
