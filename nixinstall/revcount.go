package nixinstall

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

// maxCommits bounds the history that RevCount walks; Linux has a million commits.
const maxCommits = 2_000_000

// RevCount is the number of commits that a revision is made of, itself included: what a flake of a git repository
// sees as self.revCount. It reads the whole history, and so takes its time; 0 where the history is not all here.
func RevCount(ctx context.Context, dir, rev string) (int64, error) {
	gitDir, err := gitDirOf(dir)
	if err != nil || gitDir == "" {
		return 0, err
	}
	if isFile(filepath.Join(gitDir, "shallow")) {
		return 0, nil
	}
	repository, err := gitfiles.Open(dir)
	if err != nil || repository == nil {
		return 0, err
	}
	defer repository.Close()
	seen := map[string]bool{rev: true}
	for queue := []string{rev}; len(queue) > 0; {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("counting commits: %w", err)
		}
		last := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		commit, err := repository.Commit(last)
		if err != nil || len(seen) > maxCommits {
			return 0, nil
		}
		for _, parent := range commit.Parents {
			if !seen[parent] {
				seen[parent] = true
				queue = append(queue, parent)
			}
		}
	}
	return int64(len(seen)), nil
}
