package nixinstall

import (
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// StaleError says that a directory does not hold a toolchain that can be used as it is.
type StaleError struct {
	Dir    string
	Reason string
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("restoring the Nix toolchain from %s: %s", e.Dir, e.Reason)
}

// EvalError is an expression that does not evaluate.
type EvalError struct {
	// Summary is what is wrong, in one line.
	Summary string
	// File is the user's file the message is about, relative to the source; "" where Nix names none of the user's.
	File string
	// Line and Column are 1-based; 0 where they are not known.
	Line, Column int
	// Unset are the arguments that a function wants, has no default for and was not given, where that is the error.
	Unset []string
	// Unfetched is the path of the store that one of Nix's fetchers did not find, since it looks for it in the file
	// system, where the store is elsewhere; "" where the error is another.
	Unfetched string
	// Pure says that it is an error because a flake is evaluated purely.
	Pure bool
	// Unlocked says that it is an error because flake.lock does not hold all of a flake's inputs.
	Unlocked bool
}

func (e *EvalError) Error() string {
	if e.File == "" {
		return "evaluating: " + e.Summary
	}
	return "evaluating " + e.where() + e.Summary
}

// where is the place in the user's file, as the beginning of a line; "" where it is not known.
func (e *EvalError) where() string {
	switch {
	case e.File == "":
		return ""
	case e.Line == 0:
		return e.File + ": "
	}
	return fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
}

// MissingAttrError is an attribute that the expression does not have.
type MissingAttrError struct {
	// Attr is the attribute path asked for, Missing the beginning of it that is not there. Missing is "" where the
	// attribute is there, but is a set in which no derivation was found.
	Attr, Missing string
	// Have are the names that stand beside what is missing, sorted; at most a few dozen.
	Have []string
	// More is how many further names there are.
	More int
	// Derivation says that what lacks the attribute is a derivation itself; Have are then the names that its author
	// gave it, and its outputs.
	Derivation bool
}

func (e *MissingAttrError) Error() string {
	have := "it has no attributes at all"
	if len(e.Have) > 0 {
		have = "it has " + strings.Join(e.Have, ", ")
	}
	if e.More > 0 {
		have += fmt.Sprintf(" and %d more", e.More)
	}
	if e.Derivation {
		have = "what it is looked for in is a derivation itself"
		if len(e.Have) > 0 {
			have += ", with " + strings.Join(e.Have, ", ")
		}
	}
	if e.Missing == "" {
		what := "the expression"
		if e.Attr != "" {
			what = fmt.Sprintf("attribute %q", e.Attr)
		}
		return fmt.Sprintf("evaluating %s: it gives no derivation; %s", what, have)
	}
	return fmt.Sprintf("evaluating attribute %q: there is no %q; %s", e.Attr, e.Missing, have)
}

// WouldBuildError is an evaluation that cannot go on because it reads something that would have to be compiled
// first (an import from a derivation) and that no substituter has.
type WouldBuildError struct {
	// Drvs are the derivations that would have to be built.
	Drvs []storepath.Path
	// Warnings are what Nix warned of before: substituters that do not answer, signatures that are not trusted.
	Warnings []string
}

// Names are the derivations' names, without hash and ".drv".
func (e *WouldBuildError) Names() []string {
	var names []string
	for _, drv := range e.Drvs {
		names = append(names, strings.TrimSuffix(drv.Name(), ".drv"))
	}
	return names
}

func (e *WouldBuildError) Error() string {
	return fmt.Sprintf("evaluating: %s would have to be built, and no substituter has it; nothing is compiled here",
		strings.Join(e.Names(), ", "))
}
