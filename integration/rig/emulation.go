package rig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrNoEmulation says that programs of the rig's architecture do not run here.
var ErrNoEmulation = errors.New("programs of another architecture do not run here (as root: apt-get install qemu-user-static binfmt-support)")

// binfmtDir is where the kernel is told what runs a format's programs (Linux, admin-guide/binfmt-misc).
const binfmtDir = "/proc/sys/fs/binfmt_misc"

// formats are the first bytes of an architecture's programs, and which of them count, as QEMU's own
// scripts/qemu-binfmt-conf.sh has them.
var formats = map[string]struct{ magic, mask string }{
	"arm64": {
		`\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00`,
		`\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff`,
	},
	"amd64": {
		`\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00`,
		`\xff\xff\xff\xff\xff\xfe\xfe\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff`,
	},
}

// Emulated makes sure that programs of the rig's architecture run here, also in containers. Where they do not and the
// caller is root, the kernel is told to run them by Debian's QEMU, until the machine is restarted. The error wraps
// ErrNoEmulation.
func (r *Rig) Emulated(ctx context.Context) error {
	if !r.foreign() {
		return nil
	}
	program, err := r.goBuild(ctx, "repack", "./integration/rig/repack")
	if err != nil {
		return err
	}
	if starts(ctx, program) == nil {
		return nil
	}
	if os.Geteuid() != 0 {
		return ErrNoEmulation
	}
	registered := r.register(ctx) // may fail as another run was first
	if err := starts(ctx, program); err != nil {
		return fmt.Errorf("%w: %w", ErrNoEmulation, cmp.Or(registered, err))
	}
	return nil
}

// starts says why a program cannot be started. How it ends does not count.
func starts(ctx context.Context, program string) error {
	err := exec.CommandContext(ctx, program).Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return nil
	}
	return err
}

// register tells the kernel about QEMU. It opens the program at once (flag F), so that containers need not have it, and
// leaves programs the name that they are called by (flag P).
func (r *Rig) register(ctx context.Context) error {
	root, err := r.host().Debs(ctx, Suite, "qemu-user")
	if err != nil {
		return err
	}
	qemu := filepath.Join(root, "usr/bin/qemu-"+r.cpu())
	if _, err := os.Stat(filepath.Join(binfmtDir, "register")); err != nil {
		if err := syscall.Mount("binfmt_misc", binfmtDir, "binfmt_misc", 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", binfmtDir, err)
		}
	}
	format := formats[r.arch]
	line := strings.Join([]string{"", "nix-hydra-" + r.cpu(), "M", "", format.magic, format.mask, qemu, "PF"}, ":")
	r.log("telling the kernel to run %s programs by QEMU", r.arch)
	if err := os.WriteFile(filepath.Join(binfmtDir, "register"), []byte(line), 0o200); err != nil {
		return fmt.Errorf("registering %s: %w", qemu, err)
	}
	return nil
}
