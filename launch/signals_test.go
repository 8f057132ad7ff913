package launch_test

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestSignals(t *testing.T) {
	spec.Run(t, "signals", testSignals, spec.Report(report.Terminal{}))
}

func testSignals(t *testing.T, context spec.G, it spec.S) {
	var img *image
	it.Before(func() { RegisterTestingT(t); img = newImage(t, true) })

	it("reach the app that took the launcher's place", func() {
		Expect(signalled(img.process(`run_proot.sh app serve 5`), syscall.SIGTERM)).To(Equal("5 ending by 15"))
	})

	for _, line := range []string{
		`app serve 5; app echo never`, `app sleep 60 & app serve 5`, `app serve 5 | app upper; app echo never`,
		`while true; do app serve 5; done`, `x() { app serve 5; }; x && app echo never`,
	} {
		it("reach the programs of "+line+", and nothing more is started", func() {
			code := "5"
			if strings.Contains(line, "upper") {
				code = "-1" // the pipeline's last is upper, which SIGTERM kills
			}
			Expect(signalled(img.process(line), syscall.SIGTERM)).To(HavePrefix(code))
		})
	}

	it("are passed on as they are", func() {
		cmd := img.process(`app serve 5; true`)
		out, _ := cmd.StdoutPipe()
		Expect(cmd.Start()).To(Succeed())
		lines := bufio.NewScanner(out)
		lines.Scan()
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, 40} {
			Expect(cmd.Process.Signal(sig)).To(Succeed())
			lines.Scan()
			Expect(lines.Text()).To(Equal("got " + strconv.Itoa(int(sig))))
		}
		Expect(cmd.Process.Signal(syscall.SIGINT)).To(Succeed())
		_ = cmd.Wait()
		Expect(cmd.ProcessState.ExitCode()).To(Equal(5))
	})

	it("stop the launcher with its app, and continue both", func() {
		cmd := img.process(`sleep 1000; true`)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // job control stops no orphaned process group
		Expect(cmd.Start()).To(Succeed())
		Eventually(func() []int { return children(cmd.Process.Pid) }, "5s", "5ms").ShouldNot(BeEmpty())
		app := children(cmd.Process.Pid)[0]
		for _, sig := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
			Expect(cmd.Process.Signal(sig)).To(Succeed())
			Eventually(func() string { return state(cmd.Process.Pid) + state(app) }, "5s").Should(Equal("TT"))
			Expect(cmd.Process.Signal(syscall.SIGCONT)).To(Succeed())
			Eventually(func() string { return state(cmd.Process.Pid) + state(app) }, "5s").Should(Equal("SS"))
		}
		end(cmd, syscall.SIGTERM)
		Expect(killedBy(cmd.ProcessState)).To(Equal("terminated"))
	})

	for _, line := range []string{`sleep 60`, `app sleep 60 & wait`, `read x`, `while true; do true; done`} {
		it("end "+line+" within a second", func() {
			img.env = []string{"PATH=/nowhere"}
			cmd := img.process(line)
			in, _ := cmd.StdinPipe()
			defer func() { _ = in.Close() }()
			Expect(cmd.Start()).To(Succeed())
			time.Sleep(100 * time.Millisecond)
			begin := time.Now()
			Expect(cmd.Process.Signal(syscall.SIGTERM)).To(Succeed())
			_ = cmd.Wait()
			Expect(time.Since(begin)).To(BeNumerically("<", time.Second))
			Expect(cmd.ProcessState.ExitCode()).To(Or(Equal(143), Equal(-1)))
		})
	}

	it("leave a background program its time, once they came from outside", func() {
		for line, want := range map[string]int{
			`app drain 0.7 3 & app serve 5`: 5, `app drain 0.7 3 & wait`: 143, `app drain 0.7 3 & exec app serve 5; true`: 5,
		} {
			cmd := img.process(line)
			out, err := cmd.StdoutPipe()
			Expect(err).NotTo(HaveOccurred())
			Expect(cmd.Start()).To(Succeed())
			lines := bufio.NewScanner(out)
			for range strings.Count(line, "app") {
				until(lines, "ready")
			}
			Expect(cmd.Process.Signal(syscall.SIGTERM)).To(Succeed())
			Expect(until(lines, "drained")).To(Equal("drained after 1"), line)
			_ = cmd.Wait()
			Expect(cmd.ProcessState.ExitCode()).To(Equal(want), line)
		}
	})

	it("end background programs when the line ends", func() {
		r := run(img.process(`app serve 0 & app sleep 0.2`))
		Expect(r.code).To(Equal(0))
		Expect(r.out).To(HavePrefix("ready "))
		pid, err := strconv.Atoi(strings.Fields(r.out)[1])
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() bool { return running(pid) }).Should(BeFalse())
	})

	it("kill the app with a launcher that is killed", func() {
		cmd := img.process(`app serve 5; true`)
		out, _ := cmd.StdoutPipe()
		Expect(cmd.Start()).To(Succeed())
		lines := bufio.NewScanner(out)
		lines.Scan()
		pid, _ := strconv.Atoi(strings.TrimPrefix(lines.Text(), "ready "))
		Expect(cmd.Process.Kill()).To(Succeed())
		_ = cmd.Wait()
		Eventually(func() bool { return running(pid) }).Should(BeFalse())
	})
}

// state is the letter for what a process does: R, S, T for stopped, Z.
func state(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, after, _ := strings.Cut(string(stat), ") ")
	if err != nil || after == "" {
		return ""
	}
	return after[:1]
}

// running reports whether a process exists that is more than a zombie.
func running(pid int) bool { return !slices.Contains([]string{"", "Z"}, state(pid)) }

// signalled starts a command, waits for its "ready", sends it sig, and returns its exit status and last line; it must
// end well inside a second.
func signalled(cmd *exec.Cmd, sig syscall.Signal) string {
	out, err := cmd.StdoutPipe()
	Expect(err).NotTo(HaveOccurred())
	Expect(cmd.Start()).To(Succeed())
	lines := bufio.NewScanner(out)
	if !strings.Contains(strings.Join(cmd.Args, " "), "upper") {
		lines.Scan()
		Expect(lines.Text()).To(HavePrefix("ready"))
	} else {
		time.Sleep(300 * time.Millisecond)
	}
	begin := time.Now()
	Expect(cmd.Process.Signal(sig)).To(Succeed())
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	_ = cmd.Wait()
	Expect(time.Since(begin)).To(BeNumerically("<", time.Second))
	Expect(last).NotTo(Equal("never"))
	return strings.TrimSpace(strconv.Itoa(cmd.ProcessState.ExitCode()) + " " + last)
}
