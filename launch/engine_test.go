package launch_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

func TestEngines(t *testing.T) {
	path := proot(t)
	for _, engine := range []string{launch.EngineUserns, launch.EngineProot} {
		spec.Run(t, engine, func(t *testing.T, context spec.G, it spec.S) {
			testEngine(t, context, it, engine, path)
		}, spec.Report(report.Terminal{}))
	}
	spec.Run(t, "engine choice", testChoice, spec.Report(report.Terminal{}))
}

// testEngine runs the same promises under an engine that the launcher has to stay behind for.
func testEngine(t *testing.T, context spec.G, it spec.S, engine, path string) {
	var img *image
	it.Before(func() {
		RegisterTestingT(t)
		img = newImage(t, false)
		img.configure(func(c *launch.Config) { c.PRoot = path })
		img.env = []string{launch.EngineEnv + "=" + engine}
	})

	it("shows the closure at /nix/store and nothing else of itself", func() {
		cmd := img.command("app", "show", "a b", "")
		s := show(cmd)
		Expect(s.Args).To(Equal([]string{"app", "show", "a b", ""}))
		Expect(s.Store).To(Equal([]string{appBase}))
		Expect(s.Dir).To(Equal(img.dir))
		Expect(s.Env).To(Equal(map[string]string{
			"PATH": appStore + "/bin:/usr/bin:/bin", "HOME": "/tmp", "PORT": "8080", "odd.name": "kept",
			launch.EngineEnv: engine,
		}))
		Expect(run(img.command("app", "err", "said")).err).To(HaveSuffix("said\n"))
		cmd = img.command("app", "show")
		cmd.Env = append([]string{"PWD=" + img.dir}, cmd.Env...)
		Expect(show(cmd).Env).To(HaveKeyWithValue("PWD", img.dir))
		// A PRoot that carries its libraries in itself holds them open as files in memory, which is its own affair.
		files := slices.DeleteFunc(s.Files, func(f string) bool { return strings.Contains(f, "=/memfd:") })
		Expect(files).To(HaveLen(len(show(exec.Command(filepath.Join(built, "app"), "show")).Files)))
	})

	it("makes nothing in the image itself, even where it may", func() {
		_, before := os.Lstat("/nix")
		cmd := img.command("app", "serve", "5")
		out, _ := cmd.StdoutPipe()
		Expect(cmd.Start()).To(Succeed())
		up := bufio.NewScanner(out).Scan()
		_, during := os.Lstat("/nix")
		Expect(cmd.Process.Kill()).To(Succeed())
		_ = cmd.Wait()
		Expect(up).To(BeTrue())
		Expect(during == nil).To(Equal(before == nil))
	})

	it("keeps inherited descriptors", func() {
		cmd := img.command("app", "show")
		extra, err := os.Open(os.DevNull)
		Expect(err).NotTo(HaveOccurred())
		cmd.ExtraFiles = []*os.File{extra, nil, extra}
		files := show(cmd).Files
		Expect(files).To(ContainElements("3=/dev/null", "5=/dev/null"))
		Expect(files).NotTo(ContainElement(HavePrefix("4=/dev")))
		high := img.command("bash")
		high.Args = []string{"bash", "-c", "ulimit -n 2048; exec 1500< /dev/null; exec " + img.bin(launch.ProgramName) +
			" sh -c 'readlink /proc/self/fd/1500'"}
		high.Path = "/bin/bash"
		Expect(run(high).out).To(Equal("/dev/null\n"))
	})

	it("needs no privilege and gives none", func() {
		img.attr = func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
		}
		s := show(img.command("app", "show"))
		Expect(s.UID).To(Equal(1234))
		Expect(s.Caps).To(Equal("0000000000000000"))
		Expect(s.Store).To(Equal([]string{appBase}))
		Expect(run(img.command("grep", "-c", "^Cap[IPEA].*\t0*$", "/proc/self/status")).out).To(Equal("4\n"))
	})

	it("runs every kind of line as every engine does", func() {
		for line, want := range map[string]string{
			`run_proot.sh app echo -p $PORT`: "-p 8080\n", `app echo x | app upper`: "X\n", `cd / && exec app echo $PWD`: "/\n",
			`app err oops 2>&1 | app upper`: "OOPS\n", `echo "$(app echo in)"`: "in\n",
			`sh -c "app echo from the image\'s shell"`: "from the image's shell\n", appStore + `/bin/app echo path`: "path\n",
		} {
			Expect(run(img.process(line)).out).To(Equal(want), line)
		}
	})

	it("lets built-ins see what programs see", func() {
		for _, pair := range builtinsSeeTheStore {
			line, want := pair[0], pair[1]
			r := run(img.process(strings.ReplaceAll(line, "APP", appStore)))
			Expect(r.out).To(Equal(strings.ReplaceAll(want, "APP", appStore)), "%s: %s", line, r.err)
		}
	})

	it("loses no descriptor to another start, however many programs a line runs", func() {
		startMany(img)
	})

	it("is no engine within the engine for run_proot.sh in a line for a shell", func() {
		img.env = append(img.env, launch.DebugEnv+"=1")
		r := run(img.process(`run_proot.sh sh -c '(sleep 20; :) & exit 5'; echo $?; run_proot.sh app echo $PPID`))
		Expect(r.out).To(MatchRegexp(`^5\n\d+\n$`))
		Expect(strings.Count(r.err, "engine native: this launcher runs inside an engine already")).To(Equal(2), r.err)
		Expect(r.took).To(BeNumerically("<", busy.Limit(10*time.Second)))
	})

	it("returns the app's own end", func() {
		Expect(run(img.command("app", "exit", "42")).code).To(Equal(42))
		Expect(run(img.process("app exit 1; app exit 43")).code).To(Equal(43))
		for n, name := range map[string]string{"9": "killed", "15": "terminated", "1": "hangup"} {
			r := run(img.command("app", "die", n))
			Expect(r.signal).To(Equal(name), "%+v", r)
			Expect(r.err).To(Or(BeEmpty(), ContainSubstring("this PRoot hides /nix/store from statx")))
		}
		Expect(run(img.process("app die 15; exit $?")).code).To(Equal(143))
	})

	it("explains a program that is not there, or does not start", func() {
		r := run(img.command("nosuch"))
		Expect(r.code).To(Equal(127))
		Expect(r.err).To(ContainSubstring("the closure offers: app, badscript, notexec, other"))
		Expect(run(img.command("notexec")).code).To(Equal(126))
		r = run(img.command("badscript"))
		Expect(r.code).To(Equal(126))
		Expect(r.err).To(ContainSubstring("its interpreter /no/such/interpreter is not in the image"))
	})

	it("forwards SIGTERM to the app and ends well inside a second", func() {
		Expect(signalled(img.command("app", "serve", "5"), syscall.SIGTERM)).To(Equal("5 ending by 15"))
		Expect(signalled(img.process("app serve 6; app echo never"), syscall.SIGTERM)).To(Equal("-1 ending by 15"))
	})

	it("lets a trap of a line take the signal that ends its program", func() {
		Expect(signalled(img.process(`trap 'exit 8' TERM; while :; do app serve 5; done`), syscall.SIGTERM)).To(Equal("8 ending by 15"))
	})

	it("forwards signals as they are, those of faults too", func() {
		cmd := img.command("app", "serve", "5")
		out, _ := cmd.StdoutPipe()
		Expect(cmd.Start()).To(Succeed())
		lines := bufio.NewScanner(out)
		lines.Scan()
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGSEGV, syscall.SIGSYS, 40} {
			Expect(cmd.Process.Signal(sig)).To(Succeed())
			lines.Scan()
			Expect(lines.Text()).To(Equal("got " + strconv.Itoa(int(sig))))
		}
		Expect(cmd.Process.Signal(syscall.SIGQUIT)).To(Succeed())
		_ = cmd.Wait()
		Expect(cmd.ProcessState.ExitCode()).To(Equal(5))
	})

	it("lets a terminal interrupt the app once, and whoever else", func() {
		for _, byKey := range []bool{true, false} {
			Expect(interrupted(t, img.command("app", "count"), byKey)).To(Equal("interrupts 1"))
			// A shell without a trap dies of the key where it does not wait yet: bash for a moment, dash at any time.
			Expect(interrupted(t, img.process("trap : INT; app count; true"), byKey)).To(Equal("interrupts 1"))
		}
	})

	it("gives the terminal to the app, and takes it back for the shell that has started it", func() {
		script := img.bin(launch.ProgramName) + ` app show; read x; echo "got $x"; ` + img.bin(launch.ProgramName) + ` app show`
		cmd := img.command("sh")
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", script}
		tty, lines := onTerminal(t, cmd)
		for range 2 {
			var s shown
			Expect(json.Unmarshal([]byte(until(lines, "Args")), &s)).To(Succeed())
			Expect(s.Group).To(And(Equal(s.PID), Equal(s.Foreground)))
			Expect(s.Ignored).To(Equal(show(exec.Command(filepath.Join(built, "app"), "show")).Ignored))
			_, err := tty.WriteString("x\n")
			Expect(err).NotTo(HaveOccurred())
		}
	})

	it("gives the app the terminal that is not its standard input, and the shell again", func() {
		for _, redirected := range []string{"< /dev/null", "< /dev/null > /dev/null"} {
			cmd := img.command("sh")
			cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", img.bin(launch.ProgramName) +
				` sh -c 'set -- $(cat /proc/$$/stat); echo app $5 $8 >&2' ` + redirected + `; set -- $(cat /proc/$$/stat); echo shell $5 $8`}
			_, lines := onTerminal(t, cmd)
			for _, who := range []string{"app ", "shell "} {
				groups := strings.Fields(until(lines, who))
				Expect(groups).To(HaveLen(3))
				Expect(groups[1]).To(Equal(groups[2]), who+redirected)
			}
		}
	})

	it("blocks no signal of an app on a terminal", func() {
		_, lines := onTerminal(t, img.command("grep", "SigBlk", "/proc/self/status"))
		Expect(strings.Fields(until(lines, "SigBlk"))[1]).To(Equal("0000000000000000"))
	})

	it("leaves the app on a terminal the limit of descriptors", func() {
		cmd := img.command("sh")
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "ulimit -S -n 300; exec " + img.bin(launch.ProgramName) + ` sh -c 'echo limit $(ulimit -n)'`}
		_, lines := onTerminal(t, cmd)
		Expect(until(lines, "limit ")).To(Equal("limit 300"))
	})

	it("leaves the terminal to whoever has it, where it is started in the background", func() {
		cmd := img.command("sh")
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "set -m; " + img.bin(launch.ProgramName) + " app show & wait"}
		_, lines := onTerminal(t, cmd)
		var s shown
		Expect(json.Unmarshal([]byte(until(lines, "Args")), &s)).To(Succeed())
		Expect(s.Group).To(Equal(s.PID))
		Expect(s.Foreground).NotTo(Equal(s.Group))
	})

	it("stops with its app and continues with it", func() {
		cmd := img.command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // job control stops no orphaned process group
		Expect(cmd.Start()).To(Succeed())
		Eventually(func() string { return state(cmd.Process.Pid) }, "20s").Should(Equal("S"))
		time.Sleep(time.Second)
		Expect(cmd.Process.Signal(syscall.SIGTSTP)).To(Succeed())
		Eventually(func() string { return state(cmd.Process.Pid) }, "20s").Should(Equal("T"))
		Expect(cmd.Process.Signal(syscall.SIGCONT)).To(Succeed())
		Eventually(func() string { return state(cmd.Process.Pid) }, "20s").Should(Equal("S"))
		end(cmd, syscall.SIGTERM)
		Expect(killedBy(cmd.ProcessState)).To(Equal("terminated"))
	})

	it("waits for all of a line that a signal ends, and ends as its shell did", func() {
		cmd := img.process(`{ app drain 0.5 3 & exec env --ignore-signal=CHLD setsid sleep 30; } & app serve 5; true`) // the sleep stays behind
		out, _ := cmd.StdoutPipe()
		Expect(cmd.Start()).To(Succeed())
		lines := bufio.NewScanner(out)
		until(lines, "ready")
		until(lines, "ready")
		Expect(cmd.Process.Signal(syscall.SIGTERM)).To(Succeed())
		Expect(until(lines, "drained")).To(Equal("drained after 1"))
		late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
		Expect(killedBy(cmd.ProcessState)).To(Equal("terminated"))
	})

	it("loses no terminal's key while it starts, and gives none twice", func() {
		step := time.Millisecond // of about a dozen to the app's start
		if engine == launch.EngineProot {
			step = 6 * time.Millisecond
		}
		for n := range 14 {
			wait := time.Duration(n) * step
			cmd, begin := img.command("app", "count"), time.Now()
			tty, lines := onTerminal(t, cmd)
			time.Sleep(wait)
			_, err := tty.Write([]byte{3})
			Expect(err).NotTo(HaveOccurred())
			late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
			for lines.Scan() { // ends at once where the app, or what starts it, does not catch the signal yet
				if _, times, found := strings.Cut(lines.Text(), "interrupts "); found {
					Expect(times).To(Equal("1"), "after %v", wait)
				}
			}
			_ = cmd.Wait()
			late.Stop()
			Expect(killedBy(cmd.ProcessState)).NotTo(Equal("killed"), "lost after %v", wait)
			Expect(time.Since(begin)).To(BeNumerically("<", busy.Limit(10*time.Second)), "an engine that it ended was waited for")
		}
	})

	it("ends by a signal that comes before the app is up", func() {
		for _, wait := range []time.Duration{0, 1, 3, 10, 30} {
			cmd := img.command("app", "serve", "0")
			Expect(cmd.Start()).To(Succeed())
			time.Sleep(wait * time.Millisecond)
			end(cmd, syscall.SIGTERM)
			Expect(cmd.ProcessState.Exited() || killedBy(cmd.ProcessState) == "terminated").To(BeTrue())
			Expect(cmd.ProcessState.ExitCode()).To(Or(Equal(0), Equal(-1), Equal(143)), "0 is the app's own")
		}
	})

	it("takes the app with it when it is killed", func() {
		for _, attr := range []*syscall.SysProcAttr{nil, {Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}} {
			cmd := img.command("app", "serve", "5")
			cmd.SysProcAttr = attr
			out, _ := cmd.StdoutPipe()
			Expect(cmd.Start()).To(Succeed())
			lines := bufio.NewScanner(out)
			lines.Scan()
			pid, _ := strconv.Atoi(strings.TrimPrefix(lines.Text(), "ready "))
			Expect(cmd.Process.Kill()).To(Succeed())
			_ = cmd.Wait()
			Eventually(func() bool { return running(pid) }, "20s").Should(BeFalse())
		}
	})

	it("neither waits for what the app leaves behind nor lets it live on", func() {
		r := run(img.command("app", "leave", "7", "20"))
		Expect(r.code).To(Equal(7))
		Expect(r.took).To(BeNumerically("<", busy.Limit(9*time.Second)))
		pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(r.out, "left ")))
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() bool { return running(pid) }, "20s").Should(BeFalse())
	})

	it("ends what is left of the left behind, too", func() {
		file := filepath.Join(img.dir, "pid")
		script := `setsid sh -c 'sh -c "echo \$\$ > pid; sleep 60; :"; :' & until [ -s pid ]; do sleep 0.01; done; exit 7`
		r := run(img.command("sh", "-c", script))
		Expect(r.code).To(Equal(7))
		Expect(r.took).To(BeNumerically("<", busy.Limit(20*time.Second)), "its output was open")
		data, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() bool { return running(pid) }, "20s").Should(BeFalse())
	})

	it("says that it is the one that was asked for", func() {
		img.env = append(img.env, launch.DebugEnv+"=1")
		Expect(run(img.command("app", "exit", "0")).err).To(ContainSubstring("engine " + engine + ": BPL_NIX_ENGINE asks for it, and "))
	})

	if engine != launch.EngineProot {
		it("gives the terminal back to a shell with job control, and takes it again", func() {
			cmd := img.command("bash")
			cmd.Path, cmd.Args = "/bin/bash", []string{"bash", "--norc", "--noediting", "-i"}
			tty, lines := onTerminal(t, cmd)
			say := func(text string) {
				_, err := tty.WriteString(text)
				Expect(err).NotTo(HaveOccurred())
			}
			say(img.bin(launch.ProgramName) + " sh -c 'echo read''y; read x; echo got $x'\n")
			until(lines, "ready")
			say("\x1a") // Ctrl-Z
			until(lines, "Stopped")
			say("fg\nhello\n")
			until(lines, "got hello")
			// A shell that starts programs is stopped late, or not: between its vfork and the program only that half of it is.
			say(img.bin(launch.ProgramName) + ` sh -c 'trap "echo contin''ued" CONT; echo prep''ared; until [ $((n += 1)) = 99999999 ]; do :; done'` + "\n")
			until(lines, "prepared")
			say("\x1a")
			until(lines, "Stopped")
			say("bg\n")
			until(lines, "continued")
			say("echo fore''ground\n") // the shell still has the terminal
			until(lines, "foreground")
			say("kill %1; exit 3\n")
			for lines.Scan() {
			}
		})

		it("keeps every user and group id what it is, as far as it may", func() {
			own, err := os.ReadFile("/proc/self/uid_map")
			Expect(err).NotTo(HaveOccurred())
			want := fmt.Sprintf("%d %d 1", os.Geteuid(), os.Geteuid())
			if os.Geteuid() == 0 {
				first := strings.Fields(string(own))
				want = first[0] + " " + first[0] + " " + first[2]
			}
			seen := func(cmd *exec.Cmd) string { return strings.Join(strings.Fields(run(cmd).out), " ") }
			Expect(seen(img.command("cat", "/proc/self/uid_map"))).To(HavePrefix(want))
			if os.Geteuid() != 0 {
				return
			}
			for _, missing := range []string{"-setuid", "-setgid"} {
				cmd := img.command("cat")
				cmd.Path = "/usr/bin/setpriv"
				cmd.Args = []string{"setpriv", "--bounding-set", missing, img.bin(launch.ProgramName), "cat", "/proc/self/uid_map"}
				Expect(seen(cmd)).To(Equal("0 0 1"), missing)
			}
		})

		it("lets / be written to by whoever may", func() {
			may := "made\n"
			if syscall.Access("/", 2) != nil {
				may = ""
			}
			const script = "touch /made-by-a-test && echo made"
			if may != "" { // in the app's own /, not in that of this machine
				Expect(run(img.command("sh", "-c", script)).out).To(Equal(may))
				Expect("/made-by-a-test").NotTo(BeAnExistingFile())
			}
			img.attr = func(cmd *exec.Cmd) {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
			}
			r := run(img.command("sh", "-c", script))
			Expect(r.out).To(BeEmpty())
			Expect(r.err).To(ContainSubstring("Read-only file system"))
		})

		it("leaves what else is in /nix where it is", func() {
			if os.Geteuid() != 0 {
				t.Skip("only root may change what an engine shows")
			}
			inner := newImage(t, false)
			script := `umount /nix/store && rmdir /nix/store && mkdir /nix/var && echo kept > /nix/var/file && ` +
				inner.bin(launch.ProgramName) + ` sh -c 'cat /nix/var/file && ls /nix/store' && ls /nix`
			r := run(img.command("sh", "-c", script))
			Expect(r.out).To(Equal("kept\n"+appBase+"\nvar\n"), r.err)
		})

		it("does not stop with what the app has left behind", func() {
			r := runFor(20*time.Second, img.command("sh", "-c", `(sh -c 'echo $$ > pid; kill -STOP $$' &)
				until grep -q '^State:.T' "/proc/$(cat pid)/status"; do sleep 0.01; done 2>/dev/null; exit 3`))
			Expect(r.code).To(Equal(3), r.err)
		})
		return
	}

	it("lets PRoot take its own files away where the app leaves something behind", func() {
		dir := filepath.Join(img.dir, "temp")
		Expect(os.Mkdir(dir, 0o755)).To(Succeed())
		img.env = append(img.env, "TMPDIR="+dir)
		r := run(img.command("sh", "-c", "ls temp; exec app leave 7 20"))
		Expect(r.code).To(Equal(7))
		Expect(r.out).NotTo(HavePrefix("left"), "while it runs they are there")
		Expect(os.ReadDir(dir)).To(BeEmpty())
	})

	it("has not ended well where nobody knows how the app ended", func() {
		cmd := img.command("app", "serve", "5")
		out, _ := cmd.StdoutPipe()
		Expect(cmd.Start()).To(Succeed())
		pid, _ := strconv.Atoi(strings.TrimPrefix(until(bufio.NewScanner(out), "ready"), "ready "))
		shim := parent(pid)
		Expect(shim).NotTo(Equal(cmd.Process.Pid))
		group, err := syscall.Getpgid(shim)
		Expect(err).NotTo(HaveOccurred())
		Expect(group).To(Equal(parent(shim)), "PRoot's, which no key of a terminal and no signal to the launcher's group reaches")
		Expect(syscall.Kill(shim, syscall.SIGKILL)).To(Succeed())
		_ = cmd.Wait()
		Expect(cmd.ProcessState.ExitCode()).NotTo(BeZero())
		Eventually(func() bool { return running(pid) }, "20s").Should(BeFalse())
	})
}

func testChoice(t *testing.T, context spec.G, it spec.S) {
	var img *image
	it.Before(func() { RegisterTestingT(t); img = newImage(t, false) })

	it("runs a relocated image whatever is asked for, and says what was not needed", func() {
		img = newImage(t, true)
		for engine, warning := range map[string]string{
			"": "", "auto": "", "relocate": "", "userns": "relocated and needs no userns", "proot": "needs no proot",
			"native": "the run image has no " + appStore, "Relocate": "", " relocate ": "", "USERNS": "needs no userns",
			"magic": ` is "magic", want one of auto, relocate, native, userns, proot; running the relocated`,
		} {
			img.env = []string{launch.EngineEnv + "=" + engine}
			r := run(img.command("app", "exit", "3"))
			Expect(r.code).To(Equal(3))
			if warning == "" {
				Expect(r.err).To(BeEmpty(), engine)
			} else {
				Expect(r.err).To(MatchRegexp("^run_proot.sh: BPL_NIX_ENGINE.*" + regexp.QuoteMeta(warning) + ".*\n$"))
			}
		}
	})

	it("refuses what an image cannot do when it was asked for, with the way out", func() {
		img.configure(func(c *launch.Config) { c.Reason = "lib/a.jar: reference inside a zip member" })
		for engine, message := range map[string]string{
			"relocate": "not relocated (lib/a.jar: reference inside a zip member): build it again with BP_NIX_ENGINE=relocate",
			"native":   "native: the run image has no " + appStore,
			"proot":    "proot: the image holds no PRoot\n…for proot: build it again with BP_NIX_ENGINE=proot\n",
			"magic":    `BPL_NIX_ENGINE is "magic", want one of auto, relocate, native, userns, proot`,
		} {
			img.env = []string{launch.EngineEnv + "=" + engine}
			r := run(img.command("app", "exit", "3"))
			Expect(r.code).To(Equal(126))
			for part := range strings.SplitSeq(message, "…") {
				Expect(r.err).To(ContainSubstring(part))
			}
		}
	})

	it("says in one message why nothing works, and which settings help", func() {
		img.env = []string{"TMPDIR=/proc", "PATH=/bin"}
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = "/no/proot", launch.EngineProot })
		img.env = append(img.env, launch.EngineEnv+"=proot")
		r := run(img.command("app", "exit", "3"))
		Expect(r.code).To(Equal(126))
		Expect(r.err).To(ContainSubstring("no engine can give /nix/store to the app on this platform\n  proot: /no/proot: "))
		Expect(r.err).To(ContainSubstring("build the image with BP_NIX_ENGINE=relocate"))
		Expect(r.err).To(ContainSubstring("unset BPL_NIX_ENGINE"))
		for _, line := range []string{"app a; /bin/true; app b", "app a | app b"} {
			r = run(img.process(line))
			Expect(r.code).To(Equal(126))
			Expect(strings.Count(r.err, "no engine can give")).To(Equal(1), r.err)
		}
		Expect(run(img.process("/bin/echo of the image")).out).To(Equal("of the image\n"), "which needs no engine")
		Expect(run(img.process("app exit 3")).err).To(ContainSubstring("no engine can give"), "which is the closure's")
		img.env = append(img.env, launch.DebugEnv+"=1")
		Expect(run(img.process("/bin/echo of the image")).err).To(And(ContainSubstring("engine proot does not work here: /no/proot: "),
			ContainSubstring("no engine works here: starting /bin/echo, which is not in the closure, without one")))
		Expect(run(img.command("/bin/echo", "asked for")).code).To(Equal(126))
	})

	it("names what on this machine denies an engine, and what helps", func() {
		none := img.command("unshare")
		none.Path, none.Args = "/usr/bin/unshare", []string{"unshare", "--user", "--map-root-user", "sh", "-c",
			"echo 0 > /proc/sys/user/max_user_namespaces; exec " + img.bin(launch.ProgramName) + " app"}
		r := run(none)
		Expect(r.code).To(Equal(126))
		Expect(r.err).To(And(ContainSubstring("  userns: clone(CLONE_NEWUSER|CLONE_NEWNS): no space left on device: "+
			"user.max_user_namespaces is 0\n"), ContainSubstring("for userns: sysctl user.max_user_namespaces=10000 on the host\n")))
		// What a PRoot starts is under the filter that withholds system calls from it.
		inner, fake := newImage(t, false), filepath.Join(img.dir, "fake")
		Expect(os.WriteFile(fake, []byte("#!/bin/sh\necho 'proot error: ptrace(TRACEME): no' >&2\nexit 1\n"), 0o755)).To(Succeed())
		inner.configure(func(c *launch.Config) { c.PRoot = fake })
		img.configure(func(c *launch.Config) { c.PRoot = proot(t) })
		img.env = []string{launch.EngineEnv + "=proot"}
		r = run(img.command(inner.bin(launch.ProgramName), "app"))
		Expect(r.code).To(Equal(126))
		Expect(r.err).To(And(ContainSubstring("  proot: proot ended with status 1 (ptrace(TRACEME): no): ptrace is denied, and a "+
			"seccomp filter is in force\n"), ContainSubstring("for proot: docker run --cap-add=SYS_PTRACE or ")))
	})

	it("starts PRoot where a directory is both writable and executable, and says so where none is", func() {
		narrow := filepath.Join(img.dir, "narrow")
		Expect(os.Mkdir(narrow, 0o755)).To(Succeed())
		Expect(os.Chmod(narrow, 0o702)).To(Succeed()) // not to be searched
		img.configure(func(c *launch.Config) { c.PRoot = proot(t) })
		img.attr = func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
		}
		img.env = []string{launch.EngineEnv + "=proot", "TMPDIR=" + narrow, "HOME=/usr"}
		with := func(varTmp string) result {
			cmd := img.command("unshare")
			// The image itself is in a directory that becomes another.
			cmd.Path, cmd.Args = "/usr/bin/unshare", []string{"unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
				`mount -t tmpfs -o noexec none /dev/shm && mount -t tmpfs ` + varTmp + ` none /var/tmp && mount -t tmpfs -o noexec none /tmp &&
				mkdir -p ` + built + ` && mount --no-canonicalize --rbind /proc/self/cwd ` + built + ` &&
				cd ` + img.dir + ` && exec ` + img.bin(launch.ProgramName) + ` app show`}
			cmd.Dir = built
			return run(cmd)
		}
		r := with("-o size=4M")
		Expect(r.code).To(BeZero(), r.err)
		r = with("-o ro")
		Expect(r.code).To(Equal(126))
		Expect(r.err).To(And(ContainSubstring("  proot: no directory is both writable and executable for PRoot's loader: tried "+narrow+
			", /tmp, /dev/shm, /var/tmp, /usr\n"), ContainSubstring("for proot: mount a tmpfs without noexec (docker run --tmpfs /tmp:exec), "+
			"or set PROOT_TMP_DIR\n")))
		img.env = append(img.env, "TMPDIR=/var/tmp")
		Expect(with("-o ro").err).To(ContainSubstring(": tried /var/tmp, /tmp, /dev/shm, /usr\n"))
	})

	it("says that PRoot itself does not start", func() {
		for program, why := range map[string]string{"text": "exec format error", "foreign": "no such file or directory"} {
			path := filepath.Join(odd(img.dir), program)
			img.configure(func(c *launch.Config) { c.PRoot = path })
			img.env = []string{launch.EngineEnv + "=proot"}
			r := run(img.command("app"))
			Expect(r.code).To(Equal(126))
			Expect(r.err).To(ContainSubstring("  proot: starting " + path + ": " + why + "\n"))
		}
	})

	it("says what it has too few descriptors for", func() {
		img.configure(func(c *launch.Config) { c.PRoot = proot(t) })
		for _, engine := range []string{launch.EngineUserns, launch.EngineProot} {
			img.env = []string{launch.EngineEnv + "=" + engine}
			times := 0
			for most := 4; most < 20; most++ { // Go needs some itself
				cmd := img.command("sh")
				cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", fmt.Sprintf("ulimit -n %d && exec %s app", most,
					img.bin(launch.ProgramName))}
				times += strings.Count(run(cmd).err, "  "+engine+": making a pipe: pipe2: too many open files\n")
			}
			Expect(times).To(BeNumerically(">=", map[string]int{launch.EngineUserns: 1, launch.EngineProot: 3}[engine]), "of two pipes")
		}
	})

	it("refuses an engine that does not show the closure", func() {
		path := filepath.Join(img.dir, "fake")
		Expect(os.WriteFile(path, []byte("#!/bin/sh\nshift 2\nexec \"$@\"\n"), 0o755)).To(Succeed())
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = path, launch.EngineProot })
		r := run(img.command("app", "exit", "3"))
		Expect(r.code).To(Equal(3), r.err)
		Expect(r.err).To(MatchRegexp(`proot does not work here, running by userns: proot: ` + appStore + `/bin is not seen by open, `))
	})

	it("tries the engine that the build asked for first, and another rather than none", func() {
		img.env = []string{launch.DebugEnv + "=true"}
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = proot(t), launch.EngineProot })
		Expect(run(img.command("app", "exit", "0")).err).To(ContainSubstring("engine proot: BP_NIX_ENGINE asked for it"))
		img.env = nil
		img.configure(func(c *launch.Config) { c.PRoot = "/no/proot" })
		r := run(img.command("app", "exit", "3"))
		Expect(r.code).To(Equal(3), r.err)
		Expect(r.err).To(HavePrefix("run_proot.sh: BP_NIX_ENGINE=proot does not work here, running by userns: /no/proot"))
	})

	it("keeps PRoot's accelerated mode only where it shows the closure, and finds out once", func() {
		path, log := filepath.Join(img.dir, "fake"), filepath.Join(img.dir, "log")
		fake := func(accelerated string) {
			Expect(os.WriteFile(path, []byte("#!/bin/sh\ncase $5 in *'\"Strict\":true'*) s=strict; esac\n"+
				"echo \"mode $PROOT_NO_SECCOMP$s\" >> "+log+"\n"+accelerated+
				"\nexport PROOT_NO_SECCOMP=1\nexec "+proot(t)+" \"$@\"\n"), 0o755)).To(Succeed())
		}
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = path, launch.EngineProot })
		img.env = []string{launch.DebugEnv + "=1"}
		modes := func() string {
			_ = os.Remove(log)
			r := run(img.process("app echo a; app echo b; app echo c; true"))
			Expect(r.out).To(Equal("a\nb\nc\n"), r.err)
			data, err := os.ReadFile(log)
			Expect(err).NotTo(HaveOccurred())
			return string(data)
		}
		fake(`[ -n "$PROOT_NO_SECCOMP" ] || exec false`)
		Expect(modes()).To(Equal("mode strict\nmode 1\n"))
		Expect(run(img.command("app", "exit", "0")).err).To(ContainSubstring("proot with seccomp acceleration: proot ended with status 1\n"))
		fake(``) // what it calls accelerated works as well as this PRoot can: before 5.3 it hides statx
		tried := modes()
		Expect(tried).To(Or(Equal("mode strict\n"), Equal("mode strict\nmode 1\n")))
		Expect(run(img.command("badscript")).code).To(Equal(126))
		r := run(img.command("app", "exit", "0"))
		if tried == "mode strict\n" {
			Expect(r.err).To(ContainSubstring("; with seccomp acceleration, which was seen to keep the binding\n"))
		}
		img.env = append(img.env, "PROOT_NO_SECCOMP=1")
		Expect(modes()).To(Equal("mode 1\n"), "as the user says")
		img.env = img.env[:1]
		cmd := img.command("app", "show")
		cmd.Env = append([]string{"PROOT_NO_SECCOMP=1"}, cmd.Env...) // the first of all
		r = run(cmd)
		Expect(r.err).To(ContainSubstring("; without seccomp acceleration"))
		Expect(r.out).To(ContainSubstring(`"PROOT_NO_SECCOMP":"1"`), "which is the user's own")
		fake("exec false")
		if r = run(img.command("app", "exit", "0")); r.code == 0 { // this machine has user namespaces
			Expect(r.err).To(ContainSubstring("engine userns: the first that shows the closure at /nix/store\n"))
		}
	})

	it("says what a PRoot hides that cannot be withheld", func() {
		path := filepath.Join(img.dir, "fake") // it reports as the shim does under a PRoot before 5.3
		Expect(os.WriteFile(path, []byte("#!/bin/bash\n[[ $5 =~ '\"Report\":'([0-9]+) ]]\n"+
			`echo '{"Ready":true,"Newer":["statx"],"Group":'$$'}{"Exit":768}' >&"${BASH_REMATCH[1]}"`+"\n"), 0o755)).To(Succeed())
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = path, launch.EngineProot })
		r := run(img.command("app"))
		Expect(r.code).To(Equal(3))
		Expect(r.err).To(HavePrefix("run_proot.sh: this PRoot hides /nix/store from statx: "))
	})

	it("withholds from programs under PRoot the system calls that it lets through without the closure", func() {
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = proot(t), launch.EngineProot })
		const said = "statx: %s, faccessat: <nil>\n" // nothing of those that no PRoot translates
		img.attr = func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
		}
		r := run(img.command("app", "newer", appStore+"/settings"))
		Expect(r.out).To(Or(Equal(fmt.Sprintf(said, "<nil>")), Equal(fmt.Sprintf(said, "function not implemented"))), r.err)
		Expect(r.err).To(BeEmpty())
	})

	it("passes on once the app is up what else comes while PRoot is being tried", func() {
		path := filepath.Join(img.dir, "slow")
		Expect(os.WriteFile(path, []byte("#!/bin/sh\necho up\nsleep 0.3\nexec "+proot(t)+" \"$@\"\n"), 0o755)).To(Succeed())
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = path, launch.EngineProot })
		cmd := img.command("app", "sleep", "20")
		out, err := cmd.StdoutPipe()
		Expect(err).NotTo(HaveOccurred())
		Expect(cmd.Start()).To(Succeed())
		until(bufio.NewScanner(out), "up")
		end(cmd, syscall.SIGHUP)
		Expect(killedBy(cmd.ProcessState)).To(Equal("hangup"))
	})

	it("goes on trying where what comes meanwhile asks nobody to end", func() {
		path := filepath.Join(img.dir, "slow")
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = path, launch.EngineProot })
		img.env = []string{"PROOT_NO_SECCOMP=1"}
		for _, then := range []string{"exec " + proot(t) + " \"$@\"", "exit 1", "(exec sleep 0 &); sleep 1; exec " + proot(t) + " \"$@\""} {
			Expect(os.WriteFile(path, []byte("#!/bin/sh\necho up\nsleep 0.5\n"+then+"\n"), 0o755)).To(Succeed())
			cmd := img.command("app", "exit", "3")
			out, err := cmd.StdoutPipe()
			Expect(err).NotTo(HaveOccurred())
			var said strings.Builder
			cmd.Stderr = &said
			Expect(cmd.Start()).To(Succeed())
			until(bufio.NewScanner(out), "up")
			Expect(end(cmd, syscall.SIGWINCH)).To(Equal(3), said.String())
			Expect(said.Len() == 0).To(Equal(then != "exit 1"), said.String())
		}
	})

	it("ends by a signal that comes while PRoot is being tried, as if the app had got it, whether PRoot ends or not", func() {
		path := filepath.Join(img.dir, "slow")
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = path, launch.EngineProot })
		for then, cmd := range map[string]*exec.Cmd{
			"sleep 0.5\nexit 1": img.command("app", "exit", "0"), "sleep 0.4\nexit 1": img.process("app exit 0; app exit 1"),
			"exec sleep 1000": img.command("app", "exit", "0"), "exec sleep 2000": asFirst(img.command("app", "exit", "0")),
		} {
			Expect(os.WriteFile(path, []byte("#!/bin/sh\necho up\n"+then+"\n"), 0o755)).To(Succeed())
			out, err := cmd.StdoutPipe()
			Expect(err).NotTo(HaveOccurred())
			var said strings.Builder
			cmd.Stderr = &said
			Expect(cmd.Start()).To(Succeed())
			until(bufio.NewScanner(out), "up")
			begin := time.Now()
			code := end(cmd, syscall.SIGTERM)
			Expect(time.Since(begin)).To(BeNumerically("<", busy.Limit(10*time.Second)), then)
			Expect(code == 143 || killedBy(cmd.ProcessState) == "terminated").To(BeTrue(), "%d: %s", code, said.String())
			Expect(said.String()).To(BeEmpty())
		}
	})

	it("takes the next engine at once where one has ended, whatever that has left", func() {
		path := filepath.Join(img.dir, "fake")
		Expect(os.WriteFile(path, []byte("#!/bin/sh\nsleep 60 & exit 1\n"), 0o755)).To(Succeed())
		img.configure(func(c *launch.Config) { c.PRoot, c.Requested = path, launch.EngineProot })
		img.env = []string{"PROOT_NO_SECCOMP=1"}
		r := run(img.command("app", "exit", "3"))
		Expect(r.code).To(Equal(3), r.err)
		Expect(r.err).To(ContainSubstring("proot does not work here, running by userns: proot ended with status 1\n"))
		Expect(r.took).To(BeNumerically("<", busy.Limit(10*time.Second)))
	})

	it("leaves nothing of an engine that did not start, which would keep its output open", func() {
		path := filepath.Join(img.dir, "fake")
		Expect(os.WriteFile(path, []byte("#!/bin/sh\nsleep 60 & exit 1\n"), 0o755)).To(Succeed())
		img.configure(func(c *launch.Config) { c.PRoot = path })
		img.env = []string{launch.EngineEnv + "=proot", "PROOT_NO_SECCOMP=1"}
		r := run(img.command("app", "exit", "3"))
		Expect(r.code).To(Equal(126))
		Expect(r.took).To(BeNumerically("<", busy.Limit(10*time.Second)))
	})

	it("is quiet unless asked", func() {
		Expect(run(img.command("app", "exit", "0")).err).To(BeEmpty())
		img.env = []string{launch.DebugEnv + "=true"}
		Expect(run(img.command("app", "exit", "0")).err).To(Equal(
			"run_proot.sh: engine userns: the first that shows the closure at /nix/store\n"))
	})

	it("takes the run image's own store where it has every root, by exec", func() {
		img.configure(func(c *launch.Config) { c.PRoot = proot(t) })
		inside := img.bin(launch.ProgramName) // a launcher inside an engine sees the closure at /nix/store
		img.env = []string{launch.DebugEnv + "=1"}
		r := run(img.command("sh", "-c", inside+` sh -c 'echo $$ $PPID' ; echo $$`))
		Expect(r.err).To(ContainSubstring("engine native: the run image's /nix/store has every root"))
		lines := strings.Fields(r.out)
		Expect(lines).To(HaveLen(3))
		Expect(lines[1]).To(Equal(lines[2]))
	})
}
