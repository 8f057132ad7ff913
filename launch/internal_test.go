package launch

import (
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"mvdan.cc/sh/v3/expand"
)

const base = "00bgd045z0d4icpbc2yyz4gx48ak44la-app-1.0"

func TestRelocatedNamesKeepThePathsLength(t *testing.T) {
	RegisterTestingT(t)
	for view, want := range map[string]string{
		"/layers/nixproot_nix-hydra/store": "/layers/nixproot_nix-hydra/store/00bgd045z0-app-1.0/bin/app",
		"/l":                               "/nix/store/" + base + "/bin/app", // more characters than a hash has
		"/" + strings.Repeat("x", 60):      "/nix/store/" + base + "/bin/app", // none left
	} {
		got := relocated(view, base+"/bin/app")
		Expect(got).To(Equal(want))
		Expect(got).To(HaveLen(len("/nix/store/" + base + "/bin/app")))
	}
	Expect(relocated("/layers/nixproot_nix-hydra/store", "nohash/x")).To(Equal("/nix/store/nohash/x"))
}

func TestRelocatedProgramsAreFoundByTheirStorePath(t *testing.T) {
	RegisterTestingT(t)
	dir := t.TempDir()
	view := filepath.Join(dir, strings.Repeat("v", 10))
	if len(view) < 11 || len(view) > 41 {
		dir, err := os.MkdirTemp("/tmp", "v")
		Expect(err).NotTo(HaveOccurred())
		defer func() { _ = os.RemoveAll(dir) }()
		view = filepath.Join(dir, "store")
	}
	real := filepath.Join(filepath.Dir(view), "closure-01", base)
	Expect(os.MkdirAll(filepath.Join(real, "bin"), 0o755)).To(Succeed())
	Expect(os.MkdirAll(view, 0o755)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(real, "bin", "app"), []byte("#!x"), 0o755)).To(Succeed())
	moved := relocated(view, base)
	Expect(os.Symlink(real, moved)).To(Succeed())
	config := Config{Engine: EngineRelocate, View: view}
	l := &launcher{config: config, engine: relocatedChoice(config, "")}
	cmd := &command{argv: []string{"/nix/store/" + base + "/bin/app"}}
	Expect(l.locate(cmd)).To(Succeed())
	Expect(cmd.path).To(Equal(moved + "/bin/app"))
	Expect(cmd.closure).To(BeTrue())
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
	dirs := []string{"/layers/x/closure-07/" + base + "/bin", "/nix/store/" + base + "/sbin", "/usr/bin"}
	Expect(storeDirs(dirs)).To(Equal([]string{"/nix/store/" + base + "/bin", "/nix/store/" + base + "/sbin"}))
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

func TestTheEnvironmentKeepsWhatAShellWouldDrop(t *testing.T) {
	RegisterTestingT(t)
	outer := environment{"a.b=1", "PATH=/x", "GONE=1", "EMPTY="}
	shell := expand.FuncEnviron(func(string) string { return "" })
	Expect(outer.overlay(shell)).To(Equal(outer))
	outer.prependPath([]string{"/n", "/x"})
	Expect(outer.get("PATH")).To(Equal("/n:/x"))
	outer.unset("GONE")
	Expect(outer).To(Equal(environment{"a.b=1", "PATH=/n:/x", "EMPTY="}))
	var none environment
	none.prependPath(nil)
	Expect(none).To(BeEmpty())
}

func TestTheStageInsideIsToldEverything(t *testing.T) {
	RegisterTestingT(t)
	call := innerCall{engine: EngineProot, report: 7, stderr: 9, view: "/v", probe: "/nix/store/x", strict: true,
		unset: []string{"A", "B"}, dir: "/d", path: "/p", argv: []string{"a", "", "-b"}}
	got, err := parseInnerCall(call.args()[1:])
	Expect(err).NotTo(HaveOccurred())
	Expect(reflect.DeepEqual(got, call)).To(BeTrue(), "%+v", got)
	_, err = parseInnerCall([]string{"x"})
	Expect(err).To(HaveOccurred())
	_, err = parseInnerCall(make([]string, 10))
	Expect(err).To(HaveOccurred())
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
	} {
		Expect(CheckLine(text)).To(MatchError(ContainSubstring(want)), text)
	}
	Expect(CheckLine(`run_proot.sh app -p $PORT`)).To(Succeed())
}

func TestSleepKnowsTheTimesThatTheProgramKnows(t *testing.T) {
	RegisterTestingT(t)
	for word, want := range map[string]time.Duration{
		"0": 0, "2": 2 * time.Second, "0.5": time.Second / 2, "1.5s": 1500 * time.Millisecond, "2m": 2 * time.Minute,
		"1h": time.Hour, "1d": 24 * time.Hour, "infinity": math.MaxInt64, "inf": math.MaxInt64, "1e12d": math.MaxInt64,
	} {
		Expect(duration(word)).To(Equal(want), word)
	}
	for _, word := range []string{"", "s", "x", "-1", "nan", "1ms", "1sd", "1w"} {
		_, err := duration(word)
		Expect(err).To(HaveOccurred(), word)
	}
}

func FuzzCheckLine(f *testing.F) {
	for _, text := range []string{"app -p $PORT", "a && b || c; d &", "exec 2>&1 && a", "if a; then b; fi",
		"f() { a; }; f", "a 3>&1", "x=$(a `b` <<< c) d", "case $x in a) b;; esac", "trap 'a' EXIT; b",
		"exec >f; exec <g; h", "f() { a & wait; }; f | b & wait -n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ln, err := parseLine(text)
		if err != nil {
			return
		}
		_ = ln.appendParams()
		_ = ln.source()
		ln.reportStatus()
		ln.reportJobs()
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

func TestTheSenderOfASignalIsKnown(t *testing.T) {
	RegisterTestingT(t)
	received := make(chan os.Signal, 1)
	signal.Notify(received, keys[0], keys[1], keys[2])
	defer signal.Stop(received)
	runtime.LockOSThread() // to itself a thread may send what it likes
	defer runtime.UnlockOSThread()
	noteSenders()
	noteSenders() // again, as a second keeper would
	send := func(sig syscall.Signal, code int32) {
		info := [32]int32{int32(sig), 0, code} // siginfo_t: 128 bytes
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(os.Getpid()), uintptr(unix.Gettid()),
			uintptr(sig), uintptr(unsafe.Pointer(&info)), 0, 0)
		Expect(errno).To(BeZero())
		Eventually(received, "5s").Should(Receive(Equal(sig)))
	}
	const siUser, siQueue = 0, -1
	for _, sig := range keys {
		send(sig, siKernel)
		Expect(pressed()).To(Equal([]syscall.Signal{sig}))
		Expect(fromKeys(sig)).To(BeTrue())
		Expect(pressed()).To(BeEmpty(), "somebody knows")
		Expect(fromKeys(sig)).To(BeTrue())
		for _, code := range []int32{siUser, siQueue} {
			send(sig, code)
			Expect(pressed()).To(BeEmpty())
			Expect(fromKeys(sig)).To(BeFalse())
		}
	}
	Expect(fromKeys(syscall.SIGTERM)).To(BeFalse())
}
