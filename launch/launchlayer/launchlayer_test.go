package launchlayer_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buildpacks/libcnb/v2"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
)

func TestLaunchLayer(t *testing.T) {
	spec.Run(t, "launchlayer", testLaunchLayer)
}

func testLaunchLayer(t *testing.T, context spec.G, it spec.S) {
	var layers libcnb.Layers
	var launcher string

	it.Before(func() {
		RegisterTestingT(t)
		layers.Path = t.TempDir()
		launcher = filepath.Join(t.TempDir(), "launch")
		Expect(os.WriteFile(launcher, []byte("program"), 0o600)).To(Succeed())
	})

	it("installs the launcher under both its names, in a layer that is the same in every image", func() {
		layer, err := launchlayer.WriteLauncher(layers, launcher)
		Expect(err).NotTo(HaveOccurred())
		Expect(layer.LayerTypes).To(Equal(libcnb.LayerTypes{Launch: true}))
		Expect(layer.LaunchEnvironment).To(BeEmpty())
		for _, name := range []string{"run_proot.sh", "nix-hydra-launch"} {
			info, err := os.Stat(filepath.Join(layer.Path, "bin", name))
			Expect(err).NotTo(HaveOccurred())
			Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o755)), name)
		}
	})

	it("tells the launcher what it needs to know, by the environment and beside it", func() {
		layer, err := launchlayer.WriteRun(layers, launch.Config{
			Engine: launch.EngineRelocate, View: "/layers/x/view",
			Bin: []string{"/layers/x/closure-app/a/bin", "/layers/x/closure-00/b/bin"},
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(layer.LayerTypes).To(Equal(libcnb.LayerTypes{Launch: true}))
		installed, err := launchlayer.WriteLauncher(layers, launcher)
		Expect(err).NotTo(HaveOccurred())
		beside, err := launch.FindConfig(func(string) string { return "" }, filepath.Join(installed.Path, "bin", "run_proot.sh"))
		Expect(err).NotTo(HaveOccurred())
		Expect(filepath.EvalSymlinks(beside)).To(Equal(layer.LaunchEnvironment[launch.ConfigEnv+".override"]))
		config, err := launch.ReadConfig(layer.LaunchEnvironment[launch.ConfigEnv+".override"])
		Expect(err).NotTo(HaveOccurred())
		Expect(config.View).To(Equal("/layers/x/view"))
		Expect(layer.LaunchEnvironment["PATH.append"]).To(Equal("/layers/x/closure-app/a/bin:/layers/x/closure-00/b/bin"))
		Expect(layer.LaunchEnvironment["PATH.delim"]).To(Equal(":"))
		tree, done, err := filetree.ReadDirectory(t.Context(), layers.Path)
		Expect(err).NotTo(HaveOccurred())
		defer done()
		Expect(launchlayer.ReadConfig(tree)).To(Equal(config))
	})

	it("puts nothing on PATH that only an engine can show", func() {
		layer, err := launchlayer.WriteRun(layers, launch.Config{
			Engine: launch.Unrelocated, View: "/layers/x/view", Bin: []string{"/nix/store/a/bin"},
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(layer.LaunchEnvironment).NotTo(HaveKey("PATH.append"))
	})

	it("says that layers have no configuration, or one that is larger than any", func() {
		tree, done, err := filetree.ReadDirectory(t.Context(), layers.Path)
		Expect(err).NotTo(HaveOccurred())
		defer done()
		_, err = launchlayer.ReadConfig(tree)
		Expect(err).To(MatchError("the launcher's configuration is missing"))
		Expect(os.Mkdir(filepath.Join(layers.Path, "run"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(layers.Path, "run/nix-hydra.json"), make([]byte, 1<<20+1), 0o644)).To(Succeed())
		tree, done, err = filetree.ReadDirectory(t.Context(), layers.Path)
		Expect(err).NotTo(HaveOccurred())
		defer done()
		_, err = launchlayer.ReadConfig(tree)
		Expect(err).To(HaveOccurred())
	})

	it("knows the variables that it points to the closure's files by, and no others", func() {
		const path = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x"
		for _, r := range launchlayer.Resources() {
			for _, file := range r.Files {
				d := r.Default(path + "/" + file)
				got, ok := r.Path(d)
				Expect(ok).To(BeTrue(), file)
				Expect(got).To(Equal(path + "/" + file))
				for what, change := range map[string]func(*launch.EnvDefault){
					"another variable":  func(d *launch.EnvDefault) { d.Variables = append(slices.Clip(d.Variables), "LD_PRELOAD") },
					"another exception": func(d *launch.EnvDefault) { d.Others = append(slices.Clip(d.Others), "X") },
					"another file":      func(d *launch.EnvDefault) { d.Files = append(slices.Clip(d.Files), "/x") },
				} {
					other := d
					change(&other)
					_, ok := r.Path(other)
					Expect(ok).To(BeFalse(), what+" for "+file)
				}
			}
		}
		terminfo := launchlayer.Resources()[3].Default("/x")
		Expect(terminfo.Value).To(HavePrefix("/etc/terminfo:")) // the run image's own goes first
		Expect(terminfo.Value).To(HaveSuffix(":/x"))
		_, ok := launchlayer.Resources()[3].Path(launch.EnvDefault{Variables: terminfo.Variables, Others: terminfo.Others, Value: "/x"})
		Expect(ok).To(BeFalse(), "without the run image's own")
	})

	it("chooses the first file that is there, a root's before others, then the one of the greatest name", func() {
		of := func(hash, name string) storepath.Path {
			return storepath.Path("/nix/store/" + strings.Repeat(hash, 32) + "-" + name)
		}
		root, second, old, newer := of("0", "a"), of("1", "z"), of("2", "bash-5.1"), of("3", "bash-5.2")
		shell := func(has map[storepath.Path][]string) string {
			return launchlayer.Contents{Roots: []launchlayer.Root{{Path: root}, {Path: second}}, Resources: has}.Config().Shell
		}
		has := map[storepath.Path][]string{old: {"bin/sh", "bin/bash"}, newer: {"bin/sh", "bin/bash"}, second: {"bin/sh"}, root: {"bin/sh"}}
		Expect(shell(has)).To(Equal(newer.String() + "/bin/bash"))
		has[old], has[newer] = []string{"bin/sh"}, []string{"bin/sh"}
		Expect(shell(has)).To(Equal(root.String() + "/bin/sh"))
		delete(has, root)
		Expect(shell(has)).To(Equal(second.String() + "/bin/sh"))
		Expect(shell(map[storepath.Path][]string{root: {"bin/zsh"}})).To(BeEmpty())
	})

	it("configures the launcher by what the image holds", func() {
		app, docs := storepath.Path("/nix/store/"+strings.Repeat("0", 32)+"-app"), storepath.Path("/nix/store/"+strings.Repeat("1", 32)+"-docs")
		contents := launchlayer.Contents{
			Dir: "/layers/x", Requested: launch.EngineAuto, Reason: "a zip file",
			Roots:     []launchlayer.Root{{Path: docs}, {Path: app, Bin: "/layers/x/closure-app/a/bin"}},
			Resources: map[storepath.Path][]string{app: {"bin/sh"}},
		}
		want := launch.Config{
			Engine: launch.Unrelocated, Requested: "auto", Reason: "a zip file", View: "/layers/x/view", Bin: []string{app.String() + "/bin"},
			StorePaths: []string{docs.String(), app.String()}, PRoot: "/layers/x/proot/bin/proot", Shell: app.String() + "/bin/sh",
			Defaults: []launch.EnvDefault{{Variables: []string{"SHELL"}, Value: app.String() + "/bin/sh", Files: []string{"/bin/sh"}}},
		}
		Expect(contents.Config()).To(Equal(want))
		for requested, proot := range map[string]bool{"auto": true, "proot": true, "userns": false, "native": false, "": false} {
			contents.Requested = requested
			Expect(contents.Config().PRoot != "").To(Equal(proot), requested)
		}
		contents.Requested, contents.Reason, contents.Relocated = "relocate", "", true
		want.Engine, want.Requested, want.Reason, want.PRoot = launch.EngineRelocate, "relocate", "", ""
		want.Bin = []string{"/layers/x/closure-app/a/bin"}
		Expect(contents.Config()).To(Equal(want))
		contents.Requested = "auto"
		Expect(contents.Config().PRoot).To(BeEmpty())
	})

	it("relocates what is asked for by no other name", func() {
		for requested, wants := range map[string]bool{"": true, "auto": true, "relocate": true, "native": false, "userns": false, "proot": false} {
			Expect(launchlayer.WantsRelocation(requested)).To(Equal(wants), requested)
		}
	})

	it("says when the buildpack has no launcher", func() {
		_, err := launchlayer.WriteLauncher(layers, launcher+"-no")
		Expect(err).To(MatchError(ContainSubstring("installing the launcher")))
		_, err = launchlayer.WriteLauncher(layers, t.TempDir())
		Expect(err).To(MatchError(ContainSubstring("is a directory")))
	})

	it("makes web the default, or the only process type there is", func() {
		program := libcnb.Layer{Path: "/layers/x/launcher"}
		processes := launchlayer.Processes(program, []procfile.Entry{{Type: "worker", Command: "w"}, {Type: "web", Command: "a | b"}})
		Expect(processes).To(Equal([]libcnb.Process{
			{Type: "worker", Command: []string{"/layers/x/launcher/bin/nix-hydra-launch", "--process", "w"}},
			{Type: "web", Command: []string{"/layers/x/launcher/bin/nix-hydra-launch", "--process", "a | b"}, Default: true},
		}))
		Expect(launchlayer.Processes(program, []procfile.Entry{{Type: "job", Command: "j"}})[0].Default).To(BeTrue())
		for _, p := range launchlayer.Processes(program, []procfile.Entry{{Type: "job", Command: "j"}, {Type: "other", Command: "o"}}) {
			Expect(p.Default).To(BeFalse())
		}
	})
}
