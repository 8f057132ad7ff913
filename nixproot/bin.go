package nixproot

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// bin is what an output's bin directory holds, as far as a later build needs it, which does not see into a reused
// layer.
type bin struct {
	// Programs are the names of its programs, of maxPrograms where there are more; the hook is not one of them.
	Programs []string `json:"programs,omitempty"`
	// Hook says that it holds an executable heroku-compile-hook.
	Hook bool `json:"hook,omitempty"`
}

// maxPrograms bounds what is remembered of a bin directory.
const maxPrograms = 2000

// readBin looks into a bin directory; nil says that there is none.
func readBin(dir string) *bin {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	b := &bin{}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case name[0] == '.' || !isProgram(filepath.Join(dir, name)): // a dot begins the names of what is wrapped
		case name == roots.HookName:
			b.Hook = true
		default:
			if len(b.Programs) < maxPrograms {
				b.Programs = append(b.Programs, name)
			}
		}
	}
	return b
}

// isProgram reports whether a file can be executed. A link that leads to where this build has no bytes counts as one.
func isProgram(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return exists(path)
	}
	return info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// onlyProgram is the one program that bin directories hold together, "" when there are several or none.
func onlyProgram(bins ...*bin) string {
	var programs []string
	for _, b := range bins {
		if b != nil {
			programs = append(programs, b.Programs...)
		}
	}
	slices.Sort(programs)
	if programs = slices.Compact(programs); len(programs) != 1 {
		return ""
	}
	return programs[0]
}

// shellNote says that a process type's line needs a shell, where the closure has none: whether the run image has one
// cannot be seen from here.
func shellNote(process string, line launch.Line, shell string) string {
	if shell != "" || !line.NeedsShell() {
		return ""
	}
	return fmt.Sprintf("%s has shell syntax and the closure has no shell: the run image's runs it, else the launcher "+
		"itself, which does not run all of it; bash among the outputs does", process)
}

// programNote says that a process type's line names a program that no output has; "" where that cannot be told.
func programNote(process string, line launch.Line, bins []*bin) string {
	named := line.Program()
	if named == "" || named[0] == '.' || named == roots.HookName || strings.Contains(named, "/") {
		return ""
	}
	var programs []string
	for _, b := range bins {
		if b != nil && len(b.Programs) == maxPrograms {
			return ""
		}
		if b != nil {
			programs = append(programs, b.Programs...)
		}
	}
	if slices.Contains(programs, named) {
		return ""
	}
	note := fmt.Sprintf("%s names %s, which no output has in its bin directory: the run image or another buildpack has to "+
		"have it", process, text.Short(text.Printable(named)))
	if meant := nearest(text.Short(named), programs); meant != "" { // a name of any length takes as long to compare
		note += fmt.Sprintf("; did you mean %s?", text.Printable(meant))
	}
	return note
}

// sourceNote says that a process type's line names files of the source that the image does not keep.
func sourceNote(process string, line launch.Line, removes func(name string) bool) string {
	var lost []string
	for _, word := range line.Files() {
		if name := path.Clean(word); !slices.Contains(lost, name) && removes(name) {
			lost = append(lost, name)
		}
	}
	if len(lost) == 0 {
		return ""
	}
	return fmt.Sprintf("Warning: %s names %s of the source, which the image does not keep: add it to BP_INCLUDE_FILES (names and "+
		"patterns, with colons between them)", process, text.Files(lost, maxNames))
}

// bin is what the previous build saw of an output's bin directory, where that was one of its roots.
func (m buildRecord) bin(root storepath.Path) (b *bin, known bool) {
	i := slices.Index(m.Roots.Paths, root)
	if i < 0 || i >= len(m.Bins) {
		return nil, false
	}
	return m.Bins[i], true
}

// findBins finds out what the roots' bin directories hold, also of those that the previous image keeps and no build has
// looked into.
func (b Build) findBins(ctx context.Context, in *inputs, c *contents, before buildRecord) error {
	var all []*borrowed
	for range 2 { // a root, and what its bin is a link to
		unseen := c.readBins(before)
		if len(unseen) == 0 {
			break
		}
		here := slices.DeleteFunc(slices.Clone(c.Groups), func(g closure.Group) bool {
			return slices.ContainsFunc(unseen, func(p storepath.Path) bool { return slices.Contains(g.Paths, p) })
		})
		l, err := b.borrow(ctx, in, c, c.Roots.Paths, here)
		if err != nil {
			return err
		}
		all = append(all, l)
		c.Fetched.Paths, c.Fetched.Bytes = c.Fetched.Paths+l.Fetched.Paths, c.Fetched.Bytes+l.Fetched.Bytes
	}
	c.readBins(before)
	for _, l := range all {
		if err := l.giveBack(); err != nil {
			return err
		}
	}
	return nil
}

// readBins looks what the roots' bin directories hold, or takes it from the record where their layers are not here. It
// returns the paths that would have to be here for that.
func (c *contents) readBins(before buildRecord) (unseen []storepath.Path) {
	c.Bins = nil
	for _, root := range c.Roots.Paths {
		b, known := before.bin(root)
		if dir, owner := c.binDirectory(root); exists(c.dirOf(owner)) {
			b = readBin(dir)
		} else if !known {
			unseen = append(unseen, owner)
		}
		c.Bins = append(c.Bins, b)
	}
	return unseen
}

// binDirectory is where a root's bin directory is, and the path that it belongs to: it may be a link to another one's.
func (c *contents) binDirectory(root storepath.Path) (dir string, owner storepath.Path) {
	dir = filepath.Join(c.dirOf(root), "bin")
	target, err := os.Readlink(dir)
	if err != nil {
		return dir, root
	}
	for p := range c.Graph.Nodes {
		if rest, below := strings.CutPrefix(target, c.View.Rename(p)+"/"); below {
			return filepath.Join(c.dirOf(p), rest), p
		}
	}
	return dir, root
}
