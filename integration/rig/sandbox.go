package rig

import (
	"context"
	_ "embed"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

//go:embed sandbox.pl
var sandboxScript string

// sandbox is a program in a root directory of its own. Where the rig is not root, the program runs as the rig's user under
// another number.
type sandbox struct {
	Root        string      // the directory whose entries make the root directory
	Mount       string      // an empty directory to put it together on
	Binds       [][2]string // further directories: their places inside, each with the directory outside
	Dir         string      // the current directory inside
	User, Group int
	Env, Args   []string
}

// command is what runs the program, with what every Debian has. Its SysProcAttr is the caller's.
func (s sandbox) command(ctx context.Context) *exec.Cmd {
	args, unshare := []string{"--mount", "--propagation", "private"}, 0
	if os.Geteuid() != 0 {
		args, unshare = append(args, "--user", "--map-root-user"), syscall.SYS_UNSHARE
	}
	args = append(args, "--", "perl", "-e", sandboxScript, strconv.Itoa(syscall.SYS_MOUNT), strconv.Itoa(unshare), s.Dir,
		strconv.Itoa(s.User), strconv.Itoa(s.Group), s.Root, s.Mount, strconv.Itoa(len(s.Binds)))
	for _, pair := range s.Binds {
		args = append(args, pair[0], pair[1])
	}
	args = append(append(args, strconv.Itoa(len(s.Env))), s.Env...)
	command := exec.CommandContext(ctx, "unshare", append(args, s.Args...)...)
	command.Env = append(os.Environ(), "LC_ALL=C") // perl complains of languages that the machine has not
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	return command
}

// kernel are the directories that the kernel makes.
var kernel = [][2]string{{"/proc", "/proc"}, {"/dev", "/dev"}, {"/sys", "/sys"}}
