package nixinstall

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Drv is a store derivation: the recipe that a .drv file holds.
type Drv struct {
	Outputs   map[string]DrvOutput
	InputDrvs map[storepath.Path][]string // output names, sorted
	InputSrcs []storepath.Path            // sorted
	System    string
	Builder   string
	Args      []string
	Env       map[string]string
}

// DrvOutput is one output of a derivation. HashAlgo and Hash are set for outputs whose content is known beforehand.
type DrvOutput struct {
	Path     storepath.Path
	HashAlgo string
	Hash     string // hex
}

// maxDrvList bounds the lists of a derivation that somebody else wrote.
const maxDrvList = 1 << 20

// parseDrv reads the ATerm form of a .drv file (NixOS/nix: src/libstore/derivations.cc). It refuses what Nix would
// not write: unsorted or repeated names, paths that are no store paths, trailing text.
func parseDrv(data []byte) (*Drv, error) {
	p := &aterm{rest: string(data)}
	d := &Drv{Outputs: map[string]DrvOutput{}, InputDrvs: map[storepath.Path][]string{}, Env: map[string]string{}}
	p.expect("Derive(")
	p.pairs(func() string {
		name := p.text()
		p.expect(",")
		o := DrvOutput{Path: p.path(true)}
		p.expect(",")
		o.HashAlgo = p.text()
		p.expect(",")
		o.Hash = p.text()
		d.Outputs[name] = o
		return name
	})
	p.expect(",")
	p.pairs(func() string {
		drv := p.path(false)
		p.expect(",")
		d.InputDrvs[drv] = p.texts()
		return drv.String()
	})
	p.expect(",")
	for _, src := range p.texts() {
		parsed, err := storepath.Parse(src)
		p.fail(err)
		d.InputSrcs = append(d.InputSrcs, parsed)
	}
	p.expect(",")
	d.System = p.text()
	p.expect(",")
	d.Builder = p.text()
	p.expect(",")
	d.Args = p.texts()
	p.expect(",")
	p.pairs(func() string {
		name := p.text()
		p.expect(",")
		d.Env[name] = p.text()
		return name
	})
	p.expect(")")
	if p.err == nil && p.rest != "" {
		p.fail(errors.New("text follows its end"))
	}
	if p.err != nil {
		return nil, fmt.Errorf("parsing derivation: at byte %d: %w", len(data)-len(p.rest), p.err)
	}
	return d, nil
}

// aterm is a parser with a sticky error.
type aterm struct {
	rest string
	err  error
}

func (p *aterm) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *aterm) expect(token string) {
	if p.err != nil {
		return
	}
	rest, ok := strings.CutPrefix(p.rest, token)
	if !ok {
		p.fail(fmt.Errorf("want %q", token))
		return
	}
	p.rest = rest
}

// accept takes token if it is next.
func (p *aterm) accept(token string) bool {
	if p.err != nil {
		return false
	}
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *aterm) text() string {
	p.expect(`"`)
	var out strings.Builder
	for p.err == nil {
		i := strings.IndexAny(p.rest, `"\`)
		if i < 0 || p.rest[i] == '\\' && i+1 == len(p.rest) {
			p.fail(errors.New("a string does not end"))
			break
		}
		out.WriteString(p.rest[:i])
		if p.rest[i] == '"' {
			p.rest = p.rest[i+1:]
			break
		}
		switch c := p.rest[i+1]; c {
		case 'n':
			out.WriteByte('\n')
		case 'r':
			out.WriteByte('\r')
		case 't':
			out.WriteByte('\t')
		default:
			out.WriteByte(c)
		}
		p.rest = p.rest[i+2:]
	}
	return out.String()
}

// path is a store path; an output's may be empty where its content decides it.
func (p *aterm) path(mayBeEmpty bool) storepath.Path {
	s := p.text()
	if p.err != nil || s == "" && mayBeEmpty {
		return ""
	}
	parsed, err := storepath.Parse(s)
	p.fail(err)
	return parsed
}

func (p *aterm) texts() []string {
	out := []string{}
	p.expect("[")
	if p.accept("]") {
		return out
	}
	for p.err == nil && len(out) < maxDrvList {
		out = append(out, p.text())
		if p.accept("]") {
			return out
		}
		p.expect(",")
	}
	p.fail(errors.New("a list is too long"))
	return out
}

// pairs reads "[(…),(…)]" whose items begin with a name, in strictly increasing order.
func (p *aterm) pairs(item func() string) {
	p.expect("[")
	if p.accept("]") {
		return
	}
	last, first := "", true
	for p.err == nil {
		p.expect("(")
		name := item()
		p.expect(")")
		if p.err == nil && !first && name <= last {
			p.fail(fmt.Errorf("%.80q comes after %.80q", name, last))
		}
		last, first = name, false
		if p.accept("]") {
			return
		}
		p.expect(",")
	}
}

// String is the ATerm form, byte for byte as Nix writes it.
func (d *Drv) String() string {
	inputs := make(map[string][]string, len(d.InputDrvs))
	for drv, names := range d.InputDrvs {
		inputs[drv.String()] = names
	}
	return d.aterm(inputs)
}

// aterm writes the derivation with its input derivations called by other names.
func (d *Drv) aterm(inputs map[string][]string) string {
	outputs := make([]string, 0, len(d.Outputs))
	for _, name := range slices.Sorted(maps.Keys(d.Outputs)) {
		o := d.Outputs[name]
		outputs = append(outputs, tuple(quoteATerm(name), quoteATerm(o.Path.String()), quoteATerm(o.HashAlgo),
			quoteATerm(o.Hash)))
	}
	drvs := make([]string, 0, len(inputs))
	for _, drv := range slices.Sorted(maps.Keys(inputs)) {
		drvs = append(drvs, tuple(quoteATerm(drv), quoteList(inputs[drv])))
	}
	srcs := make([]string, 0, len(d.InputSrcs))
	for _, src := range d.InputSrcs {
		srcs = append(srcs, src.String())
	}
	env := make([]string, 0, len(d.Env))
	for _, name := range slices.Sorted(maps.Keys(d.Env)) {
		env = append(env, tuple(quoteATerm(name), quoteATerm(d.Env[name])))
	}
	return "Derive" + tuple(list(outputs), list(drvs), quoteList(srcs), quoteATerm(d.System), quoteATerm(d.Builder),
		quoteList(d.Args), list(env))
}

var atermEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

func quoteATerm(s string) string { return `"` + atermEscapes.Replace(s) + `"` }

func quoteList(texts []string) string {
	quoted := make([]string, 0, len(texts))
	for _, s := range texts {
		quoted = append(quoted, quoteATerm(s))
	}
	return list(quoted)
}

func list(items []string) string { return "[" + strings.Join(items, ",") + "]" }

func tuple(items ...string) string { return "(" + strings.Join(items, ",") + ")" }
