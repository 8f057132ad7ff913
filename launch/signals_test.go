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

	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
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

	for _, path := range []string{"PATH=/usr/bin:/bin", "PATH=/nowhere"} {
		for _, line := range []string{
			`app serve 5; app echo never`, `app sleep 60 & app serve 5; app echo never`, `while true; do app serve 5; done`,
			`x() { app serve 5; }; x && app echo never`, `(app serve 5; app echo never); app echo never`,
		} {
			it("reach the programs of "+line+" and its shell, and nothing more is started, with "+path, func() {
				img.env = []string{path}
				Expect(signalled(asFirst(img.process(line)), syscall.SIGTERM)).To(Equal("143 ending by 15"))
			})
		}
	}

	for _, line := range []string{`app sleep 60 & wait`, `read x`, `while true; do true; done`} {
		it("end "+line+" within a second, interpreted or not", func() {
			for _, path := range []string{"PATH=/usr/bin:/bin", "PATH=/nowhere"} {
				img.env = []string{path}
				for _, first := range []bool{false, true} {
					code := 2 // Go's own answer, before main: a busy machine takes long to get there
					for wait := 150 * time.Millisecond; code == 2 && wait < 10*time.Second; wait *= 4 {
						cmd := img.process(line)
						if first {
							cmd = asFirst(cmd)
						}
						in, _ := cmd.StdinPipe()
						Expect(cmd.Start()).To(Succeed())
						time.Sleep(wait)
						if first { // the kernel drops what a namespace's first process does not catch
							Eventually(func() bool { return catches(cmd.Process.Pid, syscall.SIGTERM) }, "30s", "10ms").Should(BeTrue())
						}
						begin := time.Now()
						code = end(cmd, syscall.SIGTERM)
						Expect(time.Since(begin)).To(BeNumerically("<", busy.Limit(4*time.Second)))
						_ = in.Close()
					}
					Expect(code).To(Or(Equal(143), Equal(-1)))
				}
			}
		})
	}

	it("leave all of the line its time, once they came from outside", func() {
		for line, want := range map[string]int{
			`app drain 0.7 3 & app serve 5; true`: 143, `app drain 0.7 3 & wait`: 143, `app drain 0.7 3 & exec app serve 5; true`: 5,
			`app drain 0.7 3; app echo never`: 143,
		} {
			cmd := asFirst(img.process(line))
			out, err := cmd.StdoutPipe()
			Expect(err).NotTo(HaveOccurred())
			Expect(cmd.Start()).To(Succeed())
			lines := bufio.NewScanner(out)
			for range strings.Count(line, "drain") + strings.Count(line, "serve") {
				until(lines, "ready")
			}
			Expect(cmd.Process.Signal(syscall.SIGTERM)).To(Succeed())
			Expect(until(lines, "drained")).To(Equal("drained after 1"), line)
			_ = cmd.Wait()
			Expect(cmd.ProcessState.ExitCode()).To(Equal(want), line)
		}
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
// end well before Docker would kill it, which on an idle machine it does inside a tenth of a second.
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
	Expect(time.Since(begin)).To(BeNumerically("<", busy.Limit(5*time.Second)))
	Expect(last).NotTo(Equal("never"))
	return strings.TrimSpace(strconv.Itoa(cmd.ProcessState.ExitCode()) + " " + last)
}
