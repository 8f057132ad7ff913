package nixproot

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/inspect"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const inspectUsage = `usage: inspect [--json | --html] IMAGE
       inspect why [--json] IMAGE PATH
       inspect diff [--json] IMAGE OTHER
       inspect verify [OPTION]... IMAGE

Shows what is in IMAGE: by store path and by layer, how large, and who is said to have signed it; with --html as one
page with a treemap, which needs nothing else. It checks nothing of it: that is verify's, which bin/verify is too.

  why     the chain of references from a root to PATH, which is a store path, a part of its name, or a file of the image
  diff    what OTHER has that IMAGE has not, and the other way round
  verify  who signed what, and whether anything was altered; inspect verify --help says more

IMAGE is a file that docker save wrote, an OCI layout (a directory or an archive), or a buildpack's layers directory.

Exit status: 0 it is shown, 2 the image cannot be read, or has no such path; verify has its own.
`

// Inspect is the inspect command. It writes what it shows to out, what keeps it from that to errs, and returns the exit status:
// 0, or 2 where the image cannot be read.
func Inspect(args []string, out, errs io.Writer) int {
	if len(args) > 0 && args[0] == "verify" {
		return Verify(args[1:], out, errs)
	}
	errs = newRedacting(errs, nil)
	flags := newFlags("inspect", inspectUsage, args, out, errs)
	asJSON := flags.Bool("json", false, "")
	asHTML := flags.Bool("html", false, "")
	names, err := interspersed(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	verb, want := "", 1
	for i, name := range names[:min(len(names), 2)] { // before the image or after it
		if (len(names) == 3 || len(names) == 1 && !exists(name)) && (name == "why" || name == "diff") {
			verb, want, names = name, 2, slices.Delete(names, i, i+1)
			break
		}
	}
	if err != nil || len(names) != want || *asHTML && (*asJSON || verb != "") {
		if err == nil {
			misused(errs, flags, args, wrongCall(verb, names, *asJSON, *asHTML))
		}
		return verifyFailed
	}
	shown, err := within(func(ctx context.Context) ([]byte, error) {
		var shown bytes.Buffer
		err := inspectImage(ctx, &shown, verb, names, *asJSON, *asHTML)
		return shown.Bytes(), err
	})
	if err == nil {
		_, err = out.Write(shown)
	}
	if err != nil {
		fmt.Fprintf(errs, "inspect: %s\n", text.Printable(err.Error()))
		return verifyFailed
	}
	return 0
}

// wrongCall says what a command line lacks, or has too much.
func wrongCall(verb string, names []string, asJSON, asHTML bool) string {
	switch {
	case asHTML && asJSON:
		return "--html and --json do not go together"
	case asHTML && verb != "":
		return "--html is of one image, without " + verb
	case verb == "why" || slices.Contains(names, "why"):
		return "why takes an image and a path"
	case verb == "diff" || slices.Contains(names, "diff"):
		return "diff takes two images"
	}
	return oneImage(names)
}

// inspectImage does what a verb says.
func inspectImage(ctx context.Context, out io.Writer, verb string, names []string, asJSON, asHTML bool) error {
	report, err := inspect.Read(ctx, names[0])
	if err != nil {
		return err
	}
	switch {
	case verb == "why":
		all, err := report.Why(names[1])
		if err != nil || !asJSON {
			return errors.Join(err, inspect.WriteWhy(out, all))
		}
		return inspect.WriteJSON(out, all)
	case verb == "diff":
		other, err := inspect.Read(ctx, names[1])
		if err != nil {
			return err
		}
		d := inspect.Compare(report, other)
		if asJSON {
			return d.JSON(out)
		}
		return d.Text(out)
	case asJSON:
		return report.JSON(out)
	case asHTML:
		return report.HTML(out)
	}
	return report.Text(out)
}
