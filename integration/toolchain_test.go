package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

// TestToolchain has builds get Nix in all the ways in which it can be got.
func TestToolchain(t *testing.T) {
	spec.Run(t, "toolchain", testToolchainWays, spec.Report(report.Terminal{}))
}

// unreachable is where the dependencies are in these tests, unless something says otherwise.
const unreachable = "https://downloads.invalid/nix"

func testToolchainWays(t *testing.T, _ spec.G, it spec.S) {
	var (
		k         *deployment
		downloads string
		tarball   *rig.Toolchain
	)
	it.Before(func() {
		RegisterTestingT(t)
		p := realParts(t)
		var err error
		tarball, err = p.rig.Toolchain(t.Context())
		must(err)
		downloads, err = p.rig.Downloads(t.Context())
		must(err)
		dir := t.TempDir()
		must(p.rig.Buildpack(t.Context(), dir, rig.BuildpackOptions{BaseURL: unreachable}))
		k = &deployment{t: t, app: source(t, shop("1.0")), bare: bare(t, "t")}
		k.bare.Buildpack = &integration.Buildpack{Dir: dir}
		must(k.bare.WithoutCache())
		k.bare.Env = k.app.env(p, "BP_NIX_ATTRS", "shop")
	})
	installs := func(env map[string]string, words ...string) {
		t.Helper()
		o := k.builds(k.app.source, env)
		for _, word := range append(words, "Nix "+tarball.Version, "Evaluated shell.nix") {
			Expect(o.Log).To(ContainSubstring(word))
		}
		k.runs("1.0")
	}
	refuses := func(env map[string]string, words ...string) string {
		t.Helper()
		o, err := k.bare.Build(context.Background(), k.app.source, env)
		must(err)
		Expect(o.Status).NotTo(Equal(0), o.Log)
		for _, word := range words {
			Expect(o.Log).To(ContainSubstring(word))
		}
		return o.Log
	}
	mirror := func(change func(string)) map[string]string {
		dir, err := os.MkdirTemp("", "mirror-")
		must(err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		must(os.CopyFS(filepath.Join(dir, "nix"), os.DirFS(downloads)))
		if change != nil {
			change(filepath.Join(dir, "nix", filepath.Base(tarball.Tarball)))
		}
		return map[string]string{"BP_DEPENDENCY_MIRROR": "file://" + dir}
	}

	it("says the real cause, the address and two ways round when it cannot be downloaded; then takes it from a mirror", func() {
		refuses(nil, "downloads.invalid", "dial tcp", "dependency-mapping", tarball.SHA256, "offline package")
		installs(mirror(nil))
	})

	it("refuses a file with another hash, an altered or a short one, and is unharmed by it", func() {
		flip := func(file string) {
			must(os.Chmod(file, 0o644))
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			must(err)
			_, err = f.WriteAt([]byte("damaged"), 1<<20)
			must(err)
			must(f.Close())
		}
		refuses(mirror(flip), "not the one that this buildpack pins", tarball.SHA256)
		refuses(mirror(func(file string) { must(os.Chmod(file, 0o644)); must(os.Truncate(file, 1<<20)) }),
			"not the one that this buildpack pins", tarball.SHA256)
		installs(mirror(nil))
		k.builds(k.changed("README", "once more"), nil)
	})

	it("takes it from where a dependency-mapping binding says", func() {
		k.bare.Bindings = map[string]map[string]string{
			"maps": {"type": "dependency-mapping", tarball.SHA256: "file://" + tarball.Tarball},
		}
		installs(nil)
	})

	it("takes it from an offline package of scripts/package", func() {
		dir := t.TempDir()
		out, err := exec.Command("../scripts/package", "--output", dir, "--offline", downloads).CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
		pins, err := os.ReadFile(filepath.Join(k.bare.Buildpack.Dir, "buildpack.toml"))
		must(err)
		must(os.WriteFile(filepath.Join(dir, "buildpack.toml"), pins, 0o644))
		k.bare.Buildpack = &integration.Buildpack{Dir: dir}
		installs(nil, "cached download from buildpack")
	})
}

// TestNoNetwork builds in a container that has no network at all.
func TestNoNetwork(t *testing.T) {
	p := realPlatform(t)
	app, image := source(t, shop("1.0")), p.image("offline")
	log := p.fails(image, app.source, app.env(p.parts, "BP_NIX_ATTRS", "shop"), func(options *rig.BuildOptions) {
		options.More = append(options.More, "--network", "none")
	})
	Expect(log).To(SatisfyAll(ContainSubstring(app.server.URL), ContainSubstring("connect"), ContainSubstring("HTTPS_PROXY")))
	Expect(log).NotTo(ContainSubstring("panic"))

	// With the network back it builds.
	p.build(image, app.source, app.env(p.parts, "BP_NIX_ATTRS", "shop"))
	Expect(p.says(image, "")).To(Equal("shop 1.0\n"))
}

// TestLifecycle does the main job with the lifecycle's own phases alone: no pack and no Docker engine.
func TestLifecycle(t *testing.T) {
	RegisterTestingT(t)
	p := realParts(t)
	buildpack, err := bundled()
	must(err)
	app := sample(t, "static-site")

	// Two machines, at two times, with the same files at different places and of different ages.
	var digests []string
	for i, directory := range []string{"one", "two"} {
		state := filepath.Join(t.TempDir(), directory)
		must(os.MkdirAll(state, 0o755))
		l, err := p.rig.Lifecycle(t.Context(), state)
		must(err)
		copied := filepath.Join(t.TempDir(), "source")
		must(os.CopyFS(copied, os.DirFS(app.source)))
		result, err := l.Build(t.Context(), rig.BuildOptions{
			App: copied, Buildpack: []string{buildpack}, Image: "site", RunImage: "scratch", Env: app.env(p),
		})
		must(err)
		Expect(result.Output).To(ContainSubstring("Engine: relocate"))
		image, err := l.Image("site")
		must(err)
		digest, err := image.Digest()
		must(err)
		digests = append(digests, digest.String())
		if i > 0 {
			continue
		}

		port, err := rig.FreePort()
		must(err)
		process, err := l.Start(t.Context(), "site", filepath.Join(state, "root"), "web", map[string]string{"PORT": fmt.Sprint(port)})
		must(err)
		body, err := rig.Await(t.Context(), fmt.Sprintf("http://127.0.0.1:%d/", port), time.Minute,
			func() bool { return process.Running(t.Context()) })
		must(err)
		code, took, err := process.Stop(t.Context())
		must(err)
		Expect(body).To(ContainSubstring("<html"))
		t.Logf("ended by SIGTERM after %v, exit code %d", took, code)
		Expect(took).To(BeNumerically("<", busy.Limit(patience)))
		Expect(process.Logs(t.Context())).To(ContainSubstring("server stopped"))

		app.server.Reset()
		result, err = l.Build(t.Context(), rig.BuildOptions{
			App: copied, Buildpack: []string{buildpack}, Image: "site", RunImage: "scratch", Env: app.env(p),
		})
		must(err)
		added, reused := changes(result.Output)
		Expect(added).To(BeEmpty())
		Expect(reused).NotTo(BeEmpty())
		Expect(app.server.Requests()).To(BeEmpty())
	}
	Expect(digests[0]).To(Equal(digests[1]))
}

// TestSecrets looks for passwords and tokens in everything that a build leaves behind.
func TestSecrets(t *testing.T) {
	p := realPlatform(t)
	const password, inURL, token, inQuery = "pa55-of-the-binding", "pa55-of-the-url", "t0ken-of-the-binding", "s1gnature-of-a-url"
	app := source(t, probe())
	guarded := func(user, password string) *rig.Server {
		server, err := rig.Serve(app.cache, rig.ServeOptions{User: user, Password: password})
		must(err)
		t.Cleanup(func() { _ = server.Close() })
		return server
	}
	first, second := guarded("deploy", password), guarded("someone", inURL)
	secretURL := "http://someone:" + inURL + "@" + strings.TrimPrefix(second.URL, "http://")
	third, err := rig.Serve(t.TempDir(), rig.ServeOptions{})
	must(err)
	defer third.Close()
	bindings := func(options *rig.BuildOptions) {
		options.Bindings = map[string]map[string]string{
			"own":   {"type": "nix-binary-cache", "url": first.URL, "username": "deploy", "password": password, "public-key": p.parts.key.Public},
			"other": {"type": "nix-binary-cache", "url": third.URL, "token": token},
		}
	}
	image := p.image("secrets")
	env := map[string]string{
		"BP_NIX_SUBSTITUTERS": secretURL, "NIX_EXTRA_BINARY_CACHE": third.URL + "/x?sig=" + inQuery, "BP_LOG_LEVEL": "debug",
		"BP_NIX_ATTRS": "app",
	}
	log := p.build(image, app.source, env, bindings)
	_, fetched := first.Traffic(".nar.zst")
	Expect(fetched).NotTo(BeZero(), "the login is used")

	// A build that fails says no more, be it for a missing path or for a cache that breaks.
	files := shop("never-built")
	missing := t.TempDir()
	must(os.CopyFS(missing, os.DirFS(app.source)))
	must(os.WriteFile(filepath.Join(missing, "shell.nix"), []byte(files["shell.nix"]), 0o644))
	env["BP_NIX_ATTRS"] = "shop"
	log += p.fails(image, missing, env, bindings)
	for _, server := range []*rig.Server{first, second} {
		server.SetFault(func(string, int) rig.Fault { return rig.Drop })
	}
	log += p.fails(image, missing, env, bindings)

	kept := p.packs(buildCache(image))
	Expect(bytes.Contains(kept, []byte("nixpkgs.json"))).To(BeTrue(), "else the search in there is for nothing")
	saved := filepath.Join(t.TempDir(), "image.tar")
	must(exec.Command("docker", "save", "--output", saved, image).Run())
	inspected, err := exec.Command("docker", "image", "inspect", image).Output()
	must(err)
	for _, secret := range []string{password, inURL, token, inQuery,
		"ZGVwbG95OnBhNTUtb2YtdGhlLWJpbmRpbmc", "c29tZW9uZTpwYTU1LW9mLXRoZS11cmw"} { // as in Authorization: Basic
		Expect(log).NotTo(ContainSubstring(secret), "the log has %s", secret)
		Expect(string(inspected)).NotTo(ContainSubstring(secret), "a label has %s", secret)
		Expect(bytes.Contains(kept, []byte(secret))).To(BeFalse(), "what evaluation keeps has %s", secret)
		Expect(exec.Command("grep", "-q", "-a", "-F", secret, saved).Run()).NotTo(Succeed(), "the image has %s", secret)
		for _, volume := range volumes(image) {
			out, err := exec.Command("docker", "run", "--rm", "--user", "0", "--volume", volume+":/v:ro", "--entrypoint", "/bin/grep",
				p.pack.Images.Build, "-r", "-l", "-a", "-F", secret, "/v").CombinedOutput()
			Expect(err).To(HaveOccurred(), "a cache has %s: %s", secret, out)
			Expect(string(out)).To(BeEmpty())
		}
	}
}
