package integration_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// procfileBuildpack does what heroku/procfile 4 does with a line: a process type that bash runs, web being the default
// (heroku/buildpacks-procfile: src/launch.rs). The real one is a Rust program that cannot be had as a module.
var procfileBuildpack = map[string]string{
	"buildpack.toml": `api = "0.10"
[buildpack]
id = "heroku/procfile"
version = "4.2.1"
[[targets]]
os = "linux"
`,
	"bin/detect*": `#!/usr/bin/env bash
[ -f Procfile ] || exit 100
`,
	"bin/build*": `#!/usr/bin/env bash
set -euo pipefail
while IFS= read -r line; do
    type=${line%%:*} command=${line#*:}
    printf '[[processes]]\ntype = "%s"\ncommand = ["bash", "-c", """%s"""]\n' "$type" "${command# }"
    if [ "$type" = web ]; then echo 'default = true'; fi
done <Procfile >"$CNB_LAYERS_DIR/launch.toml"
`,
}

// TestHeroku builds as Heroku's Fir does, as far as that can be had here: the user of its builder and lifecycles of the
// same series as it has and had, a source without .git, its settings in project.toml, config vars and PORT at run time only.
func TestHeroku(t *testing.T) {
	p := realPlatform(t)
	for _, lifecycle := range []string{rig.LifecycleVersion, rig.HerokuLifecycleVersion} {
		var err error
		p.pack, err = p.parts.rig.HerokuPack(t.Context(), lifecycle)
		must(err)
		spec.Run(t, "builder with "+lifecycle, func(t *testing.T, _ spec.G, it spec.S) {
			p.testHeroku(t, it, lifecycle == rig.LifecycleVersion)
		}, spec.Report(report.Terminal{}))
	}
}

// testHeroku is the main job, and all that there is where all is set.
func (p *platform) testHeroku(t *testing.T, it spec.S, all bool) {
	it.Before(func() { RegisterTestingT(t) })

	// An app whose settings are in project.toml.
	app := func(settings string) string {
		dir := t.TempDir()
		must(integration.WriteTree(dir, map[string]string{
			"Procfile":     "web: run_proot.sh serve-site $PORT\nrelease: run_proot.sh echo migrated $STAGE\nworker: run_proot.sh sleep 1000\n",
			"project.toml": "[_]\nschema-version = \"0.2\"\n" + settings,
		}))
		return dir
	}
	setting := func(name, value string) string {
		return fmt.Sprintf("[[io.buildpacks.build.env]]\nname = %q\nvalue = %q\n", name, value)
	}
	built := func() *deployable { return sample(t, "static-site") }
	uses := func(d *deployable) string {
		return setting("BP_NIX_SUBSTITUTERS", d.server.URL) + setting("BP_NIX_TRUSTED_PUBLIC_KEYS", p.parts.key.Public)
	}

	it("reads its settings from project.toml, takes the revision that SOURCE_VERSION says, and asks Hydra for it", func() {
		site := built()
		revision := hydratest.Revision("heroku")
		hydra := hydratest.New()
		defer hydra.Close()
		hydra.Project("shop").Jobset("main").Evaluate(hydratest.Evaluation{
			Inputs: map[string]hydratest.Input{"src": {URI: "https://git.example.org/shop.git", Revision: revision}},
			Jobs: []hydratest.Job{{Name: "site." + p.parts.rig.System(), NixName: "site",
				Outputs: map[string]string{"out": site.paths[0]}}},
		}).Succeed()
		source := app(uses(site) + setting("BP_NIX_HYDRA_URL", hydra.URL) + setting("BP_NIX_HYDRA_JOB", "shop/main/site"))
		image := p.image("heroku")
		log := p.build(image, source, map[string]string{"SOURCE_VERSION": revision})
		Expect(log).To(ContainSubstring("SOURCE_VERSION"))

		as := rig.ContainerOptions{Confinement: rig.Hostile, More: []string{"--user", "1000:1000"}}
		Expect(p.page(image, as)).To(ContainSubstring("<html"))
		out, errs, code, err := p.parts.rig.Output(context.Background(), image, rig.ContainerOptions{
			Entrypoint: "release", Env: map[string]string{"STAGE": "here"}, More: as.More,
		})
		must(err)
		Expect(code).To(BeZero(), errs)
		Expect(out).To(Equal("migrated here\n"))
		Expect(p.says(image, "launcher", "bash", "-c", "run_proot.sh echo one-off")).To(Equal("one-off\n"))
	})

	if !all {
		return
	}

	it("works before heroku/procfile too, whose process types take the place of its own, and says so", func() {
		work, err := workDir()
		must(err)
		dir := filepath.Join(work, "procfile") // pack takes commas, which a test's own directory has, for the end of a name
		must(integration.WriteTree(dir, procfileBuildpack))
		site := built()
		source := app(uses(site) + setting("BP_NIX_STORE_PATH", site.paths[0]))
		image := p.image("heroku-procfile")
		p.build(image, source, nil, func(options *rig.BuildOptions) {
			options.Buildpack = append(options.Buildpack, dir)
		})
		Expect(p.page(image, rig.ContainerOptions{Confinement: rig.Hostile})).To(ContainSubstring("<html"))
	})

	it("evaluates, fetches, relocates and exports in the memory of Heroku's smallest dyno, 512 MB, the first time and again", func() {
		const limit = "512m"
		java, cache, registry := sample(t, "java-web"), t.TempDir(), newRegistry(t)
		must(os.Chmod(cache, 0o777))
		run := registry.push(t, p.pack.Images.Run, "heroku/run")
		for _, said := range []string{"Adding layer 'nixproot/nix-hydra:closure", "Reusing layer 'nixproot/nix-hydra:closure"} {
			checkout := t.TempDir()
			must(os.CopyFS(checkout, os.DirFS(java.source)))
			must(filepath.WalkDir(checkout, func(name string, entry fs.DirEntry, err error) error {
				must(err)
				if !entry.IsDir() {
					return nil
				}
				return os.Chmod(name, 0o777)
			}))
			log, err := p.creates(t, registry.address+"/shop", run, checkout, java.env(p.parts, "BP_NIX_REMOVE_SOURCE", "true"),
				"--memory", limit, "--memory-swap", limit, "--volume", cache+":/cache")
			Expect(err).NotTo(HaveOccurred(), log)
			Expect(log).To(ContainSubstring(said))
			if strings.HasPrefix(said, "Adding") {
				Expect(log).To(And(ContainSubstring("Evaluated shell.nix"), ContainSubstring("Engine: relocate")))
			}
			lines := strings.Split(strings.TrimSpace(log), "\n")
			t.Logf("bytes of memory that it took: %s", lines[len(lines)-1])
		}
	})
}
