package nixproot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/buildpacks/libcnb/v2"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

func TestTheLauncherPointsToWhatTheClosureHas(t *testing.T) {
	RegisterTestingT(t)
	path := func(letter, name string) storepath.Path {
		return storepath.Path("/nix/store/" + letter + "0bgd045z0d4icpbc2yyz4gx48ak44la-" + name)
	}
	certs, oldZones, zones := path("1", "nss-cacert-3.98"), path("2", "tzdata-2023c"), path("3", "tzdata-2024a")
	shell, app, locales, terms := path("4", "bash-5.2p26"), path("5", "app"), path("6", "glibc-locales"), path("7", "ncurses-6.4")
	c := &contents{layersDir: t.TempDir(), Result: &closure.Result{Groups: []closure.Group{
		{Layer: "closure-00", Paths: []storepath.Path{certs, zones, oldZones, shell, locales, terms}},
		{Layer: "closure-app", Paths: []storepath.Path{app}},
	}}}
	c.Roots, c.Bins = roots.Result{Paths: []storepath.Path{app}}, []*bin{nil}
	config := func() launch.Config { return (&inputs{layers: libcnb.Layers{Path: c.layersDir}}).launchConfig(c) }
	write := func(layer string, p storepath.Path, file string) {
		name := filepath.Join(c.layersDir, layer, p.Base(), file)
		Expect(os.MkdirAll(filepath.Dir(name), 0o755)).To(Succeed())
		Expect(os.WriteFile(name, nil, 0o755)).To(Succeed())
	}
	variables := func() map[string]string {
		all := map[string]string{}
		for _, d := range config().Defaults {
			for _, name := range d.Variables {
				all[name] = d.Value
			}
		}
		return all
	}
	c.Resources = c.findResources(buildRecord{})
	Expect(config().Defaults).To(BeEmpty())
	Expect(config().Shell).To(BeEmpty())

	write("closure-00", certs, "etc/ssl/certs/ca-bundle.crt")
	write("closure-00", oldZones, "share/zoneinfo/UTC")
	write("closure-00", zones, "share/zoneinfo/UTC")
	write("closure-00", shell, "bin/sh")
	write("closure-00", shell, "bin/bash")
	write("closure-00", locales, "lib/locale/locale-archive")
	write("closure-00", terms, "share/terminfo/x/xterm")
	write("closure-app", app, "bin/sh")
	c.Resources = c.findResources(buildRecord{})
	ca, tz := certs.String()+"/etc/ssl/certs/ca-bundle.crt", zones.String()+"/share/zoneinfo"
	want := map[string]string{
		"SSL_CERT_FILE": ca, "NIX_SSL_CERT_FILE": ca, "SYSTEM_CERTIFICATE_PATH": ca, "TZDIR": tz, "ZONEINFO": tz, "PYTHONTZPATH": tz,
		"LOCALE_ARCHIVE": locales.String() + "/lib/locale/locale-archive", "SHELL": shell.String() + "/bin/bash",
		"TERMINFO_DIRS": "/etc/terminfo:/lib/terminfo:/usr/share/terminfo:" + terms.String() + "/share/terminfo",
	}
	Expect(variables()).To(Equal(want))
	Expect(config().Shell).To(Equal(shell.String() + "/bin/bash"))
	Expect(config().Validate()).To(Succeed())

	before := c.buildRecord // a layer that is not here is remembered, one that is here is looked into
	Expect(os.RemoveAll(filepath.Join(c.layersDir, "closure-00"))).To(Succeed())
	Expect(os.RemoveAll(filepath.Join(c.layersDir, "closure-app", app.Base(), "bin"))).To(Succeed())
	c.Resources = c.findResources(before)
	Expect(variables()).To(Equal(want))
	Expect(c.Resources).NotTo(HaveKey(app))
	c.Groups = c.Groups[1:]
	c.Resources = c.findResources(before)
	Expect(c.Resources).To(BeEmpty(), "what is no longer in the closure is not pointed to")

	c.Roots.Paths = append(c.Roots.Paths, shell) // as of the hook, which no bin directory is known of
	Expect(config().StorePaths).To(Equal([]string{app.String(), shell.String()}))
	Expect(config().Bin).To(BeEmpty())
}
