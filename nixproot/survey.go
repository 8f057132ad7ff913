package nixproot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/closure/survey"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

// The exit statuses of the survey command.
const (
	surveyRelocates = 0
	surveyBlocked   = 1
	surveyFailed    = 2
)

// surveyView is where an image of a lifecycle's usual place has its view.
const surveyView = lifecycle.DefaultLayersDir + "/" + launchlayer.BuildpackDir + "/" + viewLayer

const surveyUsage = `usage: survey [OPTION]... CACHE PATH...

Says for the closure of each store path whether it runs without /nix: whether it relocates, what is rewritten as a whole
and put right for that, or which file stands in the way. NARs are read from the binary cache CACHE (https://, file://,
s3://) and not unpacked to disk; what closures have in common is read once.

PATH is a store path, or a file with a store path a line (- is standard input).

  --key NAME:BASE64   a trusted key; without one, those in BP_NIX_TRUSTED_PUBLIC_KEYS and that of cache.nixos.org
  --unsigned          read what no trusted key signed, too
  --json              an object a line, and the total as the last one
  --harmless GLOBS    what is taken as harmless, as BP_NIX_HARMLESS has it
  --layers DIR        the buildpack's layers directory in the image (/layers/nixproot_nix-hydra)

Exit status: 0 all relocate, 1 some do not, 2 some could not be read.
`

// surveyOptions is what the command line says.
type surveyOptions struct {
	keys     narinfo.Keys
	unsigned bool
	json     bool
	view     relocate.View
	cache    string
	roots    []storepath.Path
}

// Survey is the survey command. It writes a line per closure to out, what keeps it from that to errs, and returns the exit
// status.
func Survey(args []string, in io.Reader, out, errs io.Writer) int {
	hide := newRedacting(errs, environment(os.Environ(), ""))
	errs = hide
	options, err := parseSurvey(args, in, out, errs)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return surveyRelocates
	case errors.Is(err, errUsage):
		return surveyFailed
	}
	ctx, stop := interruptible()
	defer stop()
	status := surveyFailed
	if err == nil {
		status, err = runSurvey(ctx, options, out, hide.text)
	}
	if err != nil {
		fmt.Fprintf(errs, "survey: %s\n", text.Printable(err.Error()))
		return surveyFailed
	}
	return status
}

func parseSurvey(args []string, in io.Reader, out, errs io.Writer) (surveyOptions, error) {
	var o surveyOptions
	flags := newFlags("survey", surveyUsage, args, out, errs)
	keys := keyFlag(flags)
	flags.BoolVar(&o.unsigned, "unsigned", false, "")
	flags.BoolVar(&o.json, "json", false, "")
	harmless := flags.String("harmless", os.Getenv("BP_NIX_HARMLESS"), "")
	layers := flags.String("layers", strings.TrimSuffix(surveyView, "/"+viewLayer), "")
	names, err := interspersed(flags, args)
	if err != nil {
		return o, err
	}
	if len(names) < 2 {
		misused(errs, flags, args, "it takes a binary cache, and a store path at least")
		return o, errUsage
	}
	if o.keys, err = keys(); err != nil {
		return o, err
	}
	overrules, err := relocate.ParseOverrules(*harmless)
	if err != nil {
		return o, fmt.Errorf("reading --harmless: %w", err)
	}
	view, err := relocate.NewView(strings.TrimSuffix(*layers, "/") + "/" + viewLayer)
	if err != nil {
		return o, err
	}
	o.view, o.cache = view.Overruling(overrules), names[0]
	if err := checkCache(o.cache); err != nil && !filepath.IsAbs(o.cache) { // a directory is a cache, too
		return o, err
	}
	for _, arg := range names[1:] {
		roots, err := surveyRoots(arg, in)
		if err != nil {
			return o, err
		}
		o.roots = append(o.roots, roots...)
	}
	if len(o.roots) == 0 {
		return o, errors.New("no store path is named")
	}
	return o, nil
}

// surveyRoots reads a store path, or a file of them.
func surveyRoots(arg string, in io.Reader) ([]storepath.Path, error) {
	p, none := storepath.Parse(strings.TrimSuffix(arg, "/")) // as a shell completes it
	if none == nil {
		return []storepath.Path{p}, nil
	}
	if arg != "-" {
		file, err := os.Open(arg)
		if os.IsNotExist(err) && strings.HasPrefix(arg, storepath.Dir+"/") {
			return nil, none // such as that of a file below one
		}
		if err != nil {
			return nil, fmt.Errorf("reading store paths: %w", err)
		}
		defer file.Close()
		in = file
	}
	var roots []storepath.Path
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		p, err := storepath.Parse(strings.TrimSuffix(line, "/"))
		if err != nil {
			return nil, fmt.Errorf("reading store paths: %s: %w", arg, err)
		}
		roots = append(roots, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading store paths: %s: %w", arg, err)
	}
	return roots, nil
}

func runSurvey(ctx context.Context, o surveyOptions, out io.Writer, hidden func(string) string) (int, error) {
	temp, clean, err := scratchDir()
	if err != nil {
		return surveyFailed, err
	}
	defer clean()
	caches, err := cache.Open(ctx, cache.Options{URLs: []string{o.cache}, Keys: o.keys, RequireSigs: !o.unsigned,
		UserAgent: userAgent})
	if err != nil {
		return surveyFailed, err
	}
	defer caches.Close()
	show := surveyText
	if o.json {
		show = func(out io.Writer, c survey.Closure) error { return json.NewEncoder(out).Encode(c) }
	}
	total, err := survey.Run(ctx, o.roots, survey.Options{Caches: caches, View: o.view, Temp: temp},
		func(c survey.Closure) error {
			c.Error = hidden(c.Error)
			return show(out, c)
		})
	if err != nil {
		return surveyFailed, err
	}
	if o.json {
		err = json.NewEncoder(out).Encode(total)
	} else {
		_, err = fmt.Fprintf(out, "%d closures: %d relocate, %d of them with fixups; %d do not; %d could not be read. "+
			"%d store paths, %.1f MB, were read\n", total.Closures, total.Relocate, total.WithFixup,
			total.Closures-total.Relocate-total.Failed, total.Failed, total.Paths, float64(total.NarBytes)/1e6)
	}
	switch {
	case err != nil || total.Failed > 0:
		return surveyFailed, err
	case total.Relocate < total.Closures:
		return surveyBlocked, nil
	}
	return surveyRelocates, nil
}

// surveyText writes what is known of a closure for people.
func surveyText(out io.Writer, c survey.Closure) error {
	var b strings.Builder
	switch {
	case c.Error != "":
		fmt.Fprintf(&b, "unknown    %s: %s\n", c.Root, text.Printable(c.Error))
	case c.Relocates:
		fmt.Fprintf(&b, "relocates  %s: %s, %.1f MB, %s%s\n", c.Root, text.Count(c.Paths, "path"), float64(c.NarBytes)/1e6,
			text.Count(c.References, "reference"), surveyFixups(c.Fixups))
	default:
		fmt.Fprintf(&b, "BLOCKED    %s: %s, %.1f MB; %s in the way, %d harmless (%.0f %%)%s\n", c.Root,
			text.Count(c.Paths, "path"), float64(c.NarBytes)/1e6, text.Count(c.Blocking, "place"), c.Harmless, 100*c.HarmlessShare(), surveyFixups(c.Fixups))
	}
	for _, blocker := range c.Blockers {
		file := strings.TrimSuffix(blocker.Path.String()+"/"+text.Printable(blocker.File), "/") // the path itself may be one
		fmt.Fprintf(&b, "  %s: %s: %s\n", file, blocker.Kind, text.Printable(blocker.Detail))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// surveyFixups lists how often each format was rewritten as a whole.
func surveyFixups(fixups map[string]int) string {
	if len(fixups) == 0 {
		return ""
	}
	var list []string
	for _, format := range slices.Sorted(maps.Keys(fixups)) {
		list = append(list, fmt.Sprintf("%s %d", format, fixups[format]))
	}
	return "; fixups: " + strings.Join(list, ", ")
}
