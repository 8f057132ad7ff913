package closurelayer_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/closurelayer"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
)

// TestWhatLayersSayIsBounded reads layers that a stranger has made: together they say no more than a closure that a build resolves
// has, and no two paths are counted with the same files.
func TestWhatLayersSayIsBounded(t *testing.T) {
	g := NewWithT(t)
	largest := int64(64 << 20)
	// said writes what each layer says, and gives the error of the last.
	said := func(layers ...[]byte) error {
		dir := t.TempDir()
		for i, text := range layers {
			name := filepath.Join(dir, fmt.Sprintf("closure-%04d-aa", i))
			g.Expect(os.Mkdir(name, 0o755)).To(Succeed())
			g.Expect(os.WriteFile(filepath.Join(name, closure.PathsName), text, 0o644)).To(Succeed())
			if text == nil { // as large as one may be
				g.Expect(os.Truncate(filepath.Join(name, closure.PathsName), largest)).To(Succeed())
			}
		}
		tree, done, err := filetree.ReadDirectory(t.Context(), dir)
		g.Expect(err).NotTo(HaveOccurred())
		defer done()
		var reader closurelayer.Reader
		for _, name := range tree.Names() {
			_, _, err = reader.Read(t.Context(), tree.Child(name))
		}
		return err
	}
	paths := func(prefix string, from, to int) []byte {
		infos := closure.PathInfos{Format: closure.Format, Prefix: prefix}
		for i := from; i < to; i++ {
			infos.Paths = append(infos.Paths, closure.PathInfo{Path: storepath.Path(fmt.Sprintf("/nix/store/%032d-a", i))})
		}
		text, err := json.Marshal(infos)
		g.Expect(err).NotTo(HaveOccurred())
		return text
	}
	padded := func(size, references int) []byte {
		refs := make([]string, references)
		for i := range refs {
			refs[i] = fmt.Sprintf(`"/nix/store/%032d-a"`, i)
		}
		text := fmt.Sprintf(`{"path":"/nix/store/%032d-a","references":[%s],"pad":"`, 0, strings.Join(refs, ","))
		text += strings.Repeat("p", max(0, size-len(text)-2)) + `"}`
		return fmt.Appendf(nil, `{"format":%d,"prefix":"/nix/store","paths":[%s]}`, closure.Format, text)
	}
	g.Expect(said(padded(6<<20, 0))).To(Succeed())
	g.Expect(said(padded(6<<20+1, 0))).To(MatchError(ContainSubstring("more than 6291456")))
	g.Expect(said(padded(0, 32768))).To(Succeed())
	g.Expect(said(padded(0, 32769))).To(MatchError(ContainSubstring("more than a narinfo has room for")))
	const view = "/layers/nixproot_nix-hydra/view"
	g.Expect(said(paths(storepath.Dir, 0, 3), paths(storepath.Dir, 3, 6))).To(Succeed())
	g.Expect(said(paths(view, 0, 1), paths(view, 1, 2))).To(Succeed())
	g.Expect(said(paths(view, 0, 2))).To(MatchError(ContainSubstring("which would be in one place")))
	g.Expect(said(paths(storepath.Dir, 0, closure.MaxPaths), paths(storepath.Dir, closure.MaxPaths, closure.MaxPaths+1))).
		To(MatchError(ContainSubstring("more than 100000 paths")))
	g.Expect(said(nil, nil, nil, nil)).NotTo(MatchError(ContainSubstring("layers before it")))
	g.Expect(said(nil, nil, nil, nil, nil)).To(MatchError(ContainSubstring("with those of the layers before it")))
	largest++
	g.Expect(said(nil)).To(MatchError(ContainSubstring("more than 67108864")))
}
