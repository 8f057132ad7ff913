package verify

import (
	"cmp"
	"path"
	"reflect"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

// What the launcher is told follows from the roots and from what the closure has, but for the engine. Each path in it being
// one of the closure's is not enough: of two that are signed, the wrong one could come first.

// engine holds what the configuration says of engines against what a build can have said, and names it.
func (c *layersCheck) engine(where string) {
	config := c.config
	asked := config.Requested
	c.Facts = append(c.Facts, "engine    "+config.Engine+", asked for "+cmp.Or(asked, launch.EngineAuto))
	needs := []string{launch.EngineRelocate}
	proot := false
	if config.Engine == launch.Unrelocated {
		needs = []string{launch.EngineProot, launch.EngineUserns, launch.EngineNative}
		proot = asked == launch.EngineAuto || asked == launch.EngineProot
	}
	if asked != "" && asked != launch.EngineAuto && !slices.Contains(needs, asked) {
		c.add(Altered, where, "its engine is %s, while %s was asked for", config.Engine, asked)
	}
	if proot != (config.PRoot != "") {
		c.add(Altered, where, "it has PRoot at %.200q, while its engine is %s and %s was asked for", config.PRoot, config.Engine, asked)
	}
	if config.Reason != text.Printable(config.Reason) || config.Reason != "" && config.Engine == launch.EngineRelocate {
		c.add(Altered, where, "it says %.200q of the engine", config.Reason)
	}
}

// roots are the closure's, as the configuration names them; what names none is left out.
func (c *layersCheck) roots() []storepath.Path {
	var roots []storepath.Path
	for _, root := range c.config.StorePaths {
		if p, err := storepath.Parse(root); err == nil {
			roots = append(roots, p)
		}
	}
	return roots
}

// files are those of a store path, nil where it is in no layer, and where they are in the image.
func (c *layersCheck) files(p storepath.Path) (files *filetree.File, dir string) {
	dir, ok := c.treeOf[p]
	if !ok {
		return nil, ""
	}
	return c.layers.Find(dir), c.inImage(dir)
}

// searchPath checks what comes first on PATH: the bin directory of each root that has one, in their order.
func (c *layersCheck) searchPath(where string) {
	var want []string
	for _, root := range c.roots() {
		files, dir := c.files(root)
		if c.config.Engine != launch.EngineRelocate {
			dir = root.String()
		}
		bin := files.Child("bin")
		dir = path.Join(dir, "bin")
		// A link may lead to a directory, or to none.
		if bin != nil && (bin.Kind == filetree.Directory || bin.Kind == filetree.Symlink && slices.Contains(c.config.Bin, dir)) {
			want = append(want, dir)
		}
	}
	if !slices.Equal(c.config.Bin, want) {
		c.add(Altered, where, "it has %.500q first on PATH, and its roots have %.500q", c.config.Bin, want)
	}
}

// resources checks the shell, and the variables that point to what the closure has.
func (c *layersCheck) resources(where string) {
	if want := c.chosen(launchlayer.Shells(), c.config.Shell); c.config.Shell != want {
		c.add(Altered, where, "it has the shell %.200q, and the closure has %.200q", c.config.Shell, want)
	}
	var want []launch.EnvDefault
	for _, r := range launchlayer.Resources() {
		configured := ""
		for _, d := range c.config.Defaults {
			if file, ok := r.Path(d); ok {
				configured = file
			}
		}
		if file := c.chosen(r.Files, configured); file != "" {
			want = append(want, r.Default(file))
		}
	}
	if len(c.config.Defaults)+len(want) > 0 && !reflect.DeepEqual(c.config.Defaults, want) {
		c.add(Altered, where, "it sets %.500q where the environment does not, and this buildpack sets %.500q", c.config.Defaults, want)
	}
}

// chosen is the one of some files that a build chooses of the closure. Whether a build has seen a file behind a link depends on
// what it had to fetch; of those only the one that was configured is taken to be there.
func (c *layersCheck) chosen(files []string, configured string) string {
	has := map[storepath.Path][]string{}
	for _, each := range c.closure.Paths {
		tree, _ := c.files(each.Path)
		for _, file := range files {
			found, linked := lookUp(tree, file)
			if found || linked && configured == path.Join(each.Path.String(), file) {
				has[each.Path] = append(has[each.Path], file)
			}
		}
	}
	return launchlayer.Choose(files, c.roots(), has)
}

// lookUp reports whether a tree has a file, or a link in the place of a directory above it.
func lookUp(tree *filetree.File, name string) (found, linked bool) {
	above := tree.Find(path.Dir(name))
	if above.Child(path.Base(name)) != nil {
		return true, false
	}
	for _, dir := range ancestors(path.Dir(name)) {
		if file := tree.Find(dir); file != nil && file.Kind == filetree.Symlink {
			return false, true
		}
	}
	return false, false
}

// unneeded names paths that no root needs.
func (c *layersCheck) unneeded() {
	needed := c.closureOf(c.roots())
	for _, each := range c.closure.Paths {
		if !needed[each.Path] {
			c.add(Extra, each.Path.String(), "no root needs it")
		}
	}
}

// anybodys names paths that nothing but their content address proves: it says what is in them, and whoever can write an image
// can make such a path of anything. One that is signed answers for those that it refers to, and who names a root for that one's.
func (c *layersCheck) anybodys() {
	from := slices.Clone(c.options.Roots)
	for _, each := range c.closure.Paths {
		if each.Signed != "" && each.Signed != contentAddress && each.Problem == "" {
			from = append(from, each.Path)
		}
	}
	vouched := c.closureOf(from)
	for _, each := range c.closure.Paths {
		if each.Signed == contentAddress && !vouched[each.Path] {
			c.add(Unknown, each.Path.String(), "its content address proves what is in it, and nothing that a trusted key signed needs it: "+
				"anybody could have made it (--root, where it is a root that was wanted)")
		}
	}
}

// closureOf are some paths and those that they need.
func (c *layersCheck) closureOf(next []storepath.Path) map[storepath.Path]bool {
	references := map[storepath.Path][]storepath.Path{}
	for _, each := range c.closure.Paths {
		references[each.Path] = each.References
	}
	needed := map[storepath.Path]bool{}
	for len(next) > 0 {
		p := next[len(next)-1]
		next = next[:len(next)-1]
		if !needed[p] {
			needed[p] = true
			next = append(next, references[p]...)
		}
	}
	return needed
}
