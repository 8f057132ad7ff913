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

// configured holds what the launcher is told against what a build tells it of the closure that was proven. Each path in it
// being one of the closure's is not enough: of two that are signed, the wrong one could come first.
func (c *layersCheck) configured() {
	where := c.inImage(path.Join(launchlayer.Run, launch.ConfigName))
	config, want := c.config, c.contents().Config()
	c.Facts = append(c.Facts, "engine    "+config.Engine+", asked for "+cmp.Or(config.Requested, launch.EngineAuto))
	c.engine(where, want)
	if config.View != want.View {
		c.add(Altered, where, "it has the view at %.200q, want %s", config.View, want.View)
	}
	if !slices.Equal(config.Bin, want.Bin) {
		c.add(Altered, where, "it has %.500q first on PATH, and its roots have %.500q", config.Bin, want.Bin)
	}
	if config.Shell != want.Shell {
		c.add(Altered, where, "it has the shell %.200q, and the closure has %.200q", config.Shell, want.Shell)
	}
	if len(config.Defaults)+len(want.Defaults) > 0 && !reflect.DeepEqual(config.Defaults, want.Defaults) {
		c.add(Altered, where, "it sets %.500q where the environment does not, and this buildpack sets %.500q", config.Defaults,
			want.Defaults)
	}
	c.wantedRoots(where)
	c.proot(want.PRoot != "")
}

// engine compares what the configuration says of engines, and why the closure was not relocated.
func (c *layersCheck) engine(where string, want launch.Config) {
	config, relocated := c.config, want.Engine == launch.EngineRelocate
	if config.Engine != want.Engine {
		c.add(Altered, where, "its engine is %s, while the closure was made for %s", config.Engine, c.closure.Prefix)
	}
	if relocated && !launchlayer.WantsRelocation(config.Requested) || !relocated && config.Requested == launch.EngineRelocate {
		c.add(Altered, where, "its engine is %s, while %s was asked for", want.Engine, config.Requested)
	}
	if (config.PRoot == "") != (want.PRoot == "") {
		c.add(Altered, where, "it has PRoot at %.200q, while its engine is %s and %s was asked for", config.PRoot, want.Engine,
			config.Requested)
	} else if config.PRoot != want.PRoot {
		c.add(Altered, where, "it has PRoot at %.200q, want %s", config.PRoot, want.PRoot)
	}
	if config.Reason != text.Printable(config.Reason) || config.Reason != "" && relocated {
		c.add(Altered, where, "it says %.200q of the engine", config.Reason)
	}
}

// contents is what the image holds, by the closure that was proven. Of the configuration it takes what nothing else says and
// what has checks of its own: what was asked for, the reason, and which paths are the roots.
func (c *layersCheck) contents() launchlayer.Contents {
	contents := launchlayer.Contents{
		Dir: c.dir, Relocated: c.closure.Prefix != storepath.Dir, Requested: c.config.Requested, Reason: c.config.Reason,
		Resources: c.resources(),
	}
	for _, root := range c.roots() {
		contents.Roots = append(contents.Roots, launchlayer.Root{Path: root, Bin: c.bin(root)})
	}
	return contents
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

// files are those of a store path; nil where it is in no layer.
func (c *layersCheck) files(p storepath.Path) *filetree.File {
	dir, ok := c.treeOf[p]
	if !ok {
		return nil
	}
	return c.layers.Find(dir)
}

// bin is a root's bin directory in its layer, "" where it has none. What a link there leads to may be in no layer: it is taken
// for a directory where the configuration does.
func (c *layersCheck) bin(root storepath.Path) string {
	bin := c.files(root).Child("bin")
	dir := path.Join(c.inImage(c.treeOf[root]), "bin")
	configured := slices.Contains(c.config.Bin, dir) || slices.Contains(c.config.Bin, path.Join(root.String(), "bin"))
	if bin != nil && (bin.Kind == filetree.Directory || bin.Kind == filetree.Symlink && configured) {
		return dir
	}
	return ""
}

// resources are the files that the launcher may point to, by the store path that has them. Whether a build has seen a file behind
// a link depends on what it had to fetch: of those, only what the configuration names is taken to be there.
func (c *layersCheck) resources() map[storepath.Path][]string {
	configured := []string{c.config.Shell}
	for _, r := range launchlayer.Resources() {
		for _, d := range c.config.Defaults {
			if file, ok := r.Path(d); ok {
				configured = append(configured, file)
			}
		}
	}
	has := map[storepath.Path][]string{}
	for _, each := range c.closure.Paths {
		tree := c.files(each.Path)
		for _, r := range launchlayer.Resources() {
			for _, file := range r.Files {
				found, linked := lookUp(tree, file)
				if found || linked && slices.Contains(configured, path.Join(each.Path.String(), file)) {
					has[each.Path] = append(has[each.Path], file)
				}
			}
		}
	}
	return has
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
