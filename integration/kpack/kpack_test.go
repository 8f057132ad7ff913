// Package kpack_test runs what kpack makes of the samples: its own types, its own generator of pods and its own programs,
// container by container on a Docker engine. It is a module of its own, as kpack brings a cluster's libraries along.
package kpack_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	. "github.com/onsi/gomega"
	buildapi "github.com/pivotal/kpack/pkg/apis/build/v1alpha2"
	coreapi "github.com/pivotal/kpack/pkg/apis/core/v1alpha1"
	"github.com/pivotal/kpack/pkg/duckbuilder"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

func must(err error) { Expect(err).WithOffset(1).NotTo(HaveOccurred()) }

// read decodes a sample strictly: a field that kpack does not know is an error.
func read[T any](name string) *T {
	text, err := os.ReadFile(filepath.Join("../../samples/kpack", name))
	must(err)
	var object T
	must(yaml.UnmarshalStrict(text, &object))
	return &object
}

// TestSamples decodes what a newcomer copies.
func TestSamples(t *testing.T) {
	spec.Run(t, "samples", func(t *testing.T, _ spec.G, it spec.S) {
		it.Before(func() { RegisterTestingT(t) })

		it("are of kpack's own types, and name each other", func() {
			withStorage := context.WithValue(context.Background(), buildapi.HasDefaultStorageClass, true)
			store, builder := read[buildapi.ClusterStore]("clusterstore.yaml"), read[buildapi.ClusterBuilder]("clusterbuilder.yaml")
			Expect(store.Spec.Sources).To(HaveLen(1))
			Expect(builder.Spec.Store.Name).To(Equal(store.Name))
			builder.SetDefaults(context.Background())
			store.SetDefaults(context.Background())
			Expect(builder.Validate(context.Background())).To(BeNil())
			Expect(store.Validate(context.Background())).To(BeNil())
			secret := read[corev1.Secret]("secret.yaml")
			Expect(secret.Type).To(BeEquivalentTo("servicebinding.io/" + secret.StringData["type"]))
			for _, name := range []string{"image-git.yaml", "image-subpath.yaml", "image-blob.yaml"} {
				image := read[buildapi.Image](name)
				image.Namespace = "default"
				image.SetDefaults(context.Background()) // as the webhook does first
				Expect(image.Validate(withStorage)).To(BeNil(), name)
				Expect(image.Spec.Builder.Name).To(Equal(builder.Name))
				Expect(image.Spec.Build.Services[0].Name).To(Equal(secret.Name))
			}
		})
	}, spec.Report(report.Terminal{}))
}

// cluster is what stands around a pod: a builder with the buildpack, a registry, git, a binary cache, Hydra.
type cluster struct {
	t        *testing.T
	rig      *rig.Rig
	pack     *rig.Pack
	builder  string
	programs string // with kpack's own
	registry string
	dir      string // of this test's volumes
	cacheKey *rig.Key
	cache    *rig.Server
	outputs  []string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	RegisterTestingT(t)
	ctx := t.Context()
	r, err := rig.Open(rig.Options{})
	must(err)
	if err := r.Docker(ctx); err != nil {
		untested.Skip(t, "%s", err)
	}
	c := &cluster{t: t, rig: r, builder: fmt.Sprintf("nh-kpack-%d", os.Getpid())}
	c.dir, err = os.MkdirTemp("", "nh-kpack-")
	must(err)
	t.Cleanup(func() { _ = exec.Command("rm", "-rf", c.dir).Run() })
	c.pack, err = r.Pack(ctx)
	must(err)
	buildpack := filepath.Join(c.dir, "buildpack")
	must(r.Buildpack(ctx, buildpack, rig.BuildpackOptions{}))
	must(c.pack.BuilderWith(ctx, c.builder, buildpack))
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", c.builder).Run() })

	c.programs = filepath.Join(c.dir, "programs")
	build := exec.Command("go", "build", "-o", c.programs+"/", "github.com/pivotal/kpack/cmd/build-init",
		"github.com/pivotal/kpack/cmd/rebase")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	c.registry = listener.Addr().String()
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return c
}

// docker runs the client and gives all that it says.
func docker(args ...string) string {
	out, err := exec.Command("docker", args...).CombinedOutput()
	Expect(err).WithOffset(1).NotTo(HaveOccurred(), "docker %v: %s", args, out)
	return string(out)
}

// push copies an image of the engine to the registry and gives its name there.
func (c *cluster) push(image, as string) string {
	full := c.registry + "/" + as
	docker("tag", image, full)
	docker("push", "--quiet", full)
	docker("rmi", full)
	return full
}

// serve builds a sample as Hydra does, puts the source with other files into a git repository, and serves both.
func (c *cluster) serve(subPath string) (repository, revision string) {
	ctx := c.t.Context()
	pkgs, err := c.rig.Nixpkgs(ctx)
	must(err)
	c.cacheKey, err = c.rig.Key(ctx, "hydra.example.org-1")
	must(err)
	source, err := pkgs.Sample(ctx, "static-site", c.t.TempDir())
	must(err)
	built, err := pkgs.AsHydra(ctx, source, "source", "shell.nix")
	must(err)
	c.outputs = built.Paths
	dir, err := c.rig.Cache(ctx, rig.CacheOptions{Key: c.cacheKey}, built.Paths...)
	must(err)
	c.cache, err = rig.Serve(dir, rig.ServeOptions{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer TOKEN" {
				http.Error(w, "a private cache", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	must(err)
	c.t.Cleanup(func() { _ = c.cache.Close() })

	top := filepath.Join(c.dir, "git", "shop.git")
	must(os.MkdirAll(filepath.Join(top, subPath), 0o755))
	must(os.CopyFS(filepath.Join(top, subPath), os.DirFS(source)))
	git := func(args ...string) string {
		command := exec.Command("git", args...)
		command.Dir = top
		command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=a",
			"GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
		out, err := command.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "git %v: %s", args, out)
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "main")
	git("config", "http.receivepack", "false")
	git("config", "uploadpack.allowAnySHA1InWant", "true")
	git("add", "-A")
	git("commit", "-q", "-m", "a commit")
	backend, err := exec.Command("git", "--exec-path").Output()
	must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	server := &http.Server{Handler: &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(backend)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(c.dir, "git"), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}}
	go func() { _ = server.Serve(listener) }()
	c.t.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String() + "/shop.git", git("rev-parse", "HEAD")
}

// volumes are directories that stand for a pod's volumes, by name.
type volumes struct {
	root string
	gid  int64
}

// directory makes an emptyDir where and as the kubelet does for a pod with fsGroup: the group's, with its bit set.
func (v volumes) directory(name string) string {
	dir := v.path(name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	must(os.MkdirAll(dir, 0o777))
	must(os.Chown(dir, 0, int(v.gid)))
	must(os.Chmod(dir, 0o777|os.ModeSetgid))
	return dir
}

func (v volumes) path(name string) string {
	return filepath.Join(v.root, "volumes/kubernetes.io~empty-dir", name)
}

// secret lays out a Secret as the kubelet does: files that are links through ..data to a directory with a time.
func (v volumes) secret(name string, data map[string]string) string {
	dir := v.directory(name)
	stamped := filepath.Join(dir, "..2026_01_01")
	must(os.MkdirAll(stamped, 0o755))
	for key, value := range data {
		file := filepath.Join(stamped, key)
		must(os.WriteFile(file, []byte(value), 0o440))
		must(os.Chown(file, 0, int(v.gid)))
		_ = os.Symlink("..data/"+key, filepath.Join(dir, key))
	}
	_ = os.Symlink("..2026_01_01", filepath.Join(dir, "..data"))
	return dir
}

// run runs a pod's containers one after the other, with the rights that it gives them, and gives what they say.
func (c *cluster) run(pod *corev1.Pod, v volumes, secrets map[string]map[string]string) string {
	c.t.Helper()
	places := map[string]string{}
	for _, volume := range pod.Spec.Volumes {
		switch {
		case volume.Secret != nil:
			places[volume.Name] = v.secret(volume.Name, secrets[volume.Secret.SecretName])
		default:
			places[volume.Name] = v.directory(volume.Name)
		}
	}
	var said bytes.Buffer
	for _, container := range pod.Spec.InitContainers {
		args := []string{"run", "--rm", "--network", "host", "--entrypoint", container.Command[0],
			"--volume", c.programs + ":/cnb/process:ro"}
		user, group := int64(rig.User), int64(rig.Group)
		if pod.Spec.SecurityContext.RunAsUser != nil {
			user, group = *pod.Spec.SecurityContext.RunAsUser, *pod.Spec.SecurityContext.RunAsGroup
		}
		args = append(args, "--user", fmt.Sprintf("%d:%d", user, group))
		Expect(*container.SecurityContext.RunAsNonRoot).To(BeTrue())
		if !*container.SecurityContext.AllowPrivilegeEscalation {
			args = append(args, "--security-opt", "no-new-privileges")
		}
		for _, capability := range container.SecurityContext.Capabilities.Drop {
			args = append(args, "--cap-drop", string(capability))
		}
		if container.WorkingDir != "" {
			args = append(args, "--workdir", container.WorkingDir)
		}
		for _, variable := range container.Env {
			if variable.Name != "" {
				args = append(args, "--env", variable.Name+"="+variable.Value)
			}
		}
		args = append(args, "--env", "DOCKER_API_VERSION=")
		for _, mounted := range container.VolumeMounts {
			place := filepath.Join(places[mounted.Name], mounted.SubPath)
			mode := ""
			if mounted.ReadOnly {
				mode = ":ro"
			}
			args = append(args, "--volume", place+":"+mounted.MountPath+mode)
		}
		args = append(append(append(args, c.builder), container.Command[1:]...), container.Args...)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
		cancel()
		fmt.Fprintf(&said, "== %s\n%s", container.Name, out)
		Expect(err).WithOffset(1).NotTo(HaveOccurred(), "%s\n%s", strings.Join(args, " "), said.String())
	}
	return said.String()
}

// TestPod builds an app as kpack does, twice, and rebases it.
func TestPod(t *testing.T) {
	c := newCluster(t)
	spec.Run(t, "pod", c.testPod, spec.Report(report.Terminal{}))
}

func (c *cluster) testPod(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("builds a directory of a repository that Hydra has built, builds it again with nothing moved, and is rebased", func() {
		ctx := t.Context()
		image := read[buildapi.Image]("image-subpath.yaml")
		image.Namespace, image.UID = "default", "1"
		image.SetDefaults(ctx)
		image.Status.BuildCacheName = image.CacheName() // of the claim that kpack makes
		repository, revision := c.serve(image.Spec.Source.SubPath)
		hydra := hydratest.New()
		defer hydra.Close()
		hydra.Project("shop").Jobset("main").Evaluate(hydratest.Evaluation{
			Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: revision}},
			Jobs: []hydratest.Job{{Name: "worker." + c.rig.System(), NixName: "worker",
				Outputs: map[string]string{"out": c.outputs[0]}}},
		}).Succeed()

		secret := read[corev1.Secret]("secret.yaml")
		data := map[string]string{}
		for key, value := range secret.StringData {
			data[key] = value
		}
		data["url"], data["public-key"] = c.cache.URL, c.cacheKey.Public
		secrets := map[string]map[string]string{secret.Name: data}
		for i, variable := range image.Spec.Build.Env {
			switch variable.Name {
			case "BP_NIX_HYDRA_URL":
				image.Spec.Build.Env[i].Value = hydra.URL
			case "BP_NIX_SUBSTITUTERS":
				image.Spec.Build.Env[i].Value = c.cache.URL
			}
		}
		image.Spec.Source.Git.URL = repository
		image.Spec.Tag = c.registry + "/apps/worker"
		c.withFile(c.pack.Images.Run, c.builder+"-run", "/older")
		runImage := c.push(c.builder+"-run", "run:1")

		resolver := image.SourceResolver()
		resolver.ResolvedSource(coreapi.ResolvedSourceConfig{Git: &coreapi.ResolvedGitSource{
			URL: repository, Revision: revision, Type: coreapi.Commit, SubPath: image.Spec.Source.SubPath,
		}})
		builder := &duckbuilder.DuckBuilder{}
		builder.Name = "nix"
		builder.Status.LatestImage = c.builder
		builder.Status.Stack = coreapi.BuildStack{RunImage: runImage, ID: "base"}
		bindings := []buildapi.ServiceBinding{&coreapi.ServiceBinding{
			Name: secret.Name, SecretRef: &corev1.LocalObjectReference{Name: secret.Name},
		}}
		podOf := func(build *buildapi.Build, runImage string) *corev1.Pod {
			pod, err := build.BuildPod(buildapi.BuildPodImages{}, buildapi.BuildContext{
				BuildPodBuilderConfig: buildapi.BuildPodBuilderConfig{
					StackID: "base", RunImage: runImage, Uid: rig.User, Gid: rig.Group, ResolvedImage: c.builder,
					PlatformAPIs: []string{"0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"},
				},
				Bindings: bindings,
			})
			must(err)
			return pod
		}
		place := func(n int) volumes {
			return volumes{root: filepath.Join(c.dir, fmt.Sprintf("pod-%d", n)), gid: rig.Group}
		}

		succeed := func(build *buildapi.Build) {
			build.Status.LatestImage = image.Spec.Tag
			build.Status.Stack = coreapi.BuildStack{RunImage: runImage, ID: "base"}
			build.Status.Conditions = coreapi.Conditions{{Type: coreapi.ConditionSucceeded, Status: corev1.ConditionTrue}}
		}
		first := image.Build(resolver, builder, nil, buildapi.BuildReasonConfig, "", 1, "")
		log := c.run(podOf(first, runImage), place(1), secrets)
		Expect(log).To(ContainSubstring("Engine: relocate"))
		Expect(log).To(ContainSubstring("project-metadata.toml"), "where the revision is from")
		Expect(log).NotTo(ContainSubstring("TOKEN"))
		Expect(log).To(ContainSubstring("Adding layer 'nixproot/nix-hydra:"))

		// The same again: kpack's cache is a volume that both pods have.
		must(os.Remove(place(2).directory("cache-dir")))
		must(os.Rename(place(1).directory("cache-dir"), place(2).path("cache-dir")))
		succeed(first)
		c.cache.Reset()
		second := image.Build(resolver, builder, first, buildapi.BuildReasonTrigger, "", 2, "")
		log = c.run(podOf(second, runImage), place(2), secrets)
		Expect(log).NotTo(ContainSubstring("Adding layer 'nixproot/nix-hydra:"))
		nars := slices.DeleteFunc(c.cache.Requests(), func(r rig.Request) bool { return !strings.Contains(r.Path, "nar/") })
		Expect(nars).To(BeEmpty(), log)

		// A newer run image.
		c.withFile(c.pack.Images.Run, c.builder+"-run", "/newer")
		defer docker("rmi", "--force", c.builder+"-run")
		newer := c.push(c.builder+"-run", "run:2")
		builder.Status.Stack.RunImage = newer
		succeed(second)
		third := image.Build(resolver, builder, second, buildapi.BuildReasonStack, "", 3, "")
		pod := podOf(third, newer)
		Expect(pod.Spec.InitContainers[0].Name).To(Equal(buildapi.RebaseContainerName))
		c.run(pod, place(3), secrets)

		docker("pull", "--quiet", image.Spec.Tag)
		defer docker("rmi", image.Spec.Tag)
		c.verify(image.Spec.Tag)
		port, err := rig.FreePort()
		must(err)
		container, err := c.rig.Start(ctx, image.Spec.Tag, rig.ContainerOptions{
			Confinement: rig.Hostile, Env: map[string]string{"PORT": fmt.Sprint(port)},
		})
		must(err)
		defer func() { must(container.Remove(context.Background())) }()
		body, err := rig.Await(ctx, fmt.Sprintf("http://127.0.0.1:%d/", port), time.Minute,
			func() bool { return container.Running(ctx) })
		must(err)
		Expect(body).To(ContainSubstring("<html"))
		_, errs, code, err := c.rig.Output(ctx, image.Spec.Tag, rig.ContainerOptions{
			Entrypoint: "/usr/bin/cat", Args: []string{"/newer"},
		})
		must(err)
		Expect(code).To(BeZero(), "it stands on the newer run image: %s", errs)
	})
}

// verify has the buildpack's own command prove an image: kpack's volumes give the layers directory rights of their own.
func (c *cluster) verify(image string) {
	saved := filepath.Join(c.dir, "image.tar")
	docker("save", image, "--output", saved)
	out, err := exec.Command(filepath.Join(c.dir, "buildpack", "bin/verify"), "--key", c.cacheKey.Public, saved).CombinedOutput()
	Expect(err).WithOffset(1).NotTo(HaveOccurred(), "%s", out)
}

// withFile makes a run image, of kpack's stack "base", that has one file more than another image.
func (c *cluster) withFile(base, name, file string) {
	local := filepath.Join(c.dir, "file")
	must(os.WriteFile(local, []byte("a newer run image\n"), 0o644))
	id := strings.TrimSpace(docker("create", base, "true"))
	defer docker("rm", id)
	docker("cp", local, id+":"+file)
	docker("commit", "--change", "LABEL io.buildpacks.stack.id=base", id, name)
}
