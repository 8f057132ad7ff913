package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// running is an engine in a place where it works.
type running struct {
	engine string
	layered
	host
}

// everyEngine is each engine where the least is allowed and the least is there.
func (w *engineWorld) everyEngine() []running {
	empty := w.images.RunScratch
	userns := map[string]string{launch.EngineEnv: launch.EngineUserns}
	proot := map[string]string{launch.EngineEnv: launch.EngineProot}
	return []running{
		{launch.EngineRelocate, *w.relocated, host{image: empty, confinement: rig.Hostile, readOnly: true}},
		{launch.EngineNative, *w.unrelocated, host{image: empty, confinement: rig.Hostile, store: w.store}},
		{launch.EngineUserns, *w.unrelocated, host{image: empty, confinement: rig.Unconfined, env: userns}},
		{launch.EngineProot, *w.unrelocated, host{image: empty, confinement: rig.Default, env: proot}},
	}
}

func TestEngineProcesses(t *testing.T) {
	w := newEngineWorld(t)
	suite := spec.New("under", spec.Report(report.Terminal{}), spec.Sequential())
	for _, r := range w.everyEngine() {
		if r.engine == launch.EngineUserns && !usernsTested(t) {
			continue
		}
		suite(r.engine, func(t *testing.T, _ spec.G, it spec.S) {
			it.Before(func() { RegisterTestingT(t) })
			w.testProcess(t, r, it)
		})
	}
	suite("choosing", func(t *testing.T, _ spec.G, it spec.S) {
		it.Before(func() { RegisterTestingT(t) })
		w.testChoice(it)
	})
	suite.Run(t)
}

func (w *engineWorld) testProcess(t *testing.T, r running, it spec.S) {
	it("gives the app's exit status, that of a signal included, in an empty image", func() {
		for line, want := range map[string]int{
			"run_proot.sh bash -c 'exit 7'":                      7,
			"run_proot.sh bash -c 'exit 7'; true":                0,
			"run_proot.sh bash -c 'kill -KILL $$'; exit $?":      137,
			"cd / && run_proot.sh bash -c 'kill -TERM $$' && :":  143,
			"bash -c 'exit 3' | bash -c 'exit 4'":                4,
			"run_proot.sh nosuchprogram":                         127,
			"run_proot.sh bash -c 'sleep 300 & exit 3'":          3,
			"run_proot.sh bash -c '(sleep 300; :) & exit 5'; :;": 0,
		} {
			e := w.line(&r.layered, r.host, line)
			Expect(e.code).To(Equal(want), "%s\n%s%s", line, e.stdout, e.stderr)
			Expect(e.took).To(BeNumerically("<", busy.Limit(60*time.Second)), line)
		}
	})

	it("passes arguments, variables, standard input's end and the directory on", func() {
		r.env = map[string]string{launch.EngineEnv: r.env[launch.EngineEnv], "PORT": "5000"}
		line := `cd /etc && run_proot.sh bash -c 'printf "%s." "$PWD" "$0" "$@"; read -r x || echo end' $PORT`
		e := w.line(&r.layered, r.host, line, "a b", "", "$c")
		Expect(e.stdout).To(Equal("/etc.5000.a b..$c.end\n"), e.stderr)
	})

	it("finds store paths that a line or a variable names, and loses no program of a line", func() {
		python := w.program("*-python3-*-env/bin/python3")
		r.env = map[string]string{launch.EngineEnv: r.env[launch.EngineEnv], "LIST": "/usr/none:" + python}
		for line, want := range map[string]string{
			python + ` -c 'print(1)'`: "1\n", `test -x ` + python + ` && "${LIST#*:}" -c 'print(2)'`: "2\n",
			`for i in $(seq 30); do true && printenv HOME | cat; done | sort | uniq -c | tr -d ' '`: "30/tmp\n",
		} {
			e := w.line(&r.layered, r.host, line)
			Expect(e.stdout).To(Equal(want), "%s\n%s", line, e.stderr)
		}
	})

	it("lets docker stop end what has no handler of SIGTERM, with 143, and gives a handler's own status", func() {
		python, node := w.program("*-python3-*-env/bin/python3"), w.program("*-nodejs-*/bin/node")
		for line, want := range map[string]int{
			"echo ready && exec sleep 1000":                                                      143,
			"run_proot.sh bash -c 'echo ready; while :; do sleep 1; done'":                       143,
			python + ` -c 'import time; print("ready", flush=True); time.sleep(1000)'`:           143,
			node + ` -e 'console.log("ready"); setInterval(() => {}, 1000)'`:                     143,
			`bash -c 'trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done'`:             7,
			`trap "exit 8" TERM; echo ready; while :; do sleep 1000; done`:                       8,
			`sleep 1000 & bash -c 'echo ready; trap "exit 9" TERM; sleep 1000 & wait' & wait -n`: 143,
		} {
			launcher := filepath.Join(r.Layers(), "launcher/bin", launch.ProcessProgramName)
			code, said, took := w.stop(r, []string{launcher, "--process", line}, "ready")
			Expect(code).To(Equal(want), "%s\n%s", line, said) // 137 is what docker stop comes to after ten seconds
			t.Logf("%s: docker stop took %v: %s", r.engine, took, line)
		}
	})

	it("stops a server by docker stop, well inside a second, with the server's own status", func() {
		var shortest time.Duration
		for range 3 { // the first time counts, unless the machine is busy
			took := w.stopServer(r)
			if shortest == 0 || took < shortest {
				shortest = took
			}
			if shortest < 800*time.Millisecond {
				break
			}
		}
		t.Logf("%s: docker stop took %v", r.engine, shortest)
		Expect(shortest).To(BeNumerically("<", patience))
	})
}

// patience is half of what docker stop gives an app before it kills it: an idle machine takes a fifth of a second.
const patience = 5 * time.Second

// stopServer starts Redis by a line with shell syntax, stops it, and gives how long that took.
func (w *engineWorld) stopServer(r running) time.Duration {
	port, err := rig.FreePort()
	Expect(err).NotTo(HaveOccurred())
	r.env = map[string]string{"PORT": fmt.Sprint(port), launch.EngineEnv: r.env[launch.EngineEnv], "LC_ALL": "C"}
	code, said, took := w.stop(r, r.processes["serve"], "Ready to accept connections")
	Expect(code).To(Equal(0), said)
	Expect(said).To(And(HavePrefix("starting\n"), ContainSubstring("Received SIGTERM"), ContainSubstring("bye bye")))
	return took
}

// stop starts a command, waits until it has said that it is up, and stops its container as docker stop does.
func (w *engineWorld) stop(r running, command []string, up string) (code int, said string, took time.Duration) {
	container, err := w.rig.Start(w.ctx, r.image, r.options(r.host, command[0], command[1:]...))
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(container.Remove(w.ctx)).To(Succeed()) }()
	logs := func() string {
		text, _ := container.Logs(w.ctx)
		return text
	}
	Eventually(logs, "60s", "50ms").Should(ContainSubstring(up))
	code, took, err = container.Stop(w.ctx)
	Expect(err).NotTo(HaveOccurred())
	return code, logs(), took
}

// program is a program of the closure that is on nobody's PATH, by its name in an ordinary store.
func (w *engineWorld) program(pattern string) string {
	path, inside, _ := strings.Cut(pattern, "/")
	links, err := filepath.Glob(filepath.Join(w.unrelocated.Layers(), "view", path))
	Expect(err).NotTo(HaveOccurred())
	for _, link := range links { // of the closure: the store has other paths of such names
		name := filepath.Join(filepath.Base(link), inside)
		if _, err := os.Stat(filepath.Join(w.store, name)); err == nil {
			return filepath.Join("/nix/store", name)
		}
	}
	Expect(pattern).To(BeEmpty(), "the closure has no such program")
	return ""
}

func (w *engineWorld) testChoice(it spec.S) {
	choose := func(l *layered, engine string, c rig.Confinement, store string) ended {
		env := map[string]string{launch.DebugEnv: "true"}
		if engine != "" {
			env[launch.EngineEnv] = engine
		}
		p := host{image: w.images.RunScratch, confinement: c, env: env, store: store}
		return w.line(l, p, "run_proot.sh bash -c 'echo $BASH'")
	}

	it("runs a relocated closure as it is, whatever is asked for, and says so", func() {
		for engine, said := range map[string]string{
			"": "engine relocate", "auto": "engine relocate", "relocate": "engine relocate",
			"native": "BPL_NIX_ENGINE=native: the run image has no", "userns": "is relocated and needs no userns",
			"proot": "is relocated and needs no proot",
		} {
			e := choose(w.relocated, engine, rig.Hostile, "")
			Expect(e.code).To(Equal(0), e.stderr)
			Expect(e.stderr).To(ContainSubstring(said))
			Expect(e.stdout).To(ContainSubstring(w.relocated.Layers() + "/closure-"))
		}
		e := choose(w.relocated, "native", rig.Hostile, w.store)
		Expect(e.stdout).To(HavePrefix("/nix/store/"), e.stderr)
	})

	it("takes for an unrelocated one what the platform allows", func() {
		for confinement, said := range map[rig.Confinement]string{
			rig.Default: "engine proot: ", rig.Unconfined: "engine proot: BP_NIX_ENGINE asked for it",
		} {
			e := choose(w.unrelocated, "", confinement, "")
			Expect(e.code).To(Equal(0), e.stderr)
			Expect(e.stderr).To(ContainSubstring(said))
			Expect(e.stdout).To(HavePrefix("/nix/store/"))
		}
		Expect(choose(w.unrelocated, "", rig.Hostile, w.store).stderr).To(ContainSubstring("engine native: "))
		Expect(choose(w.unrelocated, "native", rig.Unconfined, w.store).stderr).To(ContainSubstring("engine native: "))
		if !usernsRestricted() {
			Expect(choose(w.unrelocated, "userns", rig.Unconfined, w.store).stderr).To(ContainSubstring("engine userns: "))
		}
	})

	it("refuses what cannot be, with one message", func() {
		for _, c := range []struct {
			engine      string
			confinement rig.Confinement
			said        []string
		}{
			{"", rig.Hostile, []string{"no engine can give /nix/store", "userns: ", "ptrace is denied", "--cap-add=SYS_PTRACE"}},
			{"native", rig.Unconfined, []string{"native: the run image has no /nix/store/"}},
			{"relocate", rig.Unconfined, []string{"build it again with BP_NIX_ENGINE=relocate"}},
			{"fast", rig.Unconfined, []string{`BPL_NIX_ENGINE is "fast"`, "auto, relocate, native, userns, proot"}},
		} {
			e := choose(w.unrelocated, c.engine, c.confinement, "")
			Expect(e.code).To(Equal(126), c.engine)
			Expect(e.stdout).To(BeEmpty())
			for _, words := range c.said {
				Expect(e.stderr).To(ContainSubstring(words))
			}
			Expect(strings.Count(e.stderr, "no engine can give")).To(BeNumerically("<=", 1))
			Expect(e.stderr).NotTo(ContainSubstring("the build refuses as long as the reason above holds"),
				"there is none: the build was told not to relocate")
		}
	})
}
