package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// tree is the store path being made.
type tree struct {
	spec   *Spec
	links  []string          // symbolic links, relative to Out
	owners map[string]string // cache of find
}

// unwanted are directories of Debian's own affairs.
var unwanted = []string{
	"share/doc/", "share/lintian/", "share/bug/", "share/doc-base/", "share/locale/", "share/info/",
	"share/initramfs-tools/", "share/apport/", "lib/systemd/", "lib/udev/", "share/debhelper/", "etc/init.d/",
	"etc/cron", "etc/logrotate.d/", "lib/tmpfiles.d/", "lib/sysusers.d/", "share/reportbug/", "share/binfmts/",
	"lib/binfmt.d/", "share/gcc/", "share/gdb/", "share/debianutils/", "share/menu/", "games/",
}

// name is where a file of Debian's goes: /usr falls away, programs are in bin, Python's modules in its own directory.
// It is "" for what is left out.
func (t *tree) name(name string) string {
	name = strings.TrimPrefix(name, "usr/")
	if rest, ok := strings.CutPrefix(name, "sbin/"); ok {
		name = "bin/" + rest
	}
	if rest, ok := strings.CutPrefix(name, "lib/python3/dist-packages/"); ok {
		name = t.spec.Site + "/" + rest
	}
	for _, prefix := range unwanted {
		if strings.HasPrefix(name, prefix) {
			return ""
		}
	}
	if strings.HasSuffix(name, ".pyc") || strings.HasSuffix(name, ".la") {
		return ""
	}
	return name
}

// add unpacks one package.
func (t *tree) add(ctx context.Context, deb string) error {
	unpacked := filepath.Join(t.spec.Out, ".unpacked")
	command := exec.CommandContext(ctx, "/usr/bin/dpkg-deb", "-x", deb, unpacked)
	command.Env = []string{"PATH=/usr/bin:/bin"} // for tar
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	err := filepath.WalkDir(unpacked, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return t.place(file, strings.TrimPrefix(file, unpacked+"/"), entry)
	})
	return errors.Join(err, os.RemoveAll(unpacked))
}

// place moves a file to where it goes, from its place in Debian.
func (t *tree) place(file, at string, entry fs.DirEntry) error {
	placed := t.name(at)
	if placed == "" {
		return nil
	}
	target := filepath.Join(t.spec.Out, placed)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if entry.Type().IsRegular() {
		info, err := entry.Info()
		if err == nil {
			err = os.Chmod(file, info.Mode().Perm()|0o600)
		}
		return errors.Join(err, os.Rename(file, target))
	}
	link, err := os.Readlink(file)
	if err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t.links = append(t.links, placed)
	return os.Symlink(t.target(at, link), target)
}

// target turns the target of a symbolic link at a place in Debian into "/usr/..."'s place in a store path, with a
// leading slash as a mark that it is to be looked up.
func (t *tree) target(at, target string) string {
	if !path.IsAbs(target) {
		target = path.Join("/", path.Dir(at), target)
	}
	for _, prefix := range []string{"/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/", "/etc/"} {
		if strings.HasPrefix(target, prefix) {
			if placed := t.name(strings.TrimPrefix(target, "/")); placed != "" {
				return "/" + placed
			}
		}
	}
	return target
}

// link points the symbolic links at what they mean: relative within the store path, absolute to an input, and as
// they were where nothing has it.
func (t *tree) link() error {
	for _, name := range t.links {
		place := filepath.Join(t.spec.Out, name)
		target, err := os.Readlink(place)
		if errors.Is(err, fs.ErrInvalid) {
			continue // another package put a file there
		}
		if err != nil {
			return err
		}
		wanted := strings.TrimPrefix(target, "/")
		owner := t.find(wanted)
		switch owner {
		case "":
			target = "/usr/" + wanted
		case t.spec.Out:
			if target, err = filepath.Rel(filepath.Dir("/"+name), "/"+wanted); err != nil {
				return err
			}
		default:
			target = filepath.Join(owner, wanted)
		}
		if err := os.Remove(place); err != nil {
			return err
		}
		if err := os.Symlink(target, place); err != nil {
			return err
		}
	}
	return nil
}

// find is the store path among Out and the inputs that has a file, "" when none has.
func (t *tree) find(name string) string {
	if owner, ok := t.owners[name]; ok {
		return owner
	}
	owner := ""
	for _, dir := range append([]string{t.spec.Out}, t.spec.Inputs...) {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			owner = dir
			break
		}
	}
	t.owners[name] = owner
	return owner
}

// blindLoader takes the machine's own library directories from the loader, as Nix's loader has none: what a store path
// does not find in the store it must not find at all.
func (t *tree) blindLoader() error {
	name, err := filepath.EvalSymlinks(filepath.Join(t.spec.Out, t.spec.Loader))
	if err != nil {
		return err
	}
	contents, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for _, directory := range []string{"/lib/" + t.spec.Triplet + "/", "/usr/lib/" + t.spec.Triplet + "/"} {
		blind := "/nix" + strings.Repeat("/", len(directory)-len("/nix"))
		contents = bytes.ReplaceAll(contents, []byte(directory+"\x00"), []byte(blind+"\x00"))
	}
	contents = bytes.ReplaceAll(contents, []byte("/etc/ld.so.cache"), []byte("/nix/ld.so.cache"))
	return os.WriteFile(name, contents, 0o755)
}
