package nixinstall

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// FlakeConfig is what the nixConfig of a flake.nix lists of caches and of keys to trust (NixOS/nix: src/nix/flake.md,
// "Flake format"), be it with "extra-" before it or without.
type FlakeConfig struct {
	Substituters      []string `json:"substituters"`
	TrustedPublicKeys []string `json:"trustedPublicKeys"`
}

// flakeConfig reads the attribute as Nix itself does, which takes strings and lists of them, without a look at inputs
// or outputs.
const flakeConfig = `file: let
  config = (import file).nixConfig or { };
  words = value:
    if builtins.isList value then builtins.concatMap words value
    else if builtins.isString value then builtins.filter (w: builtins.isString w && w != "") (builtins.split "[[:space:]]+" value)
    else [ ];
  all = builtins.concatMap (name: words (config.${name} or [ ]));
in {
  substituters = all [ "substituters" "extra-substituters" "trusted-substituters" "extra-trusted-substituters" ];
  trustedPublicKeys = all [ "trusted-public-keys" "extra-trusted-public-keys" ];
}`

// FlakeConfig reads the nixConfig of a source's flake.nix, which is not obeyed.
func (t Toolchain) FlakeConfig(ctx context.Context, source storepath.Path) (FlakeConfig, error) {
	var config FlakeConfig
	const doing = "reading the nixConfig of flake.nix"
	result, err := t.run(ctx, command{
		program: "nix", args: []string{"eval", "--json", "-v", "--log-format", "internal-json", "--file", "-"},
		stdin: "(" + flakeConfig + ") " + quoteNix(source.String()+"/flake.nix"), doing: doing,
	})
	if err != nil {
		return config, fmt.Errorf("%s: %w", doing, t.explain(err, source))
	}
	if err := json.Unmarshal(result.stdout, &config); err != nil {
		return config, fmt.Errorf("%s: reading Nix's answer: %w", doing, err)
	}
	return config, nil
}
