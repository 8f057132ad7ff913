package nixproot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

// errUsage says that a command line was not understood, and that this was said.
var errUsage = errors.New("usage")

// newFlags are the flags of a command, whose help is usage. What a command is asked for goes to out, help too; what is wrong
// goes to errs, as out is mostly a file or another program's input.
func newFlags(name, usage string, args []string, out, errs io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(errs)
	if slices.ContainsFunc(args, isHelp) {
		errs = out
	}
	flags.Usage = func() { fmt.Fprint(errs, usage) }
	return flags
}

// isHelp reports whether an argument asks for help, as package flag has it.
func isHelp(arg string) bool { return slices.Contains([]string{"-h", "--h", "-help", "--help"}, arg) }

// interspersed parses flags before, between and after other arguments. The error is flag.ErrHelp where help was asked for and
// given, else errUsage.
func interspersed(flags *flag.FlagSet, args []string) (names []string, err error) {
	for {
		switch err := flags.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return nil, err
		case err != nil:
			return nil, errUsage
		case flags.NArg() == 0:
			return names, nil
		}
		names, args = append(names, flags.Arg(0)), flags.Args()[1:]
	}
}

// misused writes what is wrong with a command line, then the usage, which alone answers a command without any arguments.
func misused(errs io.Writer, flags *flag.FlagSet, args []string, wrong string) {
	if len(args) > 0 {
		fmt.Fprintf(errs, "%s: %s\n", flags.Name(), wrong)
	}
	flags.Usage()
}

// oneImage says how many images are given where one is wanted.
func oneImage(names []string) string {
	return fmt.Sprintf("it takes one image, and has %d", len(names))
}

// keyFlag defines --key, which may be given several times. What it returns gives these keys, or those that a build of these
// settings trusts where none is given.
func keyFlag(flags *flag.FlagSet) func() (narinfo.Keys, error) {
	var given narinfo.Keys
	flags.Func("key", "", func(s string) error {
		keys, err := narinfo.ParseKeys(s)
		given = append(given, keys...)
		return err
	})
	return func() (narinfo.Keys, error) {
		if len(given) > 0 {
			return given, nil
		}
		keys, err := narinfo.ParseKeys(os.Getenv("BP_NIX_TRUSTED_PUBLIC_KEYS") + " " + defaultKey)
		if err != nil {
			return nil, fmt.Errorf("reading BP_NIX_TRUSTED_PUBLIC_KEYS: %w", err)
		}
		return keys, nil
	}
}

// interruptedWithin is how long what is being read may take to end after a signal.
const interruptedWithin = 300 * time.Millisecond

// within does something that ends soon after a signal, whatever it is reading: a file system that does not answer would
// not let it end by itself.
func within[T any](do func(context.Context) (T, error)) (T, error) {
	ctx, stop := interruptible()
	defer stop()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(interruptedWithin):
		var none T
		return none, context.Cause(ctx)
	}
}
