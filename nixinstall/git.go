package nixinstall

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

const (
	maxRefDepth = 8       // symbolic refs that point to symbolic refs
	maxGitFile  = 8 << 20 // packed-refs of a big repository takes a few MB
)

// GitIdentity reads the identity of the checkout at dir from its .git (a folder, or the file that a worktree or a
// submodule has), without a git program. ok is false where dir is no checkout or has no commit yet.
func GitIdentity(dir string) (id Identity, ok bool, err error) {
	gitDir, err := gitDirOf(dir)
	if err != nil || gitDir == "" {
		return Identity{}, false, err
	}
	common := gitDir
	if text, err := readSmall(filepath.Join(gitDir, "commondir")); err == nil {
		common = below(gitDir, strings.TrimSpace(text))
	}
	id.Rev, id.Branch, err = head(gitDir, common)
	if err != nil {
		return Identity{}, false, fmt.Errorf("reading %s: %w", gitDir, err)
	}
	if id.Rev == "" {
		return Identity{}, false, nil
	}
	id.URL, err = remote(filepath.Join(common, "config"), id.Branch)
	if err != nil {
		return Identity{}, false, fmt.Errorf("reading %s: %w", gitDir, err)
	}
	id.LastModified = commitTime(dir, id.Rev)
	return id, true, nil
}

// commitTime is when a commit was made; 0 where its object is not here.
func commitTime(dir, rev string) int64 {
	repository, err := gitfiles.Open(dir)
	if err != nil || repository == nil {
		return 0
	}
	defer repository.Close()
	commit, err := repository.Commit(rev)
	if err != nil || commit.Time.IsZero() {
		return 0
	}
	return commit.Time.Unix()
}

// gitDirOf is the folder that dir/.git is or names; "" where there is none.
func gitDirOf(dir string) (string, error) {
	dotGit := filepath.Join(dir, ".git")
	info, err := os.Stat(dotGit)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", dotGit, err)
	}
	if info.IsDir() {
		return dotGit, nil
	}
	text, err := readSmall(dotGit)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", dotGit, err)
	}
	place, found := strings.CutPrefix(strings.TrimSpace(text), "gitdir:")
	if !found {
		return "", fmt.Errorf("reading %s: it is a file without a line gitdir", dotGit)
	}
	gitDir := below(dir, strings.TrimSpace(place))
	if _, err := os.Stat(gitDir); err != nil {
		// A worktree or submodule that was sent without the repository it belongs to.
		return "", nil
	}
	return gitDir, nil
}

func below(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func readSmall(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxGitFile+1))
	if err == nil && len(data) > maxGitFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxGitFile)
	}
	return string(data), err
}

// head resolves HEAD to a commit. rev is "" for a branch without a commit.
func head(gitDir, common string) (rev, branch string, err error) {
	name := "HEAD"
	for range maxRefDepth {
		text, err := readRef(gitDir, common, name)
		if err != nil || text == "" {
			return "", "", err
		}
		target, symbolic := strings.CutPrefix(text, "ref:")
		if !symbolic {
			if !isObjectID(text) {
				return "", "", fmt.Errorf("%s holds %.80q, which is no commit", name, text)
			}
			return text, branch, nil
		}
		name = strings.TrimSpace(target)
		if !isRefName(name) {
			return "", "", fmt.Errorf("HEAD names %.80q, which is no ref", name)
		}
		branch = strings.TrimPrefix(name, "refs/heads/")
	}
	return "", "", errors.New("HEAD is a chain of symbolic refs without an end")
}

// readRef is a ref's text, from its file or packed-refs; "" where it is in neither.
func readRef(gitDir, common, name string) (string, error) {
	for _, dir := range []string{gitDir, common} {
		text, err := readSmall(filepath.Join(dir, filepath.FromSlash(name)))
		if err == nil {
			return strings.TrimSpace(text), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	packed, err := readSmall(filepath.Join(common, "packed-refs"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(packed) {
		rev, ref, found := strings.Cut(strings.TrimSpace(line), " ")
		if found && ref == name && isObjectID(rev) {
			return rev, nil
		}
	}
	return "", nil
}

// isObjectID reports whether s is a SHA-1 or SHA-256 in hex.
func isObjectID(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && (len(s) == 40 || len(s) == 64)
}

// isRefName keeps a ref inside the repository's folder.
func isRefName(name string) bool {
	return strings.HasPrefix(name, "refs/") && !slices.Contains(strings.Split(name, "/"), "..") &&
		!strings.ContainsAny(name, "\x00\\")
}

// remote is the URL of the branch's remote, else of origin, else of the only one.
func remote(config, branch string) (string, error) {
	text, err := readSmall(config)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	urls, ofBranch := map[string]string{}, map[string]string{}
	section, name := "", ""
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxGitFile)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section, name = configSection(line)
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), configValue(value)
		switch {
		case section == "remote" && key == "url" && urls[name] == "":
			urls[name] = value
		case section == "branch" && key == "remote":
			ofBranch[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	for _, candidate := range []string{ofBranch[branch], "origin"} {
		if found := urls[candidate]; found != "" {
			return withoutCredentials(found), nil
		}
	}
	if len(urls) == 1 {
		for _, found := range urls {
			return withoutCredentials(found), nil
		}
	}
	return "", nil
}

// configSection reads `[section "name"]`.
func configSection(line string) (section, name string) {
	line, _, _ = strings.Cut(strings.TrimPrefix(line, "["), "]")
	section, name, _ = strings.Cut(line, " ")
	name = strings.Trim(strings.TrimSpace(name), `"`)
	return strings.ToLower(section), strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(name)
}

// configValue reads a value: quotes and a comment behind it removed.
func configValue(value string) string {
	value = strings.TrimSpace(value)
	if quoted, found := strings.CutPrefix(value, `"`); found {
		quoted, _, _ = strings.Cut(quoted, `"`)
		return quoted
	}
	for _, comment := range []string{" #", " ;", "\t#", "\t;"} {
		value, _, _ = strings.Cut(value, comment)
	}
	return strings.TrimSpace(value)
}

// withoutCredentials drops user and password of an HTTP URL: Hydra's input does not have them, and nobody may read
// them. The user of an ssh URL belongs to the address.
func withoutCredentials(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	if u.Scheme == "ssh" || u.Scheme == "git+ssh" {
		u.User = url.User(u.User.Username())
	} else {
		u.User = nil
	}
	return u.String()
}
