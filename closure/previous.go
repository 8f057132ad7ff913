package closure

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Previous is what the metadata of a previous image's layers says of their paths.
type Previous struct {
	// Prefix is what the paths are relocated to: a view directory, or /nix/store.
	Prefix string
	// Groups are the layers whose metadata can be read whole.
	Groups []Group
	// Nodes are their paths. What they refer to may not all be known.
	Nodes map[storepath.Path]*Node
	// Blockers say why the paths could not be relocated to Tried, if that was tried once.
	Blockers []Blocker
	Tried    string

	lookUp map[storepath.Path]bool // nodes that need a narinfo again: not all is known of them, or they lack a proof
}

// known gives the node of a path that needs no narinfo any more.
func (p *Previous) known(path storepath.Path) (*Node, bool) {
	n := p.Nodes[path]
	return n, n != nil && !p.lookUp[path]
}

// ReadPrevious reads the manifests of a previous image, by layer, for a build that wants its paths relocated to view.
// What is of another format, was relocated to another place or cannot be read is left out and said in notes; it will
// be fetched again. All of it may have been altered: nothing is believed of it that does not hold together.
func ReadPrevious(layers map[string]Manifest, view relocate.View) (previous *Previous, notes []string) {
	refused := map[string][]string{}
	previous = &Previous{Nodes: map[storepath.Path]*Node{}, lookUp: map[storepath.Path]bool{}}
	lines := map[storepath.Path][]string{} // the references of each node
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		group, nodes, err := previous.read(name, layers[name], view)
		if err != nil {
			refused[err.Error()] = append(refused[err.Error()], name)
			continue
		}
		previous.Prefix = layers[name].Prefix
		previous.Groups = append(previous.Groups, group)
		for n, refs := range nodes {
			previous.Nodes[n.Path] = n
			lines[n.Path] = refs
		}
	}
	previous.expandReferences(lines)
	sortBlockers(previous.Blockers)
	if _, err := (&Graph{Nodes: previous.Nodes}).Topological(); err != nil {
		return &Previous{}, []string{fmt.Sprintf("the previous image is not reused: %s", err)}
	}
	if notes = notReused(refused); len(notes) == 0 && len(previous.lookUp) > 0 {
		notes = lookedUpAgain("something that they need is in no layer", slices.Collect(maps.Keys(previous.lookUp)))
	}
	return previous, notes
}

// lookedUpAgain says of which paths narinfos are asked for, and why.
func lookedUpAgain(why string, paths []storepath.Path) []string {
	which := slices.Min(paths).Base() + " is"
	if len(paths) > 1 {
		which = fmt.Sprintf("%d paths of the previous image, such as %s, are", len(paths), slices.Min(paths).Base())
	}
	return []string{fmt.Sprintf("%s looked up again: %s", which, why)}
}

// notReused says in a line for each reason which layers it keeps from being reused.
func notReused(layers map[string][]string) (notes []string) {
	for why, names := range layers {
		which := "layer " + names[0] + " of the previous image is"
		if len(names) > 1 {
			which = fmt.Sprintf("%d layers of the previous image, such as %s, are", len(names), names[0])
		}
		notes = append(notes, fmt.Sprintf("%s not reused: %s", which, why))
	}
	slices.Sort(notes)
	return notes
}

// CheckSignatures checks what proves the paths as the metadata describes them: a content address, or a signature by one of
// keys. What has neither is looked up again, and fetched again where the answer is another one than the image was made
// from. It says in notes how many these are, and why.
func (p *Previous) CheckSignatures(keys narinfo.Keys) (notes []string) {
	refused := map[string][]storepath.Path{}
	for path, n := range p.Nodes {
		if why := n.unproven(keys); why != "" && !p.lookUp[path] {
			p.lookUp[path] = true
			refused[why] = append(refused[why], path)
		}
	}
	for why, paths := range refused {
		notes = append(notes, lookedUpAgain(why, paths)...)
	}
	slices.Sort(notes)
	return notes
}

// IsClosureOf says why the paths are not the closure of roots: all that they need, and nothing besides. Where something is not
// known it has no objection.
func (p *Previous) IsClosureOf(roots []storepath.Path) error {
	for _, root := range roots {
		if p.Nodes[root] == nil {
			return fmt.Errorf("%s is in no layer", root)
		}
	}
	needed := (&Graph{Nodes: p.Nodes}).ClosureOf(roots...)
	if len(needed) == len(p.Nodes) || len(p.lookUp) > 0 {
		return nil
	}
	for _, path := range slices.Sorted(maps.Keys(p.Nodes)) {
		if _, found := slices.BinarySearch(needed, path); !found {
			return fmt.Errorf("nothing needs %s", path)
		}
	}
	return nil
}

// unproven says why neither a content address nor a signature proves a path as it is described; "" where one does.
func (n *Node) unproven(keys narinfo.Keys) string {
	info := &narinfo.NarInfo{
		StorePath: n.Path, NarHash: n.NarHash, NarSize: n.NarSize, References: n.References, CA: n.CA,
		Sigs: []narinfo.Signature{n.Signature},
	}
	if n.Signature.Name == "" && n.CA == "" {
		return "not signed by anybody"
	}
	if n.Signature.Name == "" {
		if ok, err := info.VerifyCA(); err != nil || !ok {
			return "the content address does not fit what the image says of it"
		}
		return ""
	}
	_, err := keys.Verify(info)
	var unsigned *narinfo.SignatureError
	switch {
	case errors.As(err, &unsigned) && len(unsigned.Bad) > 0:
		return fmt.Sprintf("the signature by %s does not fit the key of that name and what the image says of it",
			n.Signature.Name)
	case err != nil:
		return fmt.Sprintf("signed by %s, which is not trusted any more", n.Signature.Name)
	}
	return ""
}

// read decodes one layer's manifest.
func (p *Previous) read(name string, m Manifest, view relocate.View) (Group, map[*Node][]string, error) {
	group := Group{Layer: name}
	if !IsLayer(name) {
		return group, nil, fmt.Errorf("no layer of paths has such a name")
	}
	if err := m.Check(); err != nil {
		return group, nil, err
	}
	if m.Prefix != view.Dir() && m.Prefix != storepath.Dir {
		return group, nil, fmt.Errorf("relocated to %s, not to %s", m.Prefix, view.Dir())
	}
	if len(p.Groups) > 0 && m.Prefix != p.Prefix {
		return group, nil, fmt.Errorf("made for %s, and other layers for %s", m.Prefix, p.Prefix)
	}
	nodes := map[*Node][]string{}
	for _, line := range m.Paths {
		n, refs, err := m.node(line)
		if err == nil && p.Nodes[n.Path] != nil {
			err = fmt.Errorf("%s is in two layers", n.Path)
		}
		if err != nil {
			return group, nil, err
		}
		nodes[n] = refs
		group.Paths = append(group.Paths, n.Path)
	}
	slices.Sort(group.Paths)
	if len(group.Paths) == 0 || len(slices.Compact(slices.Clone(group.Paths))) < len(group.Paths) {
		return group, nil, fmt.Errorf("its list of paths is empty or names one twice")
	}
	if err := overruled(m, nodes, view.Overrules()); err != nil {
		return group, nil, err
	}
	blockers, err := decodeBlockers(m, group)
	blockers = slices.DeleteFunc(blockers, func(b Blocker) bool {
		return b.Overrulable() && view.Overrules().Match(b.Path, b.File) != ""
	})
	if err == nil && len(blockers) > 0 && p.Tried != "" && p.Tried != m.Tried {
		err = fmt.Errorf("it could not be relocated to %s, and other layers not to %s", m.Tried, p.Tried)
	}
	if err == nil && len(blockers) > 0 {
		p.Blockers, p.Tried = append(p.Blockers, blockers...), m.Tried
	}
	return group, nodes, err
}

// overruled reads which files of a layer were taken as harmless, which has to hold still.
func overruled(m Manifest, nodes map[*Node][]string, overrules relocate.Overrules) error {
	for _, raw := range m.Overruled {
		var o Overruled
		if err := json.Unmarshal([]byte(raw), &o); err != nil {
			return fmt.Errorf("what it says was taken as harmless cannot be read: %.80q", raw)
		}
		if overrules.Match(o.Path, o.File) == "" {
			return fmt.Errorf("%s in it was taken as harmless by %.200q, and is not any more", o.Path, o.By)
		}
		for n := range nodes {
			if n.Path == o.Path {
				n.Overruled = append(n.Overruled, o)
			}
		}
	}
	return nil
}

// decodeBlockers reads why the paths of one layer could not be relocated.
func decodeBlockers(m Manifest, group Group) (blockers []Blocker, err error) {
	for _, raw := range m.Blocked {
		var blocker Blocker
		err := json.Unmarshal([]byte(raw), &blocker)
		if err != nil || m.Tried == "" || !slices.Contains(group.Paths, blocker.Path) {
			return nil, fmt.Errorf("what it says of why it could not be relocated cannot be read: %.80q", raw)
		}
		blockers = append(blockers, blocker)
	}
	return blockers, nil
}

// expandReferences turns the short references of all nodes into paths. Where one leads nowhere or to several, the node is
// known in part only.
func (p *Previous) expandReferences(lines map[storepath.Path][]string) {
	short := make(map[string]storepath.Path, len(p.Nodes))
	double := map[string]bool{}
	for path := range p.Nodes {
		key := path.HashPart()[:shortHash]
		_, double[key] = short[key]
		short[key] = path
	}
	for path, refs := range lines {
		for _, ref := range refs {
			to, ok := short[ref]
			if ref == "." {
				to, ok = path, true
			}
			if !ok || double[ref] {
				p.lookUp[path] = true
				break
			}
			p.Nodes[path].References = append(p.Nodes[path].References, to)
		}
		slices.Sort(p.Nodes[path].References)
	}
}
