package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// deniedError is a platform's refusal: what it refused, by what, and the setting that changes it.
type deniedError struct {
	what string // the operation and its error
	by   string // what on this machine refuses it; "" where that cannot be seen
	help string // the setting; "" where none is known
}

func (e *deniedError) Error() string {
	if e.by == "" {
		return e.what
	}
	return e.what + ": " + e.by
}

// usernsDenied explains why a user namespace could not be made or used.
func usernsDenied(what string, err error) *deniedError {
	d := &deniedError{what: fmt.Sprintf("%s: %v", what, err)}
	d.by, d.help = noNamespace("/proc", err)
	return d
}

// noNamespace says what refuses user namespaces, as far as the files of proc show that, and which setting helps.
func noNamespace(proc string, err error) (by, help string) {
	switch {
	case sysctl(proc, "user/max_user_namespaces") == "0":
		return "user.max_user_namespaces is 0", "sysctl user.max_user_namespaces=10000 on the host"
	case sysctl(proc, "kernel/unprivileged_userns_clone") == "0":
		return "kernel.unprivileged_userns_clone is 0", "sysctl kernel.unprivileged_userns_clone=1 on the host"
	case sysctl(proc, "kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "AppArmor restricts unprivileged user namespaces",
			"sysctl kernel.apparmor_restrict_unprivileged_userns=0 on the host, or a profile that allows userns"
	case errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL):
		return "this kernel or container runtime has no user namespaces", ""
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EUSERS):
		return "too many user namespaces, or too deeply nested", "raise sysctl user.max_user_namespaces on the host"
	case filtered(proc):
		return "a seccomp filter is in force", "docker run --security-opt seccomp=unconfined, or a profile that allows " +
			"clone(CLONE_NEWUSER), mount and pivot_root; Kubernetes: seccompProfile type Unconfined"
	case errors.Is(err, fs.ErrPermission):
		return "", "let the platform allow unprivileged user namespaces and mounts in them (seccomp, AppArmor, SELinux)"
	}
	return "", ""
}

// prootDenied explains why PRoot could not start the app; output is what PRoot printed.
func prootDenied(what, output string) *deniedError {
	d := &deniedError{what: what}
	if output != "" {
		d.what += " (" + output + ")"
	}
	d.by, d.help = noTrace("/proc", output)
	return d
}

// noTrace says what hinders PRoot, as far as its output and the files of proc show that, and which setting helps.
func noTrace(proc, output string) (by, help string) {
	switch {
	case strings.Contains(output, "temporary"):
		return "", "a writable and executable /tmp (docker run --tmpfs /tmp:exec): PRoot before 5.2 knows no other directory"
	case !strings.Contains(output, "ptrace"):
		return "", ""
	case sysctl(proc, "kernel/yama/ptrace_scope") == "3":
		return "kernel.yama.ptrace_scope is 3", "a lower kernel.yama.ptrace_scope on the host"
	case filtered(proc):
		return "ptrace is denied, and a seccomp filter is in force",
			"docker run --cap-add=SYS_PTRACE or --security-opt seccomp=unconfined, or a profile that allows ptrace"
	}
	return "ptrace is denied", "let the platform allow ptrace (seccomp, AppArmor, SELinux)"
}

// filtered reports whether this process runs under a seccomp filter.
func filtered(proc string) bool {
	data, _ := os.ReadFile(proc + "/self/status")
	return strings.Contains(string(data), "\nSeccomp:\t2\n")
}

func sysctl(proc, name string) string {
	data, _ := os.ReadFile(proc + "/sys/" + name)
	return strings.TrimSpace(string(data))
}
