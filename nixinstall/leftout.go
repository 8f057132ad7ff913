package nixinstall

import (
	"context"
	"errors"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// maxReasons bounds the jobs that are evaluated once more to find out why they cannot be.
const maxReasons = 5

// leftOut writes a note for each job that a job set was searched without. The language does not tell what was thrown,
// so that the first few are asked for by their names.
func (t Toolchain) leftOut(ctx context.Context, q question, source storepath.Path, paths [][]string) ([]string, error) {
	notes := make([]string, 0, len(paths))
	for i, path := range paths {
		name := strings.TrimPrefix(strings.Join(path, "."), ".") // a flake's begins with an empty one
		note := name + " does not evaluate: left out"
		if i < maxReasons {
			q.Attrs, q.Outputs, q.Optional = [][]string{path}, [][]string{{}}, nil
			_, _, err := t.ask(ctx, q, source, "evaluating "+name)
			var why *EvalError
			switch {
			case errors.As(err, &why):
				note += " (" + why.where() + why.Summary + ")"
			case ctx.Err() != nil:
				return nil, err
			}
		}
		notes = append(notes, note)
	}
	return notes, nil
}
