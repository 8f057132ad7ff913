package integration_test

import (
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// TestPackOrder builds beside other buildpacks, in the orders that docs/composition.md has.
func TestPackOrder(t *testing.T) {
	p := realPlatform(t)
	spec.Run(t, "order", p.testOrder(t), spec.Report(report.Terminal{}))
}

func (p *platform) testOrder(outer *testing.T) func(*testing.T, spec.G, spec.S) {
	app, procfile := source(outer, shop("1.0")), filepath.Join(outer.TempDir(), "procfile")
	must(integration.WriteTree(procfile, procfileBuildpack))
	env := app.env(p.parts, "BP_NIX_ATTRS", "shop")
	order := func(buildpacks ...string) func(*rig.BuildOptions) {
		return func(o *rig.BuildOptions) {
			p.onScratch(o)
			o.Buildpack = buildpacks
		}
	}
	const warning = "Warning: heroku/procfile comes after this buildpack in the order"

	return func(t *testing.T, _ spec.G, it spec.S) {
		it.Before(func() { RegisterTestingT(t) })

		it("gives the process types where a procfile buildpack comes first", func() {
			image := p.image("order-first")
			log := p.build(image, app.source, env, order(procfile, p.buildpack))
			Expect(log).NotTo(ContainSubstring(warning))
			Expect(p.says(image, "")).To(Equal("shop 1.0\n"))
		})

		it("warns of a procfile buildpack that comes later, whose process types an empty run image cannot run", func() {
			image := p.image("order-last")
			log := p.build(image, app.source, env, order(p.buildpack, procfile))
			Expect(log).To(ContainSubstring(warning))
			out, errs, code, err := p.parts.rig.Output(t.Context(), image, rig.ContainerOptions{Entrypoint: "web"})
			must(err)
			Expect(code).NotTo(Equal(0))
			Expect(out + errs).To(ContainSubstring("failed to launch"))
		})
	}
}
