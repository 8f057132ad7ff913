package integration_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// What each task prints at /nix, without any engine, in a few words: the rest is compared with such a run.
var wantedOfTasks = map[string][]string{
	"python":   {"lxml/etree.cpython-", "3.0", "from source: 0"},
	"perl":     {`{"floor":3,"sum":10}`, "JSON/XS.pm"},
	"nginx":    {"HTTP/1.1 200 OK", "<p>a page</p>", "ended with 0, logged 1 request"},
	"redis":    {"OK", "good night", "ended with 0"},
	"git":      {"1ec3a2f95493e7e7df0d2f33765b4aef821a3001 First", "git-core"},
	"java":     {"OpenJDK", "good morning, java, from"},
	"erlang":   {"9DD4E461268C8034F5C8564E155C67A6"},
	"node":     {"good evening, node, from", "zipped", "2"},
	"postgres": {"Success", "500500|t", "ended with 0"},
	"clone":    {"WORK/bare"},
}

// Programs that call system() or popen() need a /bin/sh of the run image, also at /nix.
var (
	tasksAnywhere  = []string{"python", "perl", "nginx", "redis", "git", "java", "erlang", "node"}
	tasksWithShell = append([]string{"postgres", "clone"}, tasksAnywhere...)
	// Where nothing else is expected than elsewhere, some are enough.
	someTasks = []string{"python", "git"}
)

// engineCase says how a closure is run and where that works.
type engineCase struct {
	engine      string
	unrelocated bool
	works       map[rig.Confinement]bool
}

// engineCases is the table of docs/engines.md on these platforms.
func engineCases() []engineCase {
	namespaces := !usernsRestricted()
	return []engineCase{
		{launch.EngineRelocate, false, map[rig.Confinement]bool{rig.Default: true, rig.Hostile: true, rig.Unconfined: true}},
		{launch.EngineUserns, true, map[rig.Confinement]bool{rig.Unconfined: namespaces}},
		{launch.EngineProot, true, map[rig.Confinement]bool{rig.Default: true, rig.Unconfined: true}},
	}
}

var confinements = []rig.Confinement{rig.Default, rig.Hostile, rig.Unconfined}

func TestEngines(t *testing.T) {
	begin := time.Now()
	w := newEngineWorld(t)
	t.Logf("made the images: %.1f s", time.Since(begin).Seconds())
	reference := host{
		image: w.images.Run, store: w.store, env: map[string]string{launch.EngineEnv: launch.EngineNative},
	}
	atNix, err := w.giveTasks(w.unrelocated, reference, tasksWithShell)
	Expect(err).NotTo(HaveOccurred())
	for name, words := range wantedOfTasks {
		for _, word := range words {
			Expect(atNix[name]).To(ContainSubstring(word), name)
		}
	}
	limit := make(chan struct{}, 2)
	var group sync.WaitGroup
	for _, base := range []string{w.images.Run, w.images.RunScratch} {
		for _, c := range engineCases() {
			for _, confinement := range confinements {
				group.Add(1)
				go func() {
					defer group.Done()
					limit <- struct{}{}
					defer func() { <-limit }()
					p := host{image: base, confinement: confinement, env: map[string]string{}}
					name := fmt.Sprintf("%s, %s, Debian", c.engine, confinement)
					if base == w.images.RunScratch {
						name = fmt.Sprintf("%s, %s, empty", c.engine, confinement)
					}
					begin := time.Now()
					if problem := w.compare(c, p, atNix); problem != "" {
						t.Errorf("%s: %s", name, problem)
					}
					t.Logf("%s: %.1f s", name, time.Since(begin).Seconds())
				}()
			}
		}
	}
	group.Wait()
}

// compare gives the tasks to an engine in a place and says in what the outcome is not the expected one.
func (w *engineWorld) compare(c engineCase, p host, atNix map[string]string) string {
	l, tasks := w.relocated, tasksAnywhere
	switch {
	case c.works[rig.Default] && p.confinement == rig.Unconfined:
		tasks = someTasks
	case p.image == w.images.Run:
		tasks = tasksWithShell
	}
	if c.unrelocated {
		l = w.unrelocated
		p.env[launch.EngineEnv] = c.engine
	}
	if !c.works[p.confinement] {
		return w.refused(c, l, p)
	}
	got, err := w.giveTasks(l, p, tasks)
	if err != nil {
		return err.Error()
	}
	var problems []string
	for _, name := range tasks {
		if got[name] != atNix[name] {
			problems = append(problems, fmt.Sprintf("%s\n--- at /nix\n%s\n--- here\n%s", name, atNix[name], got[name]))
		}
	}
	return strings.Join(problems, "\n")
}

// giveTasks runs the Procfile's web and gives what each task printed. The launcher's debug output says that the
// engine was the one asked for.
func (w *engineWorld) giveTasks(l *layered, p host, tasks []string) (map[string]string, error) {
	env := map[string]string{"TASKS": strings.Join(tasks, " "), launch.DebugEnv: "true"}
	engine := launch.EngineRelocate
	for name, value := range p.env {
		env[name] = value
	}
	if wanted := env[launch.EngineEnv]; wanted != "" {
		engine = wanted
	}
	p.env = env
	e, err := w.process(l, p, "web")
	if err != nil {
		return nil, err
	}
	got := sections(e.stdout)
	if e.code != 0 || len(got) != len(tasks) {
		return got, fmt.Errorf("%w: status %d\n%s\n%s", errIncomplete, e.code, e.stdout, e.stderr)
	}
	if !strings.Contains(e.stderr, "engine "+engine+": ") {
		return got, fmt.Errorf("not run by %s: %s", engine, e.stderr)
	}
	return got, nil
}

// refused sees that an engine that cannot work says so, with what is denied and what helps, and starts nothing.
func (w *engineWorld) refused(c engineCase, l *layered, p host) string {
	p.env["TASKS"] = "perl"
	e, err := w.process(l, p, "web")
	if err != nil {
		return err.Error()
	}
	if e.code != 126 || e.stdout != "" {
		return fmt.Sprintf("not refused: status %d\n%s\n%s", e.code, e.stdout, e.stderr)
	}
	words := []string{c.engine, "BP_NIX_ENGINE=relocate"}
	switch {
	case c.engine == launch.EngineProot:
		words = append(words, "ptrace is denied", "seccomp", "--cap-add=SYS_PTRACE")
	case usernsRestricted():
		words = append(words, "AppArmor restricts unprivileged user namespaces")
	default:
		words = append(words, "seccomp")
	}
	for _, word := range words {
		if !strings.Contains(e.stderr, word) {
			return fmt.Sprintf("the refusal does not say %q: %s", word, e.stderr)
		}
	}
	return ""
}
