package launch_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// The closure's one path, as Nix names it and as relocation would below a view of any length.
const (
	appBase  = "00bgd045z0d4icpbc2yyz4gx48ak44la-app"
	appStore = "/nix/store/" + appBase
)

// built is the directory with the launcher and the test's app, built once by TestMain.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "launch-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // tests start programs of it as other users
	}
	if err == nil {
		built = dir
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// What this process catches is not ignored by those that it starts, even where it was started with it ignored: SIGHUP by
	// nohup, the others by a script's "&".
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func build() error {
	for name, source := range map[string]string{
		"launcher": "github.com/nixproot/nix-hydra-buildpack/cmd/launch", "app": "./testdata/app",
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(built, name), source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if arch := os.Getenv("NIX_HYDRA_ARCH"); arch != "" {
			cmd.Env = append(cmd.Env, "GOARCH="+arch) // QEMU runs them
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

// image is a directory laid out as the layers of a built image are.
type image struct {
	dir    string
	config launch.Config
	env    []string
	attr   func(*exec.Cmd)
}

// newImage lays out the layers of an image whose closure holds the programs app and other. relocated says in which of
// the two forms.
func newImage(t *testing.T, relocated bool) *image {
	t.Helper()
	dir, err := os.MkdirTemp(built, "image-")
	Expect(err).NotTo(HaveOccurred())
	Expect(os.Chmod(dir, 0o755)).To(Succeed())
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	img := &image{dir: dir}
	img.lay(dir, dir, relocated)
	return img
}

// lay writes the layers below at, for an image in which they will be at place.
func (img *image) lay(at, place string, relocated bool) {
	bin := filepath.Join(at, "closure-01", appBase, "bin")
	for _, d := range []string{bin, filepath.Join(at, "store"), filepath.Join(at, "launch", "bin")} {
		Expect(os.MkdirAll(d, 0o755)).To(Succeed())
	}
	copyFile(filepath.Join(built, "app"), filepath.Join(bin, "app"))
	Expect(os.Symlink("app", filepath.Join(bin, "other"))).To(Succeed())
	Expect(os.WriteFile(filepath.Join(bin, "notexec"), []byte("x"), 0o644)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(bin, "badscript"), []byte("#!/no/such/interpreter\n"), 0o755)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(bin, "..", "settings"), []byte("setting=set\n"), 0o644)).To(Succeed())
	real := filepath.Join(place, "closure-01", appBase)
	img.config = launch.Config{
		Engine: launch.Unrelocated, View: filepath.Join(place, "store"), Bin: []string{appStore + "/bin"},
		StorePaths: []string{appStore},
	}
	if relocated {
		img.config.Engine, img.config.Bin = launch.EngineRelocate, []string{filepath.Join(real, "bin")}
	}
	name := appBase
	if keep := len("/nix/store") + 32 - len(img.config.View); relocated && keep > 0 {
		name = appBase[:keep] + appBase[32:] // as relocation names it, where the view's length allows it
	}
	Expect(os.Symlink(real, filepath.Join(at, "store", name))).To(Succeed())
	copyFile(filepath.Join(built, "launcher"), filepath.Join(at, "launch", "bin", launch.ProgramName))
	Expect(os.Link(filepath.Join(at, "launch", "bin", launch.ProgramName),
		filepath.Join(at, "launch", "bin", launch.ProcessProgramName))).To(Succeed())
	Expect(img.config.Write(filepath.Join(at, "launch", launch.ConfigName))).To(Succeed())
}

// builtinsSeeTheStore are lines, each with what it prints where its built-ins see what programs see. APP is the directory
// of the app.
var builtinsSeeTheStore = [][2]string{
	{`command -v app; type -P app`, "APP/bin/app\nAPP/bin/app\n"},
	{`command -v nosuch; echo $?`, "1\n"},
	{`cd APP/bin && app echo *`, "app badscript notexec other\n"},
	{`cd APP && cd bin/.. && app echo s*; cd - >/dev/null; cd APP/no`, "settings\n"},
	{`test -e APP/bin/app && [ -x APP/bin/app ] && [ ! -x APP/bin/notexec ] && echo yes`, "yes\n"},
	{`p="APP/bin/app"; [[ -f $p && -x $p && -r APP/bin/app && ! -x APP/settings ]] && echo y`, "y\n"},
	{`[ -L APP/bin/other ] && [ ! -L APP/bin/app ] && [ -d APP ] && echo links`, "links\n"},
	{`[ "APP/bin/other" = "APP/bin/app" ] || echo apart`, "apart\n"},
	{`echo APP/b*/oth*`, "APP/bin/other\n"},
	{`app upper < APP/settings`, "SETTING=SET\n"},
	{`. APP/settings; echo $setting`, "set\n"},
	{`cd APP; . ./settings; echo $setting; app upper < settings`, "set\nSETTING=SET\n"},
}

// configure changes the image's Config.
func (img *image) configure(change func(*launch.Config)) {
	change(&img.config)
	Expect(img.config.Write(filepath.Join(img.dir, "launch", launch.ConfigName))).To(Succeed())
}

func (img *image) bin(name string) string { return filepath.Join(img.dir, "launch", "bin", name) }

// command is run_proot.sh with args, in a plain environment.
func (img *image) command(args ...string) *exec.Cmd { return img.start(launch.ProgramName, args...) }

// process is a process type's start: a Procfile line and the user's arguments.
func (img *image) process(line string, args ...string) *exec.Cmd {
	return img.start(launch.ProcessProgramName, append([]string{"--process", line}, args...)...)
}

func (img *image) start(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(img.bin(name), args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=/tmp", "PORT=8080", "odd.name=kept"}, img.env...)
	cmd.Dir = img.dir
	if img.attr != nil {
		img.attr(cmd)
	}
	return cmd
}

// result is how a run ended.
type result struct {
	code   int    // -1: killed
	signal string // "" where it was not killed
	out    string
	err    string
	took   time.Duration
}

func run(cmd *exec.Cmd) result {
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errs
	begin := time.Now()
	_ = cmd.Run()
	Expect(cmd.ProcessState).NotTo(BeNil(), "not started: %v", cmd.Args)
	return result{
		code: cmd.ProcessState.ExitCode(), signal: killedBy(cmd.ProcessState), out: out.String(), err: errs.String(),
		took: time.Since(begin),
	}
}

// runFor is run for a command that a defect may keep from ending.
func runFor(most time.Duration, cmd *exec.Cmd) result {
	late := time.AfterFunc(most, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	return run(cmd)
}

// end sends a started command a signal and waits for its end, at most for five seconds; the code is -1 where it was
// killed.
func end(cmd *exec.Cmd, sig os.Signal) int {
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	Expect(cmd.Process.Signal(sig)).To(Succeed())
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// catches reports whether a process has a handler for a signal.
func catches(pid int, sig syscall.Signal) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(status), "SigCgt:")
	line, _, _ := strings.Cut(after, "\n")
	set, _ := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return set>>(uint(sig)-1)&1 == 1
}

// parent is the process that a process is a child of.
func parent(pid int) int {
	stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, after, _ := strings.Cut(string(stat), ") ")
	words := strings.Fields(after + " x x")
	found, _ := strconv.Atoi(words[1])
	return found
}

// children lists the processes that a process is the parent of.
func children(pid int) []int {
	var list []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		_, after, _ := strings.Cut(string(stat), ") ")
		if words := strings.Fields(after); err == nil && len(words) > 1 && words[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(e.Name())
			list = append(list, child)
		}
	}
	return list
}

// until reads lines up to one that holds text, and returns it.
func until(lines *bufio.Scanner, text string) string {
	var before []string
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return lines.Text()
		}
		before = append(before, lines.Text())
	}
	Expect(before).To(ContainElement(ContainSubstring(text)), "it ended (%v)", lines.Err())
	return ""
}

// killedBy names the signal that killed a process, "" for none.
func killedBy(state *os.ProcessState) string {
	if text := state.String(); strings.HasPrefix(text, "signal: ") {
		return strings.TrimPrefix(text, "signal: ")
	}
	return ""
}

// shown is what "app show" prints.
type shown struct {
	Args        []string
	Env         map[string]string
	Dir         string
	PID, Parent int
	UID         int
	Files       []string
	Store       []string
	Caps        string
	NoFile      uint64
	Group       int
	Foreground  int
	Ignored     string
}

func show(cmd *exec.Cmd) shown {
	r := run(cmd)
	Expect(r.code).To(Equal(0), "%+v", r)
	var s shown
	Expect(json.Unmarshal([]byte(r.out), &s)).To(Succeed(), r.out)
	return s
}

func copyFile(from, to string) {
	data, err := os.ReadFile(from)
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(to, data, 0o755)).To(Succeed())
}

// proot is the PRoot that tests run under: a missing one is a failure, as its engine would go untested.
func proot(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("NIX_HYDRA_TEST_PROOT"); path != "" {
		readable := filepath.Join(built, "proot") // by another user too
		if _, err := os.Stat(readable); err != nil {
			data, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(readable, data, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return readable
	}
	path, err := exec.LookPath("proot")
	if err != nil {
		untested.Skip(t, "no PRoot to test with: apt-get install proot, or set NIX_HYDRA_TEST_PROOT to one")
	}
	return path
}
