// Command rig makes the parts that tests run on, by hand: see its usage text.
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

const usage = `usage: rig debs SUITE PACKAGE...   a directory with the packages' files
       rig nix                     the directory of a Nix that runs here
       rig store COMMAND...        runs a command with the rig's store as /nix
       rig build ATTRIBUTE...      builds attributes of the rig's nixpkgs
       rig families ATTRIBUTE...   builds attributes of its stand-in for other families
       rig images                  base images in the Docker engine
       rig pack                    pack and its builder
       rig hydra DIR NAME FILE     builds a source as Hydra does; prints its store path and the outputs
       rig sample NAME DIR         copies a sample to DIR with the rig's nixpkgs as its pin
       rig big COMPRESSION         a signed cache of a closure of more than a gigabyte, and its root
       rig survey                  a signed cache of two thousand packages of Debian, and how many there are
       rig set-up                  everything that tests use, so that they need not wait
       rig pack-program            pack alone
       rig program PACKAGE NAME    a program of a package, which runs here
       rig proot                   a static PRoot and its SHA-256
       rig buildpack DIR           the buildpack with stand-ins for what it downloads
       rig toolchain               the Nix release tarball and its SHA-256
       rig emulated                fails where programs of $NIX_HYDRA_ARCH do not run here

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
	case args[0] == "debs" && len(args) > 2:
		return say(r.Debs(ctx, args[1], args[2:]...))
	case args[0] == "nix":
		nix, err := r.Nix(ctx)
		if err != nil {
			return err
		}
		return say(nix.Bin, nil)
	case args[0] == "emulated":
		return r.Emulated(ctx)
	case args[0] == "images":
		images, err := r.Images(ctx)
		if err != nil {
			return err
		}
		return say(images.Build+"\n"+images.Run+"\n"+images.RunScratch, nil)
	case args[0] == "pack":
		pack, err := r.Pack(ctx)
		if err != nil {
			return err
		}
		return say(pack.Program+"\n"+pack.Builder, nil)
	case args[0] == "hydra" && len(args) > 3, args[0] == "sample" && len(args) == 3:
		n, err := r.Nixpkgs(ctx)
		if err != nil {
			return err
		}
		if args[0] == "sample" {
			return say(n.Sample(ctx, args[1], args[2]))
		}
		built, err := n.AsHydra(ctx, args[1], args[2], args[3], args[4:]...)
		if err != nil {
			return err
		}
		return say(built.Source+"\n"+strings.Join(built.Paths, "\n"), nil)
	case args[0] == "set-up":
		return r.SetUp(ctx)
	case args[0] == "survey":
		key, err := r.Key(ctx, "hydra.example.org-1")
		if err != nil {
			return err
		}
		dir, paths, err := r.Survey(ctx, key, func(made, all int) error {
			fmt.Fprintf(os.Stderr, "rig: %d of %d packages\n", made, all)
			return nil
		})
		return say(fmt.Sprintf("%s\n%d", dir, len(paths)), err)
	case args[0] == "big" && len(args) == 2:
		return big(ctx, r, args[1])
	case args[0] == "pack-program":
		return say(r.PackProgram(ctx))
	case args[0] == "program" && len(args) == 3:
		return say(r.Program(ctx, args[1], args[2]))
	case args[0] == "proot":
		proot, err := r.PRoot(ctx)
		if err != nil {
			return err
		}
		return say(proot.Program+"\n"+proot.SHA256, nil)
	case args[0] == "buildpack" && len(args) == 2:
		buildpack, err := r.Buildpack(ctx, args[1], rig.BuildpackOptions{})
		if err != nil {
			return err
		}
		return say(buildpack.Toolchain+"\n"+buildpack.PRoot, nil)
	case args[0] == "toolchain":
		toolchain, err := r.Toolchain(ctx)
		if err != nil {
			return err
		}
		return say(toolchain.Tarball+"\n"+toolchain.SHA256, nil)
	case (args[0] == "build" || args[0] == "families") && len(args) > 1:
		open := r.Nixpkgs
		if args[0] == "families" {
			open = r.Families
		}
		n, err := open(ctx)
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

func big(ctx context.Context, r *rig.Rig, compression string) error {
	closure, err := r.BigClosure(ctx)
	if err != nil {
		return err
	}
	key, err := r.Key(ctx, "hydra.example.org-1")
	if err != nil {
		return err
	}
	dir, err := r.Cache(ctx, rig.CacheOptions{Compression: compression, Key: key}, closure.Root)
	return say(dir+"\n"+closure.Root, err)
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
