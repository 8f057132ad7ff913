package integration_test

import (
	"context"
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
		k         *keeper
		source    string
		lib, shop storepath.Path
	)
	it.Before(func() {
		RegisterTestingT(t)
		f = newForge(t, "cache-1", "secret")
		lib = f.forged("lib-1", map[string]string{"bin/lib": script("lib"), "a": strings.Repeat("lib", 1000)})
		shop = f.forged("shop-1", map[string]string{"bin/shop": script("shop"), "a": lib.String()}, lib)
		source = sourceOf(t, map[string]string{"Procfile": "web: run_proot.sh shop\n"})
		k = &keeper{t: t, bare: bare(t, "d")}
		k.bare.Env = f.env("BP_NIX_STORE_PATH", storePaths(shop))
	})
	// alter changes the metadata of a layer, in which quotes of a text inside a text are escaped.
	alter := func(layer, from, to string) {
		t.Helper()
		file := filepath.Join(k.bare.Layers(), layer+".toml")
		text, err := os.ReadFile(file)
		must(err)
		escaped := strings.NewReplacer(`"`, `\"`)
		altered := strings.NewReplacer(from, to, escaped.Replace(from), escaped.Replace(to)).Replace(string(text))
		Expect(altered).NotTo(Equal(string(text)), "%s: %s", layer, text)
		must(os.WriteFile(file, []byte(altered), 0o644))
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

	it("builds rightly whatever was altered in an image's metadata, and says in one line what cannot be", func() {
		other := f.forged("other-1", map[string]string{"bin/other": script("other")})
		for _, change := range []struct{ layer, from, to, says string }{
			{"run", `"paths":["` + shop.String() + `"]`, `"paths":[]`, "it names no store paths"},
			{"run", `"paths":["` + shop.String() + `"]`, `"paths":["x"]`, "parsing store path"},
			{"run", `"paths":["` + shop.String() + `"]`, `"paths":["` + other.String() + `"]`, "other-1 is in no layer"},
			{"run", `"paths":["` + shop.String() + `"]`, `"paths":["` + lib.String() + `"]`, "nothing needs " + shop.String()},
			{"run", `"paths":["` + shop.String(), `"mainProgram":"a b","paths":["` + shop.String(), `"a b" is no name of a program`},
			{"run", `"system":"`, `"system":"not`, "The previous image is for not"},
			{"closure-app", " " + lib.HashPart()[:10], "", "does not fit the key of that name and what the image says"},
			{"closure-app", lib.HashPart()[:10], strings.Repeat("0", 10), "something that they need is in no layer"},
			{"closure-app", "0:", "1:", "there is no key 1"},
			{"closure-app", shop.HashPart(), strings.Repeat("0", 32), "shop-1 is looked up again"},
		} {
			must(k.bare.NewImage())
			k.builds(source, nil)
			alter(change.layer, change.from, change.to)
			o := k.builds(source, nil)
			Expect(strings.Count(o.Log, change.says)).To(Equal(1), "%s: %s", change.says, o.Log)
			Expect(strings.Count(o.Log, "previous image")+strings.Count(o.Log, "looked up again")).To(Equal(1), o.Log)
			stands()
		}
	})

	it("says in one line that an image does not say what it was made from, and builds it whole", func() {
		k.builds(source, nil)
		must(os.Remove(filepath.Join(k.bare.Layers(), "run.toml")))
		o := k.builds(source, nil)
		Expect(o.Log).To(MatchRegexp(everythingFetched))
		Expect(strings.Count(o.Log, "The previous image does not say what it was made from: a full build")).To(Equal(1))
		stands()
		Expect(k.builds(source, nil).Log).NotTo(ContainSubstring("previous image"))
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
				"table": utf16(p), "pad": strings.Repeat("y", 700_000*(10-int(p.HashPart()[0]%8))),
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
func (k *keeper) told() string {
	k.t.Helper()
	config, err := os.ReadFile(filepath.Join(k.bare.Layers(), "run/nix-hydra.json"))
	must(err)
	metadata, err := os.ReadFile(filepath.Join(k.bare.Layers(), "run.toml"))
	must(err)
	return string(config) + string(metadata)
}

// utf16 is a text that relocation can see but not rewrite.
func utf16(p storepath.Path) string {
	var wide strings.Builder
	for _, b := range []byte(p) {
		wide.Write([]byte{b, 0})
	}
	return wide.String()
}
