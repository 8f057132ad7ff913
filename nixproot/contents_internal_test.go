package nixproot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

func TestContents(t *testing.T) {
	suite := spec.New("contents")
	suite("Bin", testBin)
	suite("RunToEnd", testRunToEnd)
	suite("HarmlessAdvice", testHarmlessAdvice)
	suite("Survey", testSurveyCommand)
	suite.Run(t)
}

func testBin(t *testing.T, _ spec.G, it spec.S) {
	var dir string

	it.Before(func() {
		RegisterTestingT(t)
		dir = t.TempDir()
	})

	write := func(name string, mode os.FileMode) {
		Expect(os.WriteFile(filepath.Join(dir, name), nil, mode)).To(Succeed())
	}

	parsed := func(line string) launch.Line {
		parsed, err := launch.ParseLine(line)
		Expect(err).NotTo(HaveOccurred())
		return parsed
	}

	it("counts what can be executed, and neither directories, wrapped programs nor the hook", func() {
		write("app", 0o555)
		write(".app-wrapped", 0o555)
		write("notes.txt", 0o444)
		write(roots.HookName, 0o555)
		Expect(os.Mkdir(filepath.Join(dir, "plugins"), 0o755)).To(Succeed())
		Expect(readBin(dir)).To(Equal(&bin{Programs: []string{"app"}, Hook: true}))
	})

	it("follows links, and believes those that lead to where nothing is here", func() {
		write("notes.txt", 0o444)
		Expect(os.Symlink("notes.txt", filepath.Join(dir, "text"))).To(Succeed())
		Expect(os.Symlink("/nix/store/elsewhere/bin/app", filepath.Join(dir, "app"))).To(Succeed())
		Expect(readBin(dir)).To(Equal(&bin{Programs: []string{"app"}}))
	})

	it("takes no hook that cannot be executed, and no directory that is not there", func() {
		write(roots.HookName, 0o444)
		Expect(readBin(dir)).To(Equal(&bin{}))
		Expect(readBin(filepath.Join(dir, "none"))).To(BeNil())
	})

	it("says of a line with shell syntax that the closure has no shell", func() {
		note := func(line, shell string) string { return shellNote("web", parsed(line), shell) }
		Expect(note("run_proot.sh app -p $PORT", "")).To(BeEmpty())
		Expect(note("cd x && app", "")).To(HavePrefix("web has shell syntax and the closure has no shell: "))
		Expect(note("cd x && app", "/nix/store/x/bin/sh")).To(BeEmpty())
	})

	it("remembers so many programs and no more", func() {
		for i := range 2001 {
			write(fmt.Sprint("program", i), 0o555)
		}
		Expect(readBin(dir).Programs).To(HaveLen(2000))
	})

	it("says of a program that no output has it, and which one may be meant", func() {
		bins := []*bin{nil, {Programs: []string{"python3", "pip"}}, {Programs: []string{"gunicorn"}}}
		note := func(command string) string { return programNote("web", parsed(command), bins) }
		Expect(note("run_proot.sh gunicron app:app")).To(Equal("web names gunicron, which no output has in its bin directory: " +
			"the run image or another buildpack has to have it; did you mean gunicorn?"))
		Expect(note("X=1 exec java -jar app.jar")).To(HaveSuffix("has to have it"))
		Expect(note("ser\u202ever")).To(HavePrefix(`web names ser\u202ever, which`), "and not in another order than it is in")
		for _, fine := range []string{
			"gunicorn app:app", "run_proot.sh run_proot.sh python3 server.py", "./server", "/bin/server", "$SERVER", "PATH=/opt server",
			"cd x && server", "echo x", ".python3-wrapped", roots.HookName, "run_proot.sh gunicorn", `"gunicorn"`,
		} {
			Expect(note(fine)).To(BeEmpty(), fine)
		}
		bins[1].Programs = make([]string, 2000)
		Expect(note("server")).To(BeEmpty(), "not all names are known")
	})

	it("warns of files of the source that a line names and the image does not keep", func() {
		removed := []string{"server.sh", "app.py", "serve", "conf/prod.yml"}
		note := func(command string) string {
			return sourceNote("web", parsed(command), func(name string) bool { return slices.Contains(removed, name) })
		}
		for command, named := range map[string]string{
			"./server.sh": "server.sh", "run_proot.sh ./server.sh $PORT": "server.sh", "python3 app.py": "app.py",
			"gunicorn -c conf/prod.yml app:app": "conf/prod.yml", "cd /tmp; X=1 exec python3 ./app.py app.py": "app.py",
			"sh -x server.sh && python3 app.py": "server.sh, app.py",
		} {
			Expect(note(command)).To(Equal("Warning: web names "+named+" of the source, which the image does not keep: add it to "+
				"BP_INCLUDE_FILES (names and patterns, with colons between them)"), command)
		}
		for _, fine := range []string{"serve", "run_proot.sh serve", "cd x && exec serve", "run_proot.sh other", "python3 main.py", "python3 /app.py", "python3 '$app.py'"} {
			Expect(note(fine)).To(BeEmpty(), fine)
		}
	})

	it("finds the one program of several directories, and none where there are two", func() {
		one, other := &bin{Programs: []string{"app"}}, &bin{Programs: []string{"tool"}}
		Expect(onlyProgram(nil, &bin{}, one, one)).To(Equal("app"))
		Expect(onlyProgram(one, other)).To(BeEmpty())
		Expect(onlyProgram(&bin{Programs: []string{"a", "b"}})).To(BeEmpty())
		Expect(onlyProgram(nil)).To(BeEmpty())
	})
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
		left, _, err = run("(sleep 0 & exec sleep 1000) > /dev/null 2>&1 & sleep 0.2")
		Expect(err).NotTo(HaveOccurred())
		Expect(left).To(Equal([]string{"sleep"}), "the other has ended, and nobody has asked how")
		adopts := int32(-1)
		Expect(unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&adopts)), 0, 0, 0)).To(Succeed())
		Expect(adopts).To(BeZero(), "what others leave behind is not this process's any more")
	})

	it("kills a command that does not care, soon after the build is cancelled", func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		command := exec.CommandContext(ctx, "/bin/sh", "-c", `trap '' INT TERM; touch ready; while :; do sleep 0.05; done`)
		command.Dir = dir
		var told time.Time
		go func() {
			for ctx.Err() == nil && !exists(filepath.Join(dir, "ready")) {
				time.Sleep(time.Millisecond)
			}
			told = time.Now()
			cancel()
		}()
		_, err := runToEnd(command)
		Expect(err).To(HaveOccurred())
		Expect(time.Since(told)).To(BeNumerically("<", busy.Limit(endGrace-100*time.Millisecond)))
	})

	it("interrupts the command and all that it has started when the build is cancelled", func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		command := exec.CommandContext(ctx, "/bin/sh", "-c", `
			trap 'echo signalled >> ended; exit 1' INT
			sh -c 'trap "echo signalled >> ended; exit 1" INT; touch ready; while :; do sleep 0.01; done'`)
		command.Dir = dir
		go func() {
			for ctx.Err() == nil && !exists(filepath.Join(dir, "ready")) {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		_, err := runToEnd(command)
		Expect(err).To(MatchError("exit status 1"))
		Expect(os.ReadFile(filepath.Join(dir, "ended"))).To(BeEquivalentTo("signalled\nsignalled\n"))
	})
}
