// Command app is what the launcher's tests start: it shows what it was given and ends as it is told.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

type shown struct {
	Args   []string
	Env    map[string]string
	Dir    string
	PID    int
	Parent int
	UID    int
	Groups []int
	Files  []string
	Store  []string
	Caps   string
	NoFile uint64
	// Group is the process group, Foreground the terminal's on standard input, Ignored the mask of ignored signals.
	Group, Foreground int
	Ignored           string
}

func main() {
	if len(os.Args) < 2 {
		os.Exit(64)
	}
	switch arg := os.Args[2:]; os.Args[1] {
	case "show":
		show()
	case "exit":
		code, _ := strconv.Atoi(arg[0])
		os.Exit(code)
	case "die":
		die(arg[0])
	case "echo":
		fmt.Println(strings.Join(arg, " "))
	case "upper":
		data, _ := os.ReadFile("/dev/stdin")
		fmt.Print(strings.ToUpper(string(data)))
	case "newer":
		newer(arg[0])
	case "err":
		fmt.Fprintln(os.Stderr, strings.Join(arg, " "))
	case "serve":
		serve(arg)
	case "drain":
		drain(arg)
	case "count":
		count()
	case "leave":
		leave(arg)
	case "orphans":
		orphans(arg)
	case "sleep":
		n, _ := strconv.ParseFloat(arg[0], 64)
		time.Sleep(time.Duration(n * float64(time.Second)))
	}
}

// newer looks at a file by system calls of recent kernels, and says what those gave that older programs do without. Before
// that it says what others gave that make no sense of their arguments, where the kernel seems to have them.
func newer(path string) {
	name, _ := unix.BytePtrFromString(path)
	for _, call := range []uintptr{
		unix.SYS_EXECVEAT, unix.SYS_OPENAT2, unix.SYS_FCHMODAT2, unix.SYS_IO_URING_SETUP, unix.SYS_OPEN_TREE, unix.SYS_SETXATTRAT,
		unix.SYS_GETXATTRAT, unix.SYS_LISTXATTRAT, unix.SYS_REMOVEXATTRAT, unix.SYS_OPEN_TREE_ATTR, unix.SYS_FILE_GETATTR,
		unix.SYS_FILE_SETATTR,
	} {
		const none = ^uintptr(0)
		if _, _, errno := unix.Syscall6(call, ^uintptr(99), uintptr(unsafe.Pointer(name)), none, none, none, none); errno != unix.ENOSYS {
			fmt.Printf("%d: %v, ", call, errno)
		}
	}
	var stx unix.Statx_t
	seen := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS, &stx)
	fmt.Printf("statx: %v, faccessat: %v\n", seen, unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS))
}

func show() {
	s := shown{Args: os.Args, Env: map[string]string{}, PID: os.Getpid(), Parent: os.Getppid(), UID: os.Getuid()}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		s.Env[name] = value
	}
	s.Group = syscall.Getpgrp()
	s.Foreground, _ = unix.IoctlGetInt(0, unix.TIOCGPGRP)
	s.Dir, _ = os.Getwd()
	s.Groups, _ = os.Getgroups()
	for fd := range 64 {
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0); errno == 0 {
			target, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			// The Go runtime holds some itself: its poller, and the limits of its control group where it finds those.
			if !strings.HasPrefix(target, "anon_inode:") && !strings.Contains(target, "/cgroup/") {
				s.Files = append(s.Files, fmt.Sprintf("%d=%s", fd, target))
			}
		}
	}
	entries, _ := os.ReadDir("/nix/store")
	for _, e := range entries {
		s.Store = append(s.Store, e.Name())
	}
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if name, value, _ := strings.Cut(line, ":\t"); name == "CapEff" {
			s.Caps = value
		} else if name == "SigIgn" {
			s.Ignored = value
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(s)
}

// die ends by a signal that the Go runtime does not keep to itself: 1, 9 or 15.
func die(number string) {
	n, _ := strconv.Atoi(number)
	_ = syscall.Kill(os.Getpid(), syscall.Signal(n))
	time.Sleep(10 * time.Second)
}

// serve says it is ready, reports every signal, and ends with the first argument as status on a terminating one.
func serve(arg []string) {
	code, _ := strconv.Atoi(arg[0])
	got := make(chan os.Signal, 16)
	signal.Notify(got)
	fmt.Println("ready", os.Getpid())
	for s := range got {
		switch sig := s.(syscall.Signal); sig {
		case syscall.SIGURG, syscall.SIGCHLD, syscall.SIGCONT:
		case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
			fmt.Println("ending by", int(sig))
			os.Exit(code)
		default:
			fmt.Println("got", int(sig))
		}
	}
}

// drain waits for a terminating signal and then ends after some seconds with a status, and says how many signals came.
func drain(arg []string) {
	seconds, _ := strconv.ParseFloat(arg[0], 64)
	code, _ := strconv.Atoi(arg[1])
	got := make(chan os.Signal, 16)
	signal.Notify(got, syscall.SIGTERM)
	fmt.Println("ready")
	<-got
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	fmt.Println("drained after", 1+len(got))
	os.Exit(code)
}

// count says how many SIGINTs came within a fifth of a second of the first.
func count() {
	got := make(chan os.Signal, 16)
	signal.Notify(got, syscall.SIGINT)
	fmt.Println("ready")
	<-got
	time.Sleep(200 * time.Millisecond)
	fmt.Println("interrupts", 1+len(got))
}

// leave ends with a status while a child of it, in a session of its own, still runs.
func leave(arg []string) {
	code, _ := strconv.Atoi(arg[0])
	exe, _ := os.Executable()
	cmd := exec.Command(exe, "sleep", arg[1])
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		os.Exit(99)
	}
	fmt.Println("left", cmd.Process.Pid)
	os.Exit(code)
}

// orphans starts children that leave a grandchild each, waits for those to end, and counts the zombies there are.
func orphans(arg []string) {
	n, _ := strconv.Atoi(arg[0])
	exe, _ := os.Executable()
	for range n {
		_ = exec.Command(exe, "leave", "0", "0.05").Run()
	}
	time.Sleep(500 * time.Millisecond)
	entries, _ := os.ReadDir("/proc")
	zombies := 0
	for _, e := range entries {
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err == nil && strings.Contains(string(stat), "(app) Z ") {
			zombies++
		}
	}
	fmt.Println("zombies", zombies)
}
