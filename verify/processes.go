package verify

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
)

// maxError bounds what is said of a file that cannot be read, in characters.
const maxError = 500

// processTypes checks what is run by which name.
func (c *imageCheck) processTypes(ctx context.Context) {
	where := path.Join(c.layersDir, lifecycle.ProcessTypes)
	launch, err := lifecycle.ReadLaunch(c.root.Find(c.layersDir))
	if err != nil {
		c.add(Altered, where, "%s", text.Clip(err.Error(), maxError))
		return
	}
	if file := c.root.Find(where); unusual(file, 0o755) != "" {
		c.add(Altered, where, "%s", unusual(file, 0o755))
	}
	c.processes = launch.Processes
	ours := 0
	for _, buildpack := range launch.Buildpacks {
		// The lifecycle's launcher takes environment and programs from the directory of each.
		switch name := lifecycle.LayersOf(buildpack.ID); {
		case name == launchlayer.BuildpackDir:
			if ours++; buildpack.API != launchlayer.BuildpackAPI {
				c.add(Altered, where, "it has this buildpack as of the API %.80q, want %s", buildpack.API, launchlayer.BuildpackAPI)
			}
		case slices.Contains([]string{"", ".", "..", "config", "sbom"}, name), strings.Contains(name, "\x00"):
			c.add(Altered, where, "it names the buildpack %.80q", buildpack.ID)
		}
	}
	if ours != 1 {
		c.add(Altered, where, "it names this buildpack %s: what its layers set at launch is set as often", text.Count(ours, "time"))
	}
	commands := c.procfile(ctx)
	for _, p := range c.processes {
		c.processType(where, p, commands)
	}
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		if !slices.ContainsFunc(c.processes, func(p lifecycle.Process) bool { return p.Type == name }) {
			c.add(Altered, where, "the process type %q of the Procfile is missing", name)
		}
	}
	c.sameProcesses(where)
	c.processLinks()
}

// procfile are the commands that the Procfile in the image gives, where it keeps one.
func (c *imageCheck) procfile(ctx context.Context) map[string]string {
	commands := map[string]string{}
	file := c.root.Find(path.Join(c.appDir, procfile.Name))
	if file == nil || file.Kind != filetree.Regular {
		return commands
	}
	raw, err := file.ReadAll(procfile.MaxSize)
	if err != nil {
		return commands
	}
	parsed, err := procfile.Parse(ctx, string(raw))
	if err != nil {
		return commands
	}
	for _, entry := range parsed.Entries {
		commands[entry.Type] = entry.Command
	}
	return commands
}

// processType checks one process type: it is started by this buildpack's launcher, in the app's directory, and where there is a
// Procfile, it has the line.
func (c *imageCheck) processType(where string, p lifecycle.Process, commands map[string]string) {
	launcher := path.Join(c.layersDir, launchlayer.BuildpackDir, launchlayer.Launcher, "bin", launch.ProcessProgramName)
	argv := p.Argv()
	c.Facts = append(c.Facts, fmt.Sprintf("process   %s: %s", p.Type, strings.Join(argv, " ")))
	switch {
	case p.BuildpackID != launchlayer.BuildpackID:
		// Named by what starts it, so that one can be accepted and no other.
		c.add(Extra, lifecycle.ProcessDir+"/"+p.Type, "the process type %.80q is the buildpack's %.80q, and runs %.200q", p.Type,
			p.BuildpackID, argv)
		return
	case len(argv) != 3 || argv[0] != launcher || argv[1] != "--process":
		c.add(Altered, where, "the process type %.80q is not started by the launcher but by %.200q", p.Type, argv)
	case !p.Direct:
		c.add(Altered, where, "the process type %.80q is started through a shell", p.Type)
	case len(p.ExecEnv) > 0:
		c.add(Altered, where, "the process type %.80q is there in the execution environments %.200q only", p.Type, p.ExecEnv)
	case p.WorkingDir != "" && p.WorkingDir != c.appDir:
		c.add(Altered, where, "the process type %.80q is started in %.200q", p.Type, p.WorkingDir)
	}
	switch command, ok := commands[p.Type]; {
	case len(commands) == 0 || len(argv) != 3:
	case !ok:
		c.add(Altered, where, "the process type %.80q runs %.200q, and the Procfile has no such type", p.Type, argv[2])
	case command != argv[2]:
		c.add(Altered, where, "the process type %.80q runs %.200q, and the Procfile has %.200q", p.Type, argv[2], command)
	}
}

// sameProcesses compares the process types with those that the label says were built.
func (c *imageCheck) sameProcesses(where string) {
	line := func(p lifecycle.Process) string { return fmt.Sprintf("%s: %q", p.Type, p.Argv()) }
	var have, want []string
	for _, p := range c.processes {
		have = append(have, line(p))
	}
	for _, p := range c.build.Processes {
		want = append(want, line(p))
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		c.add(Altered, where, "its process types are not those that the image's label says were built")
	}
}

// processLinks checks the links by which process types are started.
func (c *imageCheck) processLinks() {
	dir := c.root.Find(lifecycle.ProcessDir)
	types := map[string]bool{}
	for _, p := range c.processes {
		if types[p.Type] {
			c.add(Altered, lifecycle.ProcessDir, "the process type %.80q is there twice", p.Type)
		}
		types[p.Type] = true
		link := dir.Child(p.Type)
		if link == nil || link.Kind != filetree.Symlink || link.Target != lifecycle.Launcher {
			c.add(Altered, path.Join(lifecycle.ProcessDir, p.Type), "it does not lead to the lifecycle's launcher")
		}
	}
	for _, name := range dir.Names() {
		if !types[name] {
			c.add(Extra, path.Join(lifecycle.ProcessDir, name), "it is no process type's, and it is on PATH")
		}
	}
}
