// Command jail runs a program in a root directory of its own. It is started by the rig in a mount namespace, and in a user
// namespace where the rig is not root; $JAIL says what to do, as JSON: see Jail.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Jail is what the program sees.
type Jail struct {
	// Root is the directory whose entries make the root directory, Mount an empty directory to build it on.
	Root, Mount string
	// Binds are further directories: their places inside, each with the directory outside.
	Binds [][2]string
	// Dir is the current directory inside.
	Dir string
	// User and Group are taken before the start, unless negative.
	User, Group int
	Env         []string
	Args        []string
}

func main() {
	err := run()
	fmt.Fprintln(os.Stderr, "jail:", err)
	os.Exit(126)
}

func run() error {
	var jail Jail
	if err := json.Unmarshal([]byte(os.Getenv("JAIL")), &jail); err != nil {
		return fmt.Errorf("reading $JAIL: %w", err)
	}
	if err := jail.build(); err != nil {
		return err
	}
	if err := os.Chdir(jail.Mount); err != nil {
		return err
	}
	if err := syscall.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing root: %w", err)
	}
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving old root: %w", err)
	}
	if err := os.Chdir(jail.Dir); err != nil {
		return err
	}
	if jail.User >= 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(jail.Group), syscall.Setuid(jail.User)); err != nil {
			return fmt.Errorf("becoming %d:%d: %w", jail.User, jail.Group, err)
		}
	}
	return fmt.Errorf("starting %s: %w", jail.Args[0], syscall.Exec(jail.Args[0], jail.Args, jail.Env))
}

// build makes the root directory.
func (j *Jail) build() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", j.Mount, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting root: %w", err)
	}
	entries, err := os.ReadDir(j.Root)
	if err != nil {
		return err
	}
	bound := map[string]bool{}
	for _, pair := range j.Binds {
		bound[filepath.Clean(pair[0])] = true
	}
	for _, entry := range entries {
		if !bound["/"+entry.Name()] {
			if err := j.show("/"+entry.Name(), filepath.Join(j.Root, entry.Name()), entry); err != nil {
				return err
			}
		}
	}
	for _, pair := range j.Binds {
		info, err := os.Stat(pair[1])
		if err != nil {
			return err
		}
		if err := j.show(pair[0], pair[1], fs.FileInfoToDirEntry(info)); err != nil {
			return err
		}
	}
	return nil
}

// show makes an entry of the outside visible at a place inside.
func (j *Jail) show(place, source string, entry fs.DirEntry) error {
	target := filepath.Join(j.Mount, place)
	switch {
	case entry.Type()&fs.ModeSymlink != 0:
		link, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(link, target)
	case entry.IsDir():
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(target, nil, 0o644); err != nil {
			return err
		}
	}
	if err := syscall.Mount(source, target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("showing %s at %s: %w", source, place, err)
	}
	return nil
}
