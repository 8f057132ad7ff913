package nixproot

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// explain makes of a package's error what a person needs: what happened, and what to change, which the entry for it has
// (advice.go). An error without an entry passes as it is. What a stranger has said in it is shown so that a terminal takes
// none of it as a command.
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
	for i, step := range stepsFor(err) {
		if i == 0 {
			b.WriteString("\n\nWhat to do:")
		}
		fmt.Fprintf(&b, "\n  - %s", step)
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

// stepsFor are what to do about an error.
func stepsFor(err error) []string {
	if steps := adviceOn(func(entry advice) facts { return entry.err.facts(err) }); steps != nil {
		return steps
	}
	return askedSteps(askedOf(err))
}

// unreached is how Nix says that it could not connect to a host, in curl's words of two ages.
var unreached = regexp.MustCompile(`unable to download '([^']+)'.*(?:Could not connect to server|Couldn't connect to server|Could not resolve host|Couldn't resolve host)`)

// unreachedHost is for a host that Nix was to fetch something from.
func unreachedHost(e *nixinstall.EvalError) facts {
	found := unreached.FindStringSubmatch(e.Summary)
	if found == nil {
		return nil
	}
	host := ""
	if u, err := url.Parse(found[1]); err == nil {
		host = u.Hostname()
	}
	return facts{"host": host}
}

// callerOf is a name for a file that calls the function in another: texts can be given to it, packages have to come from
// an expression.
func callerOf(file string) string {
	if file == "shell.nix" {
		return "deploy.nix"
	}
	return "shell.nix"
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

// platformOf is the platform to build an image for that has one of the systems there are, in place of another: of images
// there are those for two systems.
func platformOf(have []string, system string) string {
	for architecture, other := range systems() {
		if other != system && slices.Contains(have, other) {
			return "linux/" + architecture
		}
	}
	return none
}

// twinJob is the job for the system that is wanted, of one whose name says for which system it is; "" of any other.
func twinJob(e *hydra.SystemError) string {
	parts := strings.Split(e.Job, ".")
	for i, part := range parts {
		if slices.Contains(e.Have, part) {
			parts[i] = e.System
			return strings.Join(parts, ".")
		}
	}
	return ""
}
