package launch

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"
)

const base = "00bgd045z0d4icpbc2yyz4gx48ak44la-app-1.0"

func TestRelocatedNamesKeepThePathsLength(t *testing.T) {
	RegisterTestingT(t)
	got := viewPath("/layers/nixproot_nix-hydra/store", base)
	Expect(got).To(Equal("/layers/nixproot_nix-hydra/store/00bgd045z0-app-1.0"))
	Expect(got).To(HaveLen(len("/nix/store/" + base)))
	Expect(viewPath("/"+strings.Repeat("x", 9), base)).To(Equal("/xxxxxxxxx/" + base))
	Expect(viewPath("/"+strings.Repeat("x", 8), base)).To(BeEmpty(), "more characters than a hash has")
	Expect(viewPath("/"+strings.Repeat("x", 40), base)).To(HaveSuffix("x/0-app-1.0"))
	Expect(viewPath("/"+strings.Repeat("x", 41), base)).To(BeEmpty(), "none left")
	Expect(viewPath("/layers/nixproot_nix-hydra/store", "nohash")).To(BeEmpty())
}

// relocatedLauncher is a launcher whose closure holds some paths, in a view of a length that relocation takes.
func relocatedLauncher(t *testing.T, bases ...string) (l *launcher, view string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "v")
	Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	view = filepath.Join(dir, "store")
	for _, base := range bases {
		real := filepath.Join(dir, "closure-01", base)
		Expect(os.MkdirAll(filepath.Join(real, "bin"), 0o755)).To(Succeed())
		Expect(os.MkdirAll(view, 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(real, "bin", "app"), []byte("#!x"), 0o755)).To(Succeed())
		Expect(os.Symlink(filepath.Join("..", "closure-01", base), viewPath(view, base))).To(Succeed())
	}
	config := Config{Engine: EngineRelocate, View: view}
	return &launcher{config: config, engine: relocatedChoice(config, "")}, view
}

// placeOf is where relocatedLauncher has a path's files.
func placeOf(view, base string) string { return filepath.Join(filepath.Dir(view), "closure-01", base) }

func TestRelocatedProgramsAreFoundByTheirStorePath(t *testing.T) {
	RegisterTestingT(t)
	l, view := relocatedLauncher(t, base)
	cmd, err := l.command([]string{ProgramName, "/nix/store/" + base + "/bin/app"})
	Expect(err).NotTo(HaveOccurred())
	Expect(cmd.path).To(Equal(placeOf(view, base) + "/bin/app"))
}

func TestStorePathsLeadToTheRelocatedClosure(t *testing.T) {
	RegisterTestingT(t)
	lib := strings.Replace(base, "0", "1", 1)
	lib = lib[:33] + "gtk+-3.2_x"
	l, view := relocatedLauncher(t, base, lib)
	app, gtk := "/nix/store/"+base, "/nix/store/"+lib
	// what the closure does not have: a path of another hash, another output's name, no whole name, no store path
	stranger := "/nix/store/" + strings.Replace(base, "0", "z", 1)
	for text, want := range map[string]string{
		"": "", "no path": "no path", app: "APP", app + "/bin/app": "APP/bin/app", "cat '" + app + "'/x": "cat 'APP'/x",
		"A=" + app + "/lib:" + gtk + "/lib:/usr/lib": "A=APP/lib:GTK/lib:/usr/lib", app + ":" + app: "APP:APP",
		"file://" + app + "/x?y=" + gtk: "file://APP/x?y=GTK", app + "?v=1": "APP?v=1", app + "=/src": "APP=/src",
		"see " + app + ".": "see APP.", app + "\n" + gtk: "APP\nGTK", "\"" + app + "\",": "\"APP\",", "-L" + app + "/lib -I" + gtk: "-LAPP/lib -IGTK", "//" + app: "//APP", app + gtk: "APP" + gtk,
		"/mnt" + app: "/mnt" + app, "../.." + app: "../.." + app, "$ROOT" + app: "$ROOT" + app, "${ROOT}" + app: "${ROOT}" + app,
		"/-x" + app: "/-x" + app, "mnt" + app: "mnt" + app, "/mnt/" + app: "/mnt/" + app, "${ROOT:-}" + app: "${ROOT:-}" + app,
		"${ROOT:+/x}" + app: "${ROOT:+/x}" + app, "https://cache.example.org/" + app: "https://cache.example.org/" + app,
		"A=${A:+$A:}" + app + "/lib": "A=${A:+$A:}APP/lib", "A=$A${A:+:}" + app: "A=$A${A:+:}APP", "${A:-" + app + "}": "${A:-APP}",
		"${A-" + app + "}": "${A-APP}", "${A:+" + app + "}": "${A:+APP}", "${A+" + app + "}": "${A+APP}", "${A:=" + app + "}": "${A:=APP}",
		`{"a":"x\n` + app + `\t` + app + `"}`: `{"a":"x\nAPP\tAPP"}`, "sqlite:///" + app: "sqlite:///APP",
		stranger: stranger, app + "-dev/x": app + "-dev/x", app[:20]: app[:20], "/nix/store/": "/nix/store/",
		"/nix/store": "/nix/store", "/nix/store/.links/" + base: "/nix/store/.links/" + base, app[:43]: app[:43],
		app[:len(app)-1]: app[:len(app)-1], stranger + ":" + app: stranger + ":APP", "/nix/store//nix/store/" + base: "/nix/store//nix/store/" + base,
	} {
		got := strings.NewReplacer(placeOf(view, base), "APP", placeOf(view, lib), "GTK").Replace(l.relocated(text))
		Expect(got).To(Equal(want), text)
	}
	long := strings.Repeat(app+":", maxText/(len(app)+1)) // as long as an argument may be, and with longer names too long
	Expect(l.relocated(long)).To(Equal(strings.ReplaceAll(long, app, viewPath(view, base))))
	l.engine = &choice{name: EngineNative}
	Expect(l.relocated(app)).To(Equal(app), "the run image has it there")
}

func TestTheEnvironmentPointsToWhatTheClosureHasWhereNothingElseIsNamed(t *testing.T) {
	RegisterTestingT(t)
	l, view := relocatedLauncher(t, base)
	there := filepath.Join(t.TempDir(), "there")
	Expect(os.WriteFile(there, nil, 0o600)).To(Succeed())
	value := "/etc/x:/nix/store/" + base + "/share"
	l.config.Defaults = []EnvDefault{
		{Variables: []string{"A", "B"}, Value: value, Others: []string{"C"}, Files: []string{"/no/such"}},
		{Variables: []string{"D"}, Value: value, Files: []string{"/no/such", there}},
	}
	prepared := func(env ...string) []string {
		l.env = env
		l.prepareEnvironment()
		return l.env
	}
	found := "/etc/x:" + placeOf(view, base) + "/share"
	Expect(prepared()).To(Equal([]string{"A=" + found, "B=" + found}))
	for _, own := range []string{"A=own", "B=own", "C=own", "A="} {
		Expect(prepared(own)).To(Equal([]string{own}))
	}
	Expect(prepared("X=/nix/store/"+base+"/lib", "A=1")).To(Equal([]string{"X=" + placeOf(view, base) + "/lib", "A=1"}))
	l.engine = &choice{}
	Expect(prepared()).To(Equal([]string{"A=" + value, "B=" + value}), "an engine will show it there")
}

func TestOneCommandIsToldFromALineForAShell(t *testing.T) {
	RegisterTestingT(t)
	for _, line := range []string{
		"app", "run_proot.sh app -p $PORT", "A=1 B=$C app", `app "a $B" 'c' ${D:-e} "${F:-g h}" ${H+i} ~/x`, "exec app x",
		"app ${B-c} ${D:+e}", "A= app", "app # note", "$APP x", `app \$x a=b --c=d,e`,
	} {
		Expect(parsed(line).NeedsShell()).To(BeFalse(), line)
	}
	for _, line := range []string{
		"a && b", "a; b", "a | b", "a &", "! a", "a > b", "a < b", "a $(b)", "a `b`", "(a)", "{ a; }", "cd x", "exec -a b a", "exec",
		"a $((1+1))", "A=1", "export A=1", "a ${B#c}", "a ${#B}", "a ${B:=c}", "a ${B?c}", "a $$", "a $?", "a $_", "a $LINENO", "a $RANDOM", "a $SRANDOM", "a $SECONDS", "a $UID", "a $EUID", "a $PPID", "a $SHLVL", "a $OLDPWD",
		"a $GROUPS", "a $HOSTNAME", "a $HOSTTYPE", "a $MACHTYPE", "a $OSTYPE", "a $FUNCNAME", "a $PIPESTATUS", "a $DIRSTACK",
		"a $BASH_VERSION", "a $EPOCHSECONDS", "a ${!B}", "a ${!B*}", "a ${B[0]}", "a ${B:1}", "a ${B/c/d}", "coproc a", "a |& b", "a $1", `a "$@"`, "a $#", "a $1 b", "a *.x", "a {b,c}",
		"A+=1 b", "a <(b)", "if a; then b; fi", "f() { a; }; f", "echo a", "test a", ". a", "a ${B:-$(c)}", "[[ a ]]",
	} {
		Expect(parsed(line).NeedsShell()).To(BeTrue(), line)
	}
}

// parsed is a line that parses.
func parsed(text string) Line {
	line, err := ParseLine(text)
	Expect(err).NotTo(HaveOccurred(), text)
	return line
}

func TestALineNamesTheProgramThatItIsOneCommandOf(t *testing.T) {
	RegisterTestingT(t)
	for line, want := range map[string]string{
		"server --port 80": "server", "A=b exec server x": "server", "run_proot.sh run_proot.sh server": "server", "run_proot.sh": "run_proot.sh",
		"PATH=/x server": "", "A=b PATH=/x server": "", "server | log": "", "$SERVER x": "",
	} {
		Expect(parsed(line).Program()).To(Equal(want), line)
	}
}

func TestUnrelocatedProgramsAreFoundThroughLinksBetweenStorePaths(t *testing.T) {
	RegisterTestingT(t)
	dir := t.TempDir()
	view, other := filepath.Join(dir, "store"), strings.Replace(base, "app", "env", 1)
	for _, name := range []string{base, other} {
		Expect(os.MkdirAll(filepath.Join(dir, "closure-01", name, "bin"), 0o755)).To(Succeed())
		Expect(os.MkdirAll(view, 0o755)).To(Succeed())
		Expect(os.Symlink(filepath.Join(dir, "closure-01", name), filepath.Join(view, name))).To(Succeed())
	}
	Expect(os.WriteFile(filepath.Join(dir, "closure-01", base, "bin", "app"), nil, 0o755)).To(Succeed())
	link := filepath.Join(dir, "closure-01", other, "bin", "app")
	Expect(os.Symlink("/nix/store/"+base+"/bin/app", link)).To(Succeed())
	bin := filepath.Join(dir, "closure-01", other, "bin")
	Expect(os.Symlink("/nix/store/"+base+"/bin/gone", filepath.Join(bin, "gone"))).To(Succeed())
	Expect(os.Symlink("loop", filepath.Join(bin, "loop"))).To(Succeed())
	config := Config{Engine: Unrelocated, View: view, Bin: []string{"/nix/store/" + other + "/bin"}}
	ch, err := unrelocatedChoice(config, "")
	Expect(err).NotTo(HaveOccurred())
	l := &launcher{config: config, engine: ch}
	env := environment{"PATH=/nix/store/" + other + "/bin"}
	cmd := &command{argv: []string{"app"}, env: env}
	Expect(l.locate(cmd)).To(Succeed())
	Expect(cmd.path).To(Equal("/nix/store/" + other + "/bin/app"))
	Expect(l.locate(&command{argv: []string{"gone"}, env: env})).NotTo(Succeed())
	Expect(l.locate(&command{argv: []string{"loop"}, env: env})).NotTo(Succeed())
}

func TestNativeUsesTheStoresOwnNames(t *testing.T) {
	RegisterTestingT(t)
	view := "/layers/x/view"
	layer := "/layers/x/closure-07/" + filepath.Base(viewPath(view, base))
	Expect(storeDirs(Config{
		View: view, Bin: []string{layer + "/bin", "/usr/bin"}, StorePaths: []string{"/nix/store/" + strings.Repeat("1", 32) + "-other", "/nix/store/" + base},
	})).To(Equal([]string{"/nix/store/" + base + "/bin"}))
}

func TestUnrelocatedOrder(t *testing.T) {
	RegisterTestingT(t)
	for _, c := range []struct {
		requested, asked string
		want             []string
	}{
		{"", "", []string{EngineUserns, EngineProot}},
		{EngineAuto, EngineAuto, []string{EngineUserns, EngineProot}},
		{EngineProot, "", []string{EngineProot, EngineUserns}},
		{EngineUserns, "", []string{EngineUserns, EngineProot}},
		{EngineUserns, EngineProot, []string{EngineProot}},
		{EngineProot, EngineNative, nil},
	} {
		ch, err := newChoice(Config{Engine: Unrelocated, Requested: c.requested, StorePaths: []string{"/nix/store/none"}},
			c.asked)
		Expect(err).NotTo(HaveOccurred())
		Expect(ch.candidates).To(Equal(c.want), "%+v", c)
	}
}

func TestARelocatedImageRunsNativeWhereTheRunImageHasItsRoots(t *testing.T) {
	RegisterTestingT(t)
	root := filepath.Join(t.TempDir(), base)
	Expect(os.Mkdir(root, 0o755)).To(Succeed())
	view := "/layers/nixproot_nix-hydra/view"
	layer := "/layers/x/closure-07/" + filepath.Base(viewPath(view, base))
	ch := relocatedChoice(Config{View: view, Bin: []string{layer + "/bin"}, StorePaths: []string{root}}, EngineNative)
	Expect(ch.name).To(Equal(EngineNative))
	Expect(ch.why).To(Equal("BPL_NIX_ENGINE asks for it and the run image has every root"))
	Expect(ch.bin).To(Equal([]string{root + "/bin"}))
	Expect(ch.warning).To(BeEmpty())
}

func TestTheReasonForAnUnrelocatedClosureIsTheBuildsElseWhatWasAskedFor(t *testing.T) {
	RegisterTestingT(t)
	Expect(reason(Config{Reason: "a.jar", Requested: EngineProot})).To(Equal(" (a.jar)"))
	Expect(reason(Config{Requested: EngineProot})).To(Equal(" (BP_NIX_ENGINE=proot asked for that)"))
	Expect(reason(Config{Requested: EngineAuto})).To(BeEmpty())
	Expect(reason(Config{})).To(BeEmpty())
}

func TestWhatWouldHelpIsNumberedAndNothingElseIsListed(t *testing.T) {
	RegisterTestingT(t)
	helped := &deniedError{what: "clone", by: "a filter", help: "no filter"}
	l := &launcher{engine: &choice{denied: []denial{{EngineUserns, helped}, {EngineProot, &deniedError{what: "no PRoot"}}}}}
	const head, fix = "no engine can give /nix/store to the app on this platform\n  userns: clone: a filter\n  proot: no PRoot\n" +
		"  relocate: this image's closure is not relocated", "\nto fix it, either\n" +
		"  1. build the image with BP_NIX_ENGINE=relocate, which needs nothing from the platform"
	Expect(l.noEngine()).To(MatchError(head + fix + "\n  2. for userns: no filter"))
	l.engine.strict, l.config.Reason = true, "a.jar"
	Expect(l.noEngine()).To(MatchError(head + " (a.jar)" + fix + ";\n     the build refuses as long as the reason above holds" +
		"\n  2. for userns: no filter\n  3. unset BPL_NIX_ENGINE, so that other engines may be tried"))
}

func TestWhatDeniesAnEngineIsSeenInProc(t *testing.T) {
	RegisterTestingT(t)
	const free, seccomp = "Name:\tx\nSeccomp:\t0\n", "Name:\tx\nSeccomp:\t2\nThreads:\t1\n"
	for _, c := range []struct {
		sysctl, value, status string
		err                   error
		by, help              string
	}{
		{"user/max_user_namespaces", "0", seccomp, unix.ENOSPC, "user.max_user_namespaces is 0", "max_user_namespaces=10000"},
		{"user/max_user_namespaces", "10", free, unix.EUSERS, "too many user namespaces, or too deeply nested", "raise sysctl"},
		{"user/max_user_namespaces", "10", free, unix.ENOSPC, "too many user namespaces, or too deeply nested", "raise sysctl"},
		{"kernel/unprivileged_userns_clone", "0", seccomp, unix.EPERM, "kernel.unprivileged_userns_clone is 0", "clone=1"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", seccomp, unix.EACCES, "AppArmor restricts", "userns=0"},
		{"kernel/apparmor_restrict_unprivileged_userns", "0", seccomp, unix.EACCES, "a seccomp filter is in force", "seccomp=unconfined"},
		{"kernel/x", "", seccomp, unix.ENOSYS, "this kernel or container runtime has no user namespaces", ""},
		{"kernel/x", "", seccomp, unix.EINVAL, "this kernel or container runtime has no user namespaces", ""},
		{"kernel/x", "", free, unix.EPERM, "", "let the platform allow unprivileged user namespaces"},
		{"kernel/x", "", free, unix.EACCES, "", "let the platform allow unprivileged user namespaces"},
		{"kernel/x", "", free, unix.ENOENT, "", ""},
	} {
		by, help := noNamespace(proc(t, c.sysctl, c.value, c.status), c.err)
		Expect(by).To(HavePrefix(c.by), "%+v", c)
		Expect(by == "").To(Equal(c.by == ""), "%+v", c)
		Expect(help).To(ContainSubstring(c.help), "%+v", c)
		Expect(help == "").To(Equal(c.help == ""), "%+v", c)
	}
	const scope, denied = "kernel/yama/ptrace_scope", "ptrace(TRACEME): Operation not permitted"
	for _, c := range []struct{ value, status, output, by, help string }{
		{"3", seccomp, denied, "kernel.yama.ptrace_scope is 3", "a lower kernel.yama.ptrace_scope"},
		{"1", seccomp, denied, "ptrace is denied, and a seccomp filter is in force", "--cap-add=SYS_PTRACE"},
		{"1", free, denied, "ptrace is denied", "let the platform allow ptrace"},
		{"3", seccomp, "can't create temporary file; ptrace", "", "a writable and executable /tmp"},
		{"3", seccomp, "out of memory", "", ""}, {"3", seccomp, "", "", ""},
	} {
		by, help := noTrace(proc(t, scope, c.value, c.status), c.output)
		Expect(by).To(Equal(c.by), "%+v", c)
		Expect(help).To(ContainSubstring(c.help), "%+v", c)
		Expect(help == "").To(Equal(c.help == ""), "%+v", c)
	}
	Expect(prootDenied("proot ended", "").Error()).To(Equal("proot ended"))
	Expect(prootDenied("proot ended", "why").Error()).To(Equal("proot ended (why)"))
	Expect((&deniedError{what: "a", by: "b"}).Error()).To(Equal("a: b"))
}

// proc is a directory with one sysctl, and the status of the process that reads it.
func proc(t *testing.T, sysctl, value, status string) string {
	dir := t.TempDir()
	for name, text := range map[string]string{filepath.Join("sys", sysctl): value + "\n", "self/status": status} {
		file := filepath.Join(dir, name)
		Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
		Expect(os.WriteFile(file, []byte(text), 0o600)).To(Succeed())
	}
	return dir
}

func TestWhatIsThisProcesssOwnIsNotForwarded(t *testing.T) {
	RegisterTestingT(t)
	list := forwarded()
	for _, sig := range []syscall.Signal{
		syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG, syscall.SIGPROF, 32, 33, 34,
	} {
		Expect(list).NotTo(ContainElement(sig))
	}
	Expect(list).To(ContainElements(syscall.SIGTERM, syscall.SIGWINCH, syscall.SIGTSTP, syscall.Signal(35), syscall.Signal(64)))
}

func TestWhatAsksToEndEndsAStart(t *testing.T) {
	RegisterTestingT(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		Expect((&supervisor{early: []syscall.Signal{syscall.SIGHUP, sig}}).interrupted()).To(Equal(&interruptedError{sig}))
	}
	Expect((&supervisor{early: []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1}}).interrupted()).To(Succeed())
}

func TestSignalsAreCaughtOnceSoThatNoneIsLost(t *testing.T) {
	RegisterTestingT(t)
	s := &supervisor{}
	s.watch()
	defer signal.Stop(s.signals)
	first := s.signals
	s.watch()
	Expect(s.signals).To(Equal(first))
}

func TestTheReportedEndCountsWhereThereIsOne(t *testing.T) {
	RegisterTestingT(t)
	const reported, child = status(7 << 8), status(255 << 8)
	ends := make(chan status, 1)
	ends <- reported
	Expect(reportedOr(ends, child)).To(Equal(reported))
	Expect(reportedOr(ends, child)).To(Equal(child), "PRoot has ended, and something holds the pipe")
	close(ends)
	Expect(reportedOr(ends, child)).To(Equal(child))
	least := time.Hour
	for range 5 {
		begin := time.Now()
		Expect(reportedOr(nil, child)).To(Equal(child))
		least = min(least, time.Since(begin))
	}
	Expect(least).To(BeNumerically("<", exitGrace), "nobody reports it")
}

func TestAnEndIsReadHoweverLongTheAppRuns(t *testing.T) {
	RegisterTestingT(t)
	read, write, err := os.Pipe()
	Expect(err).NotTo(HaveOccurred())
	s := &supervisor{signals: make(chan os.Signal)}
	reports := json.NewDecoder(read)
	end := status(7 << 8)
	go func() {
		s.signals <- syscall.SIGTERM // from now on the start is hurried
		_ = json.NewEncoder(write).Encode(report{Ready: true})
		time.Sleep(exitGrace + 50*time.Millisecond)
		_ = json.NewEncoder(write).Encode(report{Exit: &end})
	}()
	r, err := (&launcher{supervisor: s}).readShim(os.Getpid(), read, reports, false)
	Expect(err).NotTo(HaveOccurred())
	Expect(r.Ready).To(BeTrue())
	ends := make(chan status, 1)
	readExit(read, reports, ends)
	Expect(<-ends).To(Equal(end))
}

func TestAChildThatIsOfNoUseEnds(t *testing.T) {
	RegisterTestingT(t)
	cmd := exec.Command("sleep", "1000")
	Expect(cmd.Start()).To(Succeed())
	Expect(endChild(cmd.Process.Pid)).To(Equal(status(syscall.SIGKILL)))
	cmd = exec.Command("sh", "-c", "exit 3")
	Expect(cmd.Start()).To(Succeed())
	Eventually(func() bool { return hasEnded(cmd.Process.Pid) }, "20s", "5ms").Should(BeTrue())
	Expect(endChild(cmd.Process.Pid)).To(Equal(status(3 << 8)))
}

func TestAPRootThatIsGoneIsNotWaitedFor(t *testing.T) {
	RegisterTestingT(t)
	cmd := exec.Command("true")
	Expect(cmd.Run()).To(Succeed())
	least := time.Hour
	for range 5 {
		begin := time.Now()
		_ = endTraced(cmd.Process.Pid)
		least = min(least, time.Since(begin))
	}
	Expect(least).To(BeNumerically("<", exitGrace), "it is no child any more")
}

func TestAPRootThatDoesNotStartLeavesNothingOpen(t *testing.T) {
	RegisterTestingT(t)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes what nobody has closed
	open := func() (files []string) {
		entries, err := os.ReadDir("/proc/self/fd")
		Expect(err).NotTo(HaveOccurred())
		for _, e := range entries {
			file, _ := os.Readlink("/proc/self/fd/" + e.Name())
			files = append(files, file)
		}
		return files
	}
	before := open()
	silent := filepath.Join(t.TempDir(), "silent")
	Expect(os.WriteFile(silent, []byte("#!/bin/bash\nfor fd in /proc/$$/fd/*; do fd=${fd##*/}; [ $fd -lt 3 ] || eval \"exec $fd>&-\"; done\n"+
		"exec sleep 1000\n"), 0o700)).To(Succeed())
	for program, problem := range map[string]string{
		"/no/such": "starting /no/such: no such file or directory", "/bin/false": "proot ended with status 1",
		silent: "proot ended with status 137",
	} {
		l := &launcher{config: Config{PRoot: program}, supervisor: &supervisor{}}
		_, err := l.startTraced(&command{path: "/x"}, "/tmp", true)
		Expect(err).To(MatchError(problem))
		left := func() []string {
			return slices.DeleteFunc(open(), func(file string) bool { return file == "" || slices.Contains(before, file) })
		}
		Eventually(left, "2s", "5ms").Should(BeEmpty())
	}
}

func TestAnEndThatNobodyReportsIsKnownToNobody(t *testing.T) {
	RegisterTestingT(t)
	for _, said := range []string{"", "{", "{}"} {
		read, write, err := os.Pipe()
		Expect(err).NotTo(HaveOccurred())
		_, err = write.WriteString(said)
		Expect(err).NotTo(HaveOccurred())
		Expect(write.Close()).To(Succeed())
		ends := make(chan status, 1)
		readExit(read, json.NewDecoder(read), ends)
		Expect(ends).To(BeClosed(), said)
		Expect(read.Close()).To(MatchError(os.ErrClosed))
	}
}

func TestAnEngineIsProbedByEveryCallThatProgramsUse(t *testing.T) {
	RegisterTestingT(t)
	missed, newer, why := probe(filepath.Join(t.TempDir(), "none"))
	want := []string{"open", "stat", "lstat", "access"}
	if _, err := os.ReadDir("/nix/store"); err != nil {
		want = append(want, "getdents")
	}
	Expect(missed).To(Equal(want))
	Expect(newer).To(Equal([]string{"statx", "faccessat2"}))
	Expect(why).To(MatchError(os.ErrNotExist))
}

func TestThePathThatAnEngineMustShowIsOneOfTheStore(t *testing.T) {
	RegisterTestingT(t)
	l := &launcher{config: Config{Bin: []string{"/usr/bin", "/nix/store/a/bin"}, StorePaths: []string{"/nix/store/b"}}}
	Expect(l.probePath()).To(Equal("/nix/store/a/bin"))
	l.config.Bin = l.config.Bin[:1]
	Expect(l.probePath()).To(Equal("/nix/store/b"))
	l.config.StorePaths = nil
	Expect(l.probePath()).To(Equal("/nix/store"))
}

func TestAUserNamespaceHasTheIDsThatThisOneHas(t *testing.T) {
	RegisterTestingT(t)
	file := filepath.Join(t.TempDir(), "uid_map")
	Expect(os.WriteFile(file, []byte("         0       1000          1\n         1     100000      65536\n"), 0o600)).To(Succeed())
	Expect(allIDs(file)).To(Equal([]syscall.SysProcIDMap{{Size: 1}, {ContainerID: 1, HostID: 1, Size: 65536}}))
	Expect(os.WriteFile(file, []byte("0 0\n"), 0o600)).To(Succeed())
	Expect(allIDs(file)).To(BeEmpty())
	Expect(allIDs(file + "x")).To(BeEmpty())
}

func TestPRootsLoaderGetsTheFirstDirectoryThatItCanBeIn(t *testing.T) {
	RegisterTestingT(t)
	l, dir := &launcher{}, t.TempDir()
	for want, env := range map[string]environment{
		"/anything": {"PROOT_TMP_DIR=/anything", "TMPDIR=" + dir},
		dir:         {"TMPDIR=" + dir, "HOME=/"},
		"/tmp":      {"TMPDIR=."},
	} {
		Expect(l.prootTemp(env)).To(Equal(want))
	}
	Expect(l.prootTemp(environment{"TMPDIR=" + dir + "/none"})).To(Equal("/tmp"))
}

func TestAnOldPRootIsWarnedOfWhereNearlyEveryProgramMissesItsFiles(t *testing.T) {
	RegisterTestingT(t)
	var out strings.Builder
	l := &launcher{stderr: &out}
	l.warnNewer([]string{"faccessat2"})
	Expect(out.String()).To(BeEmpty())
	l.debug = true
	l.warnNewer(nil)
	Expect(out.String()).To(BeEmpty())
	l.warnNewer([]string{"faccessat2"})
	Expect(out.String()).To(Equal("run_proot.sh: this PRoot hides /nix/store from faccessat2: programs that use it miss their files\n"))
	out.Reset()
	l.warnNewer([]string{"faccessat2", "statx"})
	Expect(out.String()).To(Equal("run_proot.sh: this PRoot hides /nix/store from faccessat2, statx: programs that use it miss their " +
		"files: PRoot 5.3.0 or newer does not\n"))
}

func TestPRootsErrorsArePartOfTheMessageWithinBounds(t *testing.T) {
	RegisterTestingT(t)
	var debugged strings.Builder
	said := func(text string) string {
		read, write, err := os.Pipe()
		Expect(err).NotTo(HaveOccurred())
		_, err = write.WriteString(text)
		Expect(err).NotTo(HaveOccurred())
		Expect(write.Close()).To(Succeed())
		messages := make(chan string, 1)
		debugged.Reset()
		(&launcher{debug: true, stderr: &debugged}).readMessages(read, messages)
		Expect(read.Close()).To(MatchError(os.ErrClosed))
		return <-messages
	}
	Expect(said("proot info: x\nproot error: a\nelse\nproot error: b\n")).To(Equal("a; b"))
	Expect(debugged.String()).To(Equal("run_proot.sh: proot info: x\nrun_proot.sh: proot error: a\nrun_proot.sh: else\n" +
		"run_proot.sh: proot error: b\n"))
	long := strings.Repeat("x", 300)
	Expect(said("proot error: " + long + "\nproot error: " + long + "\nproot error: c\n")).To(Equal(long + "; c"))
	for rest, kept := range map[int]bool{211: true, 212: false} {
		more := strings.Repeat("y", rest)
		Expect(strings.HasSuffix(said("proot error: "+long+"\nproot error: "+more+"\n"), more)).To(Equal(kept), "%d", rest)
	}
}

func TestTheEnvironmentKeepsWhatAShellWouldDrop(t *testing.T) {
	RegisterTestingT(t)
	outer := environment{"a.b=1", "PATH=/x", "GONE=1", "EMPTY="}
	outer.prependPath([]string{"/n", "/x"})
	Expect(outer.get("PATH")).To(Equal("/n:/x"))
	outer.unset("GONE")
	Expect(outer).To(Equal(environment{"a.b=1", "PATH=/n:/x", "EMPTY="}))
	var none environment
	none.prependPath(nil)
	Expect(none).To(BeEmpty())
	none.prependPath([]string{"/n"})
	Expect(none).To(Equal(environment{"PATH=/n"}))
}

func TestAVariableIsKnownByItsWholeNameAndSetForItsHolderAlone(t *testing.T) {
	RegisterTestingT(t)
	env := environment{"AB=x", "A", "A=1=2", "B="}
	Expect(env.get("A")).To(Equal("1=2"))
	Expect(env.index("A")).To(Equal(2))
	Expect(env.index("B")).To(Equal(3))
	Expect(env.index("C")).To(BeNumerically("<", 0))
	Expect(env.get("AB=")).To(BeEmpty())
	other := env
	other.set("AB", "y")
	Expect(other).To(Equal(environment{"AB=y", "A", "A=1=2", "B="}))
	other.set("C", "z")
	Expect(other).To(Equal(environment{"AB=y", "A", "A=1=2", "B=", "C=z"}))
	other.unset("A")
	Expect(other).To(Equal(environment{"AB=y", "A", "B=", "C=z"}))
	fewer := env
	fewer.unset("AB")
	Expect(fewer).To(Equal(environment{"A", "A=1=2", "B="}))
	Expect(env).To(Equal(environment{"AB=x", "A", "A=1=2", "B="}))
	roomy := append(make(environment, 0, 8), "A=1")
	one, two := roomy, roomy
	one.set("B", "1")
	two.set("B", "2")
	Expect(one.get("B")).To(Equal("1"))
}

func TestTheShimIsGivenEverything(t *testing.T) {
	RegisterTestingT(t)
	call := shimCall{Engine: EngineProot, Report: 7, Stderr: 9, Terminal: -1, View: "/v", Probe: "/nix/store/x", Strict: true,
		Unset: []string{"A", "B"}, path: "/p\xff", argv: []string{"a", "", "-b", "\xff"}}
	got, err := parseShimCall(call.args()[2:])
	Expect(err).NotTo(HaveOccurred())
	Expect(reflect.DeepEqual(got, call)).To(BeTrue(), "%+v", got)
	_, err = parseShimCall([]string{"x"})
	Expect(err).To(HaveOccurred())
	_, err = parseShimCall([]string{"{}", "/p"})
	Expect(err).To(HaveOccurred())
	_, err = parseShimCall(make([]string, 10))
	Expect(err).To(HaveOccurred())
}

func TestAProgramStartsWithoutATerminalThatIsGone(t *testing.T) {
	RegisterTestingT(t)
	null, err := os.Open(os.DevNull)
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = null.Close() }()
	pid, err := forkExec(&command{path: "/bin/sh", argv: []string{"sh", "-c", "exit 3"}}, os.Stderr, int(null.Fd()), 0)
	Expect(err).NotTo(HaveOccurred())
	var ws syscall.WaitStatus
	Expect(syscall.Wait4(pid, &ws, 0, nil)).To(Equal(pid))
	Expect(ws.ExitStatus()).To(Equal(3))
	_, err = forkExec(&command{path: "/no/such", argv: []string{"x"}}, os.Stderr, int(null.Fd()), 0)
	Expect(err).To(Equal(syscall.ENOENT))
}

func TestFaultyLinesAreNamed(t *testing.T) {
	RegisterTestingT(t)
	for text, want := range map[string]string{
		"":             `parsing command line "": no command`,
		"# only":       `parsing command line "# only": no command`,
		"app 'x":       `column 5: reached EOF without closing quote`,
		"app && ":      "column 5: ",
		"app | | b":    "column 5: ",
		"if x; then y": "column 1: ",
		"app $(":       "column 5: ",
		"app ${%x}":    "is a mksh feature",
		strings.Repeat("{", 2500) + strings.Repeat("(", 2501): "it has more than 5000 brackets",
		strings.Repeat("$[", 5001):                            "it has more than 5000 brackets", strings.Repeat("a[", 5001): "it has more than 5000 brackets",
	} {
		_, err := ParseLine(text)
		Expect(err).To(MatchError(ContainSubstring(want)), text)
		Expect(err).To(BeAssignableToTypeOf(&LineError{}))
	}
	parsed("app '" + strings.Repeat("(", 5000) + "'")
}

func TestLinesAreReadHoweverDeeplyTheyNest(t *testing.T) {
	const longest = 128<<10 - 1 // what Linux takes as an argument
	for what, c := range map[string]struct{ before, level, after string }{
		"brackets": {"", "((", ""}, "negations": {"[[ ", "! ", "a ]]"}, "conditions": {"", "if ", ""}, "loops": {"", "while ", ""},
		"cases": {"", "case a in a) ", ""}, "backquotes": {"", "`", ""}, "pipes": {"", "a|", "a"},
		"clocks": {"", "time ", "a"}, "arithmetic": {"((", "a=", "a))"},
	} {
		t.Run(what, func(t *testing.T) {
			line, err := ParseLine(c.before + strings.Repeat(c.level, (longest-len(c.before)-len(c.after))/len(c.level)) + c.after)
			if err == nil {
				_, _ = line.Files(), line.saysArguments()
			}
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			if memory.StackSys > 256<<20 {
				t.Errorf("the stack has grown to %d MB", memory.StackSys>>20)
			}
		})
	}
}

func FuzzParseLine(f *testing.F) {
	for _, text := range []string{"app -p $PORT", "a && b || c; d &", "exec 2>&1 && a", "if a; then b; fi",
		"f() { a; }; f", "a 3>&1", "x=$(a `b` <<< c) d", "case $x in a) b;; esac", "trap 'a' EXIT; b",
		"exec >f; exec <g; h", "f() { a & wait; }; f | b & wait -n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line, err := ParseLine(text)
		if err != nil {
			return
		}
		l := &launcher{engine: &choice{name: EngineNative}, env: environment{"A=1"}}
		_, _ = line.Program(), line.Files()
		if !line.NeedsShell() {
			_, _, _ = l.expand(line.command)
			return
		}
		if whole, err := line.withArguments([]string{"x"}); err == nil {
			if _, err := ParseLine(whole); err != nil {
				t.Fatalf("%q became %q: %v", text, whole, err)
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"format":1,"engine":"relocate","view":"/v","bin":["/b"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "c")
		if err := c.Write(path); err != nil {
			t.Fatal(err)
		}
		again, err := ReadConfig(path)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%+v became %+v: %v", c, again, err)
		}
	})
}

func TestTheLauncherIsPureGoForBothArchitectures(t *testing.T) {
	RegisterTestingT(t)
	for _, arch := range []string{"amd64", "arm64"} {
		list := exec.Command("go", "list", "-f", "{{.SFiles}}{{.CgoFiles}}{{.CFiles}}", ".")
		list.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
		out, err := list.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), string(out))
		Expect(strings.TrimSpace(string(out))).To(Equal("[][][]"))
	}
}

func TestTheClosuresProgramsAreOfferedUpToTwentyFour(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	l := &launcher{engine: &choice{bin: []string{dir, filepath.Join(dir, "none")}}}
	g.Expect(l.offer()).To(Equal("\nthe closure offers no programs"))
	more := t.TempDir()
	for _, name := range []string{"p01", "p00"} {
		g.Expect(os.WriteFile(filepath.Join(more, name), nil, 0o755)).To(Succeed())
	}
	l.engine.bin = []string{filepath.Join(more, "."), more}
	g.Expect(l.offer()).To(Equal("\nthe closure offers: p00, p01"), "each once")
	g.Expect(os.WriteFile(filepath.Join(dir, "a"), nil, 0o755)).To(Succeed())
	l.engine.bin = []string{more, dir}
	g.Expect(l.offer()).To(Equal("\nthe closure offers: a, p00, p01"), "in order")
	g.Expect(os.Remove(filepath.Join(dir, "a"))).To(Succeed())
	l.engine.bin = []string{dir, filepath.Join(dir, "none")}
	for i := range 26 {
		g.Expect(os.WriteFile(filepath.Join(dir, fmt.Sprintf("p%02d", i)), nil, 0o755)).To(Succeed())
		if i == 23 {
			g.Expect(l.offer()).To(HaveSuffix(", p22, p23"))
		}
	}
	g.Expect(os.WriteFile(filepath.Join(dir, ".p00-wrapped"), nil, 0o755)).To(Succeed())
	g.Expect(l.offer()).To(And(HavePrefix("\nthe closure offers: p00, p01, "), HaveSuffix(", p22, p23 and 2 more")))
}

func TestALinkToItselfIsFollowedToAnEnd(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop")
	g.Expect(os.Symlink(loop, loop)).To(Succeed())
	l := &launcher{config: Config{View: "/view"}}
	g.Expect(l.resolve(loop + "/x")).To(Equal(loop + "/x"))
	g.Expect(l.resolve("/nix//store/./x/../y")).To(Equal("/view/y"))
}

func TestAFileOfTheSourceIsSaidToBeKeptWhereItIsNamed(t *testing.T) {
	g := NewWithT(t)
	t.Chdir(t.TempDir())
	l := &launcher{engine: &choice{}, config: Config{}}
	g.Expect(l.try(&command{}, "./server.sh")).To(MatchError(HavePrefix("./server.sh: no such file: of the source an image keeps the Procfile and " +
		"what BP_INCLUDE_FILES names\n")))
	g.Expect(l.try(&command{}, "/nowhere/server.sh")).To(MatchError(HavePrefix("/nowhere/server.sh: no such file\n")))
}

func TestWithheldSystemCallsAreNotImplemented(t *testing.T) {
	RegisterTestingT(t)
	machine := uint32(unix.AUDIT_ARCH_X86_64)
	if runtime.GOARCH == "arm64" {
		machine = unix.AUDIT_ARCH_AARCH64
	}
	filter := withholding([]uint32{437, 439, 452})
	run := func(machine, call uint32) uint32 {
		var value uint32
		for at := 0; ; at++ {
			switch op := filter[at]; op.Code {
			case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
				value = map[uint32]uint32{0: call, 4: machine}[op.K]
			case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
				if value == op.K {
					at += int(op.Jt)
				} else {
					at += int(op.Jf)
				}
			default:
				return op.K
			}
		}
	}
	for _, call := range []uint32{437, 439, 452} {
		Expect(run(machine, call)).To(Equal(uint32(unix.SECCOMP_RET_ERRNO | int(unix.ENOSYS))))
		Expect(run(unix.AUDIT_ARCH_I386, call)).To(Equal(uint32(unix.SECCOMP_RET_ALLOW)))
	}
	for _, call := range []uint32{0, 436, 438, 451, 453} {
		Expect(run(machine, call)).To(Equal(uint32(unix.SECCOMP_RET_ALLOW)))
	}
}

// TestWhatIsWithheldIsSoInEveryThread runs itself once more, as nothing gives a system call back to a process.
func TestWhatIsWithheldIsSoInEveryThread(t *testing.T) {
	RegisterTestingT(t)
	const child = "LAUNCH_TEST_WITHHOLDS"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), child+"=1")
		out, err := cmd.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), string(out))
		return
	}
	calls := func() (errs [3]error) {
		var stx unix.Statx_t
		_, errs[0] = unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH})
		errs[1] = unix.Statx(unix.AT_FDCWD, "/", 0, 0, &stx)
		root, _ := unix.BytePtrFromString("/")
		if _, _, errno := unix.Syscall6(unix.SYS_FACCESSAT2, 0, uintptr(unsafe.Pointer(root)), 0, 0, 0, 0); errno != 0 {
			errs[2] = errno
		}
		return errs
	}
	ready, withheld, there := make(chan [3]error), make(chan bool), make(chan [3]error)
	go func() {
		runtime.LockOSThread()
		ready <- calls()
		<-withheld
		there <- calls()
	}()
	Expect(<-ready).To(Equal([3]error{}))
	Expect(withhold([]string{"faccessat2"})).To(Succeed())
	Expect(calls()).To(Equal([3]error{unix.ENOSYS, nil, unix.ENOSYS}))
	Expect(withhold([]string{"statx"})).To(Succeed())
	close(withheld)
	Expect(<-there).To(Equal([3]error{unix.ENOSYS, unix.ENOSYS, unix.ENOSYS}))
	untranslated = append(untranslated, unix.SYS_SECCOMP)
	Expect(withhold(nil)).To(Succeed())
	Expect(withhold(nil)).To(Equal(unix.ENOSYS))
}
