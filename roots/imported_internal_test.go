package roots

import (
	"errors"
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

func TestOfDerivationsThoseAreNamedThatNoOtherIsMadeFrom(t *testing.T) {
	g := NewWithT(t)
	all := drvs{"app": {InputDrvs: inputs("lib", "gone")}, "lib": {InputDrvs: inputs("src")}, "src": {InputDrvs: inputs("lib")}}
	var given []storepath.Path
	for _, name := range []string{"src", "app", "lib", "other"} {
		given = append(given, storepath.Path(drvHash+name))
	}
	g.Expect(outermost(given, all.read)).To(Equal([]storepath.Path{drvHash + "app", drvHash + "other"}))
}
