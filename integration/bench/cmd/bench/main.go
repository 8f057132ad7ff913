// Command bench measures the project on real parts and prints a row per figure: see its usage text, and
// docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/integration/bench"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

const usage = `usage: scripts/bench [launch|substitute|rebuild|resolve|fleet|purego|instructions|pack|survey|try ...] [--closure DIR] [--pairs N] [--dir DIR]

Measures and prints a tab-separated row per figure: name, value, unit, what it must reach, and ok or short. It exits 0
once everything is measured, whatever the figures are. What it is doing is on standard error.

Without a name it measures all but survey, which builds two thousand packages first, instructions, which wants a C
compiler and the Go tool, and try, which downloads and compiles all that is there already.

  --closure DIR   measure with the closure in this binary cache, a dir, instead of one made from Debian's packages
  --pairs N       how often each comparison is made, 3 unless given; medians count
  --dir DIR       the directory to measure in; without it, the system's directory for temporary files, and in it, for root,
                  a new ext4 file system for each process that writes a closure`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	isChild, err := bench.Child(ctx, os.Args[1:], os.Stdout)
	if !isChild {
		err = try(ctx, os.Args[1:])
	}
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func try(ctx context.Context, args []string) error {
	log := func(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
	options := bench.Options{Out: os.Stdout, Log: log}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	flags.StringVar(&options.Closure, "closure", "", "")
	flags.IntVar(&options.Pairs, "pairs", 0, "")
	under := flags.String("dir", "", "")
	here := flags.String("here", "", "")               // what directories are relative to
	flags.StringVar(&options.PureGo, "purego", "", "") // this program without assembly
	suites, err := parse(flags, args)
	if err != nil {
		return err
	}
	options.Disks = *under == ""
	for _, dir := range []*string{&options.Closure, under} {
		*dir = strings.TrimPrefix(*dir, "file://")
		if *dir != "" && !filepath.IsAbs(*dir) {
			*dir = filepath.Join(*here, *dir)
		}
	}
	if options.Rig, err = rig.Open(rig.Options{Log: log}); err != nil {
		return err
	}
	if options.Dir, err = os.MkdirTemp(*under, "nhb-"); err != nil {
		return err
	}
	defer func() { _ = nar.RemoveAll(options.Dir) }()
	b := bench.New(options)
	for _, suite := range suites {
		if err := b.Measure(ctx, suite); err != nil {
			return err
		}
	}
	return nil
}

// parse takes flags and suites in any order.
func parse(flags *flag.FlagSet, args []string) ([]string, error) {
	var suites []string
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			break
		}
		if suite := flags.Arg(0); !slices.Contains(bench.Suites(), suite) {
			return nil, fmt.Errorf("%q is none of %s", suite, strings.Join(bench.Suites(), ", "))
		}
		suites, args = append(suites, flags.Arg(0)), flags.Args()[1:]
	}
	if len(suites) == 0 {
		suites = slices.DeleteFunc(bench.Suites(), func(name string) bool {
			return slices.Contains([]string{"survey", "instructions", "try"}, name)
		})
	}
	return suites, nil
}
