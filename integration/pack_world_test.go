package integration_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// platform is real pack with a real builder, and the buildpack with its dependencies bundled, as builds in containers
// want it.
type platform struct {
	t         *testing.T
	parts     parts
	pack      *rig.Pack
	buildpack string
	said      string // by the last build, as it was
}

// bundled is the buildpack as an offline package.
var bundled = sync.OnceValues(func() (string, error) {
	dir, err := workDir()
	if err != nil {
		return "", err
	}
	p, err := sharedParts()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "bundled")
	return dir, p.rig.Buildpack(context.Background(), dir, rig.BuildpackOptions{})
})

// realPlatform needs a Docker engine; without one its test is left out, and says so.
func realPlatform(t *testing.T) *platform {
	t.Helper()
	RegisterTestingT(t)
	p := &platform{t: t, parts: realParts(t)}
	if err := p.parts.rig.Docker(t.Context()); err != nil {
		untested.Skip(t, "%s", err)
	}
	var err error
	p.pack, err = p.parts.rig.Pack(t.Context())
	must(err)
	p.buildpack, err = bundled()
	must(err)
	return p
}

// image is a name that no other test uses; the image and what pack kept of it are removed at the end.
func (p *platform) image(name string) string {
	name = fmt.Sprintf("nh-test-%d-%s", os.Getpid(), name)
	p.t.Cleanup(func() {
		_ = exec.Command("docker", "rmi", "--force", name).Run()
		for _, volume := range volumes(name) {
			_ = exec.Command("docker", "volume", "rm", "--force", volume).Run()
		}
	})
	return name
}

// volumes are the names of those that pack made for an image.
func volumes(image string) []string {
	out, err := exec.Command("docker", "volume", "ls", "--quiet", "--filter", "name="+image).Output()
	must(err)
	return strings.Fields(string(out))
}

// build has pack build, and expects it to succeed.
func (p *platform) build(image, source string, env map[string]string, change ...func(*rig.BuildOptions)) string {
	p.t.Helper()
	log, err := p.try(image, source, env, change...)
	Expect(err).WithOffset(1).NotTo(HaveOccurred(), log)
	return log
}

// fails has pack build, and expects it not to succeed.
func (p *platform) fails(image, source string, env map[string]string, change ...func(*rig.BuildOptions)) string {
	p.t.Helper()
	log, err := p.try(image, source, env, change...)
	Expect(err).WithOffset(1).To(HaveOccurred(), log)
	return log
}

func (p *platform) try(image, source string, env map[string]string, change ...func(*rig.BuildOptions)) (string, error) {
	options := rig.BuildOptions{App: source, Buildpack: []string{p.buildpack}, Image: image, Env: env}
	for _, c := range change {
		c(&options)
	}
	result, err := p.pack.Build(context.Background(), options)
	if result == nil {
		return "", err
	}
	p.said = result.Output
	return integration.Unfolded(result.Output), err
}

// onScratch is a change of build options: nothing but a user is below the image.
func (p *platform) onScratch(options *rig.BuildOptions) { options.RunImage = p.pack.Images.RunScratch }

// says runs a process type, or the default one, to its end and gives what it says.
func (p *platform) says(image, process string, args ...string) string {
	p.t.Helper()
	out, errs, code, err := p.parts.rig.Output(context.Background(), image, rig.ContainerOptions{
		Entrypoint: process, Args: args, Env: map[string]string{"PORT": "5000"},
	})
	must(err)
	Expect(code).To(Equal(0), errs)
	return out
}

// start starts the default process type.
func (p *platform) start(image string, options rig.ContainerOptions) *rig.Container {
	p.t.Helper()
	c, err := p.parts.rig.Start(context.Background(), image, options)
	must(err)
	p.t.Cleanup(func() { _ = c.Remove(context.Background()) })
	return c
}

// page starts the default process type with a port of its own, asks it for a page, stops it, and gives the page.
func (p *platform) page(image string, options rig.ContainerOptions) string {
	p.t.Helper()
	port, err := rig.FreePort()
	must(err)
	options.Env = map[string]string{"PORT": fmt.Sprint(port)}
	c := p.start(image, options)
	ctx := context.Background()
	body, err := rig.Await(ctx, fmt.Sprintf("http://127.0.0.1:%d/", port), time.Minute, func() bool { return c.Running(ctx) })
	logs, _ := c.Logs(ctx)
	Expect(err).NotTo(HaveOccurred(), logs)
	must(c.Remove(ctx))
	return body
}

// deployable is a source that somebody has built as Hydra does, and the signed cache of what it needs.
type deployable struct {
	source string
	paths  []string
	cache  string
	server *rig.Server
}

// env are the settings with which a build finds the cache and trusts it.
func (d *deployable) env(p parts, more ...string) map[string]string {
	env := map[string]string{"BP_NIX_SUBSTITUTERS": d.server.URL, "BP_NIX_TRUSTED_PUBLIC_KEYS": p.key.Public}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

// sample is one of samples/, built.
func sample(t *testing.T, name string) *deployable {
	t.Helper()
	p := realParts(t)
	source, err := p.pkgs.Sample(t.Context(), name, t.TempDir())
	must(err)
	return hydraBuilt(t, source)
}

// sampleFirst is samples/first, which has its pin of nixpkgs in the expression.
func sampleFirst(t *testing.T) *deployable {
	t.Helper()
	p := realParts(t)
	source, err := p.pkgs.Sample(t.Context(), "first", t.TempDir())
	must(err)
	must(os.Remove(filepath.Join(source, "nixpkgs.json")))
	pinFirst(source, p.pkgs)
	return builtFrom(t, p, source, "deploy.nix")
}

// pinFirst pins the rig's nixpkgs in a copy of samples/first.
func pinFirst(dir string, pkgs *rig.Nixpkgs) {
	file := filepath.Join(dir, "deploy.nix")
	text, err := os.ReadFile(file)
	must(err)
	pinned := pinOf.ReplaceAllString(string(text), fmt.Sprintf("sha256 = %q", pkgs.Pin.SHA256))
	Expect(pinned).NotTo(Equal(string(text)))
	must(os.WriteFile(file, []byte(pinned), 0o644))
}

// pinOf is where an expression pins nixpkgs by its contents.
var pinOf = regexp.MustCompile(`sha256 = "[^"]*"`)

// sampleFlake is one of samples/ that is a flake, of which the default package was built.
func sampleFlake(t *testing.T, name string) *deployable {
	t.Helper()
	p := realParts(t)
	source, err := p.pkgs.Sample(t.Context(), name, t.TempDir())
	must(err)
	return builtFrom(t, p, source, "flake.nix", "--arg", "self", "{ }", "-A", "outputs.packages."+p.rig.System()+".default")
}

// source is a source of these files, which may read its nixpkgs from nixpkgs.json, built with further arguments of
// nix-instantiate.
func source(t *testing.T, files map[string]string, args ...string) *deployable {
	t.Helper()
	dir := t.TempDir()
	must(integration.WriteTree(dir, files))
	must(realParts(t).pkgs.WritePin(dir))
	return hydraBuilt(t, dir, args...)
}

// hydraBuilt puts a source into the store, evaluates shell.nix from there, builds it, and serves it with the nixpkgs
// that evaluation reads.
func hydraBuilt(t *testing.T, dir string, args ...string) *deployable {
	t.Helper()
	return builtBy(t, realParts(t), dir, args...)
}

// builtBy is hydraBuilt with parts for another machine.
func builtBy(t *testing.T, p parts, dir string, args ...string) *deployable {
	t.Helper()
	return builtFrom(t, p, dir, "shell.nix", args...)
}

// builtFrom is builtBy for another file.
func builtFrom(t *testing.T, p parts, dir, file string, args ...string) *deployable {
	t.Helper()
	built, err := p.pkgs.AsHydra(t.Context(), dir, "source", file, args...)
	must(err)
	d := &deployable{source: dir, paths: built.Paths}
	d.cache, err = p.rig.Cache(t.Context(), rig.CacheOptions{Key: p.key}, append(built.Paths, p.pkgs.Source)...)
	must(err)
	d.server, err = rig.Serve(d.cache, rig.ServeOptions{})
	must(err)
	t.Cleanup(func() { _ = d.server.Close() })
	return d
}

// pinned is the head of an expression that reads its nixpkgs from nixpkgs.json, as the samples do.
const pinned = `let
  pin = builtins.fromJSON (builtins.readFile ./nixpkgs.json);
  nixpkgs = import (builtins.fetchTarball {
    url = "https://github.com/${pin.owner}/${pin.repo}/archive/${pin.rev}.tar.gz";
    inherit (pin) sha256;
  }) { };
  inherit (nixpkgs) stdenv bash coreutils;
  # Programs of bash, by name.
  programs = name: scripts: stdenv.mkDerivation {
    inherit name;
    dontUnpack = true;
    installPhase = "mkdir -p $out/bin\n" + builtins.concatStringsSep "" (builtins.attrValues (builtins.mapAttrs (n: text: ''
      cat >$out/bin/${n} <<'END_OF_PROGRAM'
      #!${bash}/bin/bash
      PATH=${coreutils}/bin
      ${text}
      END_OF_PROGRAM
      chmod +x $out/bin/${n}
    '') scripts));
  };
in
`

// probe is an app whose programs tell what they see.
func probe() map[string]string {
	return map[string]string{
		"shell.nix": pinned + `{
  app = programs "probe" {
    show = ''
      printf '[%s]' "$@"
      echo
    '';
    whoami = ''
      id -u; id -g
      while read -r line; do case $line in NoNewPrivs* | CapEff*) echo "$line" ;; esac; done </proc/self/status
    '';
    serve = ''
      echo "serving on $1 as process $$"
      trap 'echo "the app was told to end"; exit 7' TERM
      sleep 1000 &
      (trap "" TERM; sleep 1000) &
      while :; do wait $!; done
    '';
  };
  other = programs "other" { other-program = "echo another output"; };
  single = programs "single" { only = ''echo "only $*"''; };
  heroku-compile-hook = programs "hook" {
    compile = ''
      echo "compiled in $PWD" >public/compiled.txt
      echo "a map" >public/compiled.txt.map
      echo leftover >leftover.txt
    '';
  };
}
`,
		"Procfile": `# a comment
web: run_proot.sh serve "$PORT"

show: run_proot.sh show "two words" 'single $PORT' $PORT "${MISSING:-default}"
plain: show without the script
whoami: run_proot.sh whoami
several: cd / && FOO="a b"; run_proot.sh show "$FOO" "$PWD"; run_proot.sh show second
`,
		"secret-source.txt": "this is source, which no image has\n",
		"lib/code.py":       "this is source too\n",
		"public/drafts/a":   "this is not for the public\n",
	}
}
