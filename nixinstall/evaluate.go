package nixinstall

import (
	"context"
	"crypto/sha256"
	_ "embed" // evaluate.nix
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Request is one question: which derivations do these expressions name?
type Request struct {
	// Source is the store path of the source, from AddSource.
	Source storepath.Path
	// File is the expression, relative to the source; "" is "default.nix". A directory means its default.nix.
	File string
	// Flake is a flake reference inside the source with the attribute to take, for example ".", ".#server",
	// ".?dir=nix#packages.x86_64-linux.default". Where it is set, File and Args are not used.
	Flake string
	// Attrs are attribute paths as for nix-build -A, or, for a flake, more names to take beside the one in Flake.
	// None: the expression's own derivation, or every derivation of the set it gives. Of a flake's, outputs may be named
	// as Nix's command line has them, "name^out,dev" or "name^*".
	Attrs []string
	// Optional are attribute paths that are taken too where they are there; where not, that is no error.
	Optional []string
	// Args are given to functions that ask for them, as with --argstr. ArgExprs are expressions of such arguments, as with
	// --arg; paths in them that begin with "./" or "../" are the source's. One of these wins over a text.
	Args, ArgExprs map[string]string
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
	// Used are the store paths that the evaluation read, the source and whatever was imported from derivations, and the
	// derivations that it found. Collect keeps them and what they need.
	Used []storepath.Path
}

// Derivation is one derivation and what it says about itself.
type Derivation struct {
	// Attr is the attribute path it was found at; "" for the expression itself.
	Attr string `json:"attr"`
	// Name is the derivation's name.
	Name string `json:"name"`
	// Drv is the derivation's own store path.
	Drv storepath.Path `json:"drvPath"`
	// Outputs are the store paths by output name.
	Outputs map[string]storepath.Path `json:"outputs"`
	// Install are the outputs to install: the one that the attribute selects, or meta.outputsToInstall, or the
	// default output.
	Install []string `json:"install"`
	// MainProgram is meta.mainProgram; "" where it is not set.
	MainProgram string `json:"mainProgram"`
	// Licenses are the SPDX identifiers that meta.license gives; none where it has none.
	Licenses []string `json:"licenses"`
}

// Output is one store path for the image.
type Output struct {
	Attr        string
	Path        storepath.Path
	MainProgram string
	Licenses    []string
	Drv         storepath.Path
}

// expression is the question itself: a function from the request's JSON text.
//
//go:embed evaluate.nix
var expression string

// Expression identifies the question, by its hash in hex: another version may ask another one.
func Expression() string {
	sum := sha256.Sum256([]byte(expression))
	return hex.EncodeToString(sum[:])
}

// question is what evaluate.nix reads.
type question struct {
	File   string     `json:"file,omitempty"`
	Flake  string     `json:"flake,omitempty"`
	System string     `json:"system"`
	Attrs  [][]string `json:"attrs"`
	// Outputs are those to take of each of Attrs: none for those that a derivation says itself, "*" for all.
	Outputs  [][]string        `json:"outputs"`
	Optional [][]string        `json:"optional,omitempty"`
	Args     map[string]string `json:"args"`
	// Store is the directory that stands for /nix/store, for fetchers, which do not find it themselves.
	Store string `json:"store,omitempty"`
	// argExprs are arguments as Nix expressions, beside the text.
	argExprs map[string]string
}

// reply is what evaluate.nix answers.
type reply struct {
	Found   []Derivation   `json:"found"`
	Apps    []app          `json:"apps"`
	Notes   []string       `json:"notes"`
	LeftOut [][]string     `json:"leftOut"`
	Missing []missingReply `json:"missing"`
}

// app is what `nix run` runs.
type app struct {
	Attr    string `json:"attr"`
	Program string `json:"program"`
	// Outputs are the outputs that the program's path speaks of, by derivation; none of a path that is not built.
	Outputs map[storepath.Path][]string `json:"outputs"`
}

type missingReply struct {
	Attr       string   `json:"attr"`
	Missing    string   `json:"missing"`
	Have       []string `json:"have"`
	More       int      `json:"more"`
	Derivation bool     `json:"derivation"`
}

// Evaluate evaluates a request and returns what it names, as store paths that need not exist anywhere yet. It
// downloads what evaluation itself imports, and builds nothing. Errors are *EvalError, *MissingAttrError and
// *WouldBuildError where Nix's answer is one of these.
func (t Toolchain) Evaluate(ctx context.Context, r Request) (Result, error) {
	q, doing, err := t.question(ctx, &r)
	if err != nil {
		return Result{}, err
	}
	t.settings.NixPath = nixPathIn(r.Source, t.settings.NixPath)
	t.settings.Environment = nixpkgsConfigIn(r.Source, t.settings.Environment)
	if err := t.checkArguments(ctx, q.argExprs); err != nil {
		return Result{}, err
	}
	answered, log, err := t.ask(ctx, q, r.Source, doing)
	for t.wantsMore(&q, err) {
		answered, log, err = t.ask(ctx, q, r.Source, doing)
	}
	if err != nil {
		return Result{}, err
	}
	notes, err := t.leftOut(ctx, q, r.Source, answered.LeftOut)
	if err != nil {
		return Result{}, err
	}
	answered.Notes = append(answered.Notes, notes...)
	for _, a := range answered.Apps {
		found, err := t.appDerivations(a)
		if err != nil {
			return Result{}, err
		}
		answered.Found = append(answered.Found, found...)
	}
	return result(r, answered, log)
}

// wantsMore reports whether the question is to be put once more, with what an expression turned out to need and few do:
// the place of the store for fetchers, the registry of flakes. Flakes are evaluated purely and do not get the latter.
func (t *Toolchain) wantsMore(q *question, err error) bool {
	var failed *EvalError
	if !errors.As(err, &failed) {
		return false
	}
	switch {
	case failed.Unfetched != "" && q.Store == "":
		q.Store = t.settings.physical(storepath.Dir)
	case strings.Contains(failed.Summary, "in the flake registries") && !t.settings.registry && q.Flake == "":
		t.settings.registry = true
	default:
		return false
	}
	return true
}

// appDerivations are the derivations that an app's program is in, the one that holds it first.
func (t Toolchain) appDerivations(a app) ([]Derivation, error) {
	var found []Derivation
	for _, p := range slices.Sorted(maps.Keys(a.Outputs)) {
		if len(a.Outputs[p]) == 0 {
			continue // a file of the source
		}
		drv, err := t.ReadDrv(p)
		if err != nil {
			return nil, fmt.Errorf("evaluating app %q: %w", a.Attr, err)
		}
		d := Derivation{
			Attr: a.Attr, Name: drvName(p), Drv: p, Outputs: map[string]storepath.Path{},
			Install: a.Outputs[p],
		}
		holds := false
		for name, output := range drv.Outputs {
			d.Outputs[name] = output.Path
			if rest, in := strings.CutPrefix(a.Program, output.Path.String()+"/"); in {
				holds = true
				if dir, base := path.Split(rest); dir == "bin/" {
					d.MainProgram = base
				}
			}
		}
		if holds {
			found = slices.Insert(found, 0, d)
		} else {
			found = append(found, d)
		}
	}
	if len(found) == 0 {
		return nil, &EvalError{Summary: fmt.Sprintf("the program of app %s, %s, is in no derivation's output, so that no "+
			"cache can have it", a.Attr, a.Program)}
	}
	return found, nil
}

// ask has Nix answer one question about a source.
func (t Toolchain) ask(ctx context.Context, q question, source storepath.Path, doing string) (reply, *journal, error) {
	var answered reply
	text, err := json.Marshal(q)
	if err != nil {
		return answered, nil, fmt.Errorf("%s: %w", doing, err)
	}
	// The question goes through standard input: arguments may be secrets, and a command line is public. `nix eval` takes
	// that for a file's, which it never evaluates purely, whatever is set (NixOS/nix: src/libcmd/installables.cc).
	result, err := t.run(ctx, command{
		program: "nix-instantiate",
		args:    []string{"--eval", "--read-write-mode", "--strict", "--json", "-v", "--log-format", "internal-json", "-"},
		stdin:   "(" + expression + ") " + quoteNix(string(text)) + " " + attrSet(q.argExprs), pure: q.Flake != "", doing: doing,
	})
	if err != nil && q.Flake != "" {
		return answered, nil, purely(t.explain(err, source))
	}
	if err != nil {
		return answered, nil, t.explain(err, source)
	}
	if inputs := unlockedInputs(result.log.warnings); len(inputs) > 0 {
		return answered, nil, notLocked(inputs)
	}
	if err := json.Unmarshal(result.stdout, &answered); err != nil {
		return answered, nil, fmt.Errorf("%s: reading Nix's answer: %w", doing, err)
	}
	if len(answered.Missing) > 0 {
		m := answered.Missing[0]
		return answered, nil, &MissingAttrError{Attr: m.Attr, Missing: m.Missing, Have: m.Have, More: m.More,
			Derivation: m.Derivation}
	}
	return answered, result.log, nil
}

// question writes a request as evaluate.nix takes it. A flake's source is the one that is called as flakes are.
func (t Toolchain) question(ctx context.Context, r *Request) (question, string, error) {
	q := question{System: t.system(), Args: r.Args}
	if q.Args == nil {
		q.Args = map[string]string{}
	}
	attrs := r.Attrs
	doing := "evaluating "
	if r.Flake != "" {
		ref, err := parseFlakeReference(r.Flake)
		if err != nil {
			return q, "", err
		}
		if q.Flake, err = t.flakeURL(ctx, r, ref); err != nil {
			return q, "", err
		}
		doing += "flake " + r.Flake
		if ref.attr != "" || len(attrs) == 0 {
			attrs = append([]string{ref.attr}, attrs...)
		}
	} else {
		file, err := inSource(r.File)
		if err != nil {
			return q, "", err
		}
		q.File = r.Source.String() + "/" + file
		q.argExprs = map[string]string{}
		for name, text := range r.ArgExprs {
			q.argExprs[name] = expressionIn(r.Source, text)
		}
		doing += file
		if len(attrs) == 0 {
			attrs = []string{""}
		}
	}
	if err := q.setAttrs(attrs, r.Optional); err != nil {
		return q, "", err
	}
	return q, doing, nil
}

// setAttrs asks for attribute paths, of a flake's with the outputs that they name, and for those that need not be there.
func (q *question) setAttrs(attrs, optional []string) error {
	for _, attr := range attrs {
		outputs := []string{}
		if name, listed, found := strings.Cut(attr, "^"); found && q.Flake != "" {
			attr, outputs = name, strings.Split(listed, ",")
		}
		parts, err := parseAttrPath(attr)
		if err != nil {
			return err
		}
		q.Attrs, q.Outputs = append(q.Attrs, parts), append(q.Outputs, outputs)
	}
	for _, attr := range optional {
		parts, err := parseAttrPath(attr)
		if err != nil {
			return err
		}
		q.Optional = append(q.Optional, parts)
	}
	return nil
}

func (t Toolchain) system() string {
	if t.settings.System != "" {
		return t.settings.System
	}
	return t.Metadata.System
}

// inSource checks that a file name stays inside the source.
func inSource(file string) (string, error) {
	if file == "" {
		return "default.nix", nil
	}
	clean := path.Clean(file)
	if path.IsAbs(file) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("evaluating %s: the file is not inside the source", file)
	}
	return clean, nil
}

// result checks what Nix answered.
func result(r Request, answered reply, log *journal) (Result, error) {
	out := Result{Derivations: answered.Found, Notes: answered.Notes}
	for _, d := range answered.Found {
		if _, err := storepath.Parse(d.Drv.String()); err != nil {
			return Result{}, fmt.Errorf("evaluating attribute %q: %w", d.Attr, err)
		}
		for name, p := range d.Outputs {
			if _, err := storepath.Parse(p.String()); err != nil {
				return Result{}, fmt.Errorf("evaluating attribute %q: output %q has no path before it is built: %w",
					d.Attr, name, err)
			}
		}
		for _, name := range d.Install {
			if _, ok := d.Outputs[name]; !ok {
				return Result{}, fmt.Errorf("evaluating attribute %q: there is no output %q", d.Attr, name)
			}
		}
	}
	out.install()
	log.used[r.Source] = true
	for _, d := range answered.Found {
		log.used[d.Drv] = true // and with it what it is made from, so that the next evaluation need not write that again
	}
	out.Used = slices.Sorted(maps.Keys(log.used))
	return out, nil
}

// install lists the outputs to install, each once.
func (r *Result) install() {
	seen := map[storepath.Path]bool{}
	for _, d := range r.Derivations {
		for _, name := range d.Install {
			p := d.Outputs[name]
			if seen[p] {
				continue
			}
			seen[p] = true
			r.Outputs = append(r.Outputs, Output{Attr: d.Attr, Path: p, MainProgram: d.MainProgram, Licenses: d.Licenses, Drv: d.Drv})
		}
	}
}
