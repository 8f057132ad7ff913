package launch_test

import (
	"bytes"
	"debug/elf"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

func TestProcess(t *testing.T) {
	spec.Run(t, "process", testProcess, spec.Report(report.Terminal{}))
}

func testProcess(t *testing.T, context spec.G, it spec.S) {
	var img *image
	it.Before(func() { RegisterTestingT(t); img = newImage(t, true) })

	context("a command", func() {
		it("takes the launcher's place with its arguments, directory and environment untouched", func() {
			cmd := img.command("app", "show", "-p", "80", "a b", "", "$PORT")
			img.env = nil
			s := show(cmd)
			Expect(s.Args).To(Equal([]string{"app", "show", "-p", "80", "a b", "", "$PORT"}))
			Expect(s.PID).To(Equal(cmd.Process.Pid), "exec, not a child")
			Expect(s.Dir).To(Equal(img.dir))
			Expect(s.Env).To(Equal(map[string]string{
				"PATH": img.config.Bin[0] + ":/usr/bin:/bin", "HOME": "/tmp", "PORT": "8080", "odd.name": "kept",
			}))
			Expect(s.Files).To(HaveLen(len(show(exec.Command(filepath.Join(built, "app"), "show")).Files)))
		})

		it("keeps inherited descriptors, as socket activation needs", func() {
			cmd := img.command("app", "show")
			extra, err := os.Open(os.DevNull)
			Expect(err).NotTo(HaveOccurred())
			cmd.ExtraFiles = []*os.File{extra}
			Expect(show(cmd).Files).To(ContainElement("3=/dev/null"))
		})

		it("may be a path", func() {
			Expect(os.WriteFile(filepath.Join(img.dir, "script"), []byte("#!/bin/sh\necho $0 $PWD\n"), 0o755)).To(Succeed())
			Expect(run(img.command("./script")).out).To(Equal("./script " + img.dir + "\n"))
			Expect(run(img.process("cd launch && ../script; ../script")).out).To(Equal(
				strings.Repeat("../script "+img.dir+"/launch\n", 2)))
			Expect(run(img.command(filepath.Join(img.config.Bin[0], "app"), "exit", "3")).code).To(Equal(3))
		})

		it("finds no program: 127, with what was searched and what there is", func() {
			r := run(img.command("ap", "x"))
			Expect(r.code).To(Equal(127))
			Expect(r.err).To(HavePrefix("run_proot.sh: ap: no such program: searched " + img.config.Bin[0] + ", /usr/bin"))
			Expect(r.err).To(ContainSubstring("the closure offers: app, badscript, notexec, other"))
			for _, name := range []string{"./nosuch", "./script/x", ""} {
				Expect(os.WriteFile(filepath.Join(img.dir, "script"), nil, 0o755)).To(Succeed())
				Expect(run(img.command(name)).code).To(Equal(127), name)
			}
			img.configure(func(c *launch.Config) { c.Bin = nil })
			cmd := img.command("app")
			cmd.Env = []string{}
			Expect(run(cmd).err).To(HavePrefix("run_proot.sh: app: no such program: PATH is empty\n"))
		})

		it("looks in the working directory where PATH has an empty entry", func() {
			Expect(os.WriteFile(filepath.Join(img.dir, "mine"), []byte("#!/bin/sh\necho here\n"), 0o755)).To(Succeed())
			Expect(run(img.command("mine")).code).To(Equal(127))
			img.env = []string{"PATH=/usr/bin:"}
			Expect(run(img.command("mine")).out).To(Equal("here\n"))
		})

		it("takes the first program on PATH that this user can run, else says why the first cannot be", func() {
			for name, mode := range map[string]os.FileMode{"one": 0o700, "two": 0o755} {
				Expect(os.Mkdir(filepath.Join(img.dir, name), 0o755)).To(Succeed())
				Expect(os.WriteFile(filepath.Join(img.dir, name, "mine"), []byte("#!/bin/sh\necho "+name+"\n"), mode)).To(Succeed())
			}
			img.attr = func(cmd *exec.Cmd) {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
			}
			img.env = []string{"PATH=" + img.dir + "/one:" + img.dir + "/two:/usr/bin"}
			Expect(run(img.command("mine")).out).To(Equal("two\n"))
			Expect(os.Chmod(filepath.Join(img.dir, "two", "mine"), 0o700)).To(Succeed())
			r := run(img.command("mine"))
			Expect(r.code).To(Equal(126))
			Expect(r.err).To(Equal("run_proot.sh: " + img.dir + "/one/mine: is not executable\n"))
		})

		it("cannot run it: 126, with the reason", func() {
			r := run(img.command("notexec"))
			Expect(r.code).To(Equal(126))
			Expect(r.err).To(ContainSubstring("notexec: is not executable"))
			r = run(img.command("badscript"))
			Expect(r.code).To(Equal(126))
			Expect(r.err).To(ContainSubstring("its interpreter /no/such/interpreter is not in the image"))
			Expect(run(img.command("/")).err).To(ContainSubstring("is a directory"))
			for name, want := range map[string]string{
				"text": "text: neither a program for this machine nor a script with a #! line", "elsewhere": "elsewhere: a program for EM_",
				"foreign": "foreign: its interpreter /no/ld.so is not in the image",
			} {
				r = run(img.command(filepath.Join(odd(img.dir), name)))
				Expect(r.code).To(Equal(126))
				Expect(r.err).To(ContainSubstring(want))
			}
			img.env = []string{"A=" + strings.Repeat("x", 100_000)}
			r = run(img.process(`/bin/sh $A$A`))
			Expect(r.code).To(Equal(126))
			Expect(r.err).To(Equal("nix-hydra-launch: starting /bin/sh: argument list too long\n"))
		})

		it("says how it is called where that is not right", func() {
			for _, args := range [][]string{
				{}, {"--process"}, {"app", "x"}, {"--nix-hydra-shim", "x"}, {"--nix-hydra-shim"}, {"--nix-hydra-shell"},
			} {
				r := run(img.start(launch.ProcessProgramName, args...))
				Expect(r.code).To(Equal(2), "%v", args)
				Expect(r.err).To(MatchRegexp(`^nix-hydra-launch: (usage: nix-hydra-launch --process LINE|--nix-hydra-shim: .*own)`))
			}
			r := run(img.command())
			Expect(r.code).To(Equal(2))
			Expect(r.err).To(HavePrefix("run_proot.sh: usage: run_proot.sh PROGRAM"))
		})

		it("is missing: usage", func() {
			Expect(run(img.command()).code).To(Equal(2))
			Expect(run(img.start(launch.ProcessProgramName)).err).To(ContainSubstring("--process LINE"))
		})

		it("ends as the app ends", func() {
			Expect(run(img.command("app", "exit", "42")).code).To(Equal(42))
			Expect(run(img.command("app", "die", "9")).signal).To(Equal("killed"))
		})
	})

	context("without /proc", func() {
		it("finds itself by the path that it was started by", func() {
			by := func(script string) result {
				cmd := img.command("unshare")
				cmd.Path = "/usr/bin/unshare"
				cmd.Args = []string{"unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs none /proc && " + script}
				return run(cmd)
			}
			named := img.command("app", "echo", "named")
			named.Args[0] = "/elsewhere/" + launch.ProgramName
			Expect(run(named).out).To(Equal("named\n"), "with it, by what the kernel says")
			Expect(by(`exec ` + img.bin(launch.ProgramName) + ` app echo a`).out).To(Equal("a\n"))
			Expect(by(`cd launch/bin && exec ./run_proot.sh app echo b`).out).To(Equal("b\n"))
			if arch := os.Getenv("NIX_HYDRA_ARCH"); arch != "" && arch != runtime.GOARCH {
				return // QEMU is started by its path
			}
			r := by(`PATH=launch/bin; exec run_proot.sh app echo c`)
			Expect(r.code).To(Equal(126))
			Expect(r.err).To(ContainSubstring("run_proot.sh: finding this program, which was not started by its path: "))
		})
	})

	context("without what the build wrote", func() {
		it("says so", func() {
			Expect(os.Remove(filepath.Join(img.dir, "launch", launch.ConfigName))).To(Succeed())
			r := run(img.command("app"))
			Expect(r.code).To(Equal(126))
			Expect(r.err).To(ContainSubstring("NIX_HYDRA_LAUNCH is not set: build the image again"))
			Expect(os.WriteFile(filepath.Join(img.dir, "launch", launch.ConfigName), []byte("{"), 0o644)).To(Succeed())
			r = run(img.command("app"))
			Expect(r.code).To(Equal(126))
			Expect(r.err).To(ContainSubstring("parsing launch configuration: "))
		})
	})

	context("a Procfile line", func() {
		lines := map[string]string{
			`run_proot.sh app echo -p $PORT`:                    "-p 8080\n",
			`app echo -p ${PORT:-1} ${NONE:-2} "$NONE" '$PORT'`: "-p 8080 2  $PORT\n",
			`A=1 B=$PORT run_proot.sh app echo "a  b"`:          "a  b\n",
			`app echo a && app echo b`:                          "a\nb\n",
			`false || app echo c`:                               "c\n",
			`app echo x | app upper`:                            "X\n",
			`cd / && exec app echo $PWD`:                        "/\n",
			`app echo "$(app echo inner | app upper)"`:          "INNER\n",
			`app err oops 2>&1 | app upper`:                     "OOPS\n",
			`f() { app echo "f $1"; }; f 1; f 2`:                "f 1\nf 2\n",
			`if [ -n "$PORT" ]; then app echo yes; fi`:          "yes\n",
			`for i in 1 2; do app echo $i; done`:                "1\n2\n",
			`trap 'app echo bye' EXIT; app echo hi`:             "hi\nbye\n",
			`app echo $((PORT+1)); (cd /; app echo sub)`:        "8081\nsub\n",
			`exec run_proot.sh app echo e`:                      "e\n",
			`eval "app echo ev"; app echo after`:                "ev\nafter\n",
			`sleep 0 && umask 077 && umask`:                     "0077\n",
			`ulimit -n 64; ulimit -n`:                           "64\n",
			`app upper < store/x`:                               "",
			`app echo launch/*`:                                 "launch/bin launch/nix-hydra.json\n",
			`exec -a name app echo named`:                       "named\n",
			`app echo one > $F; app upper < $F`:                 "ONE\n",
			`cat <<< here | app upper`:                          "HERE\n",
			`app echo a 3>/dev/null`:                            "a\n",
			`exec 2>&1; app err all; app err of it`:             "all\nof it\n",
			`exec 2>&1 </dev/null && app err a; app upper`:      "a\n",
			`exec > $F; app echo hid; exec 2>&1; app err too`:   "",
			`source /dev/stdin <<< 'x=1'; echo $x`:              "1\n",
			`{ echo a > /dev/stdout; } > $F; app upper < $F`:    "A\n",
			`x=$(echo y >> /dev/stdout); echo $x`:               "y\n",
			`{ echo e > /dev/stderr; } 2>&1 | app upper`:        "E\n",
			`set -- p q; app echo "$@"`:                         "p q\n",
		}
		for _, line := range slices.Sorted(maps.Keys(lines)) { // every spec of a run must come in the same order
			want := lines[line]
			it("runs "+line, func() {
				img.env = []string{"F=" + filepath.Join(img.dir, "file")}
				r := run(img.process(line))
				Expect(r.out).To(Equal(want), r.err)
			})
		}

		it("sees relocated files by their names below /nix/store too", func() {
			dir, err := os.MkdirTemp("", "v")
			Expect(err).NotTo(HaveOccurred())
			defer func() { _ = os.RemoveAll(dir) }()
			img.configure(func(c *launch.Config) { c.View = dir + "/store" })
			Expect(os.Mkdir(dir+"/store", 0o755)).To(Succeed())
			kept := len(appStore) - len(appBase) + 32 - len(dir+"/store/")
			Expect(os.Symlink(filepath.Join(img.dir, "closure-01", appBase), dir+"/store/"+appBase[:kept]+appBase[32:])).To(
				Succeed())
			for _, pair := range builtinsSeeTheStore {
				line, want := pair[0], pair[1]
				r := run(img.process(strings.ReplaceAll(line, "APP", appStore)))
				Expect(r.out).To(Equal(strings.ReplaceAll(want, "APP", filepath.Dir(img.config.Bin[0]))), "%s: %s", line, r.err)
			}
			Expect(run(img.process("app echo", appStore+"/bin")).out).To(Equal(img.config.Bin[0] + "\n"))
		})

		it("gets the user's arguments as if it ended in \"$@\"", func() {
			for line, want := range map[string]string{
				`run_proot.sh app echo -p $PORT`:         "-p 8080 a b  c\n",
				`app echo 1 && app echo 2`:               "1\n2 a b  c\n",
				`app echo 1 | app upper`:                 "1\n",
				`exec app echo x >&1`:                    "x a b  c\n",
				`exec 2>&1; app err e`:                   "e a b  c\n",
				`app echo "$2" first`:                    "c first\n",
				`app echo $PORT && app echo`:             "8080\na b  c\n",
				`app echo $2 $PORT`:                      "c 8080\n",
				`true && app echo $0`:                    "bash a b  c\n",
				`if true; then app echo "<$*>"; fi`:      "<a b  c>\n",
				`app echo "x" 3>/dev/null`:               "x a b  c\n",
				`bash -c 'echo "$0 $1"; exit 0' zero`:    "zero a b \n",
				`run_proot.sh bash -c 'echo "$@"' zero`:  "a b  c\n",
				`run_proot.sh bash -c 'exec app "$@"' _`: "",
			} {
				r := run(img.process(line, "a b ", "c"))
				Expect(r.out).To(Equal(want), "%s: %s", line, r.err)
			}
		})

		it("refuses arguments that have no place", func() {
			for _, line := range []string{`if true; then app echo; fi`, `true; A=1`, `true; app echo &`} {
				r := run(img.process(line, "a"))
				Expect(r.code).To(Equal(2))
				Expect(r.err).To(ContainSubstring(`say "$@" in the line where they belong`))
			}
		})

		it("means by a path that leads to run_proot.sh no second start, and by another file of that name itself", func() {
			img.env = []string{launch.DebugEnv + "=1"}
			r := run(img.process(img.bin(launch.ProgramName) + ` app echo a`))
			Expect(r.out).To(Equal("a\n"))
			Expect(strings.Count(r.err, "engine relocate")).To(Equal(1))
			own := filepath.Join(img.dir, launch.ProgramName)
			Expect(os.WriteFile(own, []byte("#!/bin/sh\necho own $1\n"), 0o755)).To(Succeed())
			Expect(run(img.process(own + ` app`)).out).To(Equal("own app\n"))
		})

		it("execs one command, and the shell of a line that needs one", func() {
			for _, line := range []string{
				`app show`, `exec app show`, `A=1 run_proot.sh app show "$A"`, `cd / && exec app show`, `true; exec run_proot.sh app show`,
			} {
				cmd := img.process(line)
				Expect(show(cmd).PID).To(Equal(cmd.Process.Pid), line)
			}
		})

		it("leaves the environment to the app as it was", func() {
			s := show(img.process(`NEW=1 PORT=9 app show`))
			Expect(s.Env).To(HaveKeyWithValue("odd.name", "kept"))
			Expect(s.Env).To(HaveKeyWithValue("NEW", "1"))
			Expect(s.Env).To(HaveKeyWithValue("PORT", "9"))
			Expect(s.Env).To(HaveKeyWithValue("HOME", "/tmp"))
			Expect(s.Env).To(HaveLen(5))
			s = show(img.process(`export NEW=1; PORT=9; unset HOME; local=2; app show`))
			Expect(s.Env).To(And(HaveKeyWithValue("NEW", "1"), HaveKeyWithValue("PORT", "9"), Not(HaveKey("HOME")), Not(HaveKey("local"))))
		})

		it("gives the app no descriptor but its own", func() {
			Expect(show(img.process(`true | true; app exit 0 > file; app show; true`)).Files).To(
				HaveLen(len(show(exec.Command(filepath.Join(built, "app"), "show")).Files)))
		})

		it("has true exit statuses", func() {
			for line, want := range map[string]int{
				`app exit 7`: 7, `app exit 7; true`: 0, `true && app exit 8`: 8, `app die 15; exit $?`: 143,
				`app exit 3 | app exit 4`: 4, `set -o pipefail; app exit 3 | app exit 0`: 3, `! app exit 5`: 0,
				`nosuch`: 127, `notexec`: 126, `app echo $(`: 2, ``: 2, `app exit 1 || exit 9`: 9, `exit 300`: 44,
				`if app exit 5; then true; fi`: 0, `while app exit 5; do true; done`: 0, `app exit 5; exit`: 5,
				`if app exit 5; then true; fi; exit`: 0, `set -e; app exit 6; app echo no`: 6, `app exit 5; true; exit`: 0,
				`f() { return 4; }; f`: 4, `(app exit 3)`: 3, `(exit 2) || app exit 1`: 1, `trap 'true' EXIT; app exit 5`: 5,
				`$NONE app exit 7`: 7, `$NONE`: 2, `"$NONE"`: 127, `app exit 7 &`: 0, `X=$(app exit 6)`: 6, `cd /nosuchfolder`: 1, `false; trap : ERR`: 0,
			} {
				Expect(run(img.process(line)).code).To(Equal(want), line)
			}
			Expect(run(img.process(`$NONE`)).err).To(HaveSuffix("no command\n"))
			Expect(run(img.process(`app die 15`)).signal).To(Equal("terminated"))
			Expect(run(img.process(`true; exec app die 15`)).signal).To(Equal("terminated"))
		})

		it("does not parse: says where", func() {
			r := run(img.process(`app echo "x`))
			Expect(r.code).To(Equal(2))
			Expect(r.err).To(ContainSubstring("column 10"))
		})

		it("gives shell syntax to the closure's shell as it is, else to the run image's, else interprets it", func() {
			fake := func(dir, name string) {
				dir = filepath.Join(img.dir, dir)
				Expect(os.MkdirAll(dir, 0o755)).To(Succeed())
				Expect(os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/bash\nprintf '%s|' "+filepath.Base(dir)+
					" \"$0\" \"$@\"\n"), 0o755)).To(Succeed())
			}
			const line = `app  echo 'x' 3>&1 >&3 | cat # all of it`
			by := func() string { return run(img.process(line)).out }
			img.env = []string{"PATH=" + img.dir + "/usr:" + img.dir + "/own"}
			Expect(by()).To(BeEmpty())
			Expect(run(img.process(`app echo x | app upper; app echo y`)).out).To(Equal("X\ny\n"))
			fake("usr", "sh")
			Expect(by()).To(Equal("usr|" + img.dir + "/usr/sh|-c|" + line + "|sh|"))
			fake("own", "bash")
			Expect(by()).To(HavePrefix("own|"))
			fake("closure", "sh")
			img.configure(func(c *launch.Config) { c.Shell = img.dir + "/closure/sh" })
			Expect(by()).To(HavePrefix("closure|"))
			Expect(run(img.process(`a | b`, "x y", "z")).out).To(HaveSuffix(`|-c|a | b "$@"|sh|x y|z|`))
			Expect(os.Remove(img.dir + "/closure/sh")).To(Succeed())
			Expect(by()).To(HavePrefix("own|"))
		})

		it("has run_proot.sh on PATH for a shell, and the closure's programs first", func() {
			Expect(run(img.process(`run_proot.sh app echo a && run_proot.sh app echo $PORT`)).out).To(Equal("a\n8080\n"))
			img.env = []string{"PATH=/nowhere"}
			Expect(run(img.process(`x=1; run_proot.sh app echo $x`)).out).To(Equal("1\n"))
			path := filepath.Dir(img.bin(launch.ProgramName)) + ":/usr/bin:/bin"
			img.env = []string{"PATH=" + path}
			Expect(run(img.process(`true; echo "$PATH"`)).out).To(Equal(img.config.Bin[0]+":"+path+"\n"), "it is not there twice")
		})

		it("is interpreted where the image has no shell, with what that cannot do said", func() {
			img.env = []string{"PATH=/nowhere"}
			for line, want := range map[string]string{
				`app echo a && app echo b`: "a\nb\n", `cd / && exec app echo $PWD`: "/\n", `app echo "$(app echo in)" | app upper`: "IN\n",
				`for i in 1 2; do app echo $i; done`: "1\n2\n", `f() { app echo "f $1"; }; f 1`: "f 1\n", `app echo $UID`: strconv.Itoa(os.Getuid()) + "\n",
				`app echo launch/*`: "launch/bin launch/nix-hydra.json\n", `app echo "$0 $#" && app echo`: "sh 0\n\n", `app err x 2>&1 | app upper`: "X\n",
			} {
				r := run(img.process(line))
				Expect(r.out).To(Equal(want), "%s: %s", line, r.err)
			}
			Expect(run(img.process(`app echo a && app echo b`, "c d", "e")).out).To(Equal("a\nb c d e\n"))
			for line, want := range map[string]int{
				`app exit 7; true`: 0, `true && app exit 8`: 8, `app exit 3 | app exit 4`: 4, `nosuch; exit $?`: 127,
				`if app exit 5; then true; fi`: 0, `set -e; app exit 6; app echo no`: 6, `app die 15; exit $?`: 143, `(exit 2) || app exit 1`: 1,
			} {
				Expect(run(img.process(line)).code).To(Equal(want), line)
			}
			Expect(run(img.process(`app echo a; sh -c 'app echo "$0 $1" && app exit 5' b c`)).out).To(Equal("a\nb c\n"))
			for _, line := range []string{`app echo a; sh`, `app echo a; sh -c`, `app echo a; sh -x 'exit 5' x`} {
				Expect(run(img.process(line)).code).To(Equal(127), line)
			}
			r := run(img.process(`app echo x 3>&1 >&3`))
			Expect(r.code).NotTo(Equal(0))
			Expect(r.err).To(ContainSubstring("redirect"))
			r = run(img.command("sh", "-c", "echo ${x@Z}"))
			Expect(r.code).To(Equal(2))
			Expect(r.err).To(ContainSubstring("the image has no shell, add bash to the closure"))
		})

		it("stands for a shell that the image does not have", func() {
			img.env = []string{"PATH=/nowhere"}
			Expect(run(img.command("bash", "-c", `app echo $0 "$@" && app echo b`, "zero", "1", "2")).out).To(Equal(
				"zero 1 2\nb\n"))
			img.env = append(img.env, launch.DebugEnv+"=1")
			r := run(img.command("bash", "-c", `app echo $0`))
			Expect(r.out).To(Equal("sh\n"))
			Expect(r.err).To(ContainSubstring("run_proot.sh: bash cannot be run: its -c line is interpreted\n"))
			for _, args := range [][]string{
				{"bash"}, {"bash", "-c"}, {"bash", "-x"}, {"bash", "-x", "app echo"}, {"nosuch", "-c", "app echo"},
			} {
				Expect(run(img.command(args...)).code).To(Equal(127), "%v", args)
			}
		})
	})
}

// odd makes files that no kernel starts in a directory, and returns it: a text, a program for another machine, and one whose
// interpreter is not there.
func odd(dir string) string {
	program, err := os.ReadFile("/bin/sh")
	Expect(err).NotTo(HaveOccurred())
	parsed, err := elf.NewFile(bytes.NewReader(program))
	Expect(err).NotTo(HaveOccurred())
	elsewhere, foreign := bytes.Clone(program), bytes.Clone(program)
	elsewhere[18], elsewhere[19] = 0x16, 0 // e_machine: S390
	for _, p := range parsed.Progs {
		if p.Type == elf.PT_INTERP {
			copy(foreign[p.Off:p.Off+p.Filesz], append([]byte("/no/ld.so"), make([]byte, p.Filesz)...))
		}
	}
	for name, data := range map[string][]byte{"text": []byte("echo x\n"), "elsewhere": elsewhere, "foreign": foreign} {
		Expect(os.WriteFile(filepath.Join(dir, name), data, 0o755)).To(Succeed())
	}
	return dir
}
