package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// testDoubts is about a previous image that does not say the truth of itself, or says what is of no use any more.
func testDoubts(t *testing.T, _ spec.G, it spec.S) {
	var (
		f         *forge
		k         *deployment
		source    string
		lib, shop storepath.Path
	)
	it.Before(func() {
		RegisterTestingT(t)
		f = newForge(t, "cache-1", "secret")
		lib = f.forged("lib-1", map[string]string{"bin/lib": script("lib"), "a": strings.Repeat("lib", 1000)})
		shop = f.forged("shop-1", map[string]string{"bin/shop": script("shop"), "a": lib.String()}, lib)
		source = sourceOf(t, map[string]string{"Procfile": "web: run_proot.sh shop\n"})
		k = &deployment{t: t, bare: bare(t, "d")}
		k.bare.Env = f.env("BP_NIX_STORE_PATH", storePaths(shop))
	})
	// alter changes a file that the next build finds.
	alter := func(name, from, to string) {
		t.Helper()
		text, err := os.ReadFile(name)
		must(err)
		altered := strings.Replace(string(text), from, to, 1)
		Expect(altered).NotTo(Equal(string(text)), "%s: %s", name, text)
		must(os.WriteFile(name, []byte(altered), 0o644))
	}
	// stands expects an image that is right.
	stands := func() {
		t.Helper()
		Expect(k.bare.Start(context.Background(), "shop")).To(Equal("shop\n"))
		Expect(filepath.Join(k.bare.Layers(), "view")).To(BeADirectory())
		links, err := os.ReadDir(filepath.Join(k.bare.Layers(), "view"))
		must(err)
		Expect(links).To(HaveLen(2))
		k.provenBy(f.public())
	}

	it("takes nothing from the previous image's label but which layers there are: it may say what it wants", func() {
		other := f.forged("other-1", map[string]string{"bin/other": script("other")})
		must(os.Remove(filepath.Join(source, "Procfile")))
		k.builds(source, nil)
		processes, err := k.bare.Processes()
		must(err)
		for name, label := range map[string]string{
			"run": `[metadata]
image = '{"format":2,"system":"x86_64-linux","roots":{"paths":["` + other.String() + `"],"hook":"` + other.String() + `"},` +
				`"bins":[{"programs":["app; touch /x\u001b[2J"],"hook":true}]}'
`,
			"view":               "[metadata]\nx = " + `"\u001b]0;title\u0007"` + "\n",
			k.closureLayers()[0]: "[metadata]\nversion = 2\nformat = 2\nprefix = \"/nix/store\"\npaths = [\"\\u001b[2J\"]\n",
			"closure-\x1b[2J":    "[metadata]\nversion = 2\nformat = 2\nprefix = \"/nix/store\"\npaths = []\n",
			"closure-everything": "[metadata]\npaths = [" + strings.Repeat(`"`+strings.Repeat("x", 1000)+`", `, 10_000) + "]\n",
		} {
			must(os.WriteFile(filepath.Join(k.bare.Layers(), name+".toml"), []byte("[types]\nlaunch = true\n"+label), 0o644))
		}
		o := k.builds(source, nil)
		Expect(o.Log).To(MatchRegexp(nothingFetched))
		Expect(o.Log).NotTo(MatchRegexp("[\x00-\x08\x0e-\x1f]|touch|heroku-compile-hook|other-1"))
		Expect(k.bare.Processes()).To(Equal(processes))
		Expect(k.bare.HasLayer("closure-everything")).To(BeFalse())
		stands()
	})

	it("takes the store paths that the settings name, whatever was made before", func() {
		other := f.forged("other-1", map[string]string{"bin/other": script("other")})
		k.builds(source, map[string]string{"BP_NIX_STORE_PATH": other.String()})
		k.builds(source, nil)
		Expect(k.bare.Roots()).To(Equal([]string{shop.String()}))
		stands()
	})

	it("makes a layer anew whose bytes in the previous image are not those that the last build made", func() {
		k.builds(source, nil)
		layers := k.closureLayers()
		analyzed, err := os.ReadFile(filepath.Join(k.bare.Dir, "analyzed.toml"))
		must(err)
		must(os.WriteFile(filepath.Join(k.bare.Dir, "analyzed.toml"), bytes.ReplaceAll(analyzed, []byte("sha256:"), []byte("sha256:0")), 0o644))
		o := k.builds(source, nil)
		Expect(o.Log).To(MatchRegexp(everythingFetched))
		Expect(strings.Count(o.Log, fmt.Sprintf("%d layers made anew, as the previous image does not have", len(layers)))).To(Equal(1), o.Log)
		stands()
		Expect(k.builds(source, nil).Log).To(SatisfyAll(MatchRegexp(nothingFetched), Not(ContainSubstring("made anew"))))
	})

	it("makes the same layers, byte for byte, whatever the machine, its time and language, and in whatever order it is asked", func() {
		var libraries []storepath.Path
		for i := range 20 {
			name := fmt.Sprintf("library%02d-1", i)
			refs := libraries[:min(i, 1+i/3):min(i, 1+i/3)]
			libraries = append(libraries, f.forged(name, map[string]string{"bin/" + name: script(name), "refs": storePaths(refs...)}, refs...))
		}
		tool := f.forged("tool-1", map[string]string{"bin/tool": script("tool"), "refs": storePaths(libraries...)}, libraries...)
		shop = f.forged("shop-3", map[string]string{"bin/shop": script("shop"), "refs": storePaths(tool)}, tool)
		k.bare.Env = f.env("BP_NIX_STORE_PATH", storePaths(tool, shop), "BP_NIX_MAX_LAYERS", "8")
		digests := func() map[string]string {
			t.Helper()
			text, err := os.ReadFile(filepath.Join(k.bare.Layers(), "record/build.json"))
			must(err)
			var record struct {
				Layers map[string]struct{ DiffID string }
			}
			must(json.Unmarshal(text, &record))
			all := map[string]string{}
			for name, layer := range record.Layers {
				Expect(layer.DiffID).To(MatchRegexp("^sha256:[0-9a-f]{64}$"))
				all[name] = layer.DiffID
			}
			return all
		}
		k.builds(source, nil)
		first := digests()
		Expect(first).To(HaveLen(8))
		for what, other := range map[string]struct {
			before string
			env    map[string]string
		}{
			"permissions":       {"umask 077", nil},
			"time and language": {":", map[string]string{"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "SOURCE_DATE_EPOCH": "1"}},
			"processors":        {":", map[string]string{"GOMAXPROCS": "1", "GODEBUG": "cpu.all=off"}},
			"order":             {":", map[string]string{"BP_NIX_STORE_PATH": storePaths(shop, tool)}},
			"directory":         {"TMPDIR=$(mktemp -d) && export TMPDIR", nil},
			"engine":            {":", map[string]string{"BP_NIX_ENGINE": "relocate"}},
		} {
			must(k.bare.NewImage())
			k.bare.Before = other.before
			Expect(k.builds(source, other.env).Log).To(MatchRegexp(everythingFetched), what)
			Expect(digests()).To(Equal(first), what)
		}
	})

	it("makes everything anew, with one line, where the build cache is lost, is another's or is of no use", func() {
		record := filepath.Join(k.bare.Layers(), "record/build.json")
		for says, damage := range map[string]func(){
			"There is a previous image, and the build cache has no record of it (": func() { must(os.Remove(record)) },
			"in format 99":         func() { alter(record, `"format":4`, `"format":99`) },
			"unexpected end":       func() { must(os.Truncate(record, 100)) },
			"this build for":       func() { alter(record, `"system":"`, `"system":"not`) },
			"is in no layer":       func() { alter(record, `"paths":["`+shop.String(), `"paths":["`+lib.String()[:43]+`-x`) },
			"does not fit":         func() { alter(record, " "+lib.HashPart()[:10], "") },
			"there is no key 1":    func() { alter(record, " 0:", " 1:") },
			"described in version": func() { alter(record, `"version":`, `"version":9`) },
		} {
			must(k.bare.NewImage())
			k.builds(source, nil)
			damage()
			o := k.builds(source, nil)
			Expect(strings.Count(o.Log, says)).To(Equal(1), "%s: %s", says, o.Log)
			stands()
		}
	})

	it("makes an image of an older version anew once, with one line", func() {
		// What versions of 2026-11-22 and 2026-11-26 left of an image of these paths: layers by number, everything that the
		// next build was to know in the label, no record.
		const (
			libHash, shopHash = "17fv55s9jy02ls2zxagk5q8wvb4xx6f317kmmxwkcqr0gy7fbxjn", "1kpff2569cnryncpwgy9lzavxyxfpl5k8nhpplkbd5nqv3z44x87"
			launched          = "[types]\nlaunch = true\n[metadata]\n"
		)
		image := `image = '{"format":1,"system":"x86_64-linux","key":"3e8b71a1f639","roots":{"paths":["` + shop.String() +
			`"],"from":"BP_NIX_STORE_PATH"},"mainProgram":"shop","bins":[0]}'` + "\n"
		prefix := fmt.Sprintf("format = 1\nprefix = %q\n", filepath.Join(k.bare.Layers(), "view"))
		for _, older := range []map[string]string{
			{
				"closure-00":  prefix + fmt.Sprintf("paths = [%q]\n", lib.Base()+" "+libHash+" 3688 cache-1"),
				"closure-app": prefix + fmt.Sprintf("paths = [%q]\n", shop.Base()+" "+shopHash+" 744 cache-1 "+lib.HashPart()[:10]),
				"run":         image, "view": "",
			},
			{
				"closure-00":  prefix + fmt.Sprintf("version = 2\nkeys = [\"cache-1\"]\npaths = [%q]\n", lib.Base()+" "+libHash+" 3688 0:tdLt"),
				"closure-app": prefix + fmt.Sprintf("version = 2\nkeys = [\"cache-1\"]\npaths = [%q]\n", shop.Base()+" "+shopHash+" 744 0:Daca zfbccj0100"),
				"run":         image, "view": "", "launcher": "",
			},
		} {
			must(k.bare.NewImage())
			must(os.MkdirAll(k.bare.Layers(), 0o755))
			analyzed := "[metadata]\n[[metadata.buildpacks]]\nkey = \"nixproot/nix-hydra\"\n"
			for name, metadata := range older {
				must(os.WriteFile(filepath.Join(k.bare.Layers(), name+".toml"), []byte(launched+metadata), 0o644))
				analyzed += fmt.Sprintf("[metadata.buildpacks.layers.%s]\nsha = \"sha256:%064x\"\n", name, len(name))
			}
			must(os.WriteFile(filepath.Join(k.bare.Dir, "analyzed.toml"), []byte(analyzed), 0o644))
			o := k.builds(source, nil)
			Expect(strings.Count(o.Log, "a full build")).To(Equal(1), o.Log)
			Expect(o.Log).To(MatchRegexp("There is a previous image, and the build cache has no record of it .*an older version"))
			Expect(o.Log).To(MatchRegexp(everythingFetched))
			Expect(k.closureLayers()).To(HaveLen(2))
			Expect(k.closureLayers()).NotTo(ContainElement(MatchRegexp("closure-(00|app)$")))
			stands()
			Expect(k.builds(source, nil).Log).To(SatisfyAll(MatchRegexp(nothingFetched), Not(ContainSubstring("a full build"))))
		}
	})

	it("looks into a path that the previous image keeps and was no root of, and changes no layer for that", func() {
		k.builds(source, nil)
		o := k.builds(source, map[string]string{"BP_NIX_STORE_PATH": storePaths(shop, lib)})
		Expect(o.Log).To(SatisfyAll(MatchRegexp(`1 path \(.*\) fetched`), ContainSubstring("Closure layers: 0 of 2 changed")))
		Expect(k.bare.Start(context.Background(), "lib")).To(Equal("lib\n"))
		stands()
		o = k.builds(source, map[string]string{"BP_NIX_STORE_PATH": storePaths(shop, lib)})
		Expect(o.Log).To(MatchRegexp(nothingFetched))
		Expect(k.bare.Start(context.Background(), "lib")).To(Equal("lib\n"))
	})

	it("trusts keys, not their names", func() {
		k.builds(source, nil)
		stranger := newForge(t, "cache-1", "another secret")
		o, err := k.bare.Build(t.Context(), source, map[string]string{"BP_NIX_TRUSTED_PUBLIC_KEYS": stranger.public()})
		must(err)
		Expect(o.Status).NotTo(Equal(0), "nobody whom that key belongs to has signed anything: %s", o.Log)
		Expect(o.Log).To(ContainSubstring("the signature by cache-1 does not fit"))

		stranger.forged("lib-1", map[string]string{"bin/lib": script("lib"), "a": strings.Repeat("lib", 1000)})
		stranger.forged("shop-1", map[string]string{"bin/shop": script("shop"), "a": lib.String()}, lib)
		f = stranger
		k.bare.Env = f.env("BP_NIX_STORE_PATH", storePaths(shop))
		Expect(k.builds(source, nil).Log).To(MatchRegexp(everythingFetched))
		stands()
		Expect(k.builds(source, nil).Log).To(MatchRegexp(nothingFetched))
	})

	it("makes the same image of a closure that cannot be relocated, push after push and through another engine", func() {
		var deps []storepath.Path
		for _, name := range []string{"a", "b", "c", "d"} {
			p := f.forged("dep-"+name, nil)
			deps = append(deps, f.add(p, map[string]string{
				"table": bareHash(p), "pad": strings.Repeat("y", 700_000*(10-int(p.HashPart()[0]%8))),
			}, p))
		}
		shop = f.forged("shop-2", map[string]string{"bin/shop": script("shop"), "refs": storePaths(deps...)}, deps...)
		k.bare.Env["BP_NIX_STORE_PATH"] = storePaths(shop)
		o := k.builds(source, nil)
		Expect(o.Log).To(ContainSubstring("the closure cannot be relocated safely"))
		first := k.told()
		k.builds(source, nil)
		Expect(k.told()).To(Equal(first))
		k.builds(source, map[string]string{"BP_NIX_ENGINE": "proot"})
		o = k.builds(source, nil)
		Expect(o.Log).To(MatchRegexp(nothingFetched))
		Expect(k.told()).To(Equal(first))
	})
}

// told is what the image's launcher is told, and what the next build is.
func (k *deployment) told() string {
	k.t.Helper()
	config, err := os.ReadFile(filepath.Join(k.bare.Layers(), "run/nix-hydra.json"))
	must(err)
	metadata, err := os.ReadFile(filepath.Join(k.bare.Layers(), "record/build.json"))
	must(err)
	return string(config) + string(metadata)
}

// closureLayers are the names of the image's layers that hold store paths.
func (k *deployment) closureLayers() (names []string) {
	k.t.Helper()
	files, err := filepath.Glob(filepath.Join(k.bare.Layers(), "closure-*.toml"))
	must(err)
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".toml"))
	}
	return names
}

// bareHash is a text that relocation can see but not rewrite.
func bareHash(p storepath.Path) string { return "hash=" + p.HashPart() }
