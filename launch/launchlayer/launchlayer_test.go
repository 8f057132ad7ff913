package launchlayer_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/buildpacks/libcnb/v2"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

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
		installed, err := launchlayer.WriteLauncher(layers, launcher)
		Expect(err).NotTo(HaveOccurred())
		beside, err := launch.FindConfig(func(string) string { return "" }, filepath.Join(installed.Path, "bin", "run_proot.sh"))
		Expect(err).NotTo(HaveOccurred())
		Expect(filepath.EvalSymlinks(beside)).To(Equal(layer.LaunchEnvironment[launch.ConfigEnv+".override"]))
		config, err := launch.ReadConfig(layer.LaunchEnvironment[launch.ConfigEnv+".override"])
		Expect(err).NotTo(HaveOccurred())
		Expect(config.View).To(Equal("/layers/x/view"))
		Expect(layer.LaunchEnvironment["PATH.append"]).To(Equal("/layers/x/closure-app/a/bin:/layers/x/closure-00/b/bin"))
	})

	it("puts nothing on PATH that only an engine can show", func() {
		layer, err := launchlayer.WriteRun(layers, launch.Config{
			Engine: launch.Unrelocated, View: "/layers/x/view", Bin: []string{"/nix/store/a/bin"},
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(layer.LaunchEnvironment).NotTo(HaveKey("PATH.append"))
	})

	it("says when the buildpack has no launcher", func() {
		_, err := launchlayer.WriteLauncher(layers, launcher+"-no")
		Expect(err).To(MatchError(ContainSubstring("installing the launcher")))
	})

	it("makes web the default, or the only process type there is", func() {
		program := libcnb.Layer{Path: "/layers/x/launcher"}
		processes := launchlayer.Processes(program, []procfile.Entry{{Type: "worker", Command: "w"}, {Type: "web", Command: "a | b"}})
		Expect(processes).To(Equal([]libcnb.Process{
			{Type: "worker", Command: []string{"/layers/x/launcher/bin/nix-hydra-launch", "--process", "w"}},
			{Type: "web", Command: []string{"/layers/x/launcher/bin/nix-hydra-launch", "--process", "a | b"}, Default: true},
		}))
		Expect(launchlayer.Processes(program, []procfile.Entry{{Type: "job", Command: "j"}})[0].Default).To(BeTrue())
	})
}
