package nixinstall

import (
	"context"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// MissingPaths is what Nix would do to have some paths (NixOS/nix: Store::queryMissing).
type MissingPaths struct {
	// WillBuild are derivations that would be compiled.
	WillBuild []storepath.Path
	// WillSubstitute are paths that a substituter has.
	WillSubstitute []storepath.Path
	// Unknown are paths that nothing provides.
	Unknown []storepath.Path
}

// QueryMissing asks Nix how it would come by the outputs of drvs; nothing is built or fetched.
func (t Toolchain) QueryMissing(ctx context.Context, drvs []storepath.Path) (MissingPaths, error) {
	args := []string{"--realise", "--dry-run", "--log-format", "internal-json"}
	for _, drv := range drvs {
		args = append(args, drv.String())
	}
	result, err := t.run(ctx, command{program: "nix-store", args: args, doing: "asking what would be built"})
	if err != nil {
		return MissingPaths{}, t.explain(err, "")
	}
	return parseMissing(result.log.plain), nil
}

// parseMissing reads the lists that Nix prints before it builds (NixOS/nix: src/libmain/shared.cc, printMissing).
func parseMissing(lines []string) MissingPaths {
	var missing MissingPaths
	var list *[]storepath.Path
	for _, text := range lines {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if p, err := storepath.Parse(line); err == nil {
				if list != nil {
					*list = append(*list, p)
				}
				continue
			}
			switch {
			case strings.Contains(line, "will be built"):
				list = &missing.WillBuild
			case strings.Contains(line, "will be fetched"):
				list = &missing.WillSubstitute
			case strings.HasPrefix(line, "don't know how to build"):
				list = &missing.Unknown
			}
		}
	}
	return missing
}
