package nixproot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

// procfileName is the file that names the process types, and the one file of the source that stays by default.
const procfileName = "Procfile"

// gitName is what no image holds, whatever the settings say: git keeps the logins of its remotes in there.
const gitName = ".git"

// TrimSource removes from the image's application directory what neither the default nor the settings keep: a file
// stays when it is the Procfile or matches one of include, and matches none of exclude. A pattern matches a file or
// any folder above it; * stays within a folder and ** does not. What is named .git never stays. It returns how many
// files stayed.
func TrimSource(dir string, include, exclude []string) (kept int, err error) {
	for _, pattern := range slices.Concat(include, exclude) {
		if !doublestar.ValidatePattern(pattern) {
			return 0, fmt.Errorf("the file pattern %q in BP_INCLUDE_FILES or BP_EXCLUDE_FILES does not parse", pattern)
		}
	}
	include = append(slices.Clone(include), procfileName)
	kept, err = trim(dir, "", include, exclude)
	if err != nil {
		return kept, fmt.Errorf("removing the source from the image: %w", err)
	}
	return kept, nil
}

// trim handles one folder, and removes it when nothing in it stays.
func trim(root, folder string, include, exclude []string) (kept int, err error) {
	entries, err := os.ReadDir(filepath.Join(root, folder))
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		name := path.Join(folder, entry.Name())
		stay := 0
		switch {
		case entry.Name() == gitName:
		case entry.IsDir():
			if stay, err = trim(root, name, include, exclude); err != nil {
				return kept, err
			}
		case matches(name, include) && !matches(name, exclude):
			stay = 1
		}
		kept += stay
		if stay > 0 {
			continue
		}
		if err := removeAll(filepath.Join(root, name)); err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// matches reports whether a pattern matches the file or a folder above it.
func matches(name string, patterns []string) bool {
	for name != "." && name != "/" {
		for _, pattern := range patterns {
			pattern = strings.Trim(path.Clean(pattern), "/")
			if ok, err := doublestar.Match(pattern, name); ok && err == nil {
				return true
			}
		}
		name = path.Dir(name)
	}
	return false
}

// removeAll removes a file or a folder, whoever owns it, without following symlinks. A folder above it that may not be
// written to is made writable, where it can be.
func removeAll(name string) error {
	err := nar.RemoveAll(name)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	above := filepath.Dir(name)
	info, statErr := os.Stat(above)
	if statErr != nil || os.Chmod(above, info.Mode().Perm()|0o700) != nil {
		return err
	}
	return nar.RemoveAll(name)
}
