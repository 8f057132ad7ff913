package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// WriteTree writes files, by their slash-separated names, below dir. A name that ends in "*" is executable, without
// the star; a text that begins with "-> " is a symbolic link.
func WriteTree(dir string, files map[string]string) error {
	for name, text := range files {
		mode := os.FileMode(0o644)
		if plain, found := strings.CutSuffix(name, "*"); found {
			name, mode = plain, 0o755
		}
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return fmt.Errorf("writing a tree: %w", err)
		}
		if target, found := strings.CutPrefix(text, "-> "); found {
			if err := os.Symlink(target, full); err != nil {
				return fmt.Errorf("writing a tree: %w", err)
			}
			continue
		}
		if err := os.WriteFile(full, []byte(text), mode); err != nil {
			return fmt.Errorf("writing a tree: %w", err)
		}
	}
	return nil
}
