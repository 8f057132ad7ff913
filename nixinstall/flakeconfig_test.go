package nixinstall_test

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// TestListedCaches reads what a source lists for Nix wherever Nix itself would take it from, less what is asked already.
func TestListedCaches(t *testing.T) {
	RegisterTestingT(t)
	toolchain := nix(t, func(s *nixinstall.Settings) {
		s.Substituters, s.TrustedPublicKeys = []string{"https://known.example"}, []string{"known-1:x="}
		s.Environment = append(s.Environment, "NIX_CONFIG=extra-substituters = https://env.example\nmax-jobs = 4")
	})
	environment := nixinstall.ListedCaches{From: "NIX_CONFIG", Substituters: []string{"https://env.example"}}
	for _, c := range []struct {
		flake string
		files map[string]string
		want  []nixinstall.ListedCaches
	}{
		{files: map[string]string{"flake.nix": `{ outputs = _: { }; }`}},
		{files: map[string]string{"flake.nix": `{ # nixConfig.substituters = "https://comment.example";
			nixConfig.extra-substituters = [ "https://a.example" "https://known.example" "https://b.example" ];
			nixConfig.extra-trusted-public-keys = "a-1:x= known-1:x= b-1:y=";
			nixConfig.bash-prompt = "$ ";
			inputs.nixpkgs.url = "github:NixOS/nixpkgs"; outputs = throw "not looked at"; }`},
			want: []nixinstall.ListedCaches{{From: "nixConfig of flake.nix", Substituters: []string{"https://a.example", "https://b.example"},
				TrustedPublicKeys: []string{"a-1:x=", "b-1:y="}}}},
		{flake: ".?dir=svc#app", files: map[string]string{"flake.nix": `{ nixConfig.substituters = "https://root.example"; }`,
			"svc/flake.nix": `{ nixConfig.substituters = "https://svc.example"; outputs = _: { }; }`},
			want: []nixinstall.ListedCaches{{From: "nixConfig of svc/flake.nix", Substituters: []string{"https://svc.example"}}}},
		{files: map[string]string{
			"nix.conf": "# substituters = https://comment.example\nextra-substituters = https://a.example https://b.example # both\n" +
				"substituters=https://not.example\ntrusted-public-keys = known-1:x= a-1:x=\n",
			".config/nix/nix.conf": "extra-trusted-public-keys = c-1:z=\r\n"},
			want: []nixinstall.ListedCaches{
				{From: "nix.conf", Substituters: []string{"https://a.example", "https://b.example"}, TrustedPublicKeys: []string{"a-1:x="}},
				{From: ".config/nix/nix.conf", TrustedPublicKeys: []string{"c-1:z="}}}},
		{files: map[string]string{"flake.nix": `{ nixConfig = throw "x"; }`, "nix.conf": "substituters = https://known.example\n"}},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
		}
		source, err := toolchain.AddSource(t.Context(), dir, nixinstall.SourceOptions{})
		Expect(err).NotTo(HaveOccurred())
		listed, err := toolchain.ListedCaches(t.Context(), dir, source, c.flake)
		Expect(err).NotTo(HaveOccurred())
		for i, one := range listed {
			if len(one.TrustedPublicKeys) == 0 {
				listed[i].TrustedPublicKeys = nil
			}
		}
		Expect(listed).To(Equal(append(c.want, environment)), "%v", c.files)
	}
}

// TestListedCachesOutside reads nothing that a link of the source leads to outside of it.
func TestListedCachesOutside(t *testing.T) {
	RegisterTestingT(t)
	toolchain, outside, dir := nix(t), t.TempDir(), t.TempDir()
	Expect(os.WriteFile(filepath.Join(outside, "nix.conf"), []byte("substituters = https://machine.example\n"), 0o644)).To(Succeed())
	Expect(os.Symlink(outside, filepath.Join(dir, "nix"))).To(Succeed())
	Expect(os.Symlink(filepath.Join(outside, "nix.conf"), filepath.Join(dir, "nix.conf"))).To(Succeed())
	source, err := toolchain.AddSource(t.Context(), dir, nixinstall.SourceOptions{})
	Expect(err).NotTo(HaveOccurred())
	Expect(toolchain.ListedCaches(t.Context(), dir, source, "")).To(BeEmpty())
}

// TestWrittenCaches reads of a flake.nix what is written out, where there is no Nix to ask.
func TestWrittenCaches(t *testing.T) {
	RegisterTestingT(t)
	for text, want := range map[string][]nixinstall.ListedCaches{
		`{ outputs = _: { nix.settings.substituters = [ "https://module.example" ]; }; }`: nil,
		`{ description = "x"; # nixConfig.substituters = "https://comment.example";
			nixConfig = { extra-substituters = [ "https://a.example" # "https://no.example"
					"https://b.example" ]; bash-prompt = "{ nix }"; extra-trusted-public-keys = "a-1:x= b-1:y="; };
			outputs = _: { nix.settings.substituters = [ "https://module.example" ]; }; }`: {{From: "nixConfig of flake.nix",
			Substituters: []string{"https://a.example", "https://b.example"}, TrustedPublicKeys: []string{"a-1:x=", "b-1:y="}}},
		`{ nixConfig.substituters = [ "https://a.example" ]; nixConfig.trusted-public-keys = [ "a-1:x=" ];
			outputs = _: { substituters = "https://no.example"; }; }`: {{From: "nixConfig of flake.nix",
			Substituters: []string{"https://a.example"}, TrustedPublicKeys: []string{"a-1:x="}}},
		`{ nixConfig = import ./config.nix; outputs = { substituters = "https://no.example"; }; }`: nil,
		"{ nixConfig = {": nil,
	} {
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o644)).To(Succeed())
		Expect(nixinstall.WrittenCaches(dir, "")).To(Equal(want), text)
		Expect(os.WriteFile(filepath.Join(dir, "nix.conf"), []byte("substituters = https://conf.example\n"), 0o644)).To(Succeed())
		Expect(nixinstall.WrittenCaches(dir, "extra-substituters = https://env.example")).To(Equal(append(want,
			nixinstall.ListedCaches{From: "nix.conf", Substituters: []string{"https://conf.example"}},
			nixinstall.ListedCaches{From: "NIX_CONFIG", Substituters: []string{"https://env.example"}})), text)
	}
	Expect(nixinstall.WrittenCaches(filepath.Join(t.TempDir(), "missing"), "")).To(BeEmpty())
}
