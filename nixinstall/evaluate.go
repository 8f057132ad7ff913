package nixinstall

import (
	"context"
	"errors"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Request is one question: which derivations do these expressions name?
type Request struct {
	// Source is the store path of the source, from AddSource.
	Source storepath.Path
	// SourceDir is the user's own folder that Source was made from; messages name files below it. May be "".
	SourceDir string
	// File is the expression, relative to the source; "" is "default.nix". A folder means its default.nix.
	File string
	// Flake is a flake reference inside the source with the attribute to take, for example ".", ".#server",
	// "./nix#packages.x86_64-linux.default". Where it is set, File and Args are not used.
	Flake string
	// Attrs are attribute paths as for nix-build -A, or, for a flake, more names to take beside the one in Flake.
	// None: the expression's own derivation, or every derivation of the set it gives.
	Attrs []string
	// Args are given to functions that ask for them, as with --argstr.
	Args map[string]string
	// Rev, LastModified and RevCount are what a flake sees as self.rev and so on; zero for "not known".
	Rev          string
	LastModified int64
	RevCount     int64
}

// Result is what an evaluation found.
type Result struct {
	// Derivations are what the attributes name, in the order asked, and in the order of their names in a set.
	Derivations []Derivation
	// Outputs are the store paths that belong into the image: of each derivation the outputs in Install.
	Outputs []Output
	// Notes say what was left out of a set and why, one line each.
	Notes []string
	// Used are the store paths that the evaluation read: the source, and whatever was imported from derivations.
	// Collect keeps them.
	Used []storepath.Path
}

// Derivation is one derivation and what it says about itself.
type Derivation struct {
	// Attr is the attribute path it was found at; "" for the expression itself.
	Attr string `json:"attr"`
	// Name is the derivation's name, System the system it is built on.
	Name   string `json:"name"`
	System string `json:"system"`
	// Drv is the derivation's own store path.
	Drv storepath.Path `json:"drvPath"`
	// Outputs are the store paths by output name.
	Outputs map[string]storepath.Path `json:"outputs"`
	// Install are the outputs to install: the one that the attribute selects, or meta.outputsToInstall, or the
	// default output.
	Install []string `json:"install"`
	// MainProgram is meta.mainProgram; "" where it is not set.
	MainProgram string `json:"mainProgram"`
	// PName and Version are the package's, where it says so.
	PName   string `json:"pname"`
	Version string `json:"version"`
	// License and Homepage are meta's, in SPDX terms where it has them.
	License  string `json:"license"`
	Homepage string `json:"homepage"`
}

// Output is one store path for the image.
type Output struct {
	Attr        string
	Path        storepath.Path
	OutputName  string
	MainProgram string
	Drv         storepath.Path
}

// Evaluate evaluates a request and returns what it names, as store paths that need not exist anywhere yet. It
// downloads what evaluation itself imports, and builds nothing. Errors are *EvalError, *MissingAttrError and
// *WouldBuildError where Nix's answer is one of these.
func (t Toolchain) Evaluate(ctx context.Context, r Request) (Result, error) {
	return Result{}, errors.New("evaluating: not wired up yet")
}

// Plan is what Nix would do to have some paths: Build lists the derivations that would be compiled, Fetch the
// store paths that a substituter has.
type Plan struct {
	Build []storepath.Path
	Fetch []storepath.Path
	// Unknown are paths that nothing provides.
	Unknown []storepath.Path
}

// WouldBuild asks Nix what it would compile and what it would fetch to have the outputs of drvs, and does neither.
func (t Toolchain) WouldBuild(ctx context.Context, drvs []storepath.Path) (Plan, error) {
	return Plan{}, errors.New("planning: not wired up yet")
}

// Collect bounds the state folder: it removes what keep does not name when the folder is larger than maxBytes, and
// all of it when that is not enough. It returns the size that is left, in bytes.
func (t Toolchain) Collect(ctx context.Context, keep []storepath.Path, maxBytes int64) (int64, error) {
	return 0, errors.New("collecting: not wired up yet")
}
