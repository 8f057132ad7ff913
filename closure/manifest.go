package closure

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Manifest is the metadata of one group's layer. It travels in a label of the image, so it is small: a line per path,
//
//	<base name> <NAR hash, base-32> <NAR size> <proof> <reference>... !<foreign hash>...
//
// where the proof is the name of the key that signed the path, + for a content address and - for none, and
// references and foreign hashes are the first ten characters of the hash part, and a reference of the path to
// itself is a dot.
type Manifest struct {
	Format  int      `json:"format" toml:"format"`
	Prefix  string   `json:"prefix" toml:"prefix"` // the view directory that the paths were relocated to, or /nix/store
	Paths   []string `json:"paths" toml:"paths"`
	Blocked []string `json:"blocked,omitempty" toml:"blocked,omitempty"` // JSON of each Reason about a path in here
	// Tried is the view directory that Blocked is about.
	Tried string `json:"tried,omitempty" toml:"tried,omitempty"`
}

const (
	// shortHash is how much of a hash part a line keeps of a reference: 50 bits.
	shortHash = 10
	// maxForeign is how many foreign hashes a line keeps: one less than package relocate does, which with so many may
	// have stopped to look. A path with more is not reused. Nix itself has a few hundred, most paths none.
	maxForeign = 1023
	// addressed and unproven stand in place of a key's name.
	addressed, unproven = "+", "-"
	// maxBlocked bounds the reasons that are remembered.
	maxBlocked = 32
)

// Previous is what the metadata of a previous image's layers promises.
type Previous struct {
	// Prefix is what the paths are relocated to: a view directory, or /nix/store.
	Prefix string
	// Groups are the layers whose metadata can be read whole.
	Groups []Group
	// Nodes are their paths. A node of which not all references are among the nodes is not Complete.
	Nodes map[storepath.Path]*Node
	// Blocked says why the paths could not be relocated to Tried, if that was tried once.
	Blocked []Reason
	Tried   string

	partial map[storepath.Path]bool // nodes whose references are not known
}

// complete gives the node of a path that needs no narinfo any more.
func (p *Previous) complete(path storepath.Path) (*Node, bool) {
	n := p.Nodes[path]
	return n, n != nil && !p.partial[path]
}

// Manifests gives the metadata of each group's layer by the layer's name.
func (r *Result) Manifests() map[string]Manifest {
	manifests := make(map[string]Manifest, len(r.Groups))
	for _, group := range r.Groups {
		m := Manifest{Format: Format, Prefix: r.Layout.Dir()}
		for _, p := range group.Paths {
			m.Paths = append(m.Paths, encodeNode(r.Graph.Nodes[p]))
		}
		for _, reason := range r.obstacles[:min(len(r.obstacles), maxBlocked)] {
			if slices.Contains(group.Paths, reason.Path) {
				raw, err := json.Marshal(reason)
				if err == nil {
					m.Blocked, m.Tried = append(m.Blocked, string(raw)), r.tried
				}
			}
		}
		manifests[group.Layer] = m
	}
	return manifests
}

// Metadata is the manifest as layer metadata, made of maps, slices, strings and integers.
func (m Manifest) Metadata() map[string]any {
	metadata := map[string]any{"format": int64(m.Format), "prefix": m.Prefix, "paths": m.Paths}
	if len(m.Blocked) > 0 {
		metadata["blocked"], metadata["tried"] = m.Blocked, m.Tried
	}
	return metadata
}

// ParseManifest reads what Metadata gave, after it went through TOML or JSON.
func ParseManifest(metadata map[string]any) (Manifest, error) {
	var m Manifest
	raw, err := json.Marshal(metadata)
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("reading layer metadata: %w", err)
	}
	return m, nil
}

func encodeNode(n *Node) string {
	fields := []string{
		n.Path.Base(), storepath.Encode32(n.NarHash[:]), strconv.FormatInt(n.NarSize, 10), proof(n),
	}
	for _, ref := range n.References {
		if ref == n.Path {
			fields = append(fields, ".")
		} else {
			fields = append(fields, ref.HashPart()[:shortHash])
		}
	}
	for i, hash := range n.Foreign {
		if i == maxForeign {
			fields = append(fields, "!*")
			break
		}
		fields = append(fields, "!"+hash[:min(shortHash, len(hash))])
	}
	return strings.Join(fields, " ")
}

func proof(n *Node) string {
	switch {
	case n.KeyName != "":
		return n.KeyName
	case n.Addressed:
		return addressed
	}
	return unproven
}

// Recall reads the manifests of a previous image, by layer, for a build that wants its paths relocated to layout.
// What is of another format, was relocated to another place or cannot be read is left out and said in notes; it will
// be fetched again.
func Recall(layers map[string]Manifest, layout relocate.Layout) (previous *Previous, notes []string) {
	refused := map[string][]string{}
	previous = &Previous{Nodes: map[storepath.Path]*Node{}, partial: map[storepath.Path]bool{}}
	lines := map[storepath.Path][]string{} // the references of each node
	names := make([]string, 0, len(layers))
	for name := range layers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		group, nodes, err := previous.read(name, layers[name], layout)
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
	previous.resolve(lines)
	sortReasons(previous.Blocked)
	return previous, notReused(refused)
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

// Distrust forgets the groups with a path that is no longer to be trusted: one that no content address proved, nor the
// signature of a key of which trusted reports true. What it forgets is said in notes, and will be fetched again.
func (p *Previous) Distrust(trusted func(keyName string) bool) (notes []string) {
	refused := map[string][]string{}
	p.Groups = slices.DeleteFunc(p.Groups, func(g Group) bool {
		i := slices.IndexFunc(g.Paths, func(path storepath.Path) bool {
			n := p.Nodes[path]
			return !n.Addressed && (n.KeyName == "" || !trusted(n.KeyName))
		})
		if i < 0 {
			return false
		}
		why := "not signed by anybody"
		if key := p.Nodes[g.Paths[i]].KeyName; key != "" {
			why = fmt.Sprintf("signed by %s, which is not trusted any more", key)
		}
		refused[why] = append(refused[why], g.Layer)
		for _, path := range g.Paths {
			delete(p.Nodes, path)
		}
		return true
	})
	return notReused(refused)
}

// read decodes one layer's manifest.
func (p *Previous) read(name string, m Manifest, layout relocate.Layout) (Group, map[*Node][]string, error) {
	group := Group{Layer: name}
	if !isLayer(name) {
		return group, nil, fmt.Errorf("no layer of paths has such a name")
	}
	if m.Format != Format {
		return group, nil, fmt.Errorf("made in format %d, while this version makes format %d", m.Format, Format)
	}
	if m.Prefix != layout.Dir() && m.Prefix != storepath.Dir {
		return group, nil, fmt.Errorf("relocated to %s, not to %s", m.Prefix, layout.Dir())
	}
	if len(p.Groups) > 0 && m.Prefix != p.Prefix {
		return group, nil, fmt.Errorf("made for %s, and other layers for %s", m.Prefix, p.Prefix)
	}
	nodes := map[*Node][]string{}
	for _, line := range m.Paths {
		n, refs, err := decodeNode(line)
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
	reasons, err := decodeReasons(m, group)
	if err == nil && len(reasons) > 0 && p.Tried != "" && p.Tried != m.Tried {
		err = fmt.Errorf("it could not be relocated to %s, and other layers not to %s", m.Tried, p.Tried)
	}
	if err == nil && len(reasons) > 0 {
		p.Blocked, p.Tried = append(p.Blocked, reasons...), m.Tried
	}
	return group, nodes, err
}

// decodeReasons reads why the paths of one layer could not be relocated.
func decodeReasons(m Manifest, group Group) (reasons []Reason, err error) {
	for _, raw := range m.Blocked {
		var reason Reason
		err := json.Unmarshal([]byte(raw), &reason)
		if err != nil || m.Tried == "" || !slices.Contains(group.Paths, reason.Path) {
			return nil, fmt.Errorf("it does not say well why it could not be relocated: %.80q", raw)
		}
		reasons = append(reasons, reason)
	}
	return reasons, nil
}

func decodeNode(line string) (*Node, []string, error) {
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return nil, nil, fmt.Errorf("line %.80q is too short", line)
	}
	p, err := storepath.FromBase(fields[0])
	if err != nil {
		return nil, nil, err
	}
	hash, err := storepath.ParseHash("sha256:" + fields[1])
	if err != nil {
		return nil, nil, err
	}
	size, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || size <= 0 {
		return nil, nil, fmt.Errorf("size %.40q of %s is not one", fields[2], p)
	}
	n := &Node{Path: p, NarHash: hash, NarSize: size, Addressed: fields[3] == addressed}
	if fields[3] != addressed && fields[3] != unproven {
		n.KeyName = fields[3]
	}
	refs := fields[4:]
	for i, ref := range refs {
		if foreign, ok := strings.CutPrefix(ref, "!"); ok {
			if foreign == "*" {
				return nil, nil, fmt.Errorf("%s names more strange store paths than are remembered", p)
			}
			n.Foreign = append(n.Foreign, foreign)
			if len(n.Foreign) == 1 {
				refs = fields[4 : 4+i]
			}
		}
	}
	return n, refs, nil
}

// resolve turns the short references of all nodes into paths. Where one leads nowhere or to several, the node is
// known in part only.
func (p *Previous) resolve(lines map[storepath.Path][]string) {
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
				p.partial[path] = true
				break
			}
			p.Nodes[path].References = append(p.Nodes[path].References, to)
		}
		slices.Sort(p.Nodes[path].References)
	}
}
