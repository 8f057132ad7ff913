package roots

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

const drvHash = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-"

// drvs are derivations by name, each with the names that it is made from; others cannot be read.
type drvs map[string]*nixinstall.Drv

func (d drvs) read(p storepath.Path) (*nixinstall.Drv, error) {
	if drv := d[p.Name()]; drv != nil {
		return drv, nil
	}
	return nil, errors.New("it is not there")
}

func inputs(names ...string) map[storepath.Path][]string {
	all := map[storepath.Path][]string{}
	for _, name := range names {
		all[storepath.Path(drvHash+name)] = []string{"out"}
	}
	return all
}

func TestTheSourceIsFoundBelowADerivation(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	g.Expect(os.MkdirAll(filepath.Join(dir, "sub/.git"), 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(dir, "sub/main.c"), []byte("x"), 0o644)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(dir, "sub/.git/hidden.c"), []byte("x"), 0o644)).To(Succeed())
	copied := func(name, as string) storepath.Path {
		p, err := nixinstall.SourcePath(context.Background(), filepath.Join(dir, name),
			nixinstall.SourceOptions{Name: as, Rule: nixinstall.GitKept})
		g.Expect(err).NotTo(HaveOccurred())
		return p
	}
	source := storepath.Path(drvHash + "source")
	all := drvs{
		"plain":   {InputDrvs: inputs("leaf", "gone")},
		"leaf":    {InputDrvs: inputs("plain")}, // a circle, which no store has, ends
		"whole":   {InputDrvs: inputs("leaf", "unpack")},
		"unpack":  {Env: map[string]string{"src": source.String() + "/sub"}},
		"part":    {InputDrvs: inputs("compile")},
		"compile": {InputSrcs: []storepath.Path{copied("sub/main.c", "main.c")}},
		"renamed": {InputSrcs: []storepath.Path{copied("sub/main.c", "other.c")}},
		"other":   {InputSrcs: []storepath.Path{drvHash + "main.c"}},
		"hidden":  {InputSrcs: []storepath.Path{copied("sub/.git/hidden.c", "hidden.c")}},
	}
	for name, want := range map[string]bool{
		"plain": false, "gone": false, "whole": true, "part": true, "renamed": false, "other": false, "hidden": false,
	} {
		graph := newGraph(context.Background(), all.read, dir, source)
		for range 2 { // the second answer is the first one's
			g.Expect(graph.hasPart([]storepath.Path{drvHash + "leaf", storepath.Path(drvHash + name)})).To(Equal(want), name)
		}
	}
}

func TestADerivationIsFetchedWhereItHasOneOutputOfKnownHash(t *testing.T) {
	g := NewWithT(t)
	known := nixinstall.DrvOutput{Hash: "aa"}
	g.Expect(isFetched(&nixinstall.Drv{Outputs: map[string]nixinstall.DrvOutput{"out": known}})).To(BeTrue())
	g.Expect(isFetched(&nixinstall.Drv{Outputs: map[string]nixinstall.DrvOutput{"out": {}}})).To(BeFalse())
	g.Expect(isFetched(&nixinstall.Drv{Outputs: map[string]nixinstall.DrvOutput{"out": known, "doc": known}})).To(BeFalse())
}
