package appdir

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mount is a line of /proc/self/mountinfo, as proc_pid_mountinfo(5) describes it.
type mount struct {
	// Device is the file system's "major:minor"; Root is the directory of it that is mounted; Point is where.
	Device, Root, Point string
}

// mountTable are this process's mounts, in the order they were made.
type mountTable []mount

// readMounts reads the mounts that this process sees.
func readMounts() (mountTable, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading mounts: %w", err)
	}
	return parseMounts(string(text)), nil
}

// parseMounts reads the text of a mountinfo. A line that is none is left out.
func parseMounts(text string) mountTable {
	var mounts mountTable
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		mounts = append(mounts, mount{Device: fields[2], Root: unescape(fields[3]), Point: unescape(fields[4])})
	}
	return mounts
}

// escaped is how the kernel writes white space and backslashes in a path.
var escaped = regexp.MustCompile(`\\[0-7]{3}`)

func unescape(path string) string {
	return escaped.ReplaceAllStringFunc(path, func(octal string) string {
		n, err := strconv.ParseUint(octal[1:], 8, 8)
		if err != nil {
			return octal
		}
		return string([]byte{byte(n)})
	})
}

// has reports whether something is mounted at a path without symbolic links.
func (t mountTable) has(path string) bool {
	return slices.ContainsFunc(t, func(m mount) bool { return m.Point == path })
}

// isMountPoint asks the kernel whether something is mounted at a path, by now: the table may be older. Kernels before Linux 5.8 do
// not say.
func isMountPoint(path string) bool {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &stat)
	return err == nil && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// below are the paths, relative to dir, at which something is mounted in it, without those inside another of them.
func (t mountTable) below(dir string) []string {
	var points []string
	for _, m := range t {
		if rel, err := filepath.Rel(dir, m.Point); err == nil && rel != "." && filepath.IsLocal(rel) {
			points = append(points, rel)
		}
	}
	slices.Sort(points)
	var outer []string
	for _, point := range points {
		if !slices.ContainsFunc(outer, func(o string) bool { return point == o || strings.HasPrefix(point, o+"/") }) {
			outer = append(outer, point)
		}
	}
	return outer
}

// of is the mount that a path is in.
func (t mountTable) of(path string) mount {
	var in mount
	for _, m := range t {
		if rel, err := filepath.Rel(m.Point, path); err == nil && (rel == "." || filepath.IsLocal(rel)) &&
			len(m.Point) >= len(in.Point) {
			in = m
		}
	}
	return in
}

// beside reports whether two directories were laid out by the same hand: they, or the volumes that they are in, lie in
// one directory of one file system, whatever paths the build sees them under. A volume's files may be in its "_data",
// where container engines keep them, or be a part of it.
func (t mountTable) beside(one, other string) bool {
	if resolved, err := filepath.EvalSymlinks(other); err == nil {
		other = resolved
	}
	m, n := t.of(one), t.of(other)
	if m.Device != n.Device {
		return false
	}
	if filepath.Dir(m.inFileSystem(one)) == filepath.Dir(n.inFileSystem(other)) {
		return true
	}
	return m.Point != n.Point && m.Point != "/" && n.Point != "/" && m.Root != "/" && n.Root != "/" &&
		filepath.Dir(volume(m.Root)) == filepath.Dir(volume(n.Root))
}

// inFileSystem is where a path is in the mount's file system.
func (m mount) inFileSystem(path string) string {
	rel, err := filepath.Rel(m.Point, path)
	if err != nil {
		return path
	}
	return volume(filepath.Join(m.Root, rel))
}

// emptyDirs is where the kubelet keeps the emptyDirs of a pod (kubernetes/kubernetes: pkg/volume/emptydir).
const emptyDirs = "/kubernetes.io~empty-dir/"

// volume is the directory of a volume whose files, or a part of whose files, are in root: a pod may see a directory of
// an emptyDir only, its subPath.
func volume(root string) string {
	if before, name, found := strings.Cut(root, emptyDirs); found {
		name, _, _ = strings.Cut(name, "/")
		return before + emptyDirs + name
	}
	if filepath.Base(root) == "_data" {
		return filepath.Dir(root)
	}
	return root
}

// deviceOf is the number of the file system that a file is on.
func deviceOf(path string) (uint64, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("reading %s: its device is not known", path)
	}
	return stat.Dev, nil
}
