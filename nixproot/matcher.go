package nixproot

import (
	"errors"
	"regexp"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// facts are what is known when something goes wrong: the words that steps have in braces, and what stands for them.
type facts map[string]string

// none stands for a word of which there is none: a step with it is left out.
const none = "\x00"

// when are the facts where something holds, and nil where not.
func (f facts) when(holds bool) facts {
	if holds {
		return f
	}
	return nil
}

// matcher finds out whether an entry is for an error: if so, it gives the entry's facts, be they empty, and otherwise nil.
type matcher func(error) facts

// facts are those of an entry that may be for no error.
func (match matcher) facts(err error) facts {
	if match == nil {
		return nil
	}
	return match(err)
}

// is matches errors of a type.
func is[E error](err error) facts { return with(func(E) facts { return facts{} })(err) }

// where matches errors of a type of which something holds.
func where[E error](holds func(E) bool) matcher {
	return with(func(e E) facts { return facts{}.when(holds(e)) })
}

// with matches errors of a type for which there are facts.
func with[E error](known func(E) facts) matcher {
	return func(err error) facts {
		var e E
		if !errors.As(err, &e) {
			return nil
		}
		return known(e)
	}
}

// sentinel matches an error that is a value.
func sentinel(target error) matcher {
	return func(err error) facts { return facts{}.when(errors.Is(err, target)) }
}

// anyOf matches what one of several does.
func anyOf(matchers ...matcher) matcher {
	return func(err error) facts {
		for _, match := range matchers {
			if known := match(err); known != nil {
				return known
			}
		}
		return nil
	}
}

// ofHydra matches why Hydra gave no answer.
func ofHydra(match matcher) matcher {
	return with(func(e *hydra.AnswerError) facts { return match(e) })
}

// evaluationSays matches errors of Nix by their text. The names of the pattern's groups are the words of the facts.
func evaluationSays(pattern string) matcher {
	return with(func(e *nixinstall.EvalError) facts {
		says := regexp.MustCompile(pattern)
		found := says.FindStringSubmatch(e.Summary)
		if found == nil {
			return nil
		}
		known := facts{}
		for i, name := range says.SubexpNames() {
			known[name] = found[i]
		}
		return known
	})
}
