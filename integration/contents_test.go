package integration_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration"
)

// TestContents builds outputs of several shapes, with and without a Procfile and a hook.
func TestContents(t *testing.T) {
	suite := spec.New("contents", spec.Report(report.Terminal{}), spec.Sequential())
	suite("Programs", testPrograms)
	suite("Hook", testHook)
	suite.Run(t)
}

// made is the head of an expression that makes outputs of scripts by name, with real Nix and without any package.
const made = `let
  # A name that ends in "-" is not executable.
  scripts = dir: files: "mkdir -p ${dir}/bin\n" + builtins.concatStringsSep "" (builtins.attrValues (builtins.mapAttrs
    (name: text: let file = builtins.replaceStrings [ "-" ] [ "" ] name; in ''
      cat >${dir}/bin/${if name == "heroku-compile-hook" then name else file} <<'END'
      #!/bin/sh
      ${text}
      END
      ${if file == name || name == "heroku-compile-hook" then "chmod +x ${dir}/bin/${name}" else ""}
    '') files));
  make = name: commands: more: derivation ({ inherit name; system = builtins.currentSystem; builder = "/bin/sh";
    PATH = "/usr/bin:/bin"; args = [ "-ec" commands ]; } // more);
  programs = name: files: make name (scripts "$out" files) { };
in
`

// pushes builds the source again and wants it to succeed.
func (w *world) pushes(env map[string]string) *integration.Outcome {
	w.t.Helper()
	o, err := w.bare.Build(w.ctx, w.source, env)
	must(err)
	Expect(o.Status).WithOffset(1).To(Equal(0), o.Log)
	return o
}

// intact has the buildpack's own verify command prove every path of the image, and that there is nothing else.
func (w *world) intact() {
	w.t.Helper()
	out, err := exec.Command(filepath.Join(w.bare.Buildpack.Dir, "bin/verify"), "--key", w.parts.key.Public,
		w.bare.Layers()).CombinedOutput()
	Expect(err).WithOffset(1).NotTo(HaveOccurred(), "%s", out)
}

// holds gives the names of the image's store paths.
func (w *world) holds() (names []string) {
	paths, err := filepath.Glob(filepath.Join(w.bare.Layers(), "*/*-*"))
	must(err)
	for _, path := range paths {
		if dir := filepath.Base(filepath.Dir(path)); strings.HasPrefix(dir, "closure-") {
			_, name, _ := strings.Cut(filepath.Base(path), "-")
			names = append(names, name)
		}
	}
	return names
}

// web is the command of the process type web.
func (w *world) web() string {
	processes, err := w.bare.Processes()
	must(err)
	return strings.Join(processes["web"], " ")
}

func testPrograms(t *testing.T, _ spec.G, it spec.S) {
	it("makes the only program of several outputs web, whoever built the image and whoever runs it, and again on reuse", func() {
		w := newWorld(t).write(map[string]string{"default.nix": made + `
make "app" (scripts "$out" {
  app = "echo the app"; ".app-wrapped" = "echo wrapped"; "README-" = "no program"; helper- = "echo helper";
  heroku-compile-hook = "echo the hook runs for $(app)";
} + "mkdir -p $man/share/man $tools/bin; echo text > $tools/bin/notes") {
  outputs = [ "out" "man" "tools" ];
}`})
		outputs := map[string]string{"BP_NIX_STORE_PATH": strings.Join(w.hydraBuilds("source", "default.nix"), " ")}
		const says = "No Procfile: app becomes web, as it is the only program"
		old := syscall.Umask(0o077) // which the build inherits
		o := w.pushes(outputs)
		syscall.Umask(old)
		Expect(o.Log).To(ContainSubstring("Gathering the closure of 3 store paths"))
		Expect(o.Log).To(ContainSubstring(says))
		Expect(o.Log).To(ContainSubstring("the hook runs for the app"))
		Expect(o.Log).NotTo(ContainSubstring("Fetched for the hook alone"))
		Expect(w.web()).To(HaveSuffix("run_proot.sh app"))
		Expect(w.bare.Start(w.ctx, "app")).To(Equal("the app\n"))
		for _, layer := range []string{"closure-*", "view", "run", "launcher"} {
			w.readable(layer)
		}

		o = w.pushes(outputs)
		Expect(o.Log).To(MatchRegexp(`Closure layers: 0 of \d+ changed`))
		Expect(o.Log).To(ContainSubstring(says))
		Expect(o.Log).To(ContainSubstring("the hook runs for the app"))
		Expect(w.web()).To(HaveSuffix("run_proot.sh app"))
		Expect(w.bare.Start(w.ctx, "app")).To(Equal("the app\n"))
		w.intact()
	})

	it("makes meta.mainProgram web among several programs, and says that there are several where nobody names one", func() {
		w := newWorld(t).write(map[string]string{"default.nix": made + `{
  named = programs "named" { one = "echo one"; two = "echo two"; } // { meta.mainProgram = "two"; };
  unnamed = programs "unnamed" { one = "echo one"; two = "echo two"; };
}`})
		w.hydraBuilds("source", "default.nix")
		o := w.pushes(map[string]string{"BP_NIX_ATTRS": "named"})
		Expect(o.Log).To(ContainSubstring("No Procfile: two becomes web, as meta.mainProgram says"))
		Expect(w.web()).To(HaveSuffix("run_proot.sh two"))
		w.write(map[string]string{"Procfile": "# later\n"})
		o = w.pushes(map[string]string{"BP_NIX_ATTRS": "unnamed"})
		Expect(o.Log).To(ContainSubstring("The Procfile names no process type, and the outputs"))
		Expect(o.Log).To(ContainSubstring("the outputs have several programs or none"))
		processes, err := w.bare.Processes()
		must(err)
		Expect(processes).To(BeEmpty())
	})

	it("finds the programs of an output that was a dependency in the previous image, or that only links to one", func() {
		w := newWorld(t).write(map[string]string{"default.nix": made + `rec {
  tool = programs "tool" { tool = "echo the tool"; };
  app = programs "app" { app = "${tool}/bin/tool"; };
  env = make "env" "mkdir $out; ln -s ${tool}/bin $out/bin" { };
}`})
		outs := w.hydraBuilds("source", "default.nix")
		roots := func(paths ...string) map[string]string {
			return map[string]string{"BP_NIX_STORE_PATH": strings.Join(paths, " ")}
		}
		app, env, tool := outs[0], outs[1], outs[2]
		w.pushes(roots(app))
		Expect(w.bare.Start(w.ctx, "app")).To(Equal("the tool\n"))
		w.pushes(roots(app, tool))
		Expect(w.bare.Start(w.ctx, "tool")).To(Equal("the tool\n"))
		must(w.bare.NewImage())
		w.pushes(roots(app))
		o := w.pushes(roots(env))
		Expect(o.Log).To(ContainSubstring("No Procfile: tool becomes web"))
		Expect(w.bare.Start(w.ctx, "tool")).To(Equal("the tool\n"))
		w.intact()
	})
}

// readable wants everybody to be able to read a layer.
func (w *world) readable(layer string) {
	w.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(w.bare.Layers(), layer))
	must(err)
	Expect(dirs).NotTo(BeEmpty(), layer)
	for _, dir := range dirs {
		must(filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Type()&fs.ModeSymlink != 0 {
				return err
			}
			info, err := entry.Info()
			must(err)
			want := fs.FileMode(0o444)
			if entry.IsDir() {
				want = 0o555
			}
			Expect(info.Mode().Perm()&want).To(Equal(want), name)
			return nil
		}))
	}
}

// compiling is an app on a part that stays, and a hook with a tool that only it needs.
func compiling(version, hook string) map[string]string {
	text := made + fmt.Sprintf(`rec {
  part = programs "part" { part = "echo the part"; };
  web = programs "web" { web = "${part}/bin/part; echo web %s"; };
  compiler = make "compiler" (scripts "$out" { compiler = "echo compiled"; } + '' %s '') { inherit part; };
`, version, "mkdir $out/lib; for i in 1 2 3 4 5 6 7 8 9; do echo $part $i; done | gzip -n > $out/lib/text.gz")
	if hook != "" {
		text += fmt.Sprintf("  heroku-compile-hook = programs \"hook\" { run = ''%s''; };\n", hook)
	}
	return map[string]string{"deploy.nix": text + "}", "Procfile": "web: run_proot.sh web\n"}
}

func testHook(t *testing.T, _ spec.G, it spec.S) {
	it("runs with the whole closure on every push, leaves nothing of itself in the image, and fails the build where it fails", func() {
		w := newWorld(t)
		pushes := func(version, hook string) *integration.Outcome {
			w.write(compiling(version, hook))
			w.hydraBuilds("source", "deploy.nix")
			return w.pushes(map[string]string{"BP_NIX_ATTRS": "web", "BP_INCLUDE_FILES": "made.txt:pids"})
		}
		const hook = `
      { compiler() { ${programs "tool" { tool = "echo compiled"; }}/bin/tool; }; compiler; web; command -v web; } > made.txt
      sleep 1000 & echo $! > pids
      setsid sleep 1000 > /dev/null 2>&1 & echo $! >> pids
      exit 0`
		made := func(version string) {
			text, err := os.ReadFile(filepath.Join(w.bare.App(), "made.txt"))
			must(err)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			Expect(lines[:3]).To(Equal([]string{"compiled", "the part", "web " + version}))
			Expect(lines[3]).To(BeARegularFile(), "what the hook made may name places in the image")
			pids, err := os.ReadFile(filepath.Join(w.bare.App(), "pids"))
			must(err)
			for pid := range strings.FieldsSeq(string(pids)) {
				Expect(filepath.Join("/proc", pid)).NotTo(BeADirectory())
			}
		}
		bare := func() {
			Expect(w.holds()).To(ConsistOf("part", "web"))
			left, err := filepath.Glob(filepath.Join(w.bare.Layers(), ".*"))
			must(err)
			Expect(left).To(BeEmpty())
			w.intact()
		}

		o := pushes("1", hook)
		Expect(o.Log).To(ContainSubstring("Fetched for the hook alone: 2 paths"))
		Expect(o.Log).To(MatchRegexp("left running, and this build ended: .*sleep, .*sleep"))
		made("1")
		bare()

		o = pushes("2", hook)
		Expect(o.Log).To(MatchRegexp(`Closure layers: 1 of \d+ changed`))
		Expect(o.Log).To(ContainSubstring("Fetched for the hook alone: 3 paths"))
		made("2")
		bare()

		w.write(compiling("3", "echo no good; exit 3"))
		w.hydraBuilds("source", "deploy.nix")
		w.fails(map[string]string{"BP_NIX_ATTRS": "web"}, "no good", "running heroku-compile-hook: exit status 3")
		w.fails(map[string]string{"BP_NIX_ATTRS": "heroku-compile-hook"}, "nothing to put into the image but heroku-compile-hook")
		Expect(w.bare.Start(w.ctx, "web")).To(Equal("the part\nweb 2\n"))

		o = pushes("3", "")
		Expect(o.Log).NotTo(ContainSubstring("heroku-compile-hook"))
		Expect(w.bare.Start(w.ctx, "web")).To(Equal("the part\nweb 3\n"))
		bare()
	})

	it("does not keep the app from being relocated where the hook cannot be", func() {
		w := newWorld(t).write(compiling("1", "${compiler}/bin/compiler; web"))
		w.hydraBuilds("source", "deploy.nix")
		o := w.pushes(map[string]string{"BP_NIX_ATTRS": "web"})
		Expect(o.Log).To(MatchRegexp(`(?s)Engine: relocate;.*Running heroku-compile-hook.*-compiler: .*compiled\s+the part\s+web 1`))
		Expect(w.holds()).To(ConsistOf("part", "web"))
		Expect(w.bare.Start(w.ctx, "web")).To(Equal("the part\nweb 1\n"))
		w.intact()
	})
}
