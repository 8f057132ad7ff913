package nixinstall

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

// Identity is what a checkout's .git says about where its source comes from.
type Identity struct {
	// URL is the remote's, without credentials; "" where there is no remote.
	URL string
	// Rev is the full commit hash of HEAD.
	Rev string
	// Branch is the branch HEAD is on; "" where it is detached.
	Branch string
	// LastModified is when the commit was made, in seconds since 1970; 0 where that cannot be read.
	LastModified int64
}

// identityTime bounds how long a .git may take to say what it is, and historyTime to count its commits: a stranger's
// may be made to take for ever.
const (
	identityTime = 10 * time.Second
	historyTime  = time.Minute
)

// GitIdentity reads the identity of the checkout at dir from its .git (a directory, or the file that a worktree or a
// submodule has), without a git program. ok is false where dir is no checkout or has no commit yet.
func GitIdentity(ctx context.Context, dir string) (id Identity, ok bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, identityTime, fmt.Errorf("it took longer than %s", identityTime))
	defer cancel()
	repository, err := gitfiles.Open(ctx, dir)
	if err != nil || repository == nil {
		return Identity{}, false, err
	}
	defer repository.Close()
	id.Rev, id.Branch, err = repository.Head(ctx)
	if err != nil {
		return Identity{}, false, fmt.Errorf("reading .git: %w", err)
	}
	if id.Rev == "" {
		return Identity{}, false, nil
	}
	id.URL = WithoutCredentials(repository.Remote(id.Branch))
	switch commit, err := repository.Commit(ctx, id.Rev); {
	case errors.Is(err, gitfiles.ErrAbsent): // a checkout without its objects has a revision all the same
	case err != nil:
		return Identity{}, false, fmt.Errorf("reading .git: %w", err)
	case !commit.Time.IsZero():
		id.LastModified = commit.Time.Unix()
	}
	return id, true, nil
}

// loginBeforeHost is a login in an address without a scheme, which scp's form has not.
var loginBeforeHost = regexp.MustCompile(`^[^/@:]*:[^/@]+@`)

// WithoutCredentials drops user and password of an HTTP URL: Hydra's input does not have them, and nobody may read
// them. What comes after a question mark may be a token. The user of an ssh URL belongs to the address. A URL that does not
// parse, or may have a login in another place, is "".
func WithoutCredentials(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil && strings.Contains(raw, "://"), err == nil && redact.IsMisread(u), loginBeforeHost.MatchString(raw):
		return ""
	case err == nil && (u.Scheme == "http" || u.Scheme == "https"):
		u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	case err != nil || u.User == nil: // host:path, as scp has it
		return raw
	case u.Scheme == "ssh", u.Scheme == "git+ssh":
		u.User = url.User(u.User.Username())
	default:
		u.User = nil
	}
	return u.String()
}
