package rig

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const capSysAdmin = 21

// sandbox is the configuration of the sandbox program: see integration/rig/sandbox.
type sandbox struct {
	Root, Mount string
	Binds       [][2]string
	Dir         string
	User, Group int
	Env         []string
	Args        []string
}

// sandboxed gives the command that runs a program in a root directory of its own. Where the rig is not root, the program
// runs as the rig's user under the number User.
func (r *Rig) sandboxed(ctx context.Context, j sandbox) (*exec.Cmd, error) {
	program, err := r.host().goBuild(ctx, "sandbox", "./integration/rig/sandbox")
	if err != nil {
		return nil, err
	}
	attributes := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: User, HostID: os.Getuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: Group, HostID: os.Getgid(), Size: 1}}
		attributes.AmbientCaps = []uintptr{capSysAdmin}
		j.User = -1
	}
	for _, name := range []string{"/proc", "/dev", "/sys"} {
		j.Binds = append(j.Binds, [2]string{name, name})
	}
	config, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, program)
	command.Env = []string{"SANDBOX=" + string(config)}
	command.SysProcAttr = attributes
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	return command, nil
}
