// Package narinfo reads and writes what a binary cache says of a store path, and checks its signatures.
//
// The format is that of NixOS/nix, src/libstore/nar-info.cc: a line per field, "Name: value". Reading is lenient where
// caches in use differ from one another (fields that are missing, empty, unknown or in another order) and strict where
// the answer decides what lands on disk.
package narinfo

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// NarInfo is what a cache says of one store path.
type NarInfo struct {
	StorePath   storepath.Path
	URL         string           // of the compressed NAR, relative to the cache unless it is absolute
	Compression string           // "xz", "zstd", "none"...; "bzip2" where the cache does not say
	FileHash    storepath.Hash   // of the compressed NAR, zero where the cache does not say
	FileSize    int64            // of the compressed NAR in bytes, 0 where the cache does not say
	NarHash     storepath.Hash   // of the NAR
	NarSize     int64            // of the NAR in bytes
	References  []storepath.Path // sorted, each once; may hold StorePath itself
	Deriver     string           // base name of the .drv file, "" where it is not known
	Sigs        []Signature
	CA          string // the claim that the path is addressed by its contents, "" for none; see VerifyCA
}

// Fingerprint is the text that a cache's key signs: path, hash, size and references, and nothing of where the archive
// lies. See ValidPathInfo::fingerprint in NixOS/nix, src/libstore/path-info.cc.
func (n *NarInfo) Fingerprint() string {
	var b strings.Builder
	b.WriteString("1;")
	b.WriteString(string(n.StorePath))
	b.WriteByte(';')
	b.WriteString(n.NarHash.String())
	b.WriteByte(';')
	b.WriteString(strconv.FormatInt(n.NarSize, 10))
	b.WriteByte(';')
	for i, ref := range n.References {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(string(ref))
	}
	return b.String()
}

// String is the narinfo as a cache serves it, fields in the order that Nix writes.
func (n *NarInfo) String() string {
	var b strings.Builder
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\n", name, value) }
	field("StorePath", string(n.StorePath))
	field("URL", n.URL)
	field("Compression", cmp.Or(n.Compression, defaultCompression))
	if !n.FileHash.IsZero() {
		field("FileHash", n.FileHash.String())
	}
	if n.FileSize > 0 {
		field("FileSize", strconv.FormatInt(n.FileSize, 10))
	}
	field("NarHash", n.NarHash.String())
	field("NarSize", strconv.FormatInt(n.NarSize, 10))
	bases := make([]string, len(n.References))
	for i, ref := range n.References {
		bases[i] = ref.Base()
	}
	field("References", strings.Join(bases, " "))
	if n.Deriver != "" {
		field("Deriver", n.Deriver)
	}
	for _, sig := range n.Sigs {
		field("Sig", sig.String())
	}
	if n.CA != "" {
		field("CA", n.CA)
	}
	return b.String()
}
