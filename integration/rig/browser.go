package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Browser gives the path of a Chromium without a screen that runs on this machine as it is.
func (r *Rig) Browser(ctx context.Context) (string, error) {
	r = r.host()
	const name = "chromium-headless-shell"
	root, err := r.Debs(ctx, Suite, name, "patchelf")
	if err != nil {
		return "", err
	}
	dir, err := r.cached(ctx, "browser", []string{"1", root}, func(ctx context.Context, dir, final string) error {
		// It looks for its files beside itself.
		if _, err := run(ctx, dir, "cp", "-R", filepath.Join(root, "usr/lib/chromium"), "lib"); err != nil {
			return err
		}
		if err := r.patch(ctx, root, filepath.Join(dir, "lib", name)); err != nil {
			return err
		}
		// Some libraries name the directories of others.
		libraries := filepath.Join(root, "usr/lib", r.triplet())
		script := fmt.Sprintf("#!/bin/sh\nexport LD_LIBRARY_PATH=%s:%s FONTCONFIG_PATH=%s\nexec %s \"$@\"\n", libraries,
			filepath.Join(libraries, "pulseaudio"), filepath.Join(root, "etc/fonts"), filepath.Join(final, "lib", name))
		return os.WriteFile(filepath.Join(dir, "chromium"), []byte(script), 0o755)
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "chromium"), nil
}
