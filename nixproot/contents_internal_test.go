package nixproot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
)

func TestContents(t *testing.T) {
	suite := spec.New("contents")
	suite("RunToEnd", testRunToEnd)
	suite.Run(t)
}

func testRunToEnd(t *testing.T, _ spec.G, it spec.S) {
	var dir string

	it.Before(func() {
		RegisterTestingT(t)
		dir = t.TempDir()
	})

	run := func(script string) ([]string, string, error) {
		var out strings.Builder
		command := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
		command.Dir, command.Stdout, command.Stderr = dir, &out, &out
		left, err := runToEnd(command)
		return left, out.String(), err
	}
	ended := func(files ...string) {
		for _, file := range files {
			pid, err := os.ReadFile(filepath.Join(dir, file))
			Expect(err).NotTo(HaveOccurred())
			Expect(filepath.Join("/proc", strings.TrimSpace(string(pid)))).NotTo(BeADirectory(), file)
		}
	}

	it("succeeds although processes were left behind, and ends them, whatever they hold and wherever they went", func() {
		left, out, err := run(`
			sleep 1000 & echo $! > holds
			sleep 1000 > /dev/null 2>&1 & echo $! > silent
			setsid sleep 1000 > /dev/null 2>&1 & echo $! > away
			(setsid sh -c 'echo $$ > daemon; exec sleep 1000' > /dev/null 2>&1 &)
			while ! test -s daemon; do sleep 0.01; done
			echo done`)
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(Equal("done\n"))
		Expect(left).To(ConsistOf("sleep", "sleep", "sleep", "sleep"))
		ended("holds", "silent", "away", "daemon")
	})

	it("fails as the command does, and says nothing of what ended by itself", func() {
		left, _, err := run("true & sleep 0.1; exit 7")
		Expect(err).To(MatchError("exit status 7"))
		Expect(left).To(BeEmpty())
	})

	it("interrupts the command and all that it has started when it is told to end", func() {
		command := exec.CommandContext(t.Context(), "/bin/sh", "-c", `
			trap 'echo told >> ended; exit 1' INT
			sh -c 'trap "echo told >> ended; exit 1" INT; touch ready; while :; do sleep 0.01; done'`)
		command.Dir = dir
		go func() {
			for {
				if exists(filepath.Join(dir, "ready")) {
					_ = command.Cancel()
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		_, err := runToEnd(command)
		Expect(err).To(MatchError("exit status 1"))
		Expect(os.ReadFile(filepath.Join(dir, "ended"))).To(BeEquivalentTo("told\ntold\n"))
	})
}
