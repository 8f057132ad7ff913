package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// TestFleet pushes different apps, built by different people, to one registry.
func TestFleet(t *testing.T) {
	p := realPlatform(t)
	spec.Run(t, "fleet", p.testFleet, spec.Report(report.Terminal{}))
}

// fleetLibraries are more than an image has layers, so that the small ones share some.
const fleetLibraries = 160

// fleet makes a cache of libraries, and of apps that need all of them but one each, and a tool of their own.
func fleet(t *testing.T, apps ...string) (f *forge, roots map[string]storepath.Path) {
	f, roots = newForge(t, "hydra.example.org-1", "fleet"), map[string]storepath.Path{}
	var libraries []storepath.Path
	for i := range fleetLibraries {
		name := fmt.Sprintf("library%03d-1", i)
		refs := append([]storepath.Path{}, libraries[:min(1, len(libraries))]...)
		if i > 3 {
			refs = append(refs, libraries[i/3])
		}
		files := map[string]string{"bin/" + name: script(name), "refs": storePaths(refs...), "data": strings.Repeat(name, 100+i*i%997)}
		libraries = append(libraries, f.forged(name, files, refs...))
	}
	for i, app := range apps {
		tool := f.forged(app+"-tool-1", map[string]string{"bin/tool": script("tool of " + app)}, libraries[0])
		refs := append([]storepath.Path{tool}, libraries...)
		last := len(refs) - 1 - i
		refs = append(refs[:last:last], refs[last+1:]...)
		roots[app] = f.forged(app+"-1", map[string]string{"bin/" + app: script(app), "refs": storePaths(refs...)}, refs...)
	}
	return f, roots
}

// builder makes a builder of its own, as another person's machine has one.
func (p *platform) builder(name string) *rig.Pack {
	p.t.Helper()
	made := *p.pack
	made.Builder = p.image(name) // as any image it is removed in the end
	must(p.pack.BuilderWith(p.t.Context(), made.Builder))
	return &made
}

func (p *platform) testFleet(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("has two apps, built on two builders, share in one registry every layer of the same paths", func() {
		registry := newRegistry(t)
		runImage := registry.push(t, p.pack.Images.Run, "run")
		f, roots := fleet(t, "shop", "blog")
		builders := map[string]*rig.Pack{"ann": p.builder("ann"), "bob": p.builder("bob")}
		// Each person has a builder, a mirror of the cache, and images of their own.
		build := func(person, app string) (image, log string) {
			t.Helper()
			server, err := rig.Serve(f.dir, rig.ServeOptions{})
			must(err)
			defer server.Close()
			theirs := *p
			theirs.pack = builders[person]
			image = registry.address + "/" + person + "/" + p.image(app)
			log = theirs.build(image, sourceOf(t, map[string]string{"Procfile": "web: run_proot.sh " + app + "\n"}), map[string]string{
				"BP_NIX_STORE_PATH": roots[app].String(), "BP_NIX_SUBSTITUTERS": server.URL, "BP_NIX_TRUSTED_PUBLIC_KEYS": f.public(),
			}, func(options *rig.BuildOptions) {
				options.RunImage, options.More = runImage, append(options.More, "--publish")
			})
			return image, log
		}
		before := registry.blobs()
		registry.take()
		first, log := build("ann", "shop")
		Expect(log).To(MatchRegexp(everythingFetched))
		shop, sent, added := registry.built(first), registry.take(), registry.blobs()-before
		Expect(shop).To(HaveLen(100))
		Expect(added).To(Equal(missing(registry.layers(first), registry.layers(runImage))+1), "the configuration besides")

		second, log := build("bob", "blog")
		Expect(log).To(MatchRegexp(everythingFetched))
		blog, more := registry.built(second), registry.take()
		var same, several int
		for layer, digest := range blog {
			if shop[layer] != "" {
				Expect(digest).To(Equal(shop[layer]), layer)
				same++
			}
		}
		for _, paths := range registry.manifests(second) {
			several += min(1, len(paths)/2)
		}
		t.Logf("of the second app's %d layers of store paths, %d of several paths, the registry had %d; %d bytes came in for the "+
			"first app, %d for the second", len(blog), several, same, sent, more)
		Expect(same).To(BeNumerically(">=", 85))
		Expect(more).To(BeNumerically("<", sent/4))
		own := missing(registry.layers(second), registry.layers(first))
		Expect(registry.blobs() - before - added).To(Equal(own + 1))
		Expect(own).To(BeNumerically(">=", len(blog)-same))

		// The same app once more, by somebody else: the same layers, of which nothing is sent.
		all := registry.blobs()
		again, log := build("bob", "shop")
		Expect(log).To(MatchRegexp(everythingFetched))
		Expect(registry.built(again)).To(Equal(shop))
		Expect(registry.blobs()-all).To(BeNumerically("<=", 5), "what is no layer of store paths")
		Expect(registry.take()).To(BeNumerically("<", sent/4))
	})
}

// missing is how many of some digests are not among others.
func missing(digests, among []string) (n int) {
	for _, digest := range digests {
		if !slices.Contains(among, digest) {
			n++
		}
	}
	return n
}

// lifecycleMetadata is the label in which the lifecycle keeps what each layer is, as far as it is asked for here.
type lifecycleMetadata struct {
	Buildpacks []struct {
		Layers map[string]struct {
			SHA  string
			Data struct{ Paths []string }
		}
	}
}

func (r *imageRegistry) metadata(image string) (label lifecycleMetadata) {
	known, _ := r.manifest(image)
	var config struct {
		Config struct{ Labels map[string]string }
	}
	must(json.Unmarshal(r.call(http.MethodGet, image, "blobs/"+known.Config.Digest, "", nil), &config))
	must(json.Unmarshal([]byte(config.Config.Labels["io.buildpacks.lifecycle.metadata"]), &label))
	return label
}

// built are the digests of an image's layers of store paths, by name.
func (r *imageRegistry) built(image string) map[string]string {
	layers := map[string]string{}
	for _, buildpack := range r.metadata(image).Buildpacks {
		for name, layer := range buildpack.Layers {
			if strings.HasPrefix(name, closure.LayerPrefix) {
				Expect(layer.SHA).To(MatchRegexp(`^sha256:[0-9a-f]{64}$`), name)
				layers[name] = layer.SHA
			}
		}
	}
	return layers
}

// manifests are what an image says of each layer's paths.
func (r *imageRegistry) manifests(image string) (all [][]string) {
	for _, buildpack := range r.metadata(image).Buildpacks {
		for _, layer := range buildpack.Layers {
			all = append(all, layer.Data.Paths)
		}
	}
	return all
}
