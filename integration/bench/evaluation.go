package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// longExpression takes a second or more to evaluate: sets, lists and texts, and a chain of derivations to be hashed.
const longExpression = `let
  sets = builtins.foldl' (sum: n: sum + builtins.length (builtins.attrNames (builtins.listToAttrs
    (builtins.genList (i: { name = "n${toString (i + n)}"; value = i; }) 300)))) 0 (builtins.genList (n: n) 18000);
  drv = n: derivation {
    name = "d${toString n}"; system = "x86_64-linux"; builder = "/bin/sh";
    inputs = if n == 0 then [ ] else [ (builtins.elemAt drvs (n - 1)) ];
  };
  drvs = builtins.genList drv 2000;
in "${toString sets} ${builtins.unsafeDiscardStringContext (drv 1999).drvPath}"
`

// evaluation compares the relocated toolchain, on a store that is not at /nix, with the same Nix at /nix, by the processor
// time that Nix itself counts.
func (b *Bench) evaluation(ctx context.Context, dir string, nix nixinstall.Toolchain, pkgs *rig.Nixpkgs, release *rig.Toolchain,
) error {
	b.Log("resolve: evaluating with the relocated toolchain, and with the same Nix at /nix")
	file, conf := filepath.Join(dir, "long.nix"), filepath.Join(dir, "conf")
	root := filepath.Join(dir, "evaluation")
	for _, dir := range []string{conf, root} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	settings := "store = local?root=" + root + "\nbuild-users-group =\nsubstituters =\n"
	for name, text := range map[string]string{file: longExpression, filepath.Join(conf, "nix.conf"): settings} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	program := filepath.Join(nix.Metadata.Prefix, nix.Metadata.Program, "bin/nix-instantiate")
	var relocated, ordinary []float64
	var said [2]string
	stats := filepath.Join(dir, "stats.json")
	counting := []string{"NIX_SHOW_STATS=1", "NIX_SHOW_STATS_PATH=" + stats}
	for range max(b.Pairs, 5) {
		here := exec.CommandContext(ctx, program, "--eval", file)
		here.Env = append([]string{"HOME=" + root, "NIX_CONF_DIR=" + conf, "NIX_STATE_DIR=" + filepath.Join(root, "nix/var/nix")},
			counting...)
		there, err := pkgs.Store.CommandIn(ctx, dir, "/usr/bin/env", append(slices.Clone(counting),
			filepath.Join(release.Nix, "bin/nix-instantiate"), "--eval", file)...)
		if err != nil {
			return err
		}
		for i, command := range []*exec.Cmd{here, there} {
			out, err := command.Output()
			if err != nil {
				return fmt.Errorf("evaluating: %w", err)
			}
			said[i] = string(out)
			took, err := evaluationTime(stats)
			if err != nil {
				return err
			}
			if i == 0 {
				relocated = append(relocated, took)
			} else {
				ordinary = append(ordinary, took)
			}
		}
		if said[0] != said[1] {
			return fmt.Errorf("the relocated toolchain says %s, and the same Nix at /nix %s", said[0], said[1])
		}
	}
	// The fastest of each: what else a machine does only adds.
	b.row("evaluation, relocated toolchain / the same Nix at /nix", slices.Min(relocated)/slices.Min(ordinary), "ratio", "<=1.05")
	b.row("that evaluation at /nix", slices.Min(ordinary), "s", ">=1")
	return nil
}

// evaluationTime is the processor time in seconds that Nix counted (NixOS/nix: src/libexpr/eval.cc, printStatistics).
func evaluationTime(file string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("reading Nix's statistics: %w", err)
	}
	var stats struct {
		Time struct {
			CPU float64 `json:"cpu"`
		} `json:"time"`
	}
	if err := json.Unmarshal(text, &stats); err != nil {
		return 0, fmt.Errorf("reading Nix's statistics: %w", err)
	}
	if stats.Time.CPU <= 0 {
		return 0, fmt.Errorf("reading Nix's statistics: they have no processor time")
	}
	return stats.Time.CPU, nil
}
