package nixproot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/verify"
)

// The exit statuses of the verify command.
const (
	verifyIntact  = 0
	verifyAltered = 1
	verifyFailed  = 2
)

const verifyUsage = `usage: verify [OPTION]... IMAGE

Says for each store path in IMAGE which key signed it and whether its files are what was signed, and names everything
else that decides what the image runs and is not as this buildpack and the lifecycle make it.

IMAGE is a file that docker save wrote, an OCI layout (a directory or an archive), or a buildpack's layers directory
(/layers/nixproot_nix-hydra).

  --key NAME:BASE64   a trusted key; without one, those in BP_NIX_TRUSTED_PUBLIC_KEYS and that of cache.nixos.org
  --root STORE_PATH   a root that the image has to have, and no others than those named so
  --launcher SHA256   the digest of the launcher of the buildpack that made the image, where that is another version
  --lifecycle SHA256  the digest of the lifecycle's launcher
  --accept NAME       what you answer for yourself: an environment variable, a file or a directory of the image, a layer by
                      its digest, a store path that nobody signed

Exit status: 0 all intact and signed, 1 something is not or cannot be accounted for, 2 the image cannot be read.
`

// Verify is the verify command. It writes a line per store path to out, what keeps it from that to errs, and returns the exit
// status.
func Verify(args []string, out, errs io.Writer) int {
	out, errs = newRedacting(out, nil), newRedacting(errs, nil)
	options, name, err := parseVerify(args, out, errs)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return verifyIntact
	case errors.Is(err, errUsage):
		return verifyFailed
	}
	var report *verify.Report
	if err == nil {
		report, err = within(func(ctx context.Context) (*verify.Report, error) { return verify.Image(ctx, name, options) })
	}
	if err == nil {
		err = report.Text(out)
	}
	switch {
	case err != nil:
		fmt.Fprintf(errs, "verify: %s\n", text.Printable(err.Error()))
		return verifyFailed
	case !report.Intact():
		return verifyAltered
	}
	return verifyIntact
}

// parseVerify reads the command line.
func parseVerify(args []string, out, errs io.Writer) (verify.Options, string, error) {
	bin := ownBin()
	options := verify.Options{
		OwnLauncher: func(architecture string) string { return ownLauncher(bin, architecture) },
		PRoots:      ownPRoots(bin), BuildLayers: []string{recordLayer, toolchainLayer, evaluationLayer},
	}
	flags := newFlags("verify", verifyUsage, args, out, errs)
	keys := keyFlag(flags)
	flags.Func("root", "", func(s string) error {
		p, err := storepath.Parse(s)
		options.Roots = append(options.Roots, p)
		return err
	})
	flags.Func("accept", "", func(s string) error {
		options.Accept = append(options.Accept, s)
		return nil
	})
	flags.StringVar(&options.Launcher, "launcher", "", "")
	flags.StringVar(&options.Lifecycle, "lifecycle", "", "")
	names, err := interspersed(flags, args)
	if err != nil {
		return options, "", err
	}
	if len(names) != 1 {
		misused(errs, flags, args, oneImage(names))
		return options, "", errUsage
	}
	options.Launcher = strings.TrimPrefix(options.Launcher, "sha256:")
	options.Lifecycle = strings.TrimPrefix(options.Lifecycle, "sha256:")
	options.Keys, err = keys()
	return options, names[0], err
}

// ownBin is the directory with this program and those that are packaged with it, "" where it cannot be found.
func ownBin() string {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return ""
	}
	return filepath.Dir(self)
}

// ownLauncher is the digest of the launcher that is packaged with this program for an architecture, "" where there is none.
// A package for several has each in linux/ARCH/bin.
func ownLauncher(bin, architecture string) string {
	if architecture != runtime.GOARCH && (architecture == "amd64" || architecture == "arm64") {
		bin = filepath.Join(filepath.Dir(filepath.Dir(bin)), architecture, "bin")
	}
	digest, _ := digestFile(filepath.Join(bin, "launch"))
	return digest
}

// ownPRoots are the digests of the PRoot programs that this buildpack pins.
func ownPRoots(bin string) []string {
	var descriptor struct {
		Metadata struct {
			Dependencies []struct{ ID, Checksum string }
		}
	}
	for dir := filepath.Dir(bin); ; dir = filepath.Dir(dir) {
		_, err := toml.DecodeFile(filepath.Join(dir, "buildpack.toml"), &descriptor)
		if err == nil || dir == filepath.Dir(dir) {
			break
		}
	}
	var sums []string
	for _, d := range descriptor.Metadata.Dependencies {
		if d.ID == prootLayer {
			sums = append(sums, strings.TrimPrefix(d.Checksum, "sha256:"))
		}
	}
	return sums
}
