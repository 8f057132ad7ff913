package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// TestPush pushes one app again and again with real pack, to a registry and to the Docker engine.
func TestPush(t *testing.T) {
	p := realPlatform(t)
	spec.Run(t, "registry", p.testRegistry, spec.Report(report.Terminal{}))
	spec.Run(t, "engine", p.testEngine, spec.Report(report.Terminal{}))
}

// changes are the layers of the closure, the view and the launcher that a build's log says were exported, and reused.
func changes(log string) (added, reused []string) {
	lines := regexp.MustCompile(`(Adding|Reusing) layer 'nixproot/nix-hydra:([^']*)'`)
	for _, match := range lines.FindAllStringSubmatch(log, -1) {
		if match[1] == "Adding" {
			added = append(added, match[2])
		} else {
			reused = append(reused, match[2])
		}
	}
	return added, reused
}

const (
	everythingFetched = `Store paths: none reused, [1-9]\d* paths`
	nothingFetched    = `Store paths: [1-9]\d* paths? \(.*\) reused, none fetched, none removed`
)

// site is the sample with another page.
func site(t *testing.T, page string) *deployable {
	t.Helper()
	dir, err := realParts(t).pkgs.Sample(t.Context(), "static-site", t.TempDir())
	must(err)
	must(os.WriteFile(filepath.Join(dir, "site/index.html"), []byte("<!DOCTYPE html><html>"+page+"</html>\n"), 0o644))
	return hydraBuilt(t, dir)
}

func (p *platform) testRegistry(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("moves what changed, and builds anew what the previous image cannot be trusted for", func() {
		registry := newRegistry(t)
		runImage := registry.push(t, p.pack.Images.Run, "run")
		image := registry.address + "/apps/" + p.image("site")
		publish := func(options *rig.BuildOptions) {
			options.RunImage, options.More = runImage, append(options.More, "--publish")
		}
		first, second := site(t, "one"), site(t, "two")
		registry.take()

		// The first push.
		log := p.build(image, first.source, first.env(p.parts), publish)
		Expect(log).To(MatchRegexp(everythingFetched))
		added, _ := changes(log)
		whole := registry.take()
		before := registry.layers(image)

		// Nothing has changed: no request to a cache, no layer.
		first.server.Reset()
		log = p.build(image, first.source, first.env(p.parts), publish)
		Expect(first.server.Requests()).To(BeEmpty())
		Expect(log).To(MatchRegexp(nothingFetched))
		Expect(log).To(MatchRegexp(`Closure layers: 0 of \d+ changed`))
		again, reused := changes(log)
		Expect(again).To(BeEmpty())
		Expect(reused).To(ConsistOf(added))
		Expect(registry.layers(image)).To(Equal(before))
		Expect(registry.take()).To(BeNumerically("<", 64<<10), "configuration and manifest")

		// A page has changed: one path is fetched, its layer, the view and the launcher's are pushed.
		log = p.build(image, second.source, second.env(p.parts), publish)
		nars, _ := second.server.Traffic(".nar.zst")
		Expect(nars).To(Equal(1))
		again, _ = changes(log)
		Expect(again).To(ConsistOf(HavePrefix("closure-"), Equal("view"), Equal("run")))
		app := again[slices.IndexFunc(again, func(layer string) bool { return strings.HasPrefix(layer, "closure-") })]
		moved := registry.take()
		Expect(moved).To(BeNumerically("<", whole/4))
		t.Logf("bytes that reached the registry: first push %d, one page changed %d", whole, moved)

		// Somebody else has written a layer, and all that the image says of itself: those bytes are not used.
		label := "io.buildpacks.lifecycle.metadata"
		registry.relabel(image, label, func(text string) string {
			return regexp.MustCompile(`"paths":\[[^]]*\]`).ReplaceAllString(text, `"paths":[]`)
		})
		log = p.build(image, second.source, second.env(p.parts), publish)
		Expect(log).To(MatchRegexp(nothingFetched))
		registry.relabel(image, label, func(text string) string {
			return regexp.MustCompile(`("`+app+`":\{"sha":"sha256:)....`).ReplaceAllString(text, "${1}0000")
		})
		log = p.build(image, second.source, second.env(p.parts), publish)
		Expect(strings.Count(log, "1 layer made anew, as the previous image does not have what the last build made of them: "+app)).To(Equal(1), log)
		Expect(log).To(MatchRegexp(`Closure layers: 1 of \d+ changed`))
		log = p.build(image, second.source, second.env(p.parts), publish)
		Expect(log).To(MatchRegexp(nothingFetched))

		// The image is gone.
		registry.remove(image)
		log = p.build(image, second.source, second.env(p.parts), publish)
		Expect(log).To(MatchRegexp(everythingFetched))
		registry.take()

		// The registry has lost a layer, which the lifecycle sees: it offers nothing to reuse, and the layer comes anew.
		registry.lose(registry.layers(image)[2])
		// (An image that the registry has had before is not sent again, whatever has become of its layers.)
		third := site(t, "three")
		log = p.build(image, third.source, third.env(p.parts), publish)
		Expect(log).To(ContainSubstring("because it was corrupt"))
		Expect(log).To(MatchRegexp(everythingFetched))
		Expect(registry.lost).To(BeEmpty())
	})
}

func (p *platform) testEngine(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("builds anew when image or caches are gone or were tampered with, and right each time", func() {
		image := p.image("kept")
		first, second, third := site(t, "one"), site(t, "two"), site(t, "three")
		answers := func(page string) {
			Expect(p.page(image, rig.ContainerOptions{})).To(ContainSubstring(page))
		}
		p.build(image, first.source, first.env(p.parts))
		answers("one")

		// The image is deleted: the build cache says what it was made of, and its layers are made anew.
		must(exec.Command("docker", "rmi", "--force", image).Run())
		log := p.build(image, first.source, first.env(p.parts))
		Expect(log).To(SatisfyAll(MatchRegexp(everythingFetched), ContainSubstring("store paths are taken again")))
		digest := p.identity(image)

		// The caches are deleted: the image is still there, and nothing but itself says what it is made of.
		for _, volume := range volumes(image) {
			must(exec.Command("docker", "volume", "rm", "--force", volume).Run())
		}
		log = p.build(image, first.source, first.env(p.parts))
		Expect(strings.Count(log, "There is a previous image, and the build cache has no record of it")).To(Equal(1), log)
		Expect(log).To(MatchRegexp(everythingFetched))
		_, reused := changes(log)
		Expect(reused).To(ContainElement(HavePrefix("closure-")), "the same bytes are the same layer")
		Expect(p.identity(image)).To(Equal(digest))

		// What the caches hold is altered or gone in part.
		for change, state := range map[string]string{
			`size=$(stat -c %s $f); printf damaged | dd of=$f bs=1 seek=$((size / 2)) conv=notrunc`: "unpacking",
			`rm $f`: "no such file",
		} {
			p.build(image, second.source, second.env(p.parts)) // which evaluates
			out, err := exec.Command("docker", "run", "--rm", "--user", "0", "--volume", buildCache(image)+":/v", "--entrypoint", "/bin/sh",
				p.pack.Images.Build, "-ec", "for f in $(find /v/committed -type f -size +20k); do echo $f; "+change+"; done").CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s", out)
			Expect(string(out)).To(ContainSubstring("/v/committed/sha256:"))
			log := p.build(image, third.source, third.env(p.parts))
			Expect(strings.Count(log, "The cached Nix cannot be used")).To(Equal(1), log)
			Expect(log).To(MatchRegexp("What was kept of earlier evaluations is not used: .*" + state))
			answers("three")
			log = p.build(image, first.source, first.env(p.parts))
			Expect(log).To(ContainSubstring("Reusing cached Nix"))
			answers("one")
		}
		Expect(p.identity(image)).To(Equal(digest))
	})
}

// buildCache is the volume with an image's cached layers.
func buildCache(image string) string {
	for _, volume := range volumes(image) {
		if strings.HasSuffix(volume, ".build") {
			return volume
		}
	}
	return ""
}

// identity is an image's digest, which its bytes and its configuration decide.
func (p *platform) identity(image string) string {
	p.t.Helper()
	out, err := exec.Command("docker", "image", "inspect", "--format", "{{.Id}}", image).Output()
	must(err)
	return strings.TrimSpace(string(out))
}
