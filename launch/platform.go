package launch

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// deniedError is a platform's refusal: what it refused, by what, and the setting that changes it.
type deniedError struct {
	what string // the operation and its error
	by   string // what on this machine refuses it; "" where that cannot be seen
	help string
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
	switch {
	case sysctl("user/max_user_namespaces") == "0":
		d.by = "user.max_user_namespaces is 0"
		d.help = "sysctl user.max_user_namespaces=10000 on the host"
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		d.by = "kernel.unprivileged_userns_clone is 0"
		d.help = "sysctl kernel.unprivileged_userns_clone=1 on the host"
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		d.by = "AppArmor restricts unprivileged user namespaces"
		d.help = "sysctl kernel.apparmor_restrict_unprivileged_userns=0 on the host, or a profile that allows userns"
	case errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL):
		d.by = "this kernel or container runtime has no user namespaces"
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EUSERS):
		d.by = "too many user namespaces, or too deeply nested"
		d.help = "raise sysctl user.max_user_namespaces on the host"
	case filtered():
		d.by = "a seccomp filter is in force"
		d.help = "docker run --security-opt seccomp=unconfined, or a profile that allows clone(CLONE_NEWUSER), mount and " +
			"pivot_root; Kubernetes: seccompProfile type Unconfined"
	case errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES):
		d.help = "let the platform allow unprivileged user namespaces and mounts in them (seccomp, AppArmor, SELinux)"
	}
	return d
}

// prootDenied explains why PRoot could not start the app; output is what PRoot printed.
func prootDenied(what, output string) *deniedError {
	d := &deniedError{what: what}
	if output != "" {
		d.what += " (" + output + ")"
	}
	switch {
	case strings.Contains(output, "temporary"):
		d.help = "a writable and executable /tmp (docker run --tmpfs /tmp:exec): PRoot before 5.2 knows no other directory"
	case !strings.Contains(output, "ptrace"):
	case sysctl("kernel/yama/ptrace_scope") == "3":
		d.by = "kernel.yama.ptrace_scope is 3"
		d.help = "a lower kernel.yama.ptrace_scope on the host"
	case filtered():
		d.by = "ptrace is denied, and a seccomp filter is in force"
		d.help = "docker run --cap-add=SYS_PTRACE or --security-opt seccomp=unconfined, or a profile that allows ptrace"
	default:
		d.by = "ptrace is denied"
		d.help = "let the platform allow ptrace (seccomp, AppArmor, SELinux)"
	}
	return d
}

// filtered reports whether this process runs under a seccomp filter.
func filtered() bool {
	data, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(data), "\nSeccomp:\t2\n")
}

func sysctl(name string) string {
	data, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
