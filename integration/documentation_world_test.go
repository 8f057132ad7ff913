package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration/pages"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// TestDocumentation does what the pages say, page by page and block by block, as somebody would who copies it: commands
// are run by bash, files are written, Nix expressions are evaluated by Nix. What stands for something in them (the
// registry, the cache, its key) is put in its place.
func TestDocumentation(t *testing.T) {
	w := newLibrary(t)
	all, err := pages.Read("..")
	must(err)
	for _, page := range all {
		if len(page.Blocks) == 0 && !strings.HasPrefix(page.Name, "samples/") {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(page.Name, "docs/"), ".md")
		t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			RegisterTestingT(t)
			r := w.reader(t, strings.Contains(page.Whole(), "--publish") && page.Name != "README.md")
			for i, block := range page.Blocks {
				told := documentation[page.Name][i]
				if told.run == nil {
					t.Logf("%q is not run: %s", told.begins, told.reason)
					continue
				}
				told.run(r, block)
			}
			for _, command := range page.Code() {
				if sample, found := strings.CutPrefix(filepath.Dir(page.Name), "samples/"); found && strings.HasPrefix(command, "nix") {
					r.triesSample(sample, command)
				}
			}
		})
	}
}

// library is what all readers share: a platform, a registry that has the buildpack, and the caches of what they build.
type library struct {
	*platform
	registry *imageRegistry
	// published makes a builder whose run image is in the registry, as heroku/builder's is, and gives its name.
	published func() string
	bin       string // pack and docker as readers have them
	packHome  string
	first     *deployable // samples/first
	site      func() *deployable
	prefix    string // of image names
}

// reader is somebody who does what one page says.
type reader struct {
	*library
	t        *testing.T
	dir      string // where they are
	checkout string // a copy of this checkout, where one was wanted
	cache    *rig.Server
	env      []string
	words    *strings.Replacer
	// publishes says that what is built goes to the registry.
	publishes bool
	port      int
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	p := realPlatform(t)
	w := &library{platform: p, registry: newRegistry(t), first: sampleFirst(t), prefix: fmt.Sprintf("nh-test-%d-", os.Getpid())}
	w.site = sync.OnceValue(func() *deployable { return sample(t, "static-site") })
	for _, name := range []string{"first", "myapp"} {
		p.image(name)
	}
	w.packHome = t.TempDir()
	w.published = sync.OnceValue(func() string { return w.publishedBuilder(t) })
	w.bin = t.TempDir()
	w.writePrograms(t)
	return w
}

func (w *library) publishedBuilder(t *testing.T) string {
	w.registry.push(t, w.pack.Images.RunScratch, "heroku/heroku")
	pack := *w.pack
	pack.Images.Run = w.registry.address + "/heroku/heroku"
	name := w.prefix + "builder"
	must(pack.BuilderWith(t.Context(), name))
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", name).Run() })
	w.packs(t, "config", "trusted-builders", "add", name)
	return name
}

// buildpackImage is the name under which the pages have the buildpack.
const buildpackImage = "registry.example.org/nixproot/nix-hydra-buildpack:0.1.0"

// writePrograms writes pack and docker as readers have them: the real ones, told where this machine's engine, registry
// and caches are, with the readers' images named so that no other test has them.
func (w *library) writePrograms(t *testing.T) {
	t.Helper()
	socket, closing, err := rig.ServeEngine(t.TempDir(), rig.User, rig.Group)
	must(err)
	t.Cleanup(func() { _ = closing.Close() })
	docker, err := exec.LookPath("docker")
	must(err)
	head := fmt.Sprintf("#!/bin/bash\nset -e\nargs=()\nfor a in \"$@\"; do case $a in first | myapp) a=%s$a ;; esac\n", w.prefix)
	programs := map[string]string{
		// Ports are those of the machine: not every engine can publish others.
		"docker": head + `[ -z "$port" ] || { port=; continue; }
case $a in -p) a=--network=host port=1 ;; esac
args+=("$a"); done
exec ` + docker + ` "${args[@]}"
`,
		"pack": head + `args+=("$a"); done
if [ "$1" = build ]; then
  args+=(--network host --trust-extra-buildpacks --env BP_NIX_SUBSTITUTERS="$CACHE")
  [[ " $* " == *" --docker-host "* ]] || args+=(--docker-host unix://` + socket + `)
  [ -z "$CACHE_KEY" ] || args+=(--env BP_NIX_TRUSTED_PUBLIC_KEYS="$CACHE_KEY")
fi
exec ` + w.pack.Program + ` "${args[@]}"
`,
	}
	for name, text := range programs {
		must(os.WriteFile(filepath.Join(w.bin, name), []byte(text), 0o755))
	}
	for _, args := range [][]string{
		{"config", "pull-policy", "if-not-present"}, {"config", "trusted-builders", "add", w.pack.Builder},
		{"buildpack", "package", w.registry.address + strings.TrimPrefix(buildpackImage, "registry.example.org"),
			"--path", w.buildpack, "--publish"},
	} {
		w.packs(t, args...)
	}
}

// packs runs pack as readers have it.
func (w *library) packs(t *testing.T, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), w.pack.Program, args...)
	command.Env = append(os.Environ(), "PACK_HOME="+w.packHome)
	out, err := command.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "pack %s: %s", strings.Join(args, " "), out)
}

// reader starts on a page in an empty directory, with what README's first project needs in the default cache.
func (w *library) reader(t *testing.T, publishes bool) *reader {
	port, err := rig.FreePort()
	must(err)
	r := &reader{library: w, t: t, dir: t.TempDir(), cache: w.first.server, port: port, publishes: publishes}
	r.env = append(os.Environ(), "PATH="+w.bin+":"+os.Getenv("PATH"), "PACK_HOME="+w.packHome, "NO_COLOR=1",
		"DOCKER_CONFIG="+t.TempDir(), "REGISTRY="+w.registry.address, "DOCKER_API_VERSION=1.41")
	r.trusts(w.first)
	return r
}

// trusts has the reader's builds ask one cache, which stands for cache.nixos.org, and trust it.
func (r *reader) trusts(d *deployable) {
	r.cache = d.server
	builder := r.pack.Builder
	if r.publishes {
		builder = r.published()
	}
	r.env = append(r.env, "CACHE="+d.server.URL, "CACHE_KEY="+r.parts.key.Public)
	// pack takes a registry with a port without docker:// only.
	r.words = strings.NewReplacer("docker://registry.example.org", r.registry.address, "registry.example.org", r.registry.address, "https://cache.example.org", d.server.URL,
		"https://cache.nixos.org", d.server.URL, "cache.example.org-1:BASE64", r.parts.key.Public,
		"cache.example.org-1:…", r.parts.key.Public, "heroku/builder:24", builder,
		"heroku/heroku:24-build", r.registry.address+"/heroku/build", "heroku/heroku:24", r.registry.address+"/heroku/heroku",
		"8080", fmt.Sprint(r.port))
}

// bash is a block of commands, not yet run.
func (r *reader) bash(text string) *exec.Cmd {
	command := exec.CommandContext(r.t.Context(), "bash", "-euo", "pipefail", "-c", r.words.Replace(text))
	command.Dir, command.Env = r.dir, r.env
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	return command
}

// runs runs commands to their end and gives what they say.
func (r *reader) runs(text string) string {
	r.t.Helper()
	out, err := r.bash(text).CombinedOutput()
	Expect(err).WithOffset(1).NotTo(HaveOccurred(), "%s\n%s", text, out)
	return string(out)
}

func (r *reader) shell(b pages.Block) { r.runs(b.Text) }

// writes writes a file as the page has it.
func (r *reader) writes(b pages.Block) {
	text := r.words.Replace(b.Text)
	if b.File == "deploy.nix" { // which pins nixpkgs by its contents
		text = pinOf.ReplaceAllString(text, fmt.Sprintf("sha256 = %q", r.parts.pkgs.Pin.SHA256))
	}
	file := filepath.Join(r.dir, b.File)
	must(os.MkdirAll(filepath.Dir(file), 0o755))
	must(os.WriteFile(file, []byte(text), 0o644))
}

// answers runs commands of which the last serves until it is stopped, and expects its page.
func answers(page string) func(*reader, pages.Block) {
	return func(r *reader, b pages.Block) {
		defer r.stopContainers()
		Expect(r.serves(r.bash(b.Text))).To(ContainSubstring(page))
	}
}

// serves runs a command that serves until it is stopped, and gives its page.
func (r *reader) serves(command *exec.Cmd) string {
	r.t.Helper()
	said, err := os.CreateTemp(r.t.TempDir(), "said")
	must(err)
	defer said.Close()
	command.Stdout, command.Stderr = said, said
	must(command.Start())
	ended := make(chan struct{})
	go func() { _ = command.Wait(); close(ended) }()
	defer func() { <-ended }()
	defer func() { _ = syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }()
	body, err := rig.Await(r.t.Context(), fmt.Sprintf("http://127.0.0.1:%d/", r.port), 20*time.Minute, func() bool {
		select {
		case <-ended:
			return false
		default:
			return true
		}
	})
	text, readErr := os.ReadFile(said.Name())
	must(readErr)
	Expect(err).WithOffset(1).NotTo(HaveOccurred(), string(text))
	return body
}

// stopContainers stops what the reader's docker run has started, by the image's name: another checkout's reader may have made the
// same image.
func (r *reader) stopContainers() {
	running, _ := exec.Command("docker", "ps", "--quiet").Output()
	for _, id := range strings.Fields(string(running)) {
		image, _ := exec.Command("docker", "container", "inspect", "--format", "{{.Config.Image}}", id).Output()
		if name := strings.TrimSpace(string(image)); name == r.prefix+"first" || name == r.prefix+"myapp" {
			_ = exec.Command("docker", "stop", "--time", "5", id).Run()
		}
	}
}
