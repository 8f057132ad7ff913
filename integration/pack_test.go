package integration_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// TestPack drives real pack with a real builder against the Docker engine.
func TestPack(t *testing.T) {
	p := realPlatform(t)
	spec.Run(t, "samples", p.testSamples, spec.Report(report.Terminal{}))
	spec.Run(t, "processes", p.testProcesses(t), spec.Report(report.Terminal{}))
}

func (p *platform) testSamples(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("builds the static site, which answers over HTTP as a stranger without any privilege", func() {
		app, image := sample(t, "static-site"), p.image("static-site")
		log := p.build(image, app.source, app.env(p.parts))
		p.golden("static-site")
		labels, err := exec.Command("docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image).Output()
		must(err)
		Expect(labels).To(And(ContainSubstring(`"io.nixproot.nix-hydra.roots":"`+app.paths[0]+`"`),
			ContainSubstring(`"io.nixproot.nix-hydra.engine":"relocate"`)))
		from := `"io.nixproot.nix-hydra.caches":"[{\"url\":\"` + app.server.URL + `\"}]"`
		Expect(string(labels)).To(ContainSubstring(from))
		Expect(log).NotTo(ContainSubstring("building '/nix/store"), "nothing is compiled")

		// answering under Docker's own profile, and under one that denies what Heroku denies, on a read-only root
		Expect(p.page(image, rig.ContainerOptions{})).To(ContainSubstring("<html"))
		Expect(p.page(image, rig.ContainerOptions{Confinement: rig.Hostile, ReadOnly: true})).To(ContainSubstring("<html"))

		// reusing everything when nothing has changed
		app.server.Reset()
		log = p.build(image, app.source, app.env(p.parts))
		p.golden("static-site-again")
		Expect(log).To(ContainSubstring("Reusing layer 'nixproot/nix-hydra:closure-"))
		Expect(log).NotTo(ContainSubstring("Adding layer 'nixproot/nix-hydra:"))
		requests, _ := app.server.Traffic("")
		Expect(requests).To(BeZero())
		labels, err = exec.Command("docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image).Output()
		must(err)
		Expect(string(labels)).To(ContainSubstring(from), "which no request could tell")
	})

	it("builds the README's project, of which the server's source stays and answers over HTTP", func() {
		app, image := sampleFirst(t), p.image("first")
		p.build(image, app.source, app.env(p.parts), p.onScratch)
		p.golden("first")
		Expect(p.page(image, rig.ContainerOptions{})).To(Equal("Hello from a closure\n"))
	})

	it("builds the Node.js app, which answers over HTTP where the image is empty but for it", func() {
		app, image := sample(t, "node-web"), p.image("node-web")
		p.build(image, app.source, app.env(p.parts), p.onScratch)
		p.golden("node-web")
		Expect(p.page(image, rig.ContainerOptions{})).To(ContainSubstring("<p>0 words</p>"))
	})

	it("builds the Java app, which answers over HTTP where the image is empty but for it", func() {
		app, image := sample(t, "java-web"), p.image("java-web")
		p.build(image, app.source, app.env(p.parts), p.onScratch)
		p.golden("java-web")
		Expect(p.page(image, rig.ContainerOptions{})).To(ContainSubstring("<p>This is Java "))
	})

	it("builds the flake, of which each process type starts", func() {
		app, image := sampleFlake(t, "flake-worker"), p.image("flake-worker")
		p.build(image, app.source, app.env(p.parts), p.onScratch)
		p.golden("flake-worker")
		Expect(p.page(image, rig.ContainerOptions{})).To(ContainSubstring("<h1>Queue</h1>"))
		Expect(p.says(image, "worker", "--once")).To(Equal("idle\n"))
	})

	it("builds the Python app, which answers over HTTP where the image is empty but for it", func() {
		app, image := sample(t, "python-web"), p.image("python-web")
		p.build(image, app.source, app.env(p.parts), p.onScratch)
		p.golden("python-web")

		Expect(p.page(image, rig.ContainerOptions{})).To(ContainSubstring("<h1>Notes</h1>"))
		Expect(p.says(image, "list")).To(ContainSubstring("hydra - "))
		files, err := p.parts.rig.ImageFiles(t.Context(), image)
		must(err)
		Expect(files).NotTo(HaveKey("nix"))
		Expect(files).NotTo(HaveKey("workspace/app.py"))
		Expect(files).To(HaveKey("workspace/Procfile"))
	})
}

func (p *platform) testProcesses(outer *testing.T) func(*testing.T, spec.G, spec.S) {
	app, image := source(outer, probe()), p.image("probe")
	env := app.env(p.parts, "NIX_ATTRIBUTES", "app other", "BP_INCLUDE_FILES", "public/**",
		"BP_EXCLUDE_FILES", "**/*.map:public/drafts")
	log := p.build(image, app.source, env)

	return func(t *testing.T, _ spec.G, it spec.S) {
		it.Before(func() { RegisterTestingT(t) })

		it("takes process types from the Procfile, with quoting and variables as in a shell", func() {
			Expect(p.says(image, "show")).To(Equal("[two words][single $PORT][5000][default]\n"))
			Expect(p.says(image, "several")).To(Equal("[a b][/]\n[second]\n"))
		})

		it("passes arguments of docker run on", func() {
			Expect(p.says(image, "show", "a", "b c", "$PORT")).To(Equal("[two words][single $PORT][5000][default][a][b c][$PORT]\n"))
		})

		it("runs a command without run_proot.sh whose program is in the closure", func() {
			Expect(p.says(image, "plain")).To(Equal("[without][the][script]\n"))
		})

		it("runs anything of the closure through the CNB launcher and run_proot.sh, of every attribute", func() {
			Expect(p.says(image, "launcher", "run_proot.sh", "other-program")).To(Equal("another output\n"))
			Expect(p.says(image, "launcher", "other-program")).To(Equal("another output\n"))
		})

		it("runs as a stranger without capabilities and without new privileges", func() {
			said := p.says(image, "whoami")
			Expect(said).To(HavePrefix("1001\n1000\n"))
			Expect(said).To(ContainSubstring("NoNewPrivs:\t1"))
			Expect(said).To(ContainSubstring("CapEff:\t0000000000000000"))
		})

		it("runs heroku-compile-hook at build time, of which stays what it made, where BP_INCLUDE_FILES and BP_EXCLUDE_FILES say so", func() {
			Expect(log).To(ContainSubstring("Running heroku-compile-hook"))
			files, err := p.parts.rig.ImageFiles(t.Context(), image)
			must(err)
			var kept []string
			for name, header := range files {
				if strings.HasPrefix(name, "workspace/") && header.Typeflag == '0' {
					kept = append(kept, strings.TrimPrefix(name, "workspace/"))
				}
			}
			Expect(kept).To(ConsistOf("Procfile", "public/compiled.txt"))
			for name := range files {
				Expect(filepath.Base(name)).NotTo(Equal("secret-source.txt"))
				Expect(name).NotTo(MatchRegexp("/[0-9a-z]+-hook(/|$)"), "the hook's own store path")
			}
		})

		it("ends by SIGTERM within a second, with the app's exit code", func() {
			ctx := context.Background()
			var fastest time.Duration
			for range 3 { // the machine may be busy with other things
				c := p.start(image, rig.ContainerOptions{Env: map[string]string{"PORT": "5000"}})
				Eventually(func() (string, error) { return c.Logs(ctx) }, "20s").Should(ContainSubstring("serving on 5000"))
				code, took, err := c.Stop(ctx)
				must(err)
				logs, err := c.Logs(ctx)
				must(err)
				Expect(logs).To(ContainSubstring("the app was told to end"))
				Expect(code).To(Equal(7))
				if fastest == 0 || took < fastest {
					fastest = took
				}
				if fastest < time.Second {
					break
				}
			}
			t.Logf("docker stop took %v", fastest)
			Expect(fastest).To(BeNumerically("<", patience))
		})

		it("makes the output's only program the web process where there is no Procfile", func() {
			files := probe()
			delete(files, "Procfile")
			bareApp := source(t, files)
			second := p.image("single")
			log := p.build(second, bareApp.source, bareApp.env(p.parts, "BP_NIX_ATTRS", "single"), p.onScratch)
			Expect(log).To(ContainSubstring("only becomes web, as it is the only program"))
			Expect(p.says(second, "", "with", "arguments")).To(Equal("only with arguments\n"))
		})
	}
}
