package processgroup_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/processgroup"
)

// run runs a line that prints the process it starts; its context ends once that is printed.
func run(t *testing.T, line string, cancel bool) (started string, err error) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	var out writer
	if cancel {
		out.written = end
	}
	cmd.Stdout = &out
	err = processgroup.Run(cmd, syscall.SIGTERM, 200*time.Millisecond, 200*time.Millisecond)
	return strings.TrimSpace(out.String()), err
}

type writer struct {
	strings.Builder
	written func()
}

func (w *writer) Write(p []byte) (int, error) {
	if w.written != nil {
		defer w.written()
	}
	return w.Builder.Write(p)
}

// isRunning reports whether there is a process that has not ended.
func isRunning(pid string) bool {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	return err == nil && !bytes.Contains(status, []byte("\nState:\tZ"))
}

func TestACommandIsEndedWithItsGroup(t *testing.T) {
	for _, line := range []string{
		"sleep 60 & echo $!; wait",
		`trap "" TERM; sleep 60 & echo $!; wait; wait`,                      // neither hears of it
		`trap "exit 0" TERM; (trap "" TERM; exec sleep 60) & echo $!; wait`, // the command ends, and leaves what does not
	} {
		g := NewWithT(t)
		started, err := run(t, line, true)
		g.Expect(err).To(HaveOccurred(), line)
		g.Expect(started).NotTo(BeEmpty(), line)
		g.Eventually(func() bool { return isRunning(started) }, "10s").Should(BeFalse(), line)
	}
}

func TestACommandMayLeaveWhatHoldsItsOutput(t *testing.T) {
	g := NewWithT(t)
	began := time.Now()
	started, err := run(t, "sleep 60 & echo $!", false)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(time.Since(began)).To(BeNumerically("<", 30*time.Second))
	g.Expect(isRunning(started)).To(BeTrue())
	g.Expect(exec.Command("kill", started).Run()).To(Succeed())
	_, err = run(t, "exit 3", false)
	g.Expect(err).To(MatchError("exit status 3"))
}
