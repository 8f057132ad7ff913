package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// startUserns starts the command in a user and a mount namespace of its own, in which the view is at /nix/store. The user is the
// same inside as outside. This process stays as the parent: only a process with one thread may enter a user namespace, which
// a Go program has between fork and exec only.
func (l *launcher) startUserns(cmd *command) (*app, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, usernsDenied("making a pipe", err)
	}
	defer func() { _ = read.Close() }()
	files, report := descriptors([3]*os.File{os.Stdin, os.Stdout, os.Stderr}, inherited(), write)
	tty := terminal()
	call := shimCall{
		Engine: EngineUserns, Report: report, Terminal: tty, View: l.config.View, Probe: l.probePath(), path: cmd.path,
		argv: cmd.argv,
	}
	sys := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		Setpgid:     true,
		Pdeathsig:   syscall.SIGKILL,
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
	}
	sys.UidMappings, sys.GidMappings, sys.GidMappingsEnableSetgroups = idMappings()
	pid, err := syscall.ForkExec(l.self, call.args(), &syscall.ProcAttr{Env: cmd.env, Files: files, Sys: sys})
	_ = write.Close()
	if err != nil {
		return nil, usernsDenied("clone(CLONE_NEWUSER|CLONE_NEWNS)", err)
	}
	r, err := l.readShim(pid, read, json.NewDecoder(read), true)
	if r.Ready && err == nil {
		return &app{child: pid, pgid: pid, terminal: tty}, nil
	}
	endChild(pid)
	switch {
	case r.Ready:
		return nil, cannotExec(cmd.path, l.onDisk(cmd.path), r.Errno)
	case r.Problem != "":
		return nil, usernsDenied(r.Problem, r.Errno)
	case err == nil:
		err = syscall.EPERM
	}
	return nil, usernsDenied("starting in the namespace", err)
}

// idMappings maps every id to itself. An ordinary user may map its own only; root maps all that it has.
func idMappings() (uids, gids []syscall.SysProcIDMap, setgroups bool) {
	if os.Geteuid() == 0 {
		uids, gids = allIDs("/proc/self/uid_map"), allIDs("/proc/self/gid_map")
		if len(uids) > 0 && len(gids) > 0 && capable(unix.CAP_SETUID) && capable(unix.CAP_SETGID) {
			return uids, gids, true
		}
	}
	return []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}},
		[]syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}, false
}

// allIDs reads the ids that exist in this process's user namespace, each mapped to itself.
func allIDs(path string) []syscall.SysProcIDMap {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var maps []syscall.SysProcIDMap
	for line := range bytes.Lines(data) {
		var first, outside, size int
		if _, err := fmt.Sscan(string(line), &first, &outside, &size); err != nil {
			return nil
		}
		maps = append(maps, syscall.SysProcIDMap{ContainerID: first, HostID: first, Size: size})
	}
	return maps
}

// capable reports whether this process has a capability in effect.
func capable(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[capability/32].Effective&(1<<(capability%32)) != 0
}

// dropPrivileges gives up the capability by which the shim has mounted the view. An ordinary user's app then has none; root's
// has those that its namespace gives root.
func dropPrivileges() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	return unix.Capset(&header, &data[0])
}

// enterView mounts the view at /nix/store, in this process's own mount namespace. Where / has no such directory, and an
// image mostly has none, / becomes a small tmpfs with everything of the old one bound into it.
func enterView(view string) error {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount(/, MS_SLAVE): %w", err)
	}
	if info, err := os.Stat(storepath.Dir); err == nil && info.IsDir() {
		return bind(view, storepath.Dir)
	}
	readOnly := unix.Access("/", unix.W_OK) != nil
	if err := unix.Mount("tmpfs", view, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount(tmpfs): %w", err)
	}
	const old = ".nix-hydra-old-root"
	if err := os.Mkdir(filepath.Join(view, old), 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(view, filepath.Join(view, old)); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := mirror("/"+old, "/", "nix"); err != nil {
		return err
	}
	if err := os.MkdirAll(storepath.Dir, 0o755); err != nil {
		return err
	}
	if info, err := os.Stat("/" + old + "/nix"); err == nil && info.IsDir() {
		if err := mirror("/"+old+"/nix", "/nix", "store"); err != nil {
			return err
		}
	}
	if err := bind("/"+old+view, storepath.Dir); err != nil {
		return err
	}
	if err := unix.Unmount("/"+old, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("umount of the old root: %w", err)
	}
	if err := os.Remove("/" + old); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil { // the same directory, in the new tree
		return fmt.Errorf("returning to the working directory: %w", err)
	}
	if readOnly {
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
			return fmt.Errorf("mount(/, MS_RDONLY): %w", err)
		}
	}
	return nil
}

// mirror makes every entry of the directory from appear in to, directories and files by a bind mount and links as they are. An
// entry of the name except is left out.
func mirror(from, to, except string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		source, target := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if e.Name() == except {
			continue
		}
		switch {
		case e.IsDir():
			err = os.Mkdir(target, 0o755)
		case e.Type()&os.ModeSymlink != 0:
			var link string
			if link, err = os.Readlink(source); err == nil {
				err = os.Symlink(link, target)
			}
		default:
			err = os.WriteFile(target, nil, 0o644)
		}
		if err != nil {
			return err
		}
		if e.Type()&os.ModeSymlink == 0 {
			if err := bind(source, target); err != nil {
				return err
			}
		}
	}
	return nil
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount(%s, MS_BIND): %w", target, err)
	}
	return nil
}
