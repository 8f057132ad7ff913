package nixproot

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// procfileName is the file that names the process types, and the one file of the source that stays by default.
const procfileName = "Procfile"

// TrimSource removes from the image's application directory what neither the default nor the settings keep: a file
// stays when it is the Procfile or matches one of include, and matches none of exclude. A pattern matches a file or
// any folder above it; * stays within a folder and ** does not. It returns how many files stayed.
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
		full := filepath.Join(root, name)
		if entry.IsDir() {
			below, err := trim(root, name, include, exclude)
			if err != nil {
				return kept, err
			}
			kept += below
			if below > 0 {
				continue
			}
		} else if matches(name, include) && !matches(name, exclude) {
			kept++
			continue
		}
		if err := removeAll(full); err != nil {
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

// removeAll removes a file or a folder, read-only folders included, without following symlinks.
func removeAll(name string) error {
	err := filepath.WalkDir(name, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.RemoveAll(name)
}
