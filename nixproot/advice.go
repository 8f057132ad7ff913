package nixproot

import (
	"cmp"
	"regexp"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// advice is one entry of what can go wrong: what is said then, what it means, and what to do about it. The page
// docs/troubleshooting.md is made of these. Words in braces stand for what is known when it happens.
//
// An entry says itself what it is for, by err, connection, answer or finding; of several that are for the same, the first
// counts.
type advice struct {
	// err is for errors that end a build, connection for those of a connection to a cache, and answer for what else a cache
	// answers.
	err, connection matcher
	answer          func(cache.Answer) facts
	// finding is for what was found while looking for the reason why no cache has an output.
	finding roots.Kind
	// more says that a later entry may be for the same, and is given as well.
	more bool

	// message is the phrase of the error by which it is looked for.
	message string
	// cause is what it means, for the page.
	cause string
	// steps are what to do, each with the line to add; the nearest first.
	steps []string
	// or stands after each step but the last, where they are alternatives.
	or string
}

// chapter is a part of the page: entries, or rows with what is said of all and the heading of their messages.
type chapter struct {
	title       string
	entries     []advice
	rows        []row
	intro, says string
}

// chapters are all that the page has, in its order, in which entries are looked through, too.
func chapters() []chapter {
	return []chapter{
		{title: "Warnings", rows: warnings(), intro: "A build goes on after these.", says: "the log says"},
		{title: "Errors that say themselves what to do", rows: selfExplaining(),
			intro: "They end a build, and have the names and values at hand in them.", says: "the error says"},
		{title: "Settings", entries: settingsAdvice()},
		{title: "Procfile", entries: procfileAdvice()},
		{title: "Evaluation", entries: evaluationAdvice()},
		{title: "Binary caches", entries: cachesAdvice()},
		{title: "No binary cache has it", entries: notCachedAdvice()},
		{title: "Hydra", entries: hydraAdvice()},
		{title: "The image", entries: imageAdvice()},
		{title: "When the app does not start", rows: atStart(),
			intro: "What the launcher says on the container's standard error.", says: "the container says"},
		{title: "What nixpkgs, the kernel and the lifecycle say", rows: ofOthers(),
			intro: "It ends a build or a start, and is not of this buildpack.", says: "they say"},
	}
}

const (
	buildIt = "have Hydra build {names}, too, for example as a job of its own"
	nameIt  = "name a cache that has it: NIX_EXTRA_BINARY_CACHE=https://cache.example.org"
	onlyWay = "BP_NIX_REQUIRE_SIGS=false is the only way to do without"
	takeJob = "take Hydra's build without evaluating: BP_NIX_HYDRA_JOB={job}"
)

// adviceOn are the steps of the entry that is for something, filled with the facts that it has then.
func adviceOn(isFor func(advice) facts) []string {
	var steps []string
	for _, chapter := range chapters() {
		for _, entry := range chapter.entries {
			known := isFor(entry)
			if known == nil {
				continue
			}
			steps = append(steps, entry.stepsWith(known)...)
			if !entry.more {
				return steps
			}
		}
	}
	return steps
}

// placeholder is a word in braces; what stands in braces with blanks is Nix's.
var placeholder = regexp.MustCompile(`\{([a-z]+)\}`)

// stepsWith are an entry's steps. A word in braces for which nothing stands is written as on the page.
func (a advice) stepsWith(known facts) []string {
	var steps []string
	for _, step := range a.steps {
		possible := true
		step = placeholder.ReplaceAllStringFunc(step, func(braced string) string {
			word := braced[1 : len(braced)-1]
			possible = possible && known[word] != none
			return cmp.Or(known[word], "<"+word+">")
		})
		if possible {
			steps = append(steps, step)
		}
	}
	for i := range len(steps) - 1 {
		steps[i] += a.or
	}
	return steps
}
