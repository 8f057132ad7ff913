package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// choice is the engine of one start. An engine that needs nothing is decided on at once. Whether userns or proot works is only
// known when the app has been started under it: the start is the probe.
type choice struct {
	name    string // the decided engine, "" until then
	why     string
	bin     []string // directories put first on PATH
	warning string
	strict  bool // BPL_NIX_ENGINE asks for an engine, so no other is tried

	candidates []string // engines left to try, best first
	denied     []denial // engines that were tried, and what denied them
}

// decide ends the choice.
func (ch *choice) decide(name, why string) *choice {
	ch.name, ch.why = name, why
	return ch
}

// denial is an engine that the platform refused.
type denial struct {
	engine string
	err    error
}

// newChoice narrows the engines down to those that the image has the files for. requested is the value of BPL_NIX_ENGINE, in
// which capitals and blanks around it do not matter.
func newChoice(c Config, requested string) (*choice, error) {
	requested = strings.ToLower(strings.TrimSpace(requested))
	if requested == EngineAuto {
		requested = ""
	}
	if c.Engine == EngineRelocate {
		return relocatedChoice(c, requested), nil
	}
	return unrelocatedChoice(c, requested)
}

// relocatedChoice never fails: relocated files run everywhere, so a request for another engine gets a warning.
func relocatedChoice(c Config, requested string) *choice {
	ch := (&choice{bin: c.Bin}).decide(EngineRelocate, "the image holds a relocated closure")
	switch requested {
	case "", EngineRelocate:
	case EngineNative:
		missing := missingRoot(c.StorePaths)
		if missing == "" {
			return (&choice{bin: storeDirs(c)}).decide(EngineNative, EngineEnv+
				" asks for it and the run image has every root")
		}
		ch.warning = fmt.Sprintf("%s=native: the run image has no %s; running the relocated closure instead", EngineEnv,
			missing)
	case EngineUserns, EngineProot:
		ch.warning = fmt.Sprintf("%s=%s: this image's closure is relocated and needs no %s; running it as it is",
			EngineEnv, requested, requested)
	default:
		ch.warning = unknownEngine(requested) + "; running the relocated closure as it is"
	}
	return ch
}

func unknownEngine(requested string) string {
	return fmt.Sprintf("%s is %q, %s", EngineEnv, requested, wantEngine)
}

// unrelocatedChoice tries nothing but the engine that BPL_NIX_ENGINE asks for; the one that BP_NIX_ENGINE asked for is only tried
// before the others. Where the roots are in /nix/store already, as they are inside another engine, nothing is needed.
func unrelocatedChoice(c Config, requested string) (*choice, error) {
	if requested != "" && !KnownEngine(requested) {
		return nil, errors.New(unknownEngine(requested))
	}
	ch := &choice{bin: c.Bin, strict: requested != "", candidates: []string{EngineUserns, EngineProot}}
	switch requested {
	case EngineRelocate:
		return nil, fmt.Errorf("%s=relocate: this image's closure is not relocated%s: build it again with "+
			"BP_NIX_ENGINE=relocate", EngineEnv, reason(c))
	case EngineUserns, EngineProot:
		if sameFile(storepath.Dir, c.View) {
			return ch.decide(EngineNative, "this launcher runs inside an engine already"), nil
		}
		ch.candidates = []string{requested}
		return ch, nil
	}
	missing := missingRoot(c.StorePaths)
	if missing == "" {
		return ch.decide(EngineNative, "the run image's /nix/store has every root"), nil
	}
	ch.denied = append(ch.denied, denial{EngineNative, fmt.Errorf("the run image has no %s", missing)})
	switch {
	case requested == EngineNative:
		ch.candidates = nil
	case c.Requested == EngineProot:
		slices.Reverse(ch.candidates)
	}
	return ch, nil
}

// missingRoot returns the first root that /nix/store lacks, "" where it has all of them.
func missingRoot(roots []string) string {
	if len(roots) == 0 {
		return storepath.Dir
	}
	for _, root := range roots {
		if _, err := os.Stat(root); err != nil {
			return root
		}
	}
	return ""
}

// storeDirs are the directories of Bin by their paths in /nix/store, rather than in layers.
func storeDirs(c Config) []string {
	var dirs []string
	for _, dir := range c.Bin {
		for _, root := range c.StorePaths {
			if filepath.Base(filepath.Dir(dir)) == filepath.Base(viewPath(c.View, filepath.Base(root))) {
				dirs = append(dirs, filepath.Join(root, filepath.Base(dir)))
			}
		}
	}
	return dirs
}

func reason(c Config) string {
	switch {
	case c.Reason != "":
		return " (" + c.Reason + ")"
	case c.Requested != "" && c.Requested != EngineAuto:
		return " (BP_NIX_ENGINE=" + c.Requested + " asked for that)"
	}
	return ""
}

// noEngine is the error of a platform on which no engine works. It says what was tried, what denied it, and which settings
// help.
func (l *launcher) noEngine() error {
	ch := l.engine
	var b strings.Builder
	fmt.Fprintf(&b, "no engine can give %s to the app on this platform\n", storepath.Dir)
	for _, d := range ch.denied {
		fmt.Fprintf(&b, "  %s: %v\n", d.engine, d.err)
	}
	fmt.Fprintf(&b, "  relocate: this image's closure is not relocated%s\n", reason(l.config))
	b.WriteString("to fix it, either\n")
	b.WriteString("  1. build the image with BP_NIX_ENGINE=relocate, which needs nothing from the platform")
	if l.config.Reason != "" {
		b.WriteString(";\n     the build refuses as long as the reason above holds")
	}
	n := 2
	for _, d := range ch.denied {
		var help *deniedError
		if errors.As(d.err, &help) && help.help != "" {
			fmt.Fprintf(&b, "\n  %d. for %s: %s", n, d.engine, help.help)
			n++
		}
	}
	if ch.strict {
		fmt.Fprintf(&b, "\n  %d. unset %s, so that other engines may be tried", n, EngineEnv)
	}
	return errors.New(b.String())
}
