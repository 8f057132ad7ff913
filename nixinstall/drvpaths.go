package nixinstall

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// ReadDrv reads a derivation that an evaluation left in the state directory.
func (t Toolchain) ReadDrv(p storepath.Path) (*Drv, error) {
	data, err := os.ReadFile(t.settings.physical(p.String()))
	if err != nil {
		return nil, fmt.Errorf("reading derivation: %w", err)
	}
	d, err := parseDrv(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return d, nil
}

// IsFixedOutput reports whether this is a fixed-output derivation: the content of its one output is known beforehand.
func (d *Drv) IsFixedOutput() bool {
	o, ok := d.Outputs["out"]
	return ok && len(d.Outputs) == 1 && o.Hash != ""
}

// moduloFunc is the hash that stands for an input derivation: Nix's hashDerivationModulo of it.
type moduloFunc func(storepath.Path) (digestHex string, err error)

// modulo is the derivation's hash with its input derivations replaced by theirs, so that two derivations which
// differ only in how a known content is fetched are the same (NixOS/nix: src/libstore/derivations.cc,
// hashDerivationModulo). masked leaves the outputs' own paths out: that is what they are made from.
func (d *Drv) modulo(masked bool, input moduloFunc) (string, error) {
	if d.IsFixedOutput() {
		o := d.Outputs["out"]
		return hexSum("fixed:out:" + o.HashAlgo + ":" + o.Hash + ":" + o.Path.String()), nil
	}
	inputs := map[string]map[string]bool{}
	for drv, names := range d.InputDrvs {
		digest, err := input(drv)
		if err != nil {
			return "", err
		}
		if inputs[digest] == nil {
			inputs[digest] = map[string]bool{}
		}
		for _, name := range names {
			inputs[digest][name] = true
		}
	}
	copied := *d
	if masked {
		copied.Outputs, copied.Env = map[string]DrvOutput{}, maps.Clone(d.Env)
		for name := range d.Outputs {
			copied.Outputs[name] = DrvOutput{}
			if _, ok := copied.Env[name]; ok {
				copied.Env[name] = ""
			}
		}
	}
	names := make(map[string][]string, len(inputs))
	for digest, set := range inputs {
		names[digest] = slices.Sorted(maps.Keys(set))
	}
	return hexSum(copied.aterm(names)), nil
}

// outputPath is where an output whose content is not known beforehand goes.
func outputPath(masked, name, output string) (storepath.Path, error) {
	if output != "out" {
		name += "-" + output
	}
	digest, err := storepath.ParseHash("sha256:" + masked)
	if err != nil {
		return "", err
	}
	return storepath.Make("output:"+output, digest, name)
}

// drvPath is the store path of a derivation's own text.
func (d *Drv) drvPath(name string) (storepath.Path, error) {
	refs := slices.Clone(d.InputSrcs)
	refs = slices.AppendSeq(refs, maps.Keys(d.InputDrvs))
	slices.Sort(refs)
	kind := "text"
	for _, ref := range slices.Compact(refs) {
		kind += ":" + ref.String()
	}
	return storepath.Make(kind, sha256.Sum256([]byte(d.String())), name+".drv")
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func drvName(p storepath.Path) string { return strings.TrimSuffix(p.Name(), ".drv") }
