package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// engineProcfile is the same for every engine and every image: with shell syntax, and what the shell has to expand.
const engineProcfile = `web: cd /tmp && run_proot.sh tasks $TASKS
serve: echo starting && run_proot.sh redis-server --port $PORT --save ""
`

// layered is the layers of an image, built once and mounted into containers at the place they were built for.
type layered struct {
	*integration.Bare
	outcome   *integration.Outcome
	processes map[string][]string
}

// engineWorld is what the tests of engines share.
type engineWorld struct {
	parts
	ctx    context.Context
	images *rig.Images
	store  string // the directory that is /nix/store, with everything that was built
	roots  string // the store paths with the programs tasks, bash, sleep and redis-server
	cache  string // an address
	source string // with the Procfile
	// relocated and unrelocated hold the same closure.
	relocated, unrelocated *layered
}

// needDocker says loudly that a test is not run.
func needDocker(t *testing.T, r *rig.Rig) {
	t.Helper()
	if err := r.Docker(context.Background()); err != nil {
		untested.Skip(t, "%v", err)
	}
}

// usernsRestricted says that this machine denies unprivileged user namespaces, as Ubuntu's kernels do, also to
// containers without a profile.
func usernsRestricted() bool {
	setting, err := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
	return err == nil && strings.TrimSpace(string(setting)) == "1"
}

// usernsTested reports whether it can be, and says loudly if not.
func usernsTested(t *testing.T) bool {
	t.Helper()
	if usernsRestricted() {
		untested.Say("%s under userns: kernel.apparmor_restrict_unprivileged_userns is 1", t.Name())
	}
	return !usernsRestricted()
}

// newEngineParts gives a world without the two images. Without a Docker engine the test is skipped.
func newEngineParts(t *testing.T) *engineWorld {
	t.Helper()
	RegisterTestingT(t)
	p := realParts(t)
	needDocker(t, p.rig)
	images, err := p.rig.Images(t.Context())
	if err != nil {
		t.Fatalf("NOT TESTED: %s", err)
	}
	return &engineWorld{parts: p, ctx: context.Background(), images: images}
}

// newEngineWorld gives the shared world. Without a Docker engine the test is skipped.
func newEngineWorld(t *testing.T) *engineWorld {
	t.Helper()
	w := newEngineParts(t)
	theEngineWorld.Do(func() {
		theEngineWorld.engineWorld, theEngineWorld.err = w, w.makeImages()
	})
	if theEngineWorld.err != nil {
		t.Fatalf("NOT TESTED: %s", theEngineWorld.err)
	}
	return theEngineWorld.engineWorld
}

var theEngineWorld struct {
	sync.Once
	*engineWorld
	err error
}

// makeImages builds the same closure twice.
func (w *engineWorld) makeImages() error {
	dir, err := workDir()
	if err != nil {
		return err
	}
	w.source = filepath.Join(dir, "engine-source")
	expression, err := filepath.Abs("testdata/engines/programs.nix")
	if err != nil {
		return err
	}
	paths, err := w.pkgs.Realise(w.ctx, expression)
	if err != nil {
		return err
	}
	more, err := w.pkgs.Build(w.ctx, "bash", "coreutils", "redis")
	if err != nil {
		return err
	}
	w.roots, w.store = strings.Join(append(more, paths...), " "), w.pkgs.Store.Real("/nix/store")
	if w.cache, err = w.serve(paths[0]); err != nil {
		return err
	}
	if err := integration.WriteTree(w.source, map[string]string{"Procfile": engineProcfile}); err != nil {
		return err
	}
	if w.relocated, err = w.build("er", w.roots, map[string]string{"BP_NIX_ENGINE": launch.EngineRelocate}); err != nil {
		return err
	}
	w.unrelocated, err = w.build("eu", w.roots, map[string]string{"BP_NIX_ENGINE": launch.EngineProot})
	return err
}

// serve gives a signed binary cache with the closure of a path.
func (w *engineWorld) serve(path string) (string, error) {
	dir, err := w.rig.Cache(w.ctx, rig.CacheOptions{Key: w.key, Level: 1}, path)
	return "file://" + dir, err
}

// build makes the layers of an image from roots in the world's cache, unless the settings name another, and does to
// them what the exporter does.
func (w *engineWorld) build(name, roots string, settings map[string]string) (*layered, error) {
	l, err := w.tryBuild(name, roots, settings)
	if err == nil && l.outcome.Status != 0 {
		err = fmt.Errorf("building %s: status %d: %s", name, l.outcome.Status, l.outcome.Log)
	}
	if err != nil {
		return nil, err
	}
	if l.processes, err = l.Processes(); err != nil {
		return nil, err
	}
	return l, exported(l.Layers())
}

// tryBuild is build for one that may fail, and is not exported.
func (w *engineWorld) tryBuild(name, roots string, settings map[string]string) (*layered, error) {
	dir, err := workDir()
	if err != nil {
		return nil, err
	}
	l := &layered{Bare: &integration.Bare{Buildpack: w.buildpack, Dir: filepath.Join(dir, name), Env: map[string]string{
		"BP_NIX_SUBSTITUTERS": w.cache, "BP_NIX_TRUSTED_PUBLIC_KEYS": w.key.Public, "BP_NIX_STORE_PATH": roots,
	}}}
	l.outcome, err = l.Build(w.ctx, w.source, settings)
	return l, err
}

// exported gives all files the owner and time that the lifecycle's exporter gives them.
func exported(dir string) error {
	epoch := time.Date(1980, 1, 1, 0, 0, 1, 0, time.UTC)
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if err := os.Lchown(name, rig.User, rig.Group); err != nil {
				return err
			}
		}
		if entry.Type()&os.ModeSymlink != 0 {
			return nil
		}
		return os.Chtimes(name, epoch, epoch)
	})
}

// host is where a container runs.
type host struct {
	image       string // of the base
	confinement rig.Confinement
	readOnly    bool
	env         map[string]string
	store       string // mounted at /nix/store, where not empty
}

// ended is how a container ended.
type ended struct {
	stdout, stderr string
	code           int
	took           time.Duration
}

// options are those of docker run for a program in the image.
func (l *layered) options(p host, program string, args ...string) rig.ContainerOptions {
	options := rig.ContainerOptions{
		Confinement: p.confinement, ReadOnly: p.readOnly, Entrypoint: program, Args: args,
		Env:  map[string]string{launch.ConfigEnv: filepath.Join(l.Layers(), "run", launch.ConfigName), "HOME": "/tmp"},
		More: []string{"--volume", l.Layers() + ":" + l.Layers() + ":ro"},
	}
	for name, value := range p.env {
		options.Env[name] = value
	}
	if p.store != "" {
		options.More = append(options.More, "--volume", p.store+":/nix/store:ro")
	}
	return options
}

// run runs a program of the image to its end.
func (w *engineWorld) run(l *layered, p host, program string, args ...string) (ended, error) {
	begin := time.Now()
	var e ended
	var err error
	e.stdout, e.stderr, e.code, err = w.rig.Output(w.ctx, p.image, l.options(p, program, args...))
	e.took = time.Since(begin)
	return e, err
}

// process runs a process type of the Procfile to its end, with more arguments.
func (w *engineWorld) process(l *layered, p host, name string, args ...string) (ended, error) {
	command := append(append([]string{}, l.processes[name]...), args...)
	return w.run(l, p, command[0], command[1:]...)
}

// line runs a command line as if it stood in the Procfile.
func (w *engineWorld) line(l *layered, p host, line string, args ...string) ended {
	launcher := filepath.Join(l.Layers(), "launcher/bin", launch.ProcessProgramName)
	e, err := w.run(l, p, launcher, append([]string{"--process", line}, args...)...)
	Expect(err).NotTo(HaveOccurred())
	return e
}

var (
	storeHash = regexp.MustCompile(`/nix/store/([0-9a-z]{32})-`)
	layerHash = regexp.MustCompile(`/closure-[0-9a-z-]*/([0-9a-z]{5,32})-`)
	viewHash  = regexp.MustCompile(`/view/([0-9a-z]{5,31})-`)
)

// plain is text with every store path, relocated or not, named as STORE and the first characters of its hash.
func plain(text string) string {
	const shown = 5
	for _, kind := range []*regexp.Regexp{storeHash, layerHash, viewHash} {
		text = kind.ReplaceAllStringFunc(text, func(match string) string {
			return "STORE/" + kind.FindStringSubmatch(match)[1][:shown] + "-"
		})
	}
	return regexp.MustCompile(`/\S*?/lSTORE/`).ReplaceAllString(text, "STORE/")
}

// sections is the output of tasks by task.
func sections(text string) map[string]string {
	all := map[string]string{}
	for _, part := range strings.Split("\n"+plain(text), "\n== ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		all[name] = strings.TrimSpace(rest)
	}
	return all
}

var errIncomplete = errors.New("not every task ran")
