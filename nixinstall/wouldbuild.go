package nixinstall

import (
	"context"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// WouldBuild asks Nix which derivations it would compile to have the outputs of drvs; nothing is built or fetched.
func (t Toolchain) WouldBuild(ctx context.Context, drvs []storepath.Path) ([]storepath.Path, error) {
	args := []string{"--realise", "--dry-run", "--log-format", "internal-json"}
	for _, drv := range drvs {
		args = append(args, drv.String())
	}
	result, err := t.run(ctx, command{program: "nix-store", args: args, doing: "asking what would be built"})
	if err != nil {
		return nil, t.explain(err, "")
	}
	return parseWouldBuild(result.log.plain), nil
}

// parseWouldBuild reads the first of the lists that Nix prints before it builds (NixOS/nix: src/libmain/shared.cc,
// printMissing).
func parseWouldBuild(lines []string) []storepath.Path {
	var drvs []storepath.Path
	building := false
	for _, text := range lines {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			switch p, err := storepath.Parse(line); {
			case err != nil:
				building = strings.Contains(line, "will be built") ||
					building && !strings.Contains(line, "will be fetched") && !strings.HasPrefix(line, "don't know how to build")
			case building:
				drvs = append(drvs, p)
			}
		}
	}
	return drvs
}
