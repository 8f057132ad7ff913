package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"
	. "github.com/onsi/gomega"
	"go.yaml.in/yaml/v3"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/pages"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/nixproot"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
)

type run = func(*reader, pages.Block)

// inCheckout runs a block in a copy of this checkout, whose buildpack downloads the rig's Nix and PRoot.
func inCheckout(then run) run {
	return func(r *reader, b pages.Block) {
		here := r.dir
		defer func() { r.dir = here }()
		if r.checkout == "" {
			r.checkout = r.copyCheckout()
		}
		r.dir = r.checkout
		then(r, b)
	}
}

// copyCheckout makes the copy.
func (r *reader) copyCheckout() string {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "checkout")
	must(os.Mkdir(dir, 0o755))
	const copying = `cd .. && git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -C "$1" -xf -`
	out, err := exec.Command("sh", "-c", copying, "sh", dir).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
	pinFirst(filepath.Join(dir, "samples/first"), r.parts.pkgs)
	files, err := r.parts.rig.Downloads(r.t.Context())
	must(err)
	server, err := rig.Serve(files, rig.ServeOptions{})
	must(err)
	r.t.Cleanup(func() { _ = server.Close() })
	must(r.parts.rig.Repin(r.t.Context(), filepath.Join(dir, "buildpack.toml"), server.URL))
	return dir
}

// with runs a block with more at its end, which only makes it shorter.
func with(more string) run {
	return func(r *reader, b pages.Block) { r.runs(strings.TrimSuffix(b.Text, "\n") + more) }
}

// isUsageOf expects a block to be in what a command says of itself.
func isUsageOf(command string) run {
	return func(r *reader, b pages.Block) {
		Expect(r.runs(command)).To(ContainSubstring(strings.TrimSpace(b.Text)))
	}
}

// isSample expects a block to be a file of samples/, which another test runs.
func isSample(name string) run {
	return func(_ *reader, b pages.Block) {
		text, err := os.ReadFile(filepath.Join("../samples", name))
		must(err)
		Expect(b.Text).To(Equal(string(text)))
	}
}

// withFirst runs a block where README's first project is.
func withFirst(then run) run {
	return func(r *reader, b pages.Block) {
		r.writesFirst()
		then(r, b)
	}
}

// writesFirst writes the files of README's first project.
func (r *reader) writesFirst() {
	all, err := pages.Read("..")
	must(err)
	for _, page := range all {
		if page.Name != "README.md" {
			continue
		}
		for _, b := range page.Blocks {
			if b.File != "" {
				r.writes(b)
			}
		}
	}
}

// withSite runs a block in a directory of its own with a sample that the cache of the page's name has.
func withSite(then run) run {
	return func(r *reader, b pages.Block) {
		site := r.site()
		r.dir = r.t.TempDir()
		must(os.CopyFS(r.dir, os.DirFS(site.source)))
		r.trusts(site)
		then(r, b)
	}
}

// privateCache builds that sample from a cache that wants a token, which only a service binding has.
func (r *reader) privateCache(b pages.Block) {
	const token = "a-token-of-the-cache"
	site := *r.site()
	var err error
	site.server, err = rig.Serve(site.cache, rig.ServeOptions{Wrap: func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			if request.Header.Get("Authorization") != "Bearer "+token {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			files.ServeHTTP(w, request)
		})
	}})
	must(err)
	defer site.server.Close()
	r.dir = r.t.TempDir()
	must(os.CopyFS(r.dir, os.DirFS(site.source)))
	r.trusts(&site)
	r.env = append(r.env, "CACHE="+r.first.server.URL, "CACHE_KEY=", "CACHE_TOKEN="+token, "RUNNER_TEMP="+r.t.TempDir())
	Expect(r.runs(b.Text)).To(MatchRegexp(regexp.QuoteMeta(site.server.URL) + `: \d+ narinfos, \d+ paths`))
}

// own has the buildpack's own commands where a page calls them by bin/.
func (r *reader) own(b pages.Block) string {
	return strings.ReplaceAll("\n"+b.Text, "\nbin/", "\n"+r.buildpack+"/bin/")
}

// looks looks into the image that was built before.
func (r *reader) looks(b pages.Block) {
	r.env = append(r.env, "BP_NIX_TRUSTED_PUBLIC_KEYS="+r.parts.key.Public) // in the place of cache.nixos.org's
	Expect(r.runs(r.own(b))).To(And(ContainSubstring("intact"), Not(ContainSubstring("ALTERED"))))
}

func (r *reader) buildsAndLooks(b pages.Block) {
	r.runs("pack build myapp --builder heroku/builder:24 --buildpack " + r.buildpack)
	r.looks(b)
}

// nix runs a block by bash where real Nix and its store are.
func (r *reader) nix(b pages.Block) { r.runsWithNix(b.Text) }

func (r *reader) runsWithNix(text string) string {
	r.t.Helper()
	out, err := r.parts.pkgs.Store.RunIn(r.t.Context(), r.dir, "bash", "-euo", "pipefail", "-c", r.bucket().Replace(text))
	Expect(err).WithOffset(1).NotTo(HaveOccurred(), text)
	return out
}

// bucket is a directory in place of the pages' s3://my-cache.
func (r *reader) bucket() *strings.Replacer {
	return strings.NewReplacer("s3://my-cache", "file://"+filepath.Join(r.dir, "bucket"))
}

// repository makes a git repository of README's first project where the reader is.
func (r *reader) repository() {
	r.writesFirst()
	r.runs(`git init --quiet --initial-branch main
git add Procfile deploy.nix project.toml server.py
git -c user.name=reader -c user.email=reader@example.org commit --quiet --message "A first project"`)
}

// uploads builds a revision and uploads it, as somebody does who has no Hydra.
func (r *reader) uploads(b pages.Block) {
	r.repository()
	r.runs("git archive --prefix=source/ HEAD | tar x")
	r.runsWithNix(b.Text)
	r.runsWithNix("nix store sign -k secret-key -r $(nix-build --no-out-link source/deploy.nix)") // as Troubleshooting says
}

// buildsFromUpload writes the project.toml that names the upload, and builds with it.
func (r *reader) buildsFromUpload(b pages.Block) {
	bucket, err := rig.Serve(filepath.Join(r.dir, "bucket"), rig.ServeOptions{})
	must(err)
	defer bucket.Close()
	public, err := os.ReadFile(filepath.Join(r.dir, "public-key"))
	must(err)
	settings := strings.NewReplacer("s3://my-cache", bucket.URL, "cache.example.org-1:BASE64", string(public))
	must(os.WriteFile(filepath.Join(r.dir, "project.toml"), []byte(r.words.Replace(settings.Replace(b.Text))), 0o644))
	r.env = append(r.env, "CACHE_KEY=")
	said := r.runs("pack build myapp --builder heroku/builder:24")
	Expect(said).To(ContainSubstring("Engine: relocate"))
	requests, _ := bucket.Traffic(".narinfo")
	Expect(requests).NotTo(BeZero())
}

// descriptor is a project.toml, as far as pack reads it.
type descriptor struct {
	Project struct {
		Schema string `toml:"schema-version"`
	} `toml:"_"`
	IO struct {
		Buildpacks struct {
			Group []struct{ URI, ID, Version string }
			Build struct {
				Env []struct{ Name, Value string }
			}
		}
	} `toml:"io"`
}

// namesKnownSettings expects a project.toml that says nothing that pack does not read, and settings that a build reads.
func (r *reader) namesKnownSettings(b pages.Block) {
	var d descriptor
	decoded, err := toml.Decode(b.Text, &d)
	must(err)
	Expect(decoded.Undecoded()).To(BeEmpty())
	Expect(d.Project.Schema).To(Equal("0.2"))
	values := map[string]string{}
	for _, variable := range d.IO.Buildpacks.Build.Env {
		values[variable.Name] = variable.Value
	}
	r.reads(values)
}

// settings expects lines that set variables which a build reads.
func (r *reader) settings(b pages.Block) {
	values := map[string]string{}
	for line := range strings.Lines(r.runs("set -a\nenv -i bash -c '\"$@\"' bash true\n" + b.Text + "compgen -e | grep ^BP_ | while read -r n; do echo \"$n=${!n}\"; done")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = value
	}
	Expect(values).NotTo(BeEmpty())
	r.reads(values)
}

// reads expects settings that are declared and that a build takes.
func (r *reader) reads(values map[string]string) {
	var buildpack struct {
		Metadata struct {
			Configurations []struct{ Name string }
		}
	}
	_, err := toml.DecodeFile("../buildpack.toml", &buildpack)
	must(err)
	declared := map[string]bool{}
	for _, c := range buildpack.Metadata.Configurations {
		declared[c.Name] = true
	}
	for name := range values {
		Expect(declared).To(HaveKey(name))
	}
	_, err = nixproot.ReadConfig(func(name string) (string, bool) {
		value, ok := values[name]
		return r.words.Replace(value), ok
	}, "amd64")
	must(err)
}

// evaluates expects a Nix expression that gives a value where it is in the place of what before and after leave open.
func evaluates(before, after, want string) run {
	return func(r *reader, b pages.Block) {
		out := r.runsWithNix("nix-instantiate --eval --strict -E " + quote("("+before+b.Text+") "+after))
		Expect(strings.TrimSpace(out)).To(Equal(want))
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// jobs evaluates the jobset of Heroku's page beside an app's expression.
func (r *reader) jobs(b pages.Block) {
	must(integration.WriteTree(r.dir, map[string]string{
		"release.nix": b.Text, "default.nix": "{ system }: \"the app for ${system}\"",
	}))
	var jobs map[string]map[string]string
	must(json.Unmarshal([]byte(r.runsWithNix("nix-instantiate --eval --strict --json -E 'import ./release.nix { }'")), &jobs))
	Expect(jobs).To(Equal(map[string]map[string]string{ // the page's settings name this job
		"myapp": {"x86_64-linux": "the app for x86_64-linux", "aarch64-linux": "the app for aarch64-linux"}}))
}

func (r *reader) procfile(b pages.Block) {
	parsed, err := procfile.Parse(context.Background(), b.Text)
	must(err)
	Expect(parsed.Entries).To(HaveLen(strings.Count(b.Text, "\n")))
	Expect(parsed.Warnings).To(BeEmpty())
}

// pushes pushes to a repository that is in the place of Heroku's.
func (r *reader) pushes(b pages.Block) {
	r.repository()
	r.runs("git init --quiet --bare ../heroku.git\ngit remote add heroku ../heroku.git\n" + b.Text +
		"git --git-dir=../heroku.git rev-parse --verify refs/heads/main")
}

// containerRegistry pushes to the registry in Heroku's place; only Heroku has its last step.
func (r *reader) containerRegistry(b pages.Block) {
	commands, last, found := strings.Cut(strings.TrimSpace(b.Text), "\nheroku ")
	Expect(found).To(BeTrue(), last)
	r.runs(strings.ReplaceAll(commands, "/APP/", "/app/"))
	r.has("app/web", "latest")
}

// has expects an image in the registry.
func (r *reader) has(image, tag string) {
	r.t.Helper()
	r.registry.call("GET", r.registry.address+"/"+image, "manifests/"+tag, "", nil)
}

// githubWorkflow is a workflow, as far as it says what is run.
type githubWorkflow struct {
	Jobs map[string]githubJob
}

type githubJob struct {
	Steps []struct {
		Name, Run string
	}
}

// step is what a job runs in the step of a name.
func (j githubJob) step(name string) string {
	for _, s := range j.Steps {
		if s.Name == name {
			return s.Run
		}
	}
	Expect(name).To(BeEmpty(), "no such step")
	return ""
}

// workflow lints the workflow and runs what it runs, twice, but for the download of pack.
func (r *reader) workflow(b pages.Block) {
	r.lints(b.Text)
	var w githubWorkflow
	must(yaml.Unmarshal([]byte(b.Text), &w))
	withSite(func(r *reader, _ pages.Block) {
		r.env = append(r.env, "GITHUB_ACTOR=reader", "TOKEN=secret", "REGISTRY="+r.registry.locked(r.t, "reader", "secret"), "GITHUB_REPOSITORY=Shop/Site",
			"GITHUB_SERVER_URL=https://git.example.org", "GITHUB_SHA="+strings.Repeat("1f", 20), "CACHE_KEY=")
		job := w.Jobs["image"]
		r.runs(job.step("Log in to the registry"))
		r.runs(job.step("Build and publish"))
		r.has("shop/site", "latest")
		Expect(r.runs(job.step("Build and publish"))).To(ContainSubstring("Closure layers: 0 of "))
	})(r, b)
}

// workflowJob lints the job and runs what builds and uploads.
func (r *reader) workflowJob(b pages.Block) {
	r.lints("on: push\njobs:\n  " + strings.ReplaceAll(b.Text, "\n", "\n  "))
	var jobs map[string]githubJob
	must(yaml.Unmarshal([]byte(b.Text), &jobs))
	r.dir = r.t.TempDir()
	r.repository()
	secret, err := os.ReadFile(r.parts.key.File)
	must(err)
	temporary := r.t.TempDir()
	r.runsWithNix(fmt.Sprintf("export KEY=%s RUNNER_TEMP=%s\n", quote(string(secret)), temporary) + jobs["build"].step("Build, sign, upload"))
	narinfos, err := filepath.Glob(filepath.Join(r.dir, "bucket/*.narinfo"))
	must(err)
	Expect(narinfos).NotTo(BeEmpty())
}

// lints has the linter of workflows read one.
func (r *reader) lints(text string) {
	linter, err := r.parts.rig.Actionlint(r.t.Context())
	must(err)
	command := exec.CommandContext(r.t.Context(), linter, "-shellcheck=", "-pyflakes=", "-")
	command.Stdin = strings.NewReader(text)
	out, err := command.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
}

// gitlabJob is a job of GitLab CI, as far as it says what is run.
type gitlabJob struct {
	Image     string
	Variables map[string]string
	Script    []string
}

func (r *reader) gitlabJob(b pages.Block) gitlabJob {
	var jobs map[string]gitlabJob
	must(yaml.Unmarshal([]byte(b.Text), &jobs))
	Expect(jobs).To(HaveLen(1))
	return jobs["image"]
}

// gitlabPublishes runs the job, but for the download of pack.
func (r *reader) gitlabPublishes(b pages.Block) {
	job := r.gitlabJob(b)
	Expect(job.Script[0]).To(HavePrefix("wget "))
	registry := r.registry.locked(r.t, "reader", "secret")
	r.env = append(r.env, "CI_REGISTRY="+registry, "CI_REGISTRY_USER=reader", "CI_REGISTRY_PASSWORD=secret",
		"CI_REGISTRY_IMAGE="+registry+"/gitlab/site", "CI_COMMIT_SHA="+strings.Repeat("2e", 20),
		"CI_PROJECT_URL=https://git.example.org/shop/site", "CACHE_KEY=")
	r.runs(strings.Join(job.Script[1:], "\n"))
	r.has("gitlab/site", "latest")
}

// gitlabCreates runs the job of a runner without an engine in a builder that has the buildpack.
func (r *reader) gitlabCreates(b pages.Block) {
	job := r.gitlabJob(b)
	builder := r.prefix + "gitlab"
	pack := *r.pack
	pack.Images.Run = r.registry.address + "/heroku/heroku"
	must(pack.BuilderWith(r.t.Context(), builder, r.buildpack))
	defer func() { _ = exec.Command("docker", "rmi", "--force", builder).Run() }()
	registry := r.registry.locked(r.t, "reader", "secret")
	args := []string{"docker run --rm --network host --volume \"$PWD:/builds/site\" --user 0 --env CI_PROJECT_DIR=/builds/site",
		"--env CI_REGISTRY=" + registry + " --env CI_REGISTRY_USER=reader --env CI_REGISTRY_PASSWORD=secret",
		"--env CI_REGISTRY_IMAGE=" + registry + "/gitlab/creator", "--env BP_NIX_SUBSTITUTERS"}
	for name, value := range job.Variables {
		args = append(args, "--env "+name+"="+quote(value))
	}
	r.runs("chmod -R a+rwX .\n" + strings.Join(args, " ") + " " + builder + " bash -euc " + quote(strings.Join(job.Script, "\n")))
	r.has("gitlab/creator", "latest")
}

// builderToml writes a builder's configuration, with the lifecycle of the tests in place of the newest.
func (r *reader) builderToml(b pages.Block) {
	r.registry.push(r.t, r.pack.Images.Build, "heroku/build")
	r.writes(b)
	lifecycle, err := r.parts.rig.LifecycleTgz(r.t.Context())
	must(err)
	file, err := os.OpenFile(filepath.Join(r.dir, b.File), os.O_APPEND|os.O_WRONLY, 0)
	must(err)
	_, err = fmt.Fprintf(file, "\n[lifecycle]\nuri = %q\n", "file://"+lifecycle)
	must(err)
	must(file.Close())
}

// pipeline expects parameters that the page speaks of.
func (r *reader) pipeline(b pages.Block) {
	var p struct {
		Spec struct {
			Tasks []struct {
				Params []struct {
					Name  string
					Value any
				}
			}
		}
	}
	must(yaml.Unmarshal([]byte(b.Text), &p))
	values := map[string]string{}
	for _, task := range p.Spec.Tasks {
		for _, param := range task.Params {
			if list, ok := param.Value.([]any); ok && param.Name == "ENV_VARS" {
				for _, variable := range list {
					name, value, _ := strings.Cut(variable.(string), "=")
					values[name] = strings.NewReplacer("$(tasks.fetch.results.url)", "https://git.example.org/shop.git",
						"$(tasks.fetch.results.commit)", strings.Repeat("1f", 20)).Replace(value)
				}
			}
		}
	}
	Expect(values).NotTo(BeEmpty())
	r.reads(values)
}

// relocates expects a store path and the place that it is relocated to.
func (r *reader) relocates(b pages.Block) {
	lines := strings.Fields(b.Text)
	layers, _, _ := strings.Cut(lines[1], "/view/")
	view, err := relocate.NewView(layers + "/view")
	must(err)
	path := strings.TrimSuffix(lines[0], "/bin/app")
	parsed, err := storepath.Parse(path)
	must(err)
	Expect(view.Rename(parsed) + "/bin/app").To(Equal(lines[1]))
}

// surveys asks the cache of the page's name for an app's closure.
func (r *reader) surveys(b pages.Block) {
	must(os.WriteFile(filepath.Join(r.dir, "paths.txt"), []byte(strings.Join(r.first.paths, "\n")+"\n"), 0o644))
	r.env = append(r.env, "BP_NIX_TRUSTED_PUBLIC_KEYS="+r.parts.key.Public)
	Expect(r.runs(strings.ReplaceAll(r.own(b), "/nix/store/…-app", r.first.paths[0]))).To(HavePrefix("relocates  " + r.first.paths[0]))
	raw, err := os.ReadFile(filepath.Join(r.dir, "survey.json"))
	must(err)
	Expect(string(raw)).To(ContainSubstring(`"relocates":true`))
}

// localRegistry publishes to the registry of this test in place of one on port 5000.
func (r *reader) localRegistry(b pages.Block) {
	r.runs(strings.ReplaceAll(b.Text, "127.0.0.1:5000", r.registry.address))
	_ = exec.Command("docker", "rmi", r.registry.address+"/myapp").Run()
}

// ownSocket builds by a socket of the user who builds.
func (r *reader) ownSocket(b pages.Block) {
	socat, err := r.parts.rig.Program(r.t.Context(), "socat", "socat")
	must(err)
	r.env = append(r.env, "PATH="+r.bin+":"+filepath.Dir(socat)+":"+os.Getenv("PATH"))
	r.runs(strings.ReplaceAll(b.Text, "user=1000", fmt.Sprintf("user=%d", rig.User)))
}

// standsStill runs the program that shows the lifecycle's standstill, and again with the change that would correct it.
func (r *reader) standsStill(b pages.Block) {
	r.runs("go mod tidy && go build -o shows .")
	r.writes(b)
	main, err := os.ReadFile(filepath.Join(r.dir, "main.go"))
	must(err)
	corrected := strings.NewReplacer("docker, err := priv.DockerClient()", `connection, err := net.Dial("unix", "/var/run/docker.sock")
	if err != nil {
		panic(err)
	}
	docker, err := held(connection)`, `"github.com/buildpacks/lifecycle/priv"`, `"net"`).Replace(string(main))
	must(os.WriteFile(filepath.Join(r.dir, "main.go"), []byte(corrected), 0o644))
	r.runs("go build -o corrected .")
	said := r.runs("./shows 1s >short & ./shows 31s >long & ./corrected 31s >corrected.out & wait\ncat short long corrected.out")
	var outcomes []string
	for line := range strings.Lines(said) {
		outcomes = append(outcomes, strings.Fields(line)[0])
	}
	Expect(outcomes).To(Equal([]string{"<nil>", "<nil>", "<nil>", "context", "<nil>", "<nil>"}), said)
}

// triesSample runs the command that a sample's page has to try it with Nix alone, and expects it to answer.
func (r *reader) triesSample(name, text string) {
	dir, err := r.parts.pkgs.Sample(r.t.Context(), name, r.dir)
	must(err)
	if name == "first" {
		pinFirst(dir, r.parts.pkgs)
	}
	command, err := r.parts.pkgs.Store.CommandIn(r.t.Context(), dir, "bash", "-euo", "pipefail", "-c", r.words.Replace(text))
	must(err)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	Expect(r.serves(command)).NotTo(BeEmpty())
}
