// Command sandbox runs a program in a root directory of its own. It is started by the rig in a mount namespace, and in a user
// namespace where the rig is not root; $SANDBOX says what to do, as JSON: see Sandbox.
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

// Sandbox is what the program sees.
type Sandbox struct {
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
	fmt.Fprintln(os.Stderr, "sandbox:", err)
	os.Exit(126)
}

func run() error {
	var sandbox Sandbox
	if err := json.Unmarshal([]byte(os.Getenv("SANDBOX")), &sandbox); err != nil {
		return fmt.Errorf("reading $SANDBOX: %w", err)
	}
	if err := sandbox.build(); err != nil {
		return err
	}
	if err := os.Chdir(sandbox.Mount); err != nil {
		return err
	}
	if err := syscall.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing root: %w", err)
	}
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving old root: %w", err)
	}
	if err := os.Chdir(sandbox.Dir); err != nil {
		return err
	}
	if sandbox.User >= 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(sandbox.Group), syscall.Setuid(sandbox.User)); err != nil {
			return fmt.Errorf("becoming %d:%d: %w", sandbox.User, sandbox.Group, err)
		}
	}
	return fmt.Errorf("starting %s: %w", sandbox.Args[0], syscall.Exec(sandbox.Args[0], sandbox.Args, sandbox.Env))
}

// build makes the root directory.
func (s *Sandbox) build() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", s.Mount, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting root: %w", err)
	}
	entries, err := os.ReadDir(s.Root)
	if err != nil {
		return err
	}
	bound := map[string]bool{}
	for _, pair := range s.Binds {
		bound[filepath.Clean(pair[0])] = true
	}
	for _, entry := range entries {
		if !bound["/"+entry.Name()] {
			if err := s.show("/"+entry.Name(), filepath.Join(s.Root, entry.Name()), entry); err != nil {
				return err
			}
		}
	}
	for _, pair := range s.Binds {
		info, err := os.Stat(pair[1])
		if err != nil {
			return err
		}
		if err := s.show(pair[0], pair[1], fs.FileInfoToDirEntry(info)); err != nil {
			return err
		}
	}
	return nil
}

// show makes an entry of the outside visible at a place inside.
func (s *Sandbox) show(place, source string, entry fs.DirEntry) error {
	target := filepath.Join(s.Mount, place)
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
