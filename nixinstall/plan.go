package nixinstall

import (
	"context"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Plan is what Nix would do to have some paths: Build lists the derivations that would be compiled, Fetch the
// store paths that a substituter has.
type Plan struct {
	Build []storepath.Path
	Fetch []storepath.Path
	// Unknown are paths that nothing provides.
	Unknown []storepath.Path
}

// WouldBuild asks Nix what it would compile and what it would fetch to have the outputs of drvs, and does neither.
func (t Toolchain) WouldBuild(ctx context.Context, drvs []storepath.Path) (Plan, error) {
	args := []string{"--realise", "--dry-run", "--log-format", "internal-json"}
	for _, drv := range drvs {
		args = append(args, drv.String())
	}
	result, err := t.run(ctx, command{program: "nix-store", args: args, doing: "asking what would be built"})
	if err != nil {
		return Plan{}, t.explain(err, "")
	}
	return parsePlan(result.log.plain), nil
}

// parsePlan reads the lists that Nix prints before it builds (NixOS/nix: src/libmain/shared.cc, printMissing).
func parsePlan(lines []string) Plan {
	var plan Plan
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
				list = &plan.Build
			case strings.Contains(line, "will be fetched"):
				list = &plan.Fetch
			case strings.HasPrefix(line, "don't know how to build"):
				list = &plan.Unknown
			}
		}
	}
	return plan
}
