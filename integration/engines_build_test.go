package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// hidden is a closure that cannot be relocated, a small one that can, and the cache of both.
type hidden struct {
	*engineWorld
	blocked, bash string
}

func newHidden(t *testing.T) *hidden {
	t.Helper()
	shared := *newEngineWorld(t)
	h := &hidden{engineWorld: &shared}
	expression, err := filepath.Abs("testdata/engines/blocked.nix")
	Expect(err).NotTo(HaveOccurred())
	paths, err := h.pkgs.Realise(h.ctx, expression)
	Expect(err).NotTo(HaveOccurred())
	h.blocked = paths[0]
	paths, err = h.pkgs.Build(h.ctx, "bash")
	Expect(err).NotTo(HaveOccurred())
	h.bash = paths[0]
	h.cache, err = h.serve(h.blocked)
	Expect(err).NotTo(HaveOccurred())
	h.source = filepath.Join(t.TempDir(), "source")
	Expect(integration.WriteTree(h.source, map[string]string{"Procfile": "web: run_proot.sh greet\n"})).To(Succeed())
	return h
}

func TestEngineBuilds(t *testing.T) {
	h := newHidden(t)
	suite := spec.New("building", spec.Report(report.Terminal{}), spec.Sequential())
	for _, part := range []struct {
		name string
		test func(it spec.S)
	}{
		{"NotRelocatable", h.testBlocked}, {"Reuse", h.testReuse}, {"PRootLayer", h.testPRootLayer}, {"Verify", h.testVerify},
	} {
		suite(part.name, func(t *testing.T, _ spec.G, it spec.S) {
			it.Before(func() { RegisterTestingT(t) })
			part.test(it)
		})
	}
	suite.Run(t)
}

func engine(name string) map[string]string { return map[string]string{"BP_NIX_ENGINE": name} }

// builds is build where the test expects it to succeed.
func (h *hidden) builds(name, roots, by string) *layered {
	l, err := h.build(name, roots, engine(by))
	Expect(err).NotTo(HaveOccurred())
	return l
}

func (h *hidden) testBlocked(it spec.S) {
	it("is run by userns or proot, and the build names the files and what they are", func() {
		l := h.builds("ha", h.blocked, launch.EngineAuto)
		Expect(l.outcome.Log).To(And(ContainSubstring("Engine: userns or proot"), ContainSubstring(h.blocked),
			ContainSubstring("lib/hashes"), ContainSubstring("hash without /nix/store"), ContainSubstring("BP_NIX_HARMLESS="),
			Not(ContainSubstring("text.gz")), Not(ContainSubstring("text.jar")), Not(ContainSubstring("greet.1.gz"))))
		engines := map[rig.Confinement]string{rig.Default: "proot", rig.Unconfined: "userns"}
		if usernsRestricted() {
			engines[rig.Unconfined] = "proot"
		}
		for confinement, by := range engines {
			for _, base := range []string{h.images.Run, h.images.RunScratch} {
				p := host{image: base, confinement: confinement, env: map[string]string{launch.DebugEnv: "1"}}
				e, err := h.process(l, p, "web")
				Expect(err).NotTo(HaveOccurred())
				Expect(e.stdout).To(Equal("greetings from "+h.bash+"/bin/bash\n"), e.stderr)
				Expect(e.stderr).To(ContainSubstring("engine " + by + ": "))
			}
		}
		e, err := h.process(l, host{image: h.images.RunScratch, confinement: rig.Hostile}, "web")
		Expect(err).NotTo(HaveOccurred())
		Expect(e.code).To(Equal(126))
		Expect(e.stderr).To(And(ContainSubstring("ptrace is denied"), ContainSubstring("lib/hashes"),
			ContainSubstring("--cap-add=SYS_PTRACE"), ContainSubstring("the build refuses as long as the reason above holds")))

		o, err := l.Build(h.ctx, h.source, engine(launch.EngineAuto))
		Expect(err).NotTo(HaveOccurred())
		Expect(o.Status).To(Equal(0), o.Log)
		Expect(o.Log).To(And(ContainSubstring("none fetched"), ContainSubstring("lib/hashes")))
	})

	it("fails to build where relocation was asked for, with what to do", func() {
		l, err := h.tryBuild("hr", h.blocked, engine(launch.EngineRelocate))
		Expect(err).NotTo(HaveOccurred())
		Expect(l.outcome.Status).NotTo(Equal(0))
		Expect(l.outcome.Log).To(And(ContainSubstring(h.blocked), ContainSubstring("lib/hashes"),
			ContainSubstring("What to do:"), ContainSubstring("leave BP_NIX_ENGINE at auto")))
	})

	it("relocates where the setting is given that the refusal prints, and says what was taken as harmless", func() {
		l, err := h.tryBuild("hs", h.blocked, engine(launch.EngineRelocate))
		Expect(err).NotTo(HaveOccurred())
		printed := regexp.MustCompile(`BP_NIX_HARMLESS='?([^',;\n]+)`).FindStringSubmatch(l.outcome.Log)
		Expect(printed).NotTo(BeNil(), l.outcome.Log)
		settings := engine(launch.EngineRelocate)
		settings["BP_NIX_HARMLESS"] = printed[1]
		l, err = h.build("hs", h.blocked, settings)
		Expect(err).NotTo(HaveOccurred())
		Expect(l.outcome.Log).To(And(ContainSubstring("Engine: relocate"),
			MatchRegexp("taken as harmless, as BP_NIX_HARMLESS says: .*lib/hashes")))
		e, err := h.process(l, host{image: h.images.RunScratch, confinement: rig.Hostile}, "web")
		Expect(err).NotTo(HaveOccurred())
		Expect(e.stdout).To(HavePrefix("greetings from "), e.stderr)
	})

	it("is what a closure becomes whose layers directory has a long name", func() {
		const name = "a-name-of-many-characters"
		l, err := h.tryBuild(name, h.bash, engine(launch.EngineRelocate))
		Expect(err).NotTo(HaveOccurred())
		Expect(l.outcome.Status).NotTo(Equal(0))
		Expect(l.outcome.Log).To(And(ContainSubstring(l.Layers()+"/view"), ContainSubstring("shorter layers directory")))
		l = h.builds(name, h.bash, launch.EngineAuto)
		e := h.line(l, host{image: h.images.RunScratch}, "bash -c 'echo $BASH'")
		Expect(e.stdout).To(Equal(h.bash+"/bin/bash\n"), e.stderr)
	})
}

// testReuse is about Nix as part of an image: its manual names store paths of strangers by the dozen.
func (h *hidden) testReuse(it spec.S) {
	it("fetches nothing again that names many strangers", func() {
		paths, err := h.pkgs.Build(h.ctx, "nix")
		Expect(err).NotTo(HaveOccurred())
		cache, err := h.serve(paths[0])
		Expect(err).NotTo(HaveOccurred())
		settings := map[string]string{"BP_NIX_SUBSTITUTERS": cache}
		l, err := h.build("hf", paths[0], settings)
		Expect(err).NotTo(HaveOccurred())
		e := h.line(l, host{image: h.images.RunScratch, confinement: rig.Hostile}, "nix --version")
		Expect(e.stdout).To(HavePrefix("nix (Nix) 2."), e.stderr)
		o, err := l.Build(h.ctx, h.source, settings)
		Expect(err).NotTo(HaveOccurred())
		Expect(o.Log).To(And(ContainSubstring("none fetched"), ContainSubstring("Closure layers: 0 of")))
	})
}

func (h *hidden) testPRootLayer(it spec.S) {
	it("is in the image where its engine may be used, and nowhere else", func() {
		l := h.builds("hp", h.bash, launch.EngineAuto)
		Expect(l.HasLayer("proot")).To(BeFalse(), l.outcome.Log)
		Expect(filepath.Join(l.Layers(), "proot")).NotTo(BeADirectory())
		for _, by := range []string{launch.EngineProot, launch.EngineUserns, launch.EngineNative, launch.EngineRelocate} {
			l = h.builds("hp", h.bash, by)
			Expect(l.HasLayer("proot")).To(Equal(by == launch.EngineProot), by)
			bill, err := os.ReadFile(filepath.Join(l.Layers(), "launch.sbom.cdx.json"))
			Expect(err).NotTo(HaveOccurred())
			Expect(strings.Contains(string(bill), "pkg:generic/proot@")).To(Equal(by == launch.EngineProot), by)
			Expect(string(bill)).To(ContainSubstring("nix-hydra-launch"))
		}
	})

	it("is left out of the next image when the engine no longer needs it", func() {
		l := h.builds("hn", h.bash, launch.EngineProot)
		Expect(l.HasLayer("proot")).To(BeTrue())
		o, err := l.Build(h.ctx, h.source, engine(launch.EngineAuto))
		Expect(err).NotTo(HaveOccurred())
		Expect(o.Status).To(Equal(0), o.Log)
		Expect(o.Log).To(ContainSubstring("Engine: relocate"))
		Expect(l.HasLayer("proot")).To(BeFalse())
	})

	it("is missed by name where the image has none", func() {
		l := h.builds("hu", h.bash, launch.EngineUserns)
		e := h.line(l, host{image: h.images.RunScratch}, "bash -c :")
		Expect(e.code).To(Equal(126))
		Expect(e.stderr).To(And(ContainSubstring("proot: the image holds no PRoot"), ContainSubstring("BP_NIX_ENGINE=proot")))
	})
}

func (h *hidden) testVerify(it spec.S) {
	verify := func(what string, keys ...string) (int, string) {
		var args []string
		for _, key := range keys {
			args = append(args, "--key", key)
		}
		command := exec.Command(filepath.Join(h.buildpack.Dir, "bin/verify"), append(args, what)...)
		out, err := command.CombinedOutput()
		if command.ProcessState == nil {
			Expect(err).NotTo(HaveOccurred())
		}
		return command.ProcessState.ExitCode(), string(out)
	}

	it("proves the finished layers of both kinds, byte code that was fixed up included", func() {
		for _, l := range []*layered{h.relocated, h.unrelocated} {
			code, out := verify(l.Layers(), h.key.Public)
			Expect(code).To(Equal(0), out)
			Expect(strings.Count(out, "intact    /nix/store/")).To(BeNumerically(">", 50))
			Expect(out).To(And(ContainSubstring(h.key.Name),
				ContainSubstring(" 0 altered, 0 signed by no trusted key, 0 files")))
		}
	})

	it("names a path of which one byte is another, and one whose key is not trusted", func() {
		l := h.builds("hv", h.bash, launch.EngineRelocate)
		code, out := verify(l.Layers(), h.key.Public)
		Expect(code).To(Equal(0), out)

		stranger, err := h.rig.Key(h.ctx, "stranger.example.org-1")
		Expect(err).NotTo(HaveOccurred())
		code, out = verify(l.Layers(), stranger.Public)
		Expect(code).To(Equal(1))
		Expect(out).To(And(ContainSubstring("UNTRUSTED "+h.bash), ContainSubstring("signed by "+h.key.Name),
			Not(ContainSubstring("ALTERED"))))

		programs, err := filepath.Glob(filepath.Join(l.Layers(), "closure-*", "*"+filepath.Base(h.bash)[32:], "bin/bash"))
		Expect(err).NotTo(HaveOccurred())
		Expect(programs).To(HaveLen(1))
		flip(programs[0])
		code, out = verify(l.Layers(), h.key.Public)
		Expect(code).To(Equal(1))
		Expect(out).To(And(MatchRegexp(`(?m)^ALTERED   `+h.bash+` `),
			ContainSubstring(" 1 altered, 0 signed by no trusted key")))
	})

	it("proves an image that the lifecycle exported", func() {
		dir, err := workDir()
		Expect(err).NotTo(HaveOccurred())
		platform, err := h.rig.Lifecycle(h.ctx, filepath.Join(dir, "hl"))
		Expect(err).NotTo(HaveOccurred())
		pack, err := bundled()
		Expect(err).NotTo(HaveOccurred())
		served, err := rig.Serve(strings.TrimPrefix(h.cache, "file://"), rig.ServeOptions{})
		Expect(err).NotTo(HaveOccurred())
		defer served.Close()
		built, err := platform.Build(h.ctx, rig.BuildOptions{
			App: h.source, Buildpack: []string{pack}, Image: "verified", RunImage: "scratch", Env: map[string]string{
				"BP_NIX_SUBSTITUTERS": served.URL, "BP_NIX_TRUSTED_PUBLIC_KEYS": h.key.Public, "BP_NIX_STORE_PATH": h.bash,
			},
		})
		Expect(err).NotTo(HaveOccurred(), "%v", built)
		code, out := verify(platform.Layout("verified"), h.key.Public)
		Expect(code).To(Equal(0), out)
		Expect(out).To(ContainSubstring("intact    " + h.bash))
	})
}

// flip changes one bit in the middle of a file.
func flip(name string) {
	info, err := os.Stat(name)
	Expect(err).NotTo(HaveOccurred())
	Expect(os.Chmod(name, 0o644)).To(Succeed())
	contents, err := os.ReadFile(name)
	Expect(err).NotTo(HaveOccurred())
	contents[len(contents)/2] ^= 1
	Expect(os.WriteFile(name, contents, 0o644)).To(Succeed())
	Expect(os.Chmod(name, info.Mode())).To(Succeed())
}
