package roots

import (
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
	fmt.Fprintf(&s, "no binary cache has %s, and nothing is compiled here\n", listOf(baseNames(e.Missing)))
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
		fmt.Fprintf(&s, " was evaluated in a source named %s", strings.Join(e.Names, ", "))
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

func causesOf(asked []cache.Answer) []Cause {
	var causes []Cause
	for _, a := range asked {
		switch a.Reason {
		case cache.Untrusted:
			causes = append(causes, Cause{Sure: true,
				Found:  fmt.Sprintf("%s has it, but it is not trusted: %s", a.URL, a.Why),
				Change: TrustAdvice(a)})
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

// TrustAdvice is for a path that no trusted key signed, with the line to add.
func TrustAdvice(a cache.Answer) string {
	const without = "BP_NIX_REQUIRE_SIGS=false is the only way to do without"
	if len(a.Keys) == 0 {
		return "have the path signed and uploaded again (nix store sign); " + without
	}
	var line []string
	for _, key := range a.Trusted {
		if slices.Contains(a.Keys, key.Name) {
			return "compare the key with that of the cache, and ask who runs it whether the path was altered"
		}
		line = append(line, key.String())
	}
	line = append(line, a.Keys[0]+":<its public key in base64>")
	return fmt.Sprintf("if you trust that key, set BP_NIX_TRUSTED_PUBLIC_KEYS=%q; its public part stands in the cache's "+
		"settings; %s", strings.Join(line, " "), without)
}
