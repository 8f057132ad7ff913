package nixproot

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/appdir"
	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// explain makes of a package's error what a person needs: what happened, and what to change. It is the one place
// where errors become advice (advice.go); an error it does not know passes as it is. What a stranger has said in it is shown
// so that a terminal takes none of it as a command.
func explain(err error) error {
	if err == nil {
		return nil
	}
	return &explained{err, text.Block(explanation(err))}
}

func explanation(err error) string {
	var notCached *roots.NotCachedError
	if errors.As(err, &notCached) {
		return notCachedReport(notCached)
	}
	var b strings.Builder
	b.WriteString(err.Error())
	for i, fix := range fixesOf(err) {
		if i == 0 {
			b.WriteString("\n\nWhat to do:")
		}
		fmt.Fprintf(&b, "\n  - %s", fix)
	}
	return b.String()
}

// explained is an error with all that there is to say to it.
type explained struct {
	error
	text string
}

func (e *explained) Error() string { return e.text }

func (e *explained) Unwrap() error { return e.error }

// fixesOf are what to do about an error.
func fixesOf(err error) []string {
	for _, fixes := range []func(error) []string{settingFixes, procfileFixes, evaluationFixes, cacheFixes, hydraFixes, imageFixes} {
		if found := fixes(err); len(found) > 0 {
			return found
		}
	}
	return nil
}

func settingFixes(err error) []string {
	var (
		misspelt *misspeltError
		secret   *narinfo.SecretKeyError
	)
	switch {
	case errors.As(err, &secret):
		return adviceOn(topicSecretKey)
	case errors.As(err, &misspelt) && misspelt.Meant != "":
		return adviceOn(topicMisspelt, "setting", misspelt.Meant, "name", misspelt.Name)
	case errors.As(err, &misspelt):
		return adviceOn(topicUnknownSetting, "name", misspelt.Name)
	}
	return nil
}

func procfileFixes(err error) []string {
	topics := map[procfile.Kind]topic{
		procfile.BadLink: topicProcfileLink, procfile.BadFile: topicProcfileFile, procfile.BadEncoding: topicProcfileText,
	}
	var whole *procfile.FileError
	if errors.As(err, &whole) {
		return adviceOn(topics[whole.Kind])
	}
	return nil
}

// disabledFeature is how Nix names an experimental feature that is off.
var disabledFeature = regexp.MustCompile(`experimental Nix feature '([a-z0-9-]+)' is disabled`)

// unreached is how Nix says that it could not connect to a host, in curl's words of two ages.
var unreached = regexp.MustCompile(`unable to download '([^']+)'.*(?:Could not connect to server|Couldn't connect to server|Could not resolve host|Couldn't resolve host)`)

// absentFile is how Nix says that a file of the source is not there.
var absentFile = regexp.MustCompile(`^path '([^/'][^']*)' does not exist$`)

func evaluationFixes(err error) []string {
	var (
		evaluation *nixinstall.EvalError
		attribute  *nixinstall.MissingAttrError
		build      *nixinstall.WouldBuildError
		nothing    *roots.NoDerivationError
	)
	switch {
	case errors.As(err, &attribute) && attribute.Derivation:
		return adviceOn(topicOwnDerivation)
	case errors.As(err, &attribute) && foreignSystem(attribute) != "":
		return systemFixes(topicAbsentSystem, foreignSystem(attribute), attribute.Have, "attribute", attribute.Attr)
	case errors.As(err, &attribute) && len(attribute.Have) > 0:
		return adviceOn(topicAttribute)
	case errors.As(err, &attribute):
		return adviceOn(topicNoDerivation)
	case errors.As(err, &nothing), errors.As(err, &evaluation) && strings.Contains(evaluation.Summary, "not a derivation or a set of them"):
		return adviceOn(topicNoDerivation)
	case errors.As(err, &evaluation) && absentFile.MatchString(evaluation.Summary):
		return adviceOn(topicAbsentFile, "file", absentFile.FindStringSubmatch(evaluation.Summary)[1])
	case errors.As(err, &evaluation) && len(evaluation.Unset) > 0:
		return argumentFixes(evaluation)
	case errors.As(err, &evaluation) && evaluation.Unlocked:
		return adviceOn(topicUnlocked)
	case errors.As(err, &evaluation) && evaluation.Pure:
		return adviceOn(topicPure)
	case errors.As(err, &evaluation) && evaluation.Unfetched != "":
		return adviceOn(topicUnfetched, "directory", evaluation.Unfetched)
	case errors.As(err, &evaluation) && unreached.MatchString(evaluation.Summary):
		return unreachedFixes(unreached.FindStringSubmatch(evaluation.Summary)[1])
	case errors.As(err, &evaluation) && disabledFeature.MatchString(evaluation.Summary):
		return adviceOn(topicFeature, "feature", disabledFeature.FindStringSubmatch(evaluation.Summary)[1])
	case errors.As(err, &evaluation) && strings.Contains(evaluation.Summary, "was not found in the Nix search path"):
		return adviceOn(topicSearchPath)
	case errors.As(err, &build):
		return adviceOn(topicWouldBuild, "names", strings.Join(build.Names(), ", "))
	}
	return nil
}

// foreignSystem is the system that is missing among others that are there, "" where it is another attribute that is
// missing.
func foreignSystem(e *nixinstall.MissingAttrError) string {
	parts := strings.Split(e.Missing, ".")
	system := parts[len(parts)-1]
	isSystem := func(name string) bool { return strings.HasSuffix(name, "-linux") || strings.HasSuffix(name, "-darwin") }
	if isSystem(system) && slices.ContainsFunc(e.Have, isSystem) {
		return system
	}
	return ""
}

// systemFixes are for what is there for other systems only. The last of them is to build the image for that: of images there
// are those for two systems.
func systemFixes(t topic, system string, have []string, more ...string) []string {
	for architecture, other := range systems() {
		if other != system && slices.Contains(have, other) {
			return adviceOn(t, append([]string{"system", system, "platform", "linux/" + architecture}, more...)...)
		}
	}
	return withoutLast(adviceOn(t, append([]string{"system", system}, more...)...))
}

// withoutLast are fixes but the last, which is no alternative.
func withoutLast(fixes []string) []string {
	fixes = slices.Clone(fixes[:len(fixes)-1])
	last := &fixes[len(fixes)-1]
	*last = strings.TrimRight(strings.TrimSuffix(*last, "or"), ",; ")
	return fixes
}

// jobSystemFixes are for a job that is there for other systems: one whose name says for which may have a twin.
func jobSystemFixes(e *hydra.SystemError) []string {
	parts := strings.Split(e.Job, ".")
	for i, part := range parts {
		if slices.Contains(e.Have, part) {
			parts[i] = e.System
			return adviceOn(topicJobSystem, "system", e.System, "job", strings.Join(parts, "."))
		}
	}
	return systemFixes(topicOtherSystem, e.System, e.Have)
}

// machineFixes are for programs for another machine; of images there are those for two.
func machineFixes(e *machineError) []string {
	fixes := adviceOn(topicMachine, "system", e.System, "machine", e.Machine)
	if runsOn[e.Machine] == nil {
		return withoutLast(fixes)
	}
	return fixes
}

// unreachedFixes are for an address that Nix was to fetch something from.
func unreachedFixes(address string) []string {
	host := ""
	if u, err := url.Parse(address); err == nil {
		host = u.Hostname()
	}
	return adviceOn(topicUnreached, "host", host)
}

// argumentFixes are for a function that is called without what it needs: texts can be given, packages have to come from
// an expression.
func argumentFixes(e *nixinstall.EvalError) []string {
	caller, called := "shell.nix", e.File
	switch called {
	case "":
		called = "default.nix"
	case caller:
		caller = "deploy.nix"
	}
	return adviceOn(topicArgument, "argument", e.Unset[0], "caller", caller, "file", called)
}

// hydraFixes are for what Hydra's client says.
func hydraFixes(err error) []string {
	var (
		login      *hydra.LoginError
		front      *hydra.NotFrontPageError
		notHydra   *hydra.NotHydraError
		jobset     *hydra.JobsetNotFoundError
		job        *hydra.JobNotFoundError
		system     *hydra.SystemError
		revision   *hydra.RevisionNotFoundError
		ambiguous  *hydra.AmbiguousRevisionError
		branch     *hydra.RevisionError
		unfinished *hydra.NotFinishedError
		none       *hydra.NoBuildError
		failed     *hydra.BuildFailedError
		deleted    *hydra.BuildDeletedError
		search     *hydra.SearchTimeoutError
		silent     *hydra.AnswerError
		dial       *net.OpError
		unsigned   *roots.UnsignedRootError
	)
	switch {
	case errors.As(err, &login):
		topics := map[hydra.Refusal]topic{hydra.RefusedPassword: topicHydraPassword, hydra.RefusedReferer: topicHydraReferer}
		if t, ok := topics[login.Refused]; ok {
			return adviceOn(t, "hydra", login.HydraURL)
		}
		return adviceOn(topicHydraLogin)
	case errors.As(err, &unsigned):
		return adviceOn(topicUnsignedRoot, "path", unsigned.Path.String())
	case errors.As(err, &front):
		return adviceOn(topicNotFront, "hydra", front.Front)
	case errors.As(err, &notHydra):
		return adviceOn(topicNotHydra)
	case errors.As(err, &jobset):
		return adviceOn(topicJobset)
	case errors.As(err, &job):
		return adviceOn(topicJob)
	case errors.As(err, &system):
		return jobSystemFixes(system)
	case errors.As(err, &revision) && revision.Disabled:
		return adviceOn(topicDisabled)
	case errors.As(err, &revision):
		return adviceOn(topicRevision)
	case errors.As(err, &ambiguous), errors.As(err, &branch):
		return adviceOn(topicBranch)
	case errors.Is(err, roots.ErrNoRevision):
		return adviceOn(topicNoRevision)
	case errors.As(err, &unfinished), errors.As(err, &none):
		return adviceOn(topicUnfinished)
	case errors.As(err, &failed):
		return adviceOn(topicFailed)
	case errors.As(err, &deleted):
		return adviceOn(topicDeleted)
	case errors.As(err, &search):
		return adviceOn(topicSearch)
	case errors.As(err, &silent) && silent.Page:
		return adviceOn(topicPage)
	case errors.As(err, &silent) && familyFix(silent) != nil:
		return familyFix(silent)
	case errors.As(err, &silent) && errors.As(silent, &dial) && dial.Op == "proxyconnect":
		return adviceOn(topicProxyDown)
	case errors.As(err, &silent):
		return adviceOn(topicSilent)
	}
	return nil
}

func imageFixes(err error) []string {
	var (
		blocked *closure.BlockedError
		tooLong *relocate.TooLongError
		foreign *appdir.ForeignError
		fixed   *appdir.UnremovableError
		long    *appdir.LongPathError
		machine *machineError
		special *nar.SpecialError
	)
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return adviceOn(topicDiskFull)
	case errors.As(err, &blocked):
		globs := harmlessSetting(blocked.Blockers)
		return slices.DeleteFunc(adviceOn(topicBlocked, "globs", globs), func(fix string) bool {
			return globs == "" && strings.Contains(fix, "BP_NIX_HARMLESS")
		})
	case errors.As(err, &machine):
		return machineFixes(machine)
	case errors.As(err, &tooLong):
		return adviceOn(topicTooLong)
	case errors.As(err, &foreign):
		return adviceOn(topicForeign, "source", foreign.Dir, "copy", filepath.Join(filepath.Dir(foreign.Layers), "workspace"))
	case errors.As(err, &fixed):
		return adviceOn(topicUnremovable, "file", fixed.Files[0])
	case errors.As(err, &long):
		return adviceOn(topicLongPath)
	case errors.As(err, &special):
		return adviceOn(topicSpecialFile)
	}
	return nil
}
