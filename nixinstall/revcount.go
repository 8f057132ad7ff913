package nixinstall

import (
	"context"
	"fmt"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

// RevCount is the number of commits that a revision is made of, itself included: what a flake of a git repository
// sees as self.revCount. It reads the whole history, and so takes its time, up to a minute; 0 where the history is not
// all here.
func RevCount(ctx context.Context, dir, rev string) (int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, historyTime, fmt.Errorf("it took longer than %s", historyTime))
	defer cancel()
	repository, err := gitfiles.Open(ctx, dir)
	if err != nil || repository == nil {
		return 0, err
	}
	defer repository.Close()
	return repository.Count(ctx, rev)
}
