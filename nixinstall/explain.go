package nixinstall

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

var (
	cannotBuild = regexp.MustCompile(`(?i)cannot build '(/nix/store/[^']+\.drv)'`)
	position    = regexp.MustCompile(`(?m)(?:at|located at) (\S+?):(\d+):(\d+)`)
	lockChange  = regexp.MustCompile(`(?m)^• (?:Added|Updated) input '([^']+)':\n +(\S+)`)
	cannotLock  = regexp.MustCompile(`cannot update unlocked flake input '([^']+)' in pure mode`)
	impure      = regexp.MustCompile(`in pure evaluation mode|in pure eval mode|attribute 'current(?:System|Time)' missing`)
	notGiven    = regexp.MustCompile(` no default and (?:was|were) not given: (.+)$`) // thrown by evaluate.nix
	// What fetchers say of a path that they look for in the file system.
	unfetched = regexp.MustCompile(`(?:path '/|open file |tarball "|Git repository [^/]?)(/nix/store/[^'"\s]+)`)
)

// explain makes a typed error of Nix's last messages, with the user's file names.
func (t Toolchain) explain(err error, source storepath.Path) error {
	var failure *nixError
	if !errors.As(err, &failure) {
		return err
	}
	if drvs := wantedBuilds(failure.messages); len(drvs) > 0 {
		return &WouldBuildError{Drvs: drvs, Warnings: failure.warnings}
	}
	last := failure.last()
	if found := cannotLock.FindStringSubmatch(last.Raw); found != nil {
		return notLocked(found[1:])
	}
	e := &EvalError{Summary: text.Line(t.userNames(last.Raw, source))}
	if found := notGiven.FindStringSubmatch(e.Summary); found != nil {
		e.Unset = strings.Split(found[1], ", ")
	}
	if found := unfetched.FindStringSubmatch(last.Raw); found != nil {
		e.Unfetched = found[1]
	}
	e.File, e.Line, e.Column = t.userPosition(last, source)
	return e
}

// purely marks an error that is one because a flake is evaluated purely.
func purely(err error) error {
	var failed *EvalError
	if errors.As(err, &failed) && impure.MatchString(failed.Summary) {
		failed.Pure = true
		failed.Summary = strings.TrimSuffix(failed.Summary, " (use '--impure' to override)") + "; a flake is evaluated purely"
	}
	return err
}

// wantedBuilds are the derivations that Nix gave up on because nothing is built, in the order it said so.
func wantedBuilds(messages []message) []storepath.Path {
	var drvs []storepath.Path
	for _, m := range messages {
		for _, found := range cannotBuild.FindAllStringSubmatch(m.Raw, -1) {
			if p, err := storepath.Parse(found[1]); err == nil && !slices.Contains(drvs, p) {
				drvs = append(drvs, p)
			}
		}
	}
	return drvs
}

// userNames writes files of the source as the user knows them, and files of the store by their store path.
func (t Toolchain) userNames(text string, source storepath.Path) string {
	if t.settings.State != "" {
		text = strings.ReplaceAll(text, t.settings.root()+storepath.Dir, storepath.Dir)
	}
	if source == "" {
		return text
	}
	text = strings.ReplaceAll(text, source.String()+"/", "")
	return strings.ReplaceAll(text, source.String(), ".")
}

// userPosition is the place in the user's files that a message is about: the one it names, else the innermost frame
// in them.
func (t Toolchain) userPosition(m message, source storepath.Path) (file string, line, column int) {
	inUser := func(name string) (string, bool) {
		if source == "" {
			return "", false
		}
		// Evaluated purely, files have the names that they have on this machine.
		return strings.CutPrefix(strings.TrimPrefix(name, t.settings.root()), source.String()+"/")
	}
	if name, ok := inUser(m.File); ok && m.Line > 0 {
		name = strings.TrimSuffix(name, ":"+strconv.Itoa(m.Line)+":"+strconv.Itoa(m.Column))
		return name, m.Line, m.Column
	}
	for _, found := range position.FindAllStringSubmatch(m.Text, -1) {
		if name, ok := inUser(found[1]); ok {
			file = name
			line, _ = strconv.Atoi(found[2])
			column, _ = strconv.Atoi(found[3])
		}
	}
	return file, line, column
}

// notLocked is a flake whose inputs may be others tomorrow.
func notLocked(inputs []string) error {
	return &EvalError{Summary: fmt.Sprintf("flake.lock does not hold the input %s, so that tomorrow's build could be another",
		strings.Join(inputs, ", ")), File: "flake.lock", Unlocked: true}
}

// unlockedInputs are the inputs of a flake that its lock file does not hold as they are, save those inside the
// flake's own source. Nix evaluates such a flake and says that it does not write the lock file (NixOS/nix:
// src/libflake/flake.cc, lockFlake).
func unlockedInputs(warnings []string) []string {
	var inputs []string
	for _, warning := range warnings {
		if !strings.HasPrefix(warning, "not writing modified lock file") {
			continue
		}
		for _, change := range lockChange.FindAllStringSubmatch(warning, -1) {
			if !strings.HasPrefix(change[2], "'path:.") && change[2] != "follows" {
				inputs = append(inputs, change[1])
			}
		}
	}
	return inputs
}
