package nixproot

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/inspect"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
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
  --accept NAME       an environment variable, a file or a directory of the image that you answer for yourself

Exit status: 0 all intact and signed, 1 something is not or cannot be accounted for, 2 the image cannot be read.
`

// interruptedWithin is how long what is being read may take to end after a signal.
const interruptedWithin = 300 * time.Millisecond

// Verify is the verify command. It writes a line per store path to out and returns the exit status.
func Verify(args []string, out io.Writer) int {
	options, name, err := parseVerify(args, out)
	if err != nil {
		return verifyFailed
	}
	v, err := within(func(ctx context.Context) (*verdict, error) { return verifyImage(ctx, name, options) })
	if err != nil {
		fmt.Fprintf(out, "verify: %s\n", inspect.Printable(err.Error()))
		return verifyFailed
	}
	return v.report(out)
}

// verifyOptions is what the command line says.
type verifyOptions struct {
	keys      keyList
	roots     rootList
	accept    wordList
	launcher  string // digests, in hex
	lifecycle string
	// bin is the directory with this version's programs, "" where that is not known.
	bin string
}

func parseVerify(args []string, out io.Writer) (verifyOptions, string, error) {
	options := verifyOptions{bin: ownBin()}
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { fmt.Fprint(out, verifyUsage) }
	flags.Var(&options.keys, "key", "")
	flags.Var(&options.roots, "root", "")
	flags.Var(&options.accept, "accept", "")
	flags.StringVar(&options.launcher, "launcher", "", "")
	flags.StringVar(&options.lifecycle, "lifecycle", "", "")
	if err := flags.Parse(args); err != nil {
		return options, "", err
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return options, "", errors.New("one image is to be named")
	}
	options.launcher = strings.TrimPrefix(options.launcher, "sha256:")
	options.lifecycle = strings.TrimPrefix(options.lifecycle, "sha256:")
	return options, flags.Arg(0), nil
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

// rootList collects --root flags.
type rootList []storepath.Path

func (r *rootList) String() string { return "" }

// Set adds a store path.
func (r *rootList) Set(s string) error {
	p, err := storepath.Parse(s)
	*r = append(*r, p)
	return err
}

// wordList collects flags that may be given several times.
type wordList []string

func (w *wordList) String() string { return "" }

// Set adds a word.
func (w *wordList) Set(s string) error {
	*w = append(*w, s)
	return nil
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

// ownLauncher is the launcher that is packaged with this program for an architecture. A package for several has each
// in linux/ARCH/bin.
func (o verifyOptions) ownLauncher(architecture string) string {
	bin := o.bin
	if architecture != runtime.GOARCH && (architecture == "amd64" || architecture == "arm64") {
		bin = filepath.Join(filepath.Dir(filepath.Dir(bin)), architecture, "bin")
	}
	return filepath.Join(bin, "launch")
}

// ownPRoots are the digests of the PRoot programs that this buildpack pins.
func (o verifyOptions) ownPRoots() []string {
	var descriptor struct {
		Metadata struct {
			Dependencies []struct{ ID, Checksum string }
		}
	}
	for dir := filepath.Dir(o.bin); ; dir = filepath.Dir(dir) {
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

// verdict is what verify says of an image.
type verdict struct {
	audit    *closure.Audit
	findings []finding
	// facts are lines about what cannot be proven, for people to compare.
	facts []string
	// uncovered is what "verified" does not cover, beyond what it never does.
	uncovered []string
}

// finding is something that is not as it should be, or that nobody can account for.
type finding struct {
	word  string // altered, extra or unknown
	where string
	why   string
}

// The words of findings. What is altered is not what was made; what is extra belongs to nothing that was; what is
// unknown may be right, and this program cannot tell.
const (
	altered = "ALTERED"
	extra   = "EXTRA"
	unknown = "UNKNOWN"
)

func (v *verdict) add(word, where, format string, args ...any) {
	v.findings = append(v.findings, finding{word, where, fmt.Sprintf(format, args...)})
}

// verifyImage checks an image, or the layers in a directory.
func verifyImage(ctx context.Context, name string, options verifyOptions) (*verdict, error) {
	if len(options.keys) == 0 {
		trusted, err := narinfo.ParseKeys(os.Getenv("BP_NIX_TRUSTED_PUBLIC_KEYS") + " " + defaultKey)
		if err != nil {
			return nil, fmt.Errorf("reading BP_NIX_TRUSTED_PUBLIC_KEYS: %w", err)
		}
		options.keys = keyList(trusted)
	}
	scratch, clean, err := scratchDir()
	if err != nil {
		return nil, err
	}
	defer clean()
	if info, err := os.Stat(name); err == nil && info.IsDir() && !image.IsImage(name) {
		return verifyDirectory(ctx, name, scratch, options)
	}
	img, err := image.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	a := newAccount(img, scratch, options)
	if err := a.check(ctx); err != nil {
		return nil, err
	}
	return &a.verdict, nil
}

// verifyDirectory checks a buildpack's layers on disk: what a build has made, or a container sees.
func verifyDirectory(ctx context.Context, name, scratch string, options verifyOptions) (*verdict, error) {
	layers, done, err := readLayers(ctx, name)
	if err != nil {
		return nil, err
	}
	defer done()
	v := &verdict{uncovered: []string{"how the directory gets into a container"}}
	f := folder{verdict: v, options: options, layers: layers, scratch: scratch, onDisk: true}
	return v, f.check(ctx)
}

// readLayers reads a buildpack's layers directory, which must have closure layers. The tree is of use until done.
func readLayers(ctx context.Context, name string) (layers *filetree.File, done func() error, err error) {
	layers, done, err = filetree.ReadDirectory(ctx, name)
	if err != nil {
		return nil, nil, fmt.Errorf("reading layers: %w", err)
	}
	if !hasClosure(layers) {
		done()
		return nil, nil, fmt.Errorf("reading %s: it is neither an OCI layout nor a layers directory with a closure", name)
	}
	return layers, done, nil
}

// hasClosure reports whether a buildpack's layers directory has closure layers.
func hasClosure(layers *filetree.File) bool {
	return layers != nil && slices.ContainsFunc(layers.Names(), func(name string) bool {
		return strings.HasPrefix(name, closure.LayerPrefix)
	})
}

// maxListed is how many findings of a kind are listed.
const maxListed = 1000

// report writes the verdict for people.
func (v *verdict) report(out io.Writer) int {
	bad, untrusted := 0, 0
	var paths []closure.Audited
	if v.audit != nil {
		paths = v.audit.Paths
	}
	for _, p := range paths {
		claimed := inspect.Printable(strings.Join(p.Claimed, ", "))
		switch {
		case p.Problem != "":
			bad++
			fmt.Fprintf(out, "%-9s %s (%s): %s\n", altered, p.Path, inspect.Printable(p.Layer), inspect.Printable(p.Problem))
		case p.Signed == "" && len(p.Claimed) == 0:
			untrusted++
			fmt.Fprintf(out, "UNSIGNED  %s (%s)\n", p.Path, inspect.Printable(p.Layer))
		case p.Signed == "":
			untrusted++
			fmt.Fprintf(out, "UNTRUSTED %s (%s) signed by %s\n", p.Path, inspect.Printable(p.Layer), claimed)
		default:
			fmt.Fprintf(out, "intact    %s (%s) %s\n", p.Path, inspect.Printable(p.Layer), inspect.Printable(p.Signed))
		}
		for _, o := range p.Overruled {
			fmt.Fprintf(out, "  %q was taken as harmless by BP_NIX_HARMLESS=%q: %q\n", o.File, o.By, o.Detail)
		}
	}
	slices.SortStableFunc(v.findings, func(a, b finding) int {
		return cmp.Or(strings.Compare(a.word, b.word), strings.Compare(a.where, b.where))
	})
	counts := map[string]int{}
	for _, f := range v.findings {
		if counts[f.word]++; counts[f.word] <= maxListed {
			fmt.Fprintf(out, "%-9s %s: %s\n", f.word, inspect.Printable(f.where), inspect.Printable(f.why))
		}
	}
	for _, fact := range v.facts {
		fmt.Fprintln(out, inspect.Printable(fact))
	}
	bad += counts[altered]
	fmt.Fprintf(out, "%s: %d intact and signed, %d altered, %d signed by no trusted key, %s that belong to none",
		text.Count(len(paths), "store path"), len(paths)-(bad-counts[altered])-untrusted, bad, untrusted,
		text.Count(counts[extra], "file"))
	if counts[unknown] > 0 {
		fmt.Fprintf(out, ", %d that this program cannot judge", counts[unknown])
	}
	fmt.Fprintf(out, "\nverified covers every file in the layers directory, the launcher with its configuration, process types, "+
		"entrypoint and environment; not %s\n", inspect.Printable(strings.Join(append(v.uncovered, "what the app itself does"), ", not ")))
	if bad+untrusted+len(v.findings) > 0 {
		return verifyAltered
	}
	return verifyIntact
}
