package nixproot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// The exit statuses of the verify command.
const (
	verifyIntact  = 0
	verifyAltered = 1
	verifyFailed  = 2
)

const verifyUsage = `usage: verify [--key NAME:BASE64]... IMAGE

Says for each store path in IMAGE which key signed it and whether its files are what was signed.

IMAGE is a file that docker save wrote, an OCI layout, or a layers folder (/layers/nixproot_nix-hydra).
Without --key, the keys in BP_NIX_TRUSTED_PUBLIC_KEYS and that of cache.nixos.org are trusted.
Exit status: 0 all intact and signed, 1 something is not, 2 the image cannot be read.
`

// Verify is the verify command. It writes a line per store path to out and returns the exit status.
func Verify(args []string, out io.Writer) int {
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { fmt.Fprint(out, verifyUsage) }
	var keys keyList
	flags.Var(&keys, "key", "a trusted key, name:base64")
	if err := flags.Parse(args); err != nil {
		return verifyFailed
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return verifyFailed
	}
	ctx, stop := interruptible()
	defer stop()
	audit, err := verifyImage(ctx, flags.Arg(0), keys)
	if err != nil {
		fmt.Fprintf(out, "verify: %v\n", err)
		return verifyFailed
	}
	return report(out, audit)
}

// keyList collects --key flags.
type keyList narinfo.Keys

func (k *keyList) String() string { return "" }

// Set adds a key.
func (k *keyList) Set(s string) error {
	keys, err := narinfo.ParseKeys(s)
	*k = append(*k, keys...)
	return err
}

// verifyImage unpacks an image's closure layers where that is needed, and audits them.
func verifyImage(ctx context.Context, path string, keys keyList) (*closure.Audit, error) {
	if len(keys) == 0 {
		trusted, err := narinfo.ParseKeys(os.Getenv("BP_NIX_TRUSTED_PUBLIC_KEYS") + " " + defaultKey)
		if err != nil {
			return nil, fmt.Errorf("reading BP_NIX_TRUSTED_PUBLIC_KEYS: %w", err)
		}
		keys = keyList(trusted)
	}
	options := closure.VerifyOptions{Keys: narinfo.Keys(keys)}
	layersDir := path
	if !isLayersDir(path) {
		scratch, clean, err := scratchDir()
		if err != nil {
			return nil, err
		}
		defer clean()
		image, err := openImage(path)
		if err != nil {
			return nil, err
		}
		if options.Manifests, err = imageManifests(image); err != nil {
			return nil, err
		}
		if layersDir, err = unpackClosure(ctx, image, scratch); err != nil {
			return nil, err
		}
	}
	options.View = filepath.Join(layersDir, viewLayer)
	return closure.Verify(ctx, layersDir, options)
}

func isLayersDir(path string) bool {
	matches, err := filepath.Glob(filepath.Join(path, closure.LayerPrefix+"*"))
	return err == nil && len(matches) > 0
}

// report writes the audit for people.
func report(out io.Writer, audit *closure.Audit) int {
	bad, untrusted := 0, 0
	for _, p := range audit.Paths {
		switch {
		case p.Problem != "":
			bad++
			fmt.Fprintf(out, "ALTERED   %s (%s): %s\n", p.Path, p.Layer, p.Problem)
		case p.Signed == "" && len(p.Claimed) == 0:
			untrusted++
			fmt.Fprintf(out, "UNSIGNED  %s (%s)\n", p.Path, p.Layer)
		case p.Signed == "":
			untrusted++
			fmt.Fprintf(out, "UNTRUSTED %s (%s) signed by %s\n", p.Path, p.Layer, strings.Join(p.Claimed, ", "))
		default:
			fmt.Fprintf(out, "intact    %s (%s) %s\n", p.Path, p.Layer, p.Signed)
		}
	}
	for _, extra := range audit.Extra {
		fmt.Fprintf(out, "EXTRA     %s belongs to no store path\n", extra)
	}
	fmt.Fprintf(out, "%s: %d intact and signed, %d altered, %d signed by no trusted key, %s that belong to none\n",
		roots.Plural(len(audit.Paths), "store path"), len(audit.Paths)-bad-untrusted, bad, untrusted, roots.Plural(len(audit.Extra), "file"))
	if bad+untrusted+len(audit.Extra) > 0 {
		return verifyAltered
	}
	return verifyIntact
}

// errNoClosure says that an image is not one of ours.
var errNoClosure = errors.New("the image has no closure layers: it was not made by this buildpack")
