package nixinstall_test

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// TestListedCaches reads what a source lists for Nix wherever Nix itself would take it from.
func TestListedCaches(t *testing.T) {
	RegisterTestingT(t)
	const flake = "nixConfig of flake.nix"
	for _, c := range []struct {
		flake string
		files map[string]string
		want  nixinstall.ListedCaches // before the variable's
	}{
		{files: map[string]string{"flake.nix": `{ outputs = _: { }; }`}},
		{files: map[string]string{"flake.nix": `{ # nixConfig.substituters = "https://comment.example";
			nixConfig.extra-substituters = [ "https://a.example" "https://b.example" ];
			nixConfig.extra-trusted-public-keys = "a-1:x= b-1:y=";
			nixConfig.bash-prompt = "$ ";
			inputs.nixpkgs.url = "github:NixOS/nixpkgs"; outputs = throw "not looked at"; }`},
			want: nixinstall.ListedCaches{From: []string{flake}, Substituters: []string{"https://a.example", "https://b.example"},
				TrustedPublicKeys: []string{"a-1:x=", "b-1:y="}}},
		{flake: ".?dir=svc#app", files: map[string]string{"flake.nix": `{ nixConfig.substituters = "https://root.example"; }`,
			"svc/flake.nix": `{ nixConfig.substituters = "https://svc.example"; outputs = _: { }; }`},
			want: nixinstall.ListedCaches{From: []string{"nixConfig of svc/flake.nix"}, Substituters: []string{"https://svc.example"}}},
		{files: map[string]string{
			"nix.conf": "# substituters = https://comment.example\nextra-substituters = https://a.example https://b.example # both\n" +
				"substituters=https://not.example\ntrusted-public-keys = a-1:x=\n",
			".config/nix/nix.conf": "extra-trusted-public-keys = c-1:z= a-1:x=\r\n"},
			want: nixinstall.ListedCaches{From: []string{"nix.conf", ".config/nix/nix.conf"},
				Substituters: []string{"https://a.example", "https://b.example"}, TrustedPublicKeys: []string{"a-1:x=", "c-1:z="}}},
		{files: map[string]string{"flake.nix": `{ nixConfig = throw "x"; }`}},
		{files: map[string]string{"flake.nix": `{ outputs = _: { nix.settings.substituters = [ "https://module.example" ]; }; }`}},
		{files: map[string]string{"flake.nix": `{ description = "x"; # nixConfig.substituters = "https://comment.example";
			nixConfig = { extra-substituters = [ "https://a.example" # "https://no.example"
					"https://b.example" ]; bash-prompt = "{ nix }"; extra-trusted-public-keys = "a-1:x= b-1:y="; };
			outputs = _: { nix.settings.substituters = [ "https://module.example" ]; }; }`},
			want: nixinstall.ListedCaches{From: []string{flake}, Substituters: []string{"https://a.example", "https://b.example"},
				TrustedPublicKeys: []string{"a-1:x=", "b-1:y="}}},
		{files: map[string]string{"flake.nix": `{ nixConfig = import ./config.nix; outputs = { substituters = "https://no.example"; }; }`}},
		{files: map[string]string{"flake.nix": "{ nixConfig = {"}},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
		}
		Expect(nixinstall.ReadListedCaches(dir, c.flake, "")).To(Equal(c.want), "%v", c.files)
		c.want.From = append(c.want.From, "NIX_CONFIG")
		c.want.Substituters = append(c.want.Substituters, "https://env.example")
		Expect(nixinstall.ReadListedCaches(dir, c.flake, "extra-substituters = https://env.example\nmax-jobs = 4")).
			To(Equal(c.want), "%v", c.files)
	}
	Expect(nixinstall.ReadListedCaches(filepath.Join(t.TempDir(), "missing"), "", "")).To(BeZero())
}

// TestListedCachesOutside reads nothing that a link of the source leads to outside of it.
func TestListedCachesOutside(t *testing.T) {
	RegisterTestingT(t)
	outside, dir := t.TempDir(), t.TempDir()
	Expect(os.WriteFile(filepath.Join(outside, "nix.conf"), []byte("substituters = https://machine.example\n"), 0o644)).To(Succeed())
	Expect(os.Symlink(outside, filepath.Join(dir, "nix"))).To(Succeed())
	Expect(os.Symlink(filepath.Join(outside, "nix.conf"), filepath.Join(dir, "nix.conf"))).To(Succeed())
	Expect(nixinstall.ReadListedCaches(dir, "", "")).To(BeZero())
}
