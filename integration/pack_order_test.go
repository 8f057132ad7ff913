package integration_test

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// neighbours are buildpacks that stand beside this one in an order. Paketo's are no Go modules that could be had here, so these do
// what its own do, as far as others notice: see the sources that each names. heroku/procfile is that of heroku_test.go.
var neighbours = map[string]map[string]string{
	// paketo-buildpacks/ca-certificates, cacerts/detect.go, trusted_ca_certs.go and execd.go: certificates of bindings are trusted by the
	// buildpacks that come later, and by the app.
	"paketo-buildpacks/ca-certificates": {
		"bin/detect*": `#!/usr/bin/env bash
printf '[[provides]]\nname = "ca-certificates"\n' >"$CNB_BUILD_PLAN_PATH"
if grep -qx ca-certificates "$CNB_PLATFORM_DIR"/bindings/*/type 2>/dev/null; then
    printf '[[requires]]\nname = "ca-certificates"\n' >>"$CNB_BUILD_PLAN_PATH"
else
    printf '[[or]]\n' >>"$CNB_BUILD_PLAN_PATH"
fi
`,
		"bin/build*": `#!/usr/bin/env bash
set -euo pipefail
layer=$CNB_LAYERS_DIR/ca-certificates helper=$CNB_LAYERS_DIR/helper
mkdir -p "$layer/certs" "$layer/env.build" "$helper/exec.d"
for type in "$CNB_PLATFORM_DIR"/bindings/*/type; do
    if [ "$(cat "$type")" = ca-certificates ]; then cp "${type%/type}"/*.pem "$layer/certs"; fi
done
printf '%s' "$layer/certs" >"$layer/env.build/SSL_CERT_DIR.append"
printf ':' >"$layer/env.build/SSL_CERT_DIR.delim"
printf '%s' /etc/ssl/certs/ca-certificates.crt >"$layer/env.build/SSL_CERT_FILE.default"
printf '[types]\nbuild = true\n' >"$layer.toml"
printf '#!/bin/sh\necho SSL_CERT_DIR = \\"/certs\\" >&3\n' >"$helper/exec.d/ca-cert-helper"
chmod +x "$helper/exec.d/ca-cert-helper"
printf '[types]\nlaunch = true\n' >"$helper.toml"
`,
	},
	// paketo-buildpacks/environment-variables, env/detect.go and variables.go: it passes where there is a variable BPE_….
	"paketo-buildpacks/environment-variables": {
		"bin/detect*": `#!/usr/bin/env bash
ls "$CNB_PLATFORM_DIR"/env/BPE_* >/dev/null 2>&1 || exit 100
printf '[[provides]]\nname = "environment-variables"\n[[requires]]\nname = "environment-variables"\n' >"$CNB_BUILD_PLAN_PATH"
`,
		"bin/build*": `#!/usr/bin/env bash
set -euo pipefail
layer=$CNB_LAYERS_DIR/environment-variables
mkdir -p "$layer/env.launch"
for file in "$CNB_PLATFORM_DIR"/env/BPE_*; do
    name=${file##*/BPE_}
    cp "$file" "$layer/env.launch/$name.override"
done
printf '[types]\nlaunch = true\n' >"$layer.toml"
`,
	},
	// paketo-buildpacks/procfile, procfile/detect.go and build.go: process types that the run image's shell runs.
	"paketo-buildpacks/procfile": {
		"bin/detect*": `#!/usr/bin/env bash
[ -f Procfile ] || exit 100
printf '[[provides]]\nname = "procfile"\n[[requires]]\nname = "procfile"\n' >"$CNB_BUILD_PLAN_PATH"
`,
		"bin/build*": `#!/usr/bin/env bash
set -euo pipefail
while IFS= read -r line; do
    printf '[[processes]]\ntype = "%s"\ncommand = ["bash", "-c", """%s"""]\n' "${line%%:*}" "${line#*: }"
done <Procfile >"$CNB_LAYERS_DIR/launch.toml"
`,
	},
	// One that needs a program of the closure.
	"acme/needs-nix-hydra": {
		"bin/detect*": `#!/usr/bin/env bash
printf '[[requires]]\nname = "nix-hydra"\n' >"$CNB_BUILD_PLAN_PATH"
`,
		"bin/build*": "#!/usr/bin/env bash\n",
	},
}

// documentedOrders are the orders of docs/composition.md, by the buildpacks' IDs.
func documentedOrders() (orders [][]string) {
	page, err := os.ReadFile("../docs/composition.md")
	must(err)
	for _, block := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllSubmatch(page, -1) {
		var d descriptor
		_, err := toml.Decode(string(block[1]), &d)
		must(err)
		var order []string
		for _, buildpack := range d.IO.Buildpacks.Group {
			id := strings.TrimPrefix(buildpack.URI, "urn:cnb:registry:")
			if strings.Contains(id, "nix-hydra-buildpack:") {
				id = "nixproot/nix-hydra"
			}
			order = append(order, id)
		}
		orders = append(orders, order)
	}
	return orders
}

// TestPackOrder builds beside other buildpacks, in the orders that docs/composition.md has.
func TestPackOrder(t *testing.T) {
	p := realPlatform(t)
	spec.Run(t, "order", p.testOrder(t), spec.Report(report.Terminal{}))
}

func (p *platform) testOrder(outer *testing.T) func(*testing.T, spec.G, spec.S) {
	files := shop("1.0")
	files["shell.nix"] = strings.Replace(files["shell.nix"], "echo shop 1.0", "echo shop 1.0 $GREETING $SSL_CERT_DIR", 1)
	app := source(outer, files)
	env := app.env(p.parts, "BP_NIX_ATTRS", "shop")
	places := map[string]string{"nixproot/nix-hydra": p.buildpack, "heroku/procfile": filepath.Join(outer.TempDir(), "heroku")}
	must(integration.WriteTree(places["heroku/procfile"], procfileBuildpack))
	for id, files := range neighbours {
		dir := filepath.Join(outer.TempDir(), "buildpack")
		must(integration.WriteTree(dir, files))
		must(integration.WriteTree(dir, map[string]string{
			"buildpack.toml": "api = \"0.10\"\n[buildpack]\nid = \"" + id + "\"\nversion = \"1.0.0\"\n[[targets]]\nos = \"linux\"\n",
		}))
		places[id] = dir
	}
	order := func(ids ...string) func(*rig.BuildOptions) {
		return func(o *rig.BuildOptions) {
			o.Buildpack = nil
			for _, id := range ids {
				o.Buildpack = append(o.Buildpack, places[id])
			}
		}
	}
	const warning = "comes after this buildpack in the order"

	return func(t *testing.T, _ spec.G, it spec.S) {
		it.Before(func() { RegisterTestingT(t) })

		it("works in each order that the page has, with certificates and variables for the app", func() {
			orders := documentedOrders()
			Expect(orders).To(HaveLen(3))
			authority := httptest.NewTLSServer(nil)
			defer authority.Close()
			certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate().Raw})
			for _, ids := range orders {
				image, want := p.image("order"), "shop 1.0"
				given := map[string]string{"BPE_GREETING": "hello"}
				for name, value := range env {
					given[name] = value
				}
				log := p.build(image, app.source, given, order(ids...), func(o *rig.BuildOptions) {
					o.Bindings = map[string]map[string]string{"ca": {"type": "ca-certificates", "ca.pem": string(certificate)}}
				})
				Expect(log).NotTo(ContainSubstring(warning))
				if strings.Contains(strings.Join(ids, " "), "environment-variables") {
					want += " hello /certs"
				}
				Expect(p.says(image, "")).To(Equal(want+"\n"), "%v", ids)
			}
		})

		it("warns of a procfile buildpack that comes later, whose process types an empty run image cannot run", func() {
			for _, id := range []string{"heroku/procfile", "paketo-buildpacks/procfile"} {
				image := p.image("order-last")
				log := p.build(image, app.source, env, order("nixproot/nix-hydra", id), p.onScratch)
				Expect(log).To(ContainSubstring("Warning: " + id + " " + warning))
				out, errs, code, err := p.parts.rig.Output(t.Context(), image, rig.ContainerOptions{Entrypoint: "web"})
				must(err)
				Expect(code).NotTo(Equal(0))
				Expect(out + errs).To(ContainSubstring("failed to launch"))
			}
		})

		it("is required by a buildpack that comes later, and not by one that comes first", func() {
			p.build(p.image("required"), app.source, env, order("nixproot/nix-hydra", "acme/needs-nix-hydra"))
			log := p.fails(p.image("required-first"), app.source, env, order("acme/needs-nix-hydra", "nixproot/nix-hydra"))
			Expect(log).To(ContainSubstring("acme/needs-nix-hydra@1.0.0 requires nix-hydra"))
		})
	}
}
