package nixproot

import (
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// listed is how many names a line of a report lists before it counts.
const listed = 10

// notCachedReport says of outputs that no cache has what was looked at, what was found, and what to do about it.
func notCachedReport(e *roots.NotCachedError) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s, and nothing is compiled here\n", e.Error())
	if e.Proven() {
		s.WriteString("\nThe reason:\n")
	} else {
		s.WriteString("\nWhat may be the reason, the likeliest first:\n")
	}
	number := 0
	item := func(found string, fixes []string) {
		number++
		fmt.Fprintf(&s, "  %d. %s\n", number, indent(found))
		for _, fix := range fixes {
			fmt.Fprintf(&s, "     → %s\n", indent(fix))
		}
	}
	for _, finding := range e.Findings {
		item(finding.String(), findingFixes(finding))
	}
	if !e.Proven() && !e.HydraAsked {
		item("Hydra may not build this at all, or may not have finished building this revision, or does not upload to the "+
			"caches that were asked", adviceOn(topicNotFound))
	}
	fmt.Fprintf(&s, "\nWhat was tried: %s", e.Entry)
	if len(e.Names) > 0 {
		fmt.Fprintf(&s, " was evaluated in a source named %s", strings.Join(e.Names, ", "))
	}
	s.WriteString(".\n")
	if len(e.Build) > 0 {
		var names []string
		for _, p := range e.Build {
			names = append(names, strings.TrimSuffix(p.Name(), ".drv"))
		}
		fmt.Fprintf(&s, "What would have to be built: %s.\n", text.List(names, listed))
	}
	if e.Have > 0 {
		fmt.Fprintf(&s, "What the caches have: %d of the %d outputs wanted.\n", e.Have, e.Have+len(e.Missing))
	}
	s.WriteString("What the caches said:\n")
	for _, a := range e.Asked {
		fmt.Fprintf(&s, "  %s: %s\n", a.URL, a.Why)
	}
	if !e.Proven() && len(e.RuledOut) > 0 {
		s.WriteString("What is not the reason:\n")
		for _, line := range e.RuledOut {
			fmt.Fprintf(&s, "  - %s\n", line)
		}
	}
	return strings.TrimRight(s.String(), "\n")
}

// indent keeps further lines below the first.
func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n       ") }

// findingFixes are what to do about one finding.
func findingFixes(finding roots.Finding) []string {
	switch f := finding.(type) {
	case roots.CacheAnswer:
		return answerFixes(f.Answer)
	case roots.HydraSilent:
		return fixesOf(f.Err)
	case roots.NeverBuilt:
		name, _, _ := strings.Cut(f.Name, "-")
		return adviceOn(topicNeverBuilt, "name", name, "file", f.File)
	case roots.OtherSystem:
		return systemFixes(topicOtherSystem, f.System, f.Have)
	case roots.HydraBuild:
		return buildFixes(f)
	case roots.OtherBuild:
		topic := topicOtherDerivation
		switch {
		case f.Commit != "" && !f.OfCommit:
			topic = topicOtherRevision
		case f.DeepClone != "":
			topic = topicDeepClone
		}
		return adviceOn(topic, "job", f.Build.JobPath())
	case roots.UploadDiffers:
		return fileFixes(f.Files)
	case roots.Impure:
		return adviceOn(impurityTopics[f.Kind])
	case roots.ConfiguredCaches:
		return adviceOn(topicConfigured, "lines", configuredLines(f))
	case roots.Imported:
		return importFixes(f)
	}
	return nil
}

func buildFixes(b roots.HydraBuild) []string {
	switch {
	case !b.Build.Finished:
		return []string{adviceOn(topicUnfinished)[0] + "\nBP_NIX_HYDRA_JOB=" + b.Build.JobPath()}
	case b.Failure != nil:
		return adviceOn(topicFailed)
	}
	return storeFixes(b.Store)
}

// storeFixes say which cache to name for what Hydra has built: Hydra itself, where it is one that signs.
func storeFixes(s *roots.HydraStore) []string {
	if s == nil {
		return adviceOn(topicElsewhere)
	}
	switch url := redact.Text(s.URL); {
	case s.Collected:
		return adviceOn(topicCollected)
	case len(s.Keys) == 0:
		return adviceOn(topicHydraUnsigned, "hydra", url)
	default:
		return adviceOn(topicHydraServes, "hydra", url, "key", s.Keys[0])
	}
}

// fileFixes are for files that differ, by the kinds of difference.
func fileFixes(f roots.FileDiff) []string {
	var fixes []string
	for _, kind := range []struct {
		topic topic
		names int
	}{
		{topicExtraFiles, len(f[roots.Extra])}, {topicMissingFiles, len(f[roots.Missing])},
		{topicChangedFiles, len(f[roots.Changed]) + len(f[roots.Endings]) + len(f[roots.Pointers])},
		{topicModes, len(f[roots.Modes])}, {topicSubmodules, len(f[roots.Nested])},
	} {
		if kind.names > 0 {
			fixes = append(fixes, adviceOn(kind.topic)...)
		}
	}
	return fixes
}

var impurityTopics = map[nixinstall.ImpurityKind]topic{
	nixinstall.Clock: topicClock, nixinstall.Environment: topicEnvironment, nixinstall.SearchPath: topicHydraPath,
	nixinstall.Unpinned: topicUnpinned,
}

// configuredLines are the settings that would obey what a source lists.
func configuredLines(c roots.ConfiguredCaches) string {
	var lines []string
	if len(c.Substituters) > 0 {
		lines = append(lines, fmt.Sprintf("NIX_EXTRA_BINARY_CACHE=%q", redact.Text(strings.Join(c.Substituters, " "))))
	}
	if len(c.TrustedPublicKeys) > 0 {
		lines = append(lines, fmt.Sprintf("BP_NIX_TRUSTED_PUBLIC_KEYS=%q", strings.Join(c.TrustedPublicKeys, " ")))
	}
	return strings.Join(lines, "\n")
}

func importFixes(i roots.Imported) []string {
	names := text.List(i.Names, listed)
	if len(i.Fetched) == 0 {
		return adviceOn(topicImported, "names", names)
	}
	fetch := "builtins.fetchTarball { url = …; sha256 = …; } with the same sha256"
	if i.Tarball != "" {
		fetch = fmt.Sprintf("builtins.fetchTarball { url = %q; sha256 = %q; }", i.Tarball, i.SHA256)
	}
	return adviceOn(topicFetched, "names", names, "fetch", fetch)
}
