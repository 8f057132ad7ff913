package closure

import (
	"fmt"
	"unicode/utf8"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Format is the version of everything that decides the bytes of a layer: how paths are relocated and fixed, and
// what is written beside them. Layers of another format are not reused. It goes up with every such change.
const Format = 12

// PathInfo is what has to be known to prove an unpacked store path: how to get back to its NAR, and what proves that.
type PathInfo struct {
	Path       storepath.Path   `json:"path"`
	NarHash    string           `json:"narHash"` // "sha256:<base-32>"
	NarSize    int64            `json:"narSize"`
	References []storepath.Path `json:"references,omitempty"`
	Signatures []string         `json:"signatures,omitempty"` // the one by a trusted key
	CA         string           `json:"ca,omitempty"`         // the content address, where that is the proof
	Fixups     []fixup          `json:"fixups,omitempty"`
	Overruled  []Overruled      `json:"overruled,omitempty"`
}

// PathsName is the file in each group's layer that says what the layer holds, so that the layers alone are enough to verify it.
const PathsName = "paths.json"

// PathInfos is the content of a layer's PathsName.
type PathInfos struct {
	Format int        `json:"format"`
	Prefix string     `json:"prefix"` // the view directory that the paths were relocated to, or /nix/store
	Paths  []PathInfo `json:"paths"`
}

// Overruled is a file of a store path that stands in the way of relocation and that somebody takes as harmless.
type Overruled struct {
	Path   storepath.Path `json:"path"`
	File   string         `json:"file"`
	Kind   relocate.Kind  `json:"kind"`
	Detail string         `json:"detail"`
	By     string         `json:"by"` // the glob
}

// String says it in one line.
func (o Overruled) String() string {
	return fmt.Sprintf("%s: %q: %q (by %q)", o.Path.Base(), o.File, o.Detail, o.By)
}

func newOverruled(p storepath.Path, report relocate.Report) []Overruled {
	var list []Overruled
	for _, b := range report.Overruled {
		list = append(list, Overruled{p, text.Valid(b.File), b.Kind, text.Valid(b.Detail), b.Overrule})
	}
	return list
}

// fixup is a relocate.Fixup in JSON. Names that are not UTF-8 would not survive there as strings.
type fixup struct {
	File    string `json:"file,omitempty"`
	RawFile []byte `json:"rawFile,omitempty"`
	Offset  int64  `json:"offset"`
	Was     []byte `json:"was"`
	Length  *int64 `json:"length,omitempty"` // bytes that stand there now, where it is not the length of Was
}

func newFixups(fixups []relocate.Fixup) []fixup {
	var list []fixup
	for _, f := range fixups {
		next := fixup{File: f.File, Offset: f.Offset, Was: f.Was}
		if !utf8.ValidString(f.File) {
			next.File, next.RawFile = "", []byte(f.File)
		}
		if f.Length != int64(len(f.Was)) {
			next.Length = &f.Length
		}
		list = append(list, next)
	}
	return list
}

func newPathInfo(f *cache.Found) PathInfo {
	info := PathInfo{Path: f.StorePath, NarHash: f.NarHash.String(), NarSize: f.NarSize, References: f.References}
	if f.ProvesItself() {
		info.CA = f.CA
	}
	if f.Signature.Name != "" {
		info.Signatures = []string{f.Signature.String()}
	}
	return info
}

// Original is what package relocate wants to know of a path. It fails where NarHash is not a hash.
func (i PathInfo) Original() (relocate.Original, error) {
	hash, err := storepath.ParseHash(i.NarHash)
	if err != nil {
		return relocate.Original{}, err
	}
	o := relocate.Original{Path: i.Path, References: i.References, NarHash: hash}
	for _, f := range i.Fixups {
		next := relocate.Fixup{File: f.File + string(f.RawFile), Offset: f.Offset, Was: f.Was, Length: int64(len(f.Was))}
		if f.Length != nil {
			next.Length = *f.Length
		}
		o.Fixups = append(o.Fixups, next)
	}
	return o, nil
}

// ViewOf is the view of paths that were relocated to prefix; the zero one for those that were not.
func ViewOf(prefix string) (relocate.View, error) {
	if prefix == storepath.Dir {
		return relocate.View{}, nil
	}
	return relocate.NewView(prefix)
}
