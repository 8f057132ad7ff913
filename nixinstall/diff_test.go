package nixinstall_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testDiffDerivations(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	// app is made from lib, which is made from a compiler; a known content is fetched by a program.
	const expression = `
let
  mk = name: extra: derivation ({ inherit name; system = "x86_64-linux"; builder = "/bin/sh"; } // extra);
  fetched = mk "fetched" {
    outputHash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="; outputHashMode = "flat"; mirror = "MIRROR";
  };
  compiler = mk "compiler-VERSION" { };
  lib = mk "lib" { inherit compiler fetched; flags = "-O2 FLAGS"; };
in
mk "app" { inherit lib; path = "${lib}/bin:${compiler}/bin"; src = ./message.txt; EXTRA }
`
	compare := func(changes ...string) []string {
		t.Helper()
		toolchain := nix(t)
		evaluate := func(text, message string) storepath.Path {
			t.Helper()
			dir := filepath.Join(t.TempDir(), "app")
			Expect(os.Mkdir(dir, 0o755)).To(Succeed())
			text = strings.NewReplacer("MIRROR", "", "VERSION", "1", "FLAGS", "", "EXTRA", "").Replace(text)
			Expect(os.WriteFile(filepath.Join(dir, "default.nix"), []byte(text), 0o644)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, "message.txt"), []byte(message), 0o644)).To(Succeed())
			source, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{})
			Expect(err).NotTo(HaveOccurred())
			r, err := toolchain.Evaluate(ctx, nixinstall.Request{Source: source})
			Expect(err).NotTo(HaveOccurred())
			return r.Derivations[0].Drv
		}
		message := "one"
		if len(changes) > 2 {
			message = changes[2]
		}
		ours, theirs := evaluate(expression, "one"), evaluate(strings.Replace(expression, changes[0], changes[1], 1), message)
		found, err := nixinstall.DiffDerivations(ours, theirs, toolchain.ReadDrv)
		Expect(err).NotTo(HaveOccurred())
		var lines []string
		for _, d := range found {
			lines = append(lines, d.String())
		}
		return lines
	}

	it("names the cause and not what follows from it", func() {
		Expect(compare("FLAGS", "-g")).To(Equal([]string{`app → lib: variable flags: "-O2 " here, "-O2 -g" there`}))
		Expect(compare("EXTRA", "debug = 1;")).To(Equal([]string{`app: only there: variable debug "1"`}))
		Expect(compare("x", "x", "two")).To(ConsistOf(MatchRegexp(
			`^app: source message.txt: /nix/store/\S+-message.txt here, /nix/store/\S+-message.txt there$`)))
	})

	it("says which input was exchanged for another", func() {
		Expect(compare("VERSION", "2")).To(ContainElements(
			MatchRegexp(`^app: only here: input compiler-1 /nix/store/\S+-compiler-1.drv$`),
			MatchRegexp(`^app: only there: input compiler-2 /nix/store/\S+-compiler-2.drv$`)))
	})

	it("finds nothing where only the way of fetching a known content differs", func() {
		Expect(compare("MIRROR", "https://mirror.example.org")).To(BeEmpty())
	})

	it("compares no further than what can be read", func() {
		unreadable := errors.New("not here")
		_, err := nixinstall.DiffDerivations(appDrv, appOut, func(storepath.Path) (*nixinstall.Drv, error) {
			return nil, unreadable
		})
		Expect(err).To(MatchError(unreadable))
	})
}
