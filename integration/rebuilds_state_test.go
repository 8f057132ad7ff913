package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// testState is about what evaluation keeps for the next push.
func testState(t *testing.T, _ spec.G, it spec.S) {
	const imports = `import ((derivation { name = "inner"; system = builtins.currentSystem; builder = "/bin/sh"; }) + "/d.nix")`
	var (
		f           *forge
		k           *deployment
		inner, shop storepath.Path
	)
	it.Before(func() {
		RegisterTestingT(t)
		f = newForge(t, "cache-1", "secret")
		outputs := outputsOf(t, "inner", "shop")
		inner, shop = outputs[0], f.add(outputs[1], map[string]string{"bin/shop": script("shop")})
		k = &deployment{t: t, bare: bare(t, "e")}
		k.bare.Env = f.env()
	})
	// pushed is a source that reads what its caches have built, with a file that differs from push to push.
	pushed := func(push string) string {
		return sourceOf(t, map[string]string{"shell.nix": imports, "push": push, "Procfile": "web: run_proot.sh shop\n"})
	}
	serveInner := func(by *forge) {
		by.add(inner, map[string]string{"d.nix": derivationOf("shop")})
	}

	it("starts warm: what was imported from derivations is not fetched again", func() {
		serveInner(f)
		Expect(k.builds(pushed("one"), nil).Log).To(ContainSubstring("Fetching inner from"))
		must(os.Remove(filepath.Join(f.dir, inner.HashPart()+".narinfo")))
		for _, push := range []string{"two", "three"} {
			o := k.builds(pushed(push), nil)
			Expect(o.Log).To(ContainSubstring("Evaluated shell.nix"))
			Expect(o.Log).NotTo(ContainSubstring("Fetching inner"))
			Expect(o.Log).NotTo(ContainSubstring("What was kept of earlier evaluations"))
		}
		must(k.bare.NewImage())
		o, err := k.bare.Build(t.Context(), pushed("four"), nil)
		must(err)
		Expect(o.Status).NotTo(Equal(0), "a cold start has nothing to import")
	})

	it("reads nothing that was imported without signatures, or by other keys, once these count", func() {
		unsigned := newForge(t, "stranger-1", "stranger")
		serveInner(unsigned)
		asked := map[string]string{"BP_NIX_SUBSTITUTERS": "file://" + f.dir + " file://" + unsigned.dir}
		loose := map[string]string{"BP_NIX_REQUIRE_SIGS": "false", "BP_NIX_SUBSTITUTERS": asked["BP_NIX_SUBSTITUTERS"]}
		trusting := f.env("BP_NIX_SUBSTITUTERS", asked["BP_NIX_SUBSTITUTERS"], "BP_NIX_TRUSTED_PUBLIC_KEYS",
			f.public()+" "+unsigned.public())
		for _, before := range []map[string]string{loose, trusting} {
			must(k.bare.NewImage())
			k.builds(pushed("one"), before)
			o, err := k.bare.Build(t.Context(), pushed("one"), asked)
			must(err)
			Expect(o.Status).NotTo(Equal(0), o.Log)
			Expect(o.Log).To(ContainSubstring("What was kept of earlier evaluations is not used: other keys were trusted"))
			Expect(o.Log).To(ContainSubstring("inner"))
		}
	})

	it("starts cold with one line where the state is damaged, cut short, of another version or gone", func() {
		serveInner(f)
		pack := filepath.Join(k.bare.Layers(), "eval/state.nar.zst")
		metadata := filepath.Join(k.bare.Layers(), "eval.toml")
		rewrite := func(file, from, to string) {
			text, err := os.ReadFile(file)
			must(err)
			altered := strings.Replace(string(text), from, to, 1)
			Expect(altered).NotTo(Equal(string(text)))
			must(os.WriteFile(file, []byte(altered), 0o644))
		}
		for says, damage := range map[string]func(){
			"unpacking":                 func() { alterByte(pack) },
			"unexpected EOF":            func() { must(os.Truncate(pack, 1000)) },
			"no such file":              func() { must(os.Remove(pack)) },
			"another version's of this": func() { rewrite(metadata, `format = "1"`, `format = "0"`) },
			"made by another Nix":       func() { rewrite(metadata, `toolchain = "sha256:`, `toolchain = "sha256:0`) },
			"have the sha256":           func() { rewrite(metadata, `sum = "`, `sum = "0`) },
		} {
			must(k.bare.NewImage())
			k.builds(pushed("one"), nil)
			damage()
			o := k.builds(pushed("two"), nil)
			Expect(o.Log).To(MatchRegexp("What was kept of earlier evaluations is not used: .*"+says), o.Log)
			Expect(o.Log).To(ContainSubstring("Fetching inner from"))
			o = k.builds(pushed("three"), nil)
			Expect(o.Log).NotTo(ContainSubstring("What was kept of earlier evaluations"))
		}
	})

	it("finishes a build whose state cannot be kept, and starts cold the next time", func() {
		serveInner(f)
		k.builds(pushed("one"), nil)
		must(os.Mkdir(filepath.Join(k.bare.Layers(), "eval/state.nar.zst.new"), 0o755)) // where it would be written
		o := k.builds(pushed("two"), nil)
		Expect(o.Log).To(ContainSubstring("What this evaluation left is not kept: "))
		Expect(k.bare.HasLayer("eval")).To(BeFalse())
		Expect(k.builds(pushed("three"), nil).Log).To(ContainSubstring("Fetching inner from"))
	})

	it("keeps neither Nix nor state once nothing is evaluated any more", func() {
		serveInner(f)
		k.builds(pushed("one"), nil)
		Expect(k.bare.HasLayer("nix")).To(BeTrue())
		Expect(k.bare.HasLayer("eval")).To(BeTrue())
		k.builds(pushed("one"), map[string]string{"BP_NIX_STORE_PATH": shop.String()})
		for _, layer := range []string{"nix", "eval"} {
			Expect(k.bare.HasLayer(layer)).To(BeFalse())
			Expect(filepath.Join(k.bare.Layers(), layer)).NotTo(BeADirectory())
		}
		must(k.bare.NewImage())
		Expect(k.builds(pushed("one"), nil).Log).To(ContainSubstring("Evaluated shell.nix"))
	})
}

// alterByte changes one byte in the middle of a file.
func alterByte(name string) {
	text, err := os.ReadFile(name)
	must(err)
	text[len(text)/2] ^= 1
	must(os.WriteFile(name, text, 0o644))
}
