package launch_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

func TestFirstProcess(t *testing.T) {
	spec.Run(t, "as process 1", testFirstProcess, spec.Report(report.Terminal{}))
}

// asFirst makes a command process 1 of a PID namespace, as a container's first process is.
func asFirst(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
	}
	return cmd
}

func testFirstProcess(t *testing.T, context spec.G, it spec.S) {
	var img *image
	it.Before(func() { RegisterTestingT(t); img = newImage(t, true) })

	it("stays as the app's parent", func() {
		s := show(asFirst(img.command("app", "show", "a b")))
		Expect(s.Parent).To(Equal(1))
		Expect(s.Args).To(Equal([]string{"app", "show", "a b"}))
		Expect(s.Files).To(HaveLen(len(show(img.command("app", "show")).Files)))
	})

	for _, c := range []struct {
		line string
		want int
	}{
		{`exec sleep 1000`, 143}, {`sh -c 'while :; do sleep 1; done'`, 143}, {`sleep 1000; app echo never`, 143},
		{`sh -c 'trap "exit 7" TERM; echo ready; while :; do sleep 0.01; done'`, 7}, {`app serve 5`, 5},
		{`cd / && exec app serve 5`, 5},
	} {
		it("lets SIGTERM end "+c.line+", with the status that it gives", func() {
			cmd := asFirst(img.process(c.line))
			out, err := cmd.StdoutPipe()
			Expect(err).NotTo(HaveOccurred())
			Expect(cmd.Start()).To(Succeed())
			if c.want == 143 {
				Eventually(func() []int { return children(cmd.Process.Pid) }, "20s", "5ms").ShouldNot(BeEmpty())
			} else {
				until(bufio.NewScanner(out), "ready")
			}
			Expect(end(cmd, syscall.SIGTERM)).To(Equal(c.want))
		})
	}

	it("ends with a command that SIGTERM has ended, whatever that left behind makes of the signal", func() {
		cmd := asFirst(img.process(`sh -c '(trap "" TERM; echo ready; exec sleep 1000) & trap "exit 7" TERM; echo ready; while :; do sleep 0.01; done'`))
		out, err := cmd.StdoutPipe()
		Expect(err).NotTo(HaveOccurred())
		Expect(cmd.Start()).To(Succeed())
		lines := bufio.NewScanner(out)
		until(lines, "ready")
		until(lines, "ready")
		Expect(end(cmd, syscall.SIGTERM)).To(Equal(7))
	})

	it("has true exit statuses", func() {
		for line, want := range map[string]int{`app exit 7`: 7, `app die 9`: 137, `exec app die 15`: 143, `nosuch`: 127,
			`notexec`: 126, `true; app exit 300`: 44} {
			Expect(run(asFirst(img.process(line))).code).To(Equal(want), line)
		}
	})

	it("ends by a signal that comes before the app is up", func() {
		for wait := range 8 {
			cmd := asFirst(img.command("sleep", "1000"))
			Expect(cmd.Start()).To(Succeed())
			time.Sleep(time.Duration(wait) * 3 * time.Millisecond)
			ended, sent := make(chan struct{}), make(chan int)
			go func() { // the kernel drops one that comes before any code runs: then it is sent again once the app is up
				for again := 0; ; {
					select {
					case <-ended:
						sent <- again
						return
					case <-time.After(300 * time.Millisecond):
						if len(children(cmd.Process.Pid)) > 0 {
							again++
							_ = cmd.Process.Signal(syscall.SIGTERM)
						}
					}
				}
			}()
			code := end(cmd, syscall.SIGTERM)
			close(ended)
			Expect(<-sent == 0 || code == 143).To(BeTrue())
			Expect(code).To(Or(Equal(143), Equal(2)), "2 is Go's own answer, before main")
		}
	})

	it("loses no signal that comes before it knows what the build wrote", func() {
		written, err := os.ReadFile(filepath.Join(img.dir, "launch", launch.ConfigName))
		Expect(err).NotTo(HaveOccurred())
		fifo := filepath.Join(img.dir, "fifo")
		Expect(syscall.Mkfifo(fifo, 0o600)).To(Succeed())
		img.env = []string{launch.ConfigEnv + "=" + fifo}
		interrupt := func(cmd *exec.Cmd, config []byte) *os.ProcessState {
			Expect(cmd.Start()).To(Succeed())
			late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			var pipe *os.File
			Eventually(func() (err error) { // until it reads
				pipe, err = os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
				return err
			}, "20s", "5ms").Should(Succeed())
			Expect(cmd.Process.Signal(syscall.SIGTERM)).To(Succeed())
			if config != nil {
				_, err = pipe.Write(config)
				Expect(err).NotTo(HaveOccurred())
				Expect(pipe.Close()).To(Succeed())
			}
			_ = cmd.Wait()
			_ = pipe.Close()
			return cmd.ProcessState
		}
		state := interrupt(asFirst(img.command("app", "serve", "5")), written)
		Expect(state.ExitCode()).To(Or(Equal(143), Equal(5)), "5 is the app's own")
		Expect(killedBy(interrupt(img.command("app", "serve", "5"), nil))).To(Equal("terminated"), "as nobody needs a parent")
	})

	it("forwards what can be forwarded, stop signals and those of faults too", func() {
		cmd := asFirst(img.command("app", "serve", "5"))
		out, err := cmd.StdoutPipe()
		Expect(err).NotTo(HaveOccurred())
		Expect(cmd.Start()).To(Succeed())
		lines := bufio.NewScanner(out)
		until(lines, "ready")
		for sig := syscall.Signal(1); sig <= 64; sig++ {
			switch sig {
			case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM: // these end it
			case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG, syscall.SIGPROF, 32, 33, 34:
			case syscall.SIGCONT: // the app keeps quiet about it
			default:
				Expect(cmd.Process.Signal(sig)).To(Succeed())
				Expect(until(lines, "got")).To(Equal("got " + strconv.Itoa(int(sig))))
			}
		}
		Expect(end(cmd, syscall.SIGTERM)).To(Equal(5))
	})

	it("lets a terminal interrupt the app once", func() {
		Expect(interrupted(t, asFirst(img.command("app", "count")), true)).To(Equal("interrupts 1"))
	})

	it("gives the terminal to the app, in a group of its own, with signals as they were", func() {
		_, lines := onTerminal(t, asFirst(img.command("app", "show")))
		var s shown
		Expect(json.Unmarshal([]byte(until(lines, "Args")), &s)).To(Succeed())
		Expect(s.Group).To(And(Equal(s.PID), Equal(s.Foreground)))
		Expect(s.Ignored).To(Equal(show(exec.Command(filepath.Join(built, "app"), "show")).Ignored))
		s = show(asFirst(img.command("app", "show")))
		Expect(s.Group).To(Equal(s.PID))
	})

	it("explains on a terminal too why a program does not start", func() {
		_, lines := onTerminal(t, asFirst(img.command("badscript")))
		until(lines, "its interpreter /no/such/interpreter is not in the image")
	})

	it("passes on a signal of a terminal's keys that another program sent", func() {
		Expect(interrupted(t, asFirst(img.command("app", "count")), false)).To(Equal("interrupts 1"))
		Expect(interrupted(t, asFirst(img.process("true; app count; true")), false)).To(Equal("interrupts 1"))
	})

	it("leaves a terminal's job control to an interactive shell", func() {
		tty, lines := onTerminal(t, asFirst(img.command("bash", "--norc", "--noediting", "-i")))
		say := func(text string) {
			_, err := tty.WriteString(text)
			Expect(err).NotTo(HaveOccurred())
		}
		say("sh -c 'echo read''y; read x; echo got $x'\n")
		until(lines, "ready")
		say("\x1a") // Ctrl-Z
		until(lines, "Stopped")
		say("fg\nhello\n")
		until(lines, "got hello")
		say("app count\n")
		until(lines, "ready")
		say("\x03") // Ctrl-C
		Expect(until(lines, "interrupts")).To(HaveSuffix("interrupts 1"))
		say("exit 3\n")
		for lines.Scan() {
		}
	})

	it("takes little memory of its own while it stays", func() {
		cmd := asFirst(img.process("cd / && exec sleep 1000"))
		Expect(cmd.Start()).To(Succeed())
		Eventually(func() []int { return children(cmd.Process.Pid) }, "20s", "5ms").ShouldNot(BeEmpty())
		status, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
		Expect(err).NotTo(HaveOccurred())
		end(cmd, syscall.SIGTERM)
		own := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindSubmatch(status)
		Expect(own).NotTo(BeNil())
		Expect(strconv.Atoi(string(own[1]))).To(BeNumerically("<", 3072))
	})

	it("ends with its app, and what that left behind ends too", func() {
		r := run(asFirst(img.command("app", "leave", "7", "120")))
		Expect(r.code).To(Equal(7))
		Expect(r.took).To(BeNumerically("<", busy.Limit(time.Minute)), "the namespace has ended, so that nothing holds its output")
	})
}

// interrupted runs a command that counts its interrupts on a terminal, sends it one by the terminal's key or straight
// to the launcher, and returns what it says.
func interrupted(t *testing.T, cmd *exec.Cmd, byKey bool) string {
	tty, lines := onTerminal(t, cmd)
	until(lines, "ready")
	if byKey {
		_, err := tty.Write([]byte{3})
		Expect(err).NotTo(HaveOccurred())
	} else {
		Expect(cmd.Process.Signal(syscall.SIGINT)).To(Succeed())
	}
	return strings.TrimPrefix(until(lines, "interrupts"), "^C")
}

// onTerminal starts a command on a terminal of its own, which says nothing any more after half a minute: also where the command
// has ended and others have the terminal still.
func onTerminal(t *testing.T, cmd *exec.Cmd) (*os.File, *bufio.Scanner) {
	started, err := pty.Start(cmd)
	Expect(err).NotTo(HaveOccurred())
	fd, err := syscall.Dup(int(started.Fd())) // one for which Go waits itself, so that reading it can have an end
	Expect(err).NotTo(HaveOccurred())
	Expect(syscall.SetNonblock(fd, true)).To(Succeed())
	tty := os.NewFile(uintptr(fd), started.Name())
	Expect(started.Close()).To(Succeed())
	Expect(tty.SetReadDeadline(time.Now().Add(30 * time.Second))).To(Succeed())
	t.Cleanup(func() {
		_, _ = cmd.Process.Kill(), tty.Close()
		_ = cmd.Wait()
	})
	return tty, bufio.NewScanner(tty)
}
