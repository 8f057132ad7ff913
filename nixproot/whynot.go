package nixproot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Cause is one reason why the caches lack an output, found by looking.
type Cause struct {
	// Sure says that it was proven: with the cause out of the way the caches have the output, or Hydra says so itself.
	Sure bool
	// Found is what was seen, Change what to do about it, with the line to add; several lines each.
	Found, Change string
}

// NotCachedError says that the caches lack outputs which evaluation found, and what was looked at to find out why.
type NotCachedError struct {
	// Entry is what was evaluated.
	Entry string
	// Missing are the outputs that no cache has, under the name that came nearest; Have is how many outputs they have.
	Missing []storepath.Path
	Have    int
	// Names are the source names that were tried.
	Names []string
	// Build and Fetch are what Nix would compile and what the caches have, were it allowed to.
	Build, Fetch []storepath.Path
	// Asked are the caches and what each said of the first missing output.
	Asked []cache.Answer
	// Causes are the nearest reasons found, those that are sure alone where there are any, the likeliest first.
	Causes []Cause
	// RuledOut are reasons that were looked at and are none.
	RuledOut []string
}

// listed is how many names an error lists before it counts.
const listed = 10

func (e *NotCachedError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "no binary cache has %s, and nothing is compiled here\n", listOf(rootNames(e.Missing)))
	sure := len(e.Causes) > 0 && e.Causes[0].Sure
	if sure {
		s.WriteString("\nThe reason:\n")
	} else {
		s.WriteString("\nWhat may be the reason, the likeliest first:\n")
	}
	for i, cause := range e.Causes {
		fmt.Fprintf(&s, "  %d. %s\n", i+1, indent(cause.Found))
		if cause.Change != "" {
			fmt.Fprintf(&s, "     → %s\n", indent(cause.Change))
		}
	}
	fmt.Fprintf(&s, "\nWhat was tried: %s", e.Entry)
	if len(e.Names) > 0 {
		fmt.Fprintf(&s, " was evaluated in a source named %s", strings.Join(shortNames(e.Names), ", "))
	}
	s.WriteString(".\n")
	if len(e.Build) > 0 {
		var names []string
		for _, p := range e.Build {
			names = append(names, strings.TrimSuffix(p.Name(), ".drv"))
		}
		fmt.Fprintf(&s, "What would have to be built: %s.\n", listOf(names))
	}
	if e.Have > 0 {
		fmt.Fprintf(&s, "What the caches have: %d of the %d outputs wanted.\n", e.Have, e.Have+len(e.Missing))
	}
	s.WriteString("What the caches said:\n")
	for _, a := range e.Asked {
		fmt.Fprintf(&s, "  %s: %s\n", a.URL, a.Why)
	}
	if !sure && len(e.RuledOut) > 0 {
		s.WriteString("What is not the reason:\n")
		for _, line := range e.RuledOut {
			fmt.Fprintf(&s, "  - %s\n", line)
		}
	}
	return strings.TrimRight(s.String(), "\n")
}

// indent keeps further lines below the first.
func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n       ") }

// shortNames abbreviates the names that begin with the hash of an address, and counts all but a few of them.
func shortNames(names []string) []string {
	const hash, shown, most = 64, 12, 4
	var short []string
	more := 0
	for _, name := range names {
		switch {
		case len(name) <= hash || name[hash] != '-':
			short = append(short, name)
		case len(short) < most:
			short = append(short, name[:shown]+"…"+name[hash:])
		default:
			more++
		}
	}
	if more > 0 {
		short = append(short, fmt.Sprintf("and %d after other ways to write the repository's address", more))
	}
	return short
}

// listOf is shortList as a clause.
func listOf(names []string) string { return strings.Join(shortList(names), ", ") }

func shortList(names []string) []string {
	if len(names) <= listed {
		return names
	}
	return append(slices.Clone(names[:listed]), fmt.Sprintf("and %d more", len(names)-listed))
}

// diagnosis looks for the reason why no cache has what an evaluation found.
type diagnosis struct {
	evaluation
	tried   []attempt
	nearest attempt
	err     *NotCachedError
	graph   *graph
}

// whyNot makes the error for outputs that no cache has under any name.
func (e evaluation) whyNot(ctx context.Context, tried []attempt) error {
	d := &diagnosis{evaluation: e, tried: tried, nearest: tried[0]}
	for _, a := range tried {
		if a.nearer(d.nearest) {
			d.nearest = a
		}
	}
	d.graph = newGraph(ctx, e.nix.ReadDrv, e.source, d.nearest.source)
	e.log("No cache has what %s gives under any name; looking for the reason", e.entryName())
	d.err = &NotCachedError{
		Entry: e.entryName(), Missing: d.nearest.missing, Asked: d.nearest.why[d.nearest.missing[0]].Asked,
		Have: len(outputPaths(d.nearest.result)) - len(d.nearest.missing),
	}
	for _, a := range tried {
		if !slices.Contains(d.err.Names, a.name) {
			d.err.Names = append(d.err.Names, a.name)
		}
	}
	if plan, err := e.nix.WouldBuild(ctx, d.missingDrvs()); err == nil {
		d.err.Build, d.err.Fetch = plan.Build, plan.Fetch
	}
	d.look(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("looking for the reason: %w", context.Cause(ctx))
	}
	return d.err
}

// nearer reports whether an attempt tells more about the reason than another: a cache has all of it and is not
// trusted, or it lacks less.
func (a attempt) nearer(other attempt) bool {
	if a.untrusted() != other.untrusted() {
		return a.untrusted()
	}
	return len(a.missing) < len(other.missing)
}

func (a attempt) untrusted() bool {
	for _, why := range a.why {
		for _, answer := range why.Asked {
			if answer.Reason == cache.Untrusted {
				return true
			}
		}
	}
	return false
}

// missingDrvs are the derivations of the missing outputs.
func (d *diagnosis) missingDrvs() []storepath.Path {
	var drvs []storepath.Path
	for _, o := range d.nearest.result.Outputs {
		if slices.Contains(d.nearest.missing, o.Path) && !slices.Contains(drvs, o.Drv) {
			drvs = append(drvs, o.Drv)
		}
	}
	return drvs
}

// look asks one question after the other. What is sure ends it: the questions are in the order of their cost.
func (d *diagnosis) look(ctx context.Context) {
	questions := []func(context.Context) []Cause{
		d.cacheAnswers, d.ofHydra, d.upload, d.otherSystem, d.impurity, d.dependencies, d.identityOf, d.notBuilt,
	}
	var causes []Cause
	for _, question := range questions {
		found := question(ctx)
		sure := slices.DeleteFunc(slices.Clone(found), func(c Cause) bool { return !c.Sure })
		if len(sure) > 0 {
			d.err.Causes = sure
			return
		}
		causes = append(causes, found...)
	}
	d.err.Causes = causes
}

func (d *diagnosis) ruleOut(format string, args ...any) {
	d.err.RuledOut = append(d.err.RuledOut, fmt.Sprintf(format, args...))
}

// cacheAnswers looks at what the caches said: a path that is there under a key nobody trusts, a cache that did not
// answer.
func (d *diagnosis) cacheAnswers(context.Context) []Cause {
	return causesOf(d.err.Asked)
}

func causesOf(asked []cache.Answer) []Cause {
	var causes []Cause
	for _, a := range asked {
		switch a.Reason {
		case cache.Untrusted:
			causes = append(causes, Cause{Sure: true,
				Found:  fmt.Sprintf("%s has it, but it is not trusted: %s", a.URL, a.Why),
				Change: trustAdvice(a)})
		case cache.Invalid:
			causes = append(causes, Cause{Found: fmt.Sprintf("%s has something for it that cannot be used: %s", a.URL, a.Why)})
		case cache.Login:
			causes = append(causes, Cause{Found: fmt.Sprintf("%s wants a login: %s", a.URL, a.Why),
				Change: "give a service binding of type nix-binary-cache with url, username and password, or a netrc"})
		case cache.Down:
			causes = append(causes, Cause{Found: fmt.Sprintf("%s could not be asked, and may have it: %s", a.URL, a.Why)})
		}
	}
	return causes
}

// otherSystem looks whether the caches have the same for another system.
func (d *diagnosis) otherSystem(ctx context.Context) []Cause {
	for _, der := range d.nearest.result.Derivations {
		if der.System != "" && der.System != d.config.System && slices.Contains(d.missingDrvs(), der.Drv) {
			return []Cause{{Found: fmt.Sprintf("%s is for %s, this image is for %s: the expression does not use "+
				"builtins.currentSystem, or names a system", der.Name, der.System, d.config.System),
				Change: "take the system from builtins.currentSystem, or name the attribute for " + d.config.System +
					" in BP_NIX_ATTRS"}}
		}
	}
	for _, system := range otherSystems(d.config.System) {
		if d.entry.Flake != "" && strings.Contains(d.entry.Flake, d.config.System) {
			continue
		}
		other := d.evaluation
		other.nix = d.nix.ForSystem(system)
		found, _, err := other.search(ctx, files{dir: d.source}, silent)
		if err == nil && found != nil && !slices.Equal(outputPaths(found.result), outputPaths(d.nearest.result)) {
			return []Cause{{Sure: true,
				Found: fmt.Sprintf("the caches have it for %s, and this image is for %s: Hydra does not build it for %s",
					system, d.config.System, d.config.System),
				Change: fmt.Sprintf("let the jobset build it for %s too (in release.nix: supportedSystems), or build the image "+
					"for %s", d.config.System, platformOf(system))}}
		}
	}
	return nil
}

func silent(string, ...any) {}

func otherSystems(own string) []string {
	return slices.DeleteFunc([]string{"x86_64-linux", "aarch64-linux"}, func(s string) bool { return s == own })
}

func platformOf(system string) string {
	if strings.HasPrefix(system, "aarch64") {
		return "linux/arm64"
	}
	return "linux/amd64"
}

// identityOf says what is not known of the source, and so could not be tried.
func (d *diagnosis) identityOf(context.Context) []Cause {
	if d.entry.Flake != "" || d.config.SourceName != "" || !d.graph.knowsName(d.missingDrvs()) {
		return nil
	}
	const rule = "Hydra names a source <SHA-256 of its repository's address>-<first 7 of the commit>, and %s"
	const change = "set BP_NIX_GIT_URL to the address exactly as the jobset's input has it, BP_NIX_GIT_REV to the commit"
	switch {
	case d.gitURL() == "" && d.commit() == "":
		return []Cause{{Found: fmt.Sprintf(rule, "this source has no .git that tells them"), Change: change}}
	case d.gitURL() == "":
		return []Cause{{Found: fmt.Sprintf(rule, "this source's .git names no remote"), Change: change}}
	case d.commit() == "":
		return []Cause{{Found: fmt.Sprintf(rule, "the commit is not known"), Change: "set BP_NIX_GIT_REV to the commit"}}
	}
	return []Cause{{Found: fmt.Sprintf("the jobset may have another address for this repository than %s: the address's "+
		"hash is in the source's name", redact(d.gitURL())), Change: change}}
}

// notBuilt is what remains.
func (d *diagnosis) notBuilt(context.Context) []Cause {
	if d.config.HydraURL != "" {
		return nil
	}
	return []Cause{{
		Found: "Hydra may not build this at all, or may not have finished building this revision, or does not upload to " +
			"the caches that were asked",
		Change: "set BP_NIX_HYDRA_URL=https://your.hydra to have it asked, and BP_NIX_HYDRA_JOB=project/jobset/job and " +
			"BP_NIX_HYDRA_WAIT=30m to take its build without evaluating",
	}}
}
