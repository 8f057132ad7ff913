package nixinstall

import (
	"crypto/sha256"
	"encoding/hex"
)

// Identity is what a checkout's .git says about where its source comes from.
type Identity struct {
	// URL is the remote's, without credentials; "" where there is no remote.
	URL string
	// Rev is the full commit hash of HEAD.
	Rev string
	// Branch is the branch HEAD is on; "" where it is detached.
	Branch string
}

// GitIdentity reads the identity of the checkout at dir from its .git (a folder, or the file that a worktree or a
// submodule has), without a git program. ok is false where dir is no checkout or has no commit yet.
func GitIdentity(dir string) (id Identity, ok bool, err error) {
	return Identity{}, false, nil
}

// SourceNames are the names that Hydra may have given to a source's store path, the most likely first and each
// once: the configured one, "<SHA-256 of the git URL, hex>-<first 7 of the revision>" (Hydra today), "git-export"
// (Hydra in 2016), "source" (flakes, fetchGit).
func SourceNames(gitURL, rev, configured string) []string {
	var names []string
	add := func(name string) {
		for _, n := range names {
			if n == name {
				return
			}
		}
		names = append(names, name)
	}
	if configured != "" {
		add(configured)
	}
	if gitURL != "" && len(rev) >= 7 {
		sum := sha256.Sum256([]byte(gitURL))
		add(hex.EncodeToString(sum[:]) + "-" + rev[:7])
	}
	add("git-export")
	add("source")
	return names
}
