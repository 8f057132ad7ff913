package gitfiles

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// maxSymbolic is how many symbolic refs may point to each other.
const maxSymbolic = 8

// otherFormat is what HEAD names where refs are in no files of their own (git: Documentation/technical/reftable.txt).
const otherFormat = "refs/heads/.invalid"

// Head is the commit of HEAD, "" where its branch has none yet, and the branch, "" where HEAD is detached.
func (r *Repository) Head(ctx context.Context) (rev, branch string, err error) {
	name := "HEAD"
	for range maxSymbolic {
		text, err := r.ref(ctx, name)
		if err != nil {
			return "", "", fmt.Errorf("reading %s: %w", name, err)
		}
		if text == "" {
			return "", "", nil
		}
		target, symbolic := strings.CutPrefix(text, "ref:")
		if !symbolic {
			if !isObjectName(text) {
				// Not what: a link of a stranger's .git may have led anywhere.
				return "", "", fmt.Errorf("%s holds no commit", name)
			}
			return text, branch, nil
		}
		name = strings.TrimSpace(target)
		if name == otherFormat {
			return "", "", errors.New("it keeps its refs in another format than files (reftable)")
		}
		if !isRefName(name) {
			return "", "", fmt.Errorf("HEAD names %.80q, which is no ref", name)
		}
		branch = strings.TrimPrefix(name, "refs/heads/")
	}
	return "", "", errors.New("HEAD is a chain of symbolic refs without an end")
}

// ref is a ref's text, from its file or packed-refs; "" where it is in neither.
func (r *Repository) ref(ctx context.Context, name string) (string, error) {
	for _, dir := range []string{r.dir, r.common} {
		text, err := regularfile.Read(ctx, filepath.Join(dir, filepath.FromSlash(name)), maxSmall)
		if err == nil {
			return strings.TrimSpace(string(text)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return r.packedRef(ctx, name)
}

// packedRef looks a ref up in packed-refs, a line "<object name> <ref>" for each; "" where it is not in there.
func (r *Repository) packedRef(ctx context.Context, name string) (string, error) {
	file := filepath.Join(r.common, "packed-refs")
	f, err := regularfile.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxRefs {
		return "", errors.Join(err, fmt.Errorf("%s has more than %d bytes", file, maxRefs))
	}
	lines := bufio.NewScanner(regularfile.NewReader(ctx, f))
	for lines.Scan() {
		rev, ref, found := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if found && ref == name && isObjectName(rev) {
			return rev, nil
		}
	}
	return "", lines.Err()
}

// isObjectName reports whether s is a SHA-1 or SHA-256 in hex.
func isObjectName(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && (len(s) == 40 || len(s) == 64)
}

// isRefName keeps a ref inside the repository's directory.
func isRefName(name string) bool {
	return strings.HasPrefix(name, "refs/") && !slices.Contains(strings.Split(name, "/"), "..") &&
		!strings.ContainsAny(name, "\x00\\")
}

// Remote is the URL of a branch's remote, else of origin, else of the only one, as it is written; "" where there is
// none. It may hold a password.
func (r *Repository) Remote(branch string) string {
	for _, candidate := range []string{r.settings.remoteOf[branch], "origin"} {
		if found := r.settings.urls[candidate]; found != "" {
			return found
		}
	}
	if len(r.settings.urls) == 1 {
		for _, found := range r.settings.urls {
			return found
		}
	}
	return ""
}

// settings are what is taken from .git/config.
type settings struct {
	urls         map[string]string // by remote
	remoteOf     map[string]string // by branch
	objectFormat string
}

// parseSettings reads a config file as git-config(1) describes it, without what it includes.
func parseSettings(text string) settings {
	s := settings{urls: map[string]string{}, remoteOf: map[string]string{}}
	section, name := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section, name = configSection(line)
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), configValue(value)
		switch {
		case section == "remote" && key == "url" && s.urls[name] == "":
			s.urls[name] = value
		case section == "branch" && key == "remote":
			s.remoteOf[name] = value
		case section == "extensions" && key == "objectformat":
			s.objectFormat = strings.ToLower(value)
		}
	}
	return s
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
