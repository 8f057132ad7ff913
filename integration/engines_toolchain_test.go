package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// The expression imports one that a derivation made, copies its own directory, and nixpkgs comes from its pin.
const importing = `let
  pin = builtins.fromJSON (builtins.readFile ./nixpkgs.json);
  nixpkgs = builtins.fetchTarball {
    url = "https://github.com/${pin.owner}/${pin.repo}/archive/${pin.rev}.tar.gz";
    inherit (pin) sha256;
  };
  pkgs = import nixpkgs { };
  made = pkgs.writeText "made.nix" ''{ word }: "made by a derivation: ''${word}"'';
in
{
  inherit made;
  app = pkgs.writeShellScriptBin "app" ''
    echo "${import made { word = "so"; }}, from ${./.}"
  '';
  own = pkgs.runCommand "own" { src = ./.; } "mkdir -p $out/bin; cp $src/Procfile $out/bin/own; chmod +x $out/bin/own";
}
`

// TestEvaluationConfined evaluates in a build container where nothing is allowed: no root, no capability, no /nix,
// no ptrace, no namespace, no mount. An ordinary Nix, with /nix and builds, gives the paths to compare with.
func TestEvaluationConfined(t *testing.T) {
	w := newEngineParts(t)
	dir, err := workDir()
	Expect(err).NotTo(HaveOccurred())
	dir = filepath.Join(dir, "ec")
	source := filepath.Join(dir, "app")
	Expect(integration.WriteTree(source, map[string]string{
		"deploy.nix": importing, "Procfile": "web: run_proot.sh app\n", ".git/HEAD": "ref: refs/heads/main\n",
	})).To(Succeed())
	Expect(w.pkgs.WritePin(source)).To(Succeed())
	byNix, err := w.pkgs.AsHydra(w.ctx, source, "git-export", "deploy.nix", "-A", "app", "-A", "own", "-A", "made")
	Expect(err).NotTo(HaveOccurred())
	cache, err := w.rig.Cache(w.ctx, rig.CacheOptions{Key: w.key}, append(byNix.Paths, w.pkgs.Source)...)
	Expect(err).NotTo(HaveOccurred())
	served, err := rig.Serve(cache, rig.ServeOptions{})
	Expect(err).NotTo(HaveOccurred())
	defer served.Close()
	pack, err := bundled()
	Expect(err).NotTo(HaveOccurred())

	settings := map[string]string{
		"BP_NIX_SUBSTITUTERS": served.URL, "BP_NIX_TRUSTED_PUBLIC_KEYS": w.key.Public, "NIX_ATTRIBUTES": "app own",
		"BP_NIX_SOURCE_NAME": "git-export",
	}
	e, err := w.confined(dir, pack, settings)
	Expect(err).NotTo(HaveOccurred())
	Expect(e.code).To(Equal(0), e.stdout+e.stderr)
	for _, path := range byNix.Paths[:2] {
		Expect(e.stdout).To(ContainSubstring(path))
	}
	Expect(e.stdout).To(ContainSubstring("Engine: relocate"))
}

// confined calls bin/build as the lifecycle does, in a container where nothing is allowed.
func (w *engineWorld) confined(dir, pack string, settings map[string]string) (ended, error) {
	layers, platform := filepath.Join(dir, "l"), filepath.Join(dir, "platform")
	env := map[string]string{
		"CNB_BUILDPACK_DIR": pack, "CNB_PLATFORM_DIR": platform, "CNB_LAYERS_DIR": layers, "HOME": "/home/cnb",
		"CNB_BP_PLAN_PATH": filepath.Join(dir, "entries.toml"), "CNB_TARGET_OS": "linux",
		"CNB_TARGET_ARCH": runtime.GOARCH,
	}
	files := map[string]string{"entries.toml": "[[entries]]\nname = \"nix-hydra\"\n"}
	for name, value := range settings {
		files["platform/env/"+name] = value
		env[name] = value
	}
	if err := integration.WriteTree(dir, files); err != nil {
		return ended{}, err
	}
	if err := os.Mkdir(layers, 0o755); err != nil {
		return ended{}, err
	}
	if err := exported(dir); err != nil { // the user who builds owns it all
		return ended{}, err
	}
	more := []string{"--network", "host", "--workdir", filepath.Join(dir, "app"), "--volume", pack + ":" + pack + ":ro",
		"--volume", dir + ":" + dir}
	if os.Geteuid() != 0 { // nobody could give the directory to another user
		more = append(more, "--user", fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()))
	}
	var e ended
	var err error
	e.stdout, e.stderr, e.code, err = w.rig.Output(w.ctx, w.images.Build, rig.ContainerOptions{
		Confinement: rig.Hostile, Env: env, Entrypoint: filepath.Join(pack, "bin/build"),
		Args: []string{layers, platform, filepath.Join(dir, "entries.toml")},
		More: more,
	})
	return e, err
}
