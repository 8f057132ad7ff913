// Command rig makes the parts that tests run on, for scripts and by hand: see its usage text.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

const usage = `usage: rig set-up                  everything that tests use, so that they need not wait
       rig debs SUITE PACKAGE...   a directory with the packages' files
       rig program PACKAGE NAME    a program of a package, which runs here
       rig browser                 a Chromium without a screen
       rig nix                     the directory of a Nix that runs here
       rig toolchain               the Nix release tarball and its SHA-256
       rig proot                   a static PRoot and its SHA-256
       rig pack-program            pack
       rig build ATTRIBUTE...      builds attributes of the rig's nixpkgs
       rig store COMMAND...        runs a command with the rig's store as /nix

NIX_HYDRA_ARCH is the architecture that the parts are for: amd64 or arm64, this machine's by default.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := try(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		os.Exit(1)
	}
}

func try(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	r, err := rig.Open(rig.Options{})
	if err != nil {
		return err
	}
	switch {
	case args[0] == "set-up":
		return r.SetUp(ctx)
	case args[0] == "debs" && len(args) > 2:
		return say(r.Debs(ctx, args[1], args[2:]...))
	case args[0] == "program" && len(args) == 3:
		return say(r.Program(ctx, args[1], args[2]))
	case args[0] == "browser":
		return say(r.Browser(ctx))
	case args[0] == "nix":
		nix, err := r.Nix(ctx)
		if err != nil {
			return err
		}
		return say(nix.Bin, nil)
	case args[0] == "toolchain":
		toolchain, err := r.Toolchain(ctx)
		if err != nil {
			return err
		}
		return say(toolchain.Tarball+"\n"+toolchain.SHA256, nil)
	case args[0] == "proot":
		proot, err := r.PRoot(ctx)
		if err != nil {
			return err
		}
		return say(proot.Program+"\n"+proot.SHA256, nil)
	case args[0] == "pack-program":
		return say(r.PackProgram(ctx))
	case args[0] == "build" && len(args) > 1:
		n, err := r.Nixpkgs(ctx)
		if err != nil {
			return err
		}
		paths, err := n.Build(ctx, args[1:]...)
		return say(strings.Join(paths, "\n"), err)
	case args[0] == "store" && len(args) > 1:
		return inStore(ctx, r, args[1:])
	}
	return errors.New(usage)
}

func say(line string, err error) error {
	if err == nil {
		fmt.Println(line)
	}
	return err
}

func inStore(ctx context.Context, r *rig.Rig, args []string) error {
	store, err := r.Store(ctx)
	if err != nil {
		return err
	}
	command, err := store.Command(ctx, args[0], args[1:]...)
	if err != nil {
		return err
	}
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	return command.Run()
}
