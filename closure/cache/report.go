package cache

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// notes are the kinds of a cache's failures: the first of each is logged.
type notes struct {
	mu    sync.Mutex
	kinds map[string]bool
}

// maxNotes bounds the log when a cache fails in ever new ways.
const maxNotes = 100

// add notes a failure. It gives what is to be logged: nothing, when its kind is known.
func (n *notes) add(kind, text string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kinds[kind] || len(n.kinds) == maxNotes {
		return ""
	}
	if n.kinds == nil {
		n.kinds = map[string]bool{}
	}
	if n.kinds[kind] = true; len(n.kinds) == maxNotes {
		return "and more, which are not listed"
	}
	return text
}

// note records a failure and logs the first of its kind.
func (c *substituter) note(kind, text string) {
	if text = c.notes.add(kind, text); text != "" {
		c.log("binary cache %s: %s", c, text)
	}
}

// noteFor notes what was wrong with a path.
func (c *substituter) noteFor(p storepath.Path, err error) { c.note(problem(p, err)) }

// problem is the kind of what was wrong with a path, and a text. What holds for all paths alike is said without naming
// one.
func problem(p storepath.Path, err error) (kind, text string) {
	var (
		untrusted   *untrustedError
		invalid     *invalidError
		compression *CompressionError
		verify      *VerifyError
		status      *StatusError
		left        *fallbackError
	)
	kind = "failed"
	switch {
	case errors.As(err, &untrusted) && !untrusted.altered():
		return "signed by " + strings.Join(untrusted.keys, " "), err.Error()
	case errors.As(err, &status) && status.login():
		return "login", err.Error()
	case errors.As(err, &untrusted):
		kind = "altered"
	case errors.As(err, &left):
		kind = "fallback"
	case errors.As(err, &invalid):
		kind = "invalid"
	case errors.As(err, &verify):
		kind = "mismatch " + verify.Field
	case errors.As(err, &compression):
		kind = "compression " + compression.Compression
	case errors.As(err, &status):
		kind = fmt.Sprint("status ", status.Code)
	}
	return kind, fmt.Sprintf("%s: %v", p.Base(), err)
}

// report is what the cache did for the run.
func (c *substituter) report() Report {
	return Report{URL: c.String(), NarInfos: c.narinfos.Load(), Paths: c.paths.Load(), Bytes: c.bytes.Load()}
}

// Report is what one cache did for a run.
type Report struct {
	// URL is the cache, redacted.
	URL string
	// NarInfos and Paths count the narinfos and NARs that it served and that were used.
	NarInfos, Paths int64
	// Bytes counts what came from it for NARs, compressed.
	Bytes int64
}
