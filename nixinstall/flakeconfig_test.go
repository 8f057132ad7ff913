package nixinstall_test

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func TestFlakeConfig(t *testing.T) {
	RegisterTestingT(t)
	toolchain := nix(t)
	for text, want := range map[string]nixinstall.FlakeConfig{
		`{ outputs = _: { }; }`: {Substituters: []string{}, TrustedPublicKeys: []string{}},
		`{ # nixConfig.substituters = "https://comment.example";
			nixConfig.extra-substituters = [ "https://a.example" "https://b.example" ];
			nixConfig.extra-trusted-public-keys = "a-1:x= b-1:y=";
			nixConfig.bash-prompt = "$ ";
			inputs.nixpkgs.url = "github:NixOS/nixpkgs"; outputs = throw "not looked at"; }`: {
			Substituters: []string{"https://a.example", "https://b.example"}, TrustedPublicKeys: []string{"a-1:x=", "b-1:y="}},
	} {
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o644)).To(Succeed())
		source, err := toolchain.AddSource(t.Context(), dir, nixinstall.SourceOptions{})
		Expect(err).NotTo(HaveOccurred())
		Expect(toolchain.FlakeConfig(t.Context(), source)).To(Equal(want))
	}
}
