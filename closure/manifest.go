package closure

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Manifest is the metadata of one group's layer. It travels in a label of the image, so it is small: a line per path,
//
//	<base name> <NAR hash, base-32> <NAR size> <proof> <reference>... !<foreign hash>...
//
// where the proof is <number of a key in Keys>:<signature, base-64 without padding>, +<content address> or - for none,
// and references and foreign hashes are the first ten characters of the hash part, and a reference of the path to
// itself is a dot. The signature is over all of it but the foreign hashes.
type Manifest struct {
	// Version is that of this description, Format that of the layer's bytes.
	Version int      `json:"version" toml:"version"`
	Format  int      `json:"format" toml:"format"`
	Prefix  string   `json:"prefix" toml:"prefix"` // the view directory that the paths were relocated to, or /nix/store
	Keys    []string `json:"keys,omitempty" toml:"keys,omitempty"`
	Paths   []string `json:"paths" toml:"paths"`
	Blocked []string `json:"blocked,omitempty" toml:"blocked,omitempty"` // JSON of each Blocker about a path in here
	// Overruled is JSON of each Overruled of a path in here.
	Overruled []string `json:"overruled,omitempty" toml:"overruled,omitempty"`
	// Tried is the view directory that Blocked is about.
	Tried string `json:"tried,omitempty" toml:"tried,omitempty"`
}

const (
	// manifestVersion goes up when what Manifest says changes. Another version's is not read.
	manifestVersion = 2
	// shortHash is how much of a hash part a line keeps of a reference: 50 bits.
	shortHash = 10
	// maxForeign is how many foreign hashes a line keeps: one less than package relocate does, which with so many may
	// have stopped to look. A path with more is not reused. Nix itself has a few hundred, most paths none.
	maxForeign = 1023
	// foreignMark starts a foreign hash, and tooMany stands for those that are not remembered.
	foreignMark, tooMany = "!", "*"
	// addressed and unproven begin proofs that are no signatures.
	addressed, unproven = "+", "-"
	// maxBlocked bounds the blockers that are remembered.
	maxBlocked = 32
)

// signatureText is how a line has a signature's bytes.
func signatureText() *base64.Encoding { return base64.RawStdEncoding }

// Manifests gives the metadata of each group's layer by the layer's name.
func (r *Result) Manifests() map[string]Manifest {
	manifests := make(map[string]Manifest, len(r.Groups))
	for _, group := range r.Groups {
		m := Manifest{Version: manifestVersion, Format: Format, Prefix: r.View.Dir()}
		for _, p := range group.Paths {
			m.add(r.Graph.Nodes[p])
			for _, o := range r.Graph.Nodes[p].Overruled {
				if raw, err := json.Marshal(o); err == nil && !r.View.IsZero() {
					m.Overruled = append(m.Overruled, string(raw))
				}
			}
		}
		for _, blocker := range r.recorded[:min(len(r.recorded), maxBlocked)] {
			if slices.Contains(group.Paths, blocker.Path) {
				raw, err := json.Marshal(blocker)
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
	metadata := map[string]any{
		"version": int64(m.Version), "format": int64(m.Format), "prefix": m.Prefix, "paths": m.Paths,
	}
	if len(m.Keys) > 0 {
		metadata["keys"] = m.Keys
	}
	if len(m.Overruled) > 0 {
		metadata["overruled"] = m.Overruled
	}
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

// Check says why this version cannot make use of a manifest.
func (m Manifest) Check() error {
	switch {
	case m.Version == 0 && m.Format == 0:
		return errors.New("its metadata cannot be read")
	case m.Version != manifestVersion:
		return fmt.Errorf("described in version %d, while this version writes %d", m.Version, manifestVersion)
	case m.Format != Format:
		return fmt.Errorf("made in format %d, while this version makes format %d", m.Format, Format)
	}
	return nil
}

// add writes a line.
func (m *Manifest) add(n *Node) {
	fields := []string{
		n.Path.Base(), storepath.Encode32(n.NarHash[:]), strconv.FormatInt(n.NarSize, 10), m.proof(n),
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
			fields = append(fields, foreignMark+tooMany)
			break
		}
		fields = append(fields, foreignMark+hash[:min(shortHash, len(hash))])
	}
	m.Paths = append(m.Paths, strings.Join(fields, " "))
}

func (m *Manifest) proof(n *Node) string {
	switch {
	case n.Signature.Name != "":
		i := slices.Index(m.Keys, n.Signature.Name)
		if i < 0 {
			i, m.Keys = len(m.Keys), append(m.Keys, n.Signature.Name)
		}
		return fmt.Sprintf("%d:%s", i, signatureText().EncodeToString(n.Signature.Data))
	case n.CA != "":
		return addressed + n.CA
	}
	return unproven
}

// node reads a line. The references are as they are there.
func (m Manifest) node(line string) (*Node, []string, error) {
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
	if err != nil || size <= 0 || size > narinfo.MaxNarSize {
		return nil, nil, fmt.Errorf("size %.40q of %s is not one", fields[2], p)
	}
	n := &Node{Path: p, NarHash: hash, NarSize: size}
	if err := m.readProof(n, fields[3]); err != nil {
		return nil, nil, err
	}
	refs, err := readReferences(n, fields[4:])
	return n, refs, err
}

// readProof reads the signature or content address of a path, as proof wrote it.
func (m Manifest) readProof(n *Node, text string) error {
	if text == unproven {
		return nil
	}
	if ca, ok := strings.CutPrefix(text, addressed); ok && ca != "" {
		n.CA = ca
		return nil
	}
	number, encoded, _ := strings.Cut(text, ":")
	i, err := strconv.Atoi(number)
	if err == nil && (i < 0 || i >= len(m.Keys) || m.Keys[i] == "") {
		err = fmt.Errorf("there is no key %d", i)
	}
	var data []byte
	if err == nil {
		data, err = signatureText().DecodeString(encoded)
	}
	if err != nil {
		return fmt.Errorf("the proof %.40q of %s cannot be read: %w", text, n.Path, err)
	}
	n.Signature = narinfo.Signature{Name: m.Keys[i], Data: data}
	return nil
}

// readReferences takes in the foreign hashes at the end of a line and gives what stands before them.
func readReferences(n *Node, fields []string) (refs []string, err error) {
	for _, field := range fields {
		hash, foreign := strings.CutPrefix(field, foreignMark)
		switch {
		case foreign && hash == tooMany:
			return nil, fmt.Errorf("%s names more store paths outside its closure than are recorded", n.Path)
		case foreign && isShortHash(hash):
			n.Foreign = append(n.Foreign, hash)
		case !foreign && len(n.Foreign) == 0 && (field == "." || isShortHash(field)):
			refs = append(refs, field)
		default:
			return nil, fmt.Errorf("the reference %.40q of %s is none", field, n.Path)
		}
	}
	return refs, nil
}

// isShortHash reports whether s is the beginning of a hash part, as lines have it.
func isShortHash(s string) bool {
	return len(s) == shortHash && storepath.IsHashPart(s+strings.Repeat("0", storepath.HashLen-shortHash))
}

// Nodes are the paths that the manifest lists, without their references. Lines that cannot be read are left out.
func (m Manifest) Nodes() map[storepath.Path]*Node {
	nodes := make(map[storepath.Path]*Node, len(m.Paths))
	for _, line := range m.Paths {
		if n, _, err := m.node(line); err == nil {
			nodes[n.Path] = n
		}
	}
	return nodes
}
