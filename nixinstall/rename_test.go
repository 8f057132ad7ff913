package nixinstall_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testRenameSource(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	const every = `
let
  mk = name: extra: derivation ({
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; outputs = [ "out" "dev" ];
  } // extra);
  fixed = derivation {
    name = "fixed"; system = builtins.currentSystem; builder = "/bin/sh"; where = "${./.}";
    outputHash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="; outputHashMode = "flat";
  };
  lib = mk "lib" { src = ./.; inherit fixed; text = "a \"quoted\" \n $x \\ \t"; };
  other = mk "other" { file = ./default.nix; text = builtins.toFile "text" "hello"; };
in
{
  app = mk "app" {
    inherit lib other; dev = lib.dev; place = toString ./.;
    filtered = builtins.filterSource (path: type: baseNameOf path != "x") ./.;
    named = builtins.path { path = ./.; name = "my-${baseNameOf ./.}"; };
    args = [ "-c" "${lib.dev}/x ${./.}/y" ];
    drv = lib.drvPath; __structuredAttrs = true;
  };
  named = mk (baseNameOf ./.) { inherit lib; };
  inherit other;
}`

	it("computes what evaluating under another name finds", func() {
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "default.nix"), []byte(every), 0o644)).To(Succeed())
		toolchain := nix(t)
		first, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{})
		Expect(err).NotTo(HaveOccurred())
		evaluated, err := toolchain.Evaluate(ctx, nixinstall.Request{Source: first})
		Expect(err).NotTo(HaveOccurred())
		Expect(evaluated.Derivations).To(HaveLen(3))
		for _, name := range []string{"git-export", "mine", "a-name-that-is-longer-than-any-other"} {
			second, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{Name: name})
			Expect(err).NotTo(HaveOccurred())
			want, err := toolchain.Evaluate(ctx, nixinstall.Request{Source: second})
			Expect(err).NotTo(HaveOccurred())
			got, err := toolchain.RenameSource(ctx, evaluated, first, second)
			Expect(err).NotTo(HaveOccurred())
			Expect(got.Derivations).To(Equal(want.Derivations), name)
			Expect(got.Outputs).To(Equal(want.Outputs), name)
		}
	})

	it("finds an ordinary Nix's paths of the seed's shell.nix under another name", func() {
		toolchain := nix(t, withNixpkgs(t))
		r, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		to, err := nixinstall.SourcePath(ctx, testdata(t, "app"), nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		got, err := toolchain.RenameSource(ctx, r, appSource, to)
		Expect(err).NotTo(HaveOccurred())
		Expect(got.Outputs[0].Path).To(BeEquivalentTo("/nix/store/82vhdap7d3k435iv2z7rdmanzyqkc3rs-app-1.0"))
		Expect(got.Outputs[0].Drv).To(BeEquivalentTo("/nix/store/ilif2aslpzzkn56vcw1x7k8zz3iyagys-app-1.0.drv"))
	})
}
