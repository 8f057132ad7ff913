package cache

import (
	"context"
	"errors"
	"fmt"
)

// rival reports whether another cache could serve a NAR instead; nil means that none can. It may take a while.
type rival func(ctx context.Context) bool

// rival is what a transfer may be left for; patient says for nothing.
func (s *sources) rival(patient bool) rival {
	if patient {
		return nil
	}
	return s.another
}

func (r rival) there(ctx context.Context) bool { return r != nil && r(ctx) }

// maxTimeouts is how often something that costs whole seconds is tried.
const maxTimeouts = 2

// verdict says what becomes of a transfer that failed n times: nil, and it is tried again, or the error that ends it.
// Silence in its midst is worth as many attempts as other failures where no other cache has the NAR.
func (r rival) verdict(ctx context.Context, policy RetryPolicy, n int, err error) error {
	slow := timedOut(err) && n >= maxTimeouts
	switch {
	case slow && r.there(ctx):
		return &leftError{err}
	case n >= policy.Attempts, slow && !errors.Is(err, errStalled):
		return fmt.Errorf("%w (tried %d times)", err, n)
	}
	return nil
}

// leftError is why a transfer was left for one from another cache. It may be taken up again when that fails.
type leftError struct{ error }

func (e *leftError) Error() string { return e.error.Error() + "; another cache has it" }
func (e *leftError) Unwrap() error { return e.error }

var errHeld = errors.New("it asked to be left in peace")

// held reports whether a transfer failed because its cache asked for a pause, which is no fault.
func held(err error) bool {
	var status *statusFailure
	return errors.Is(err, errHeld) || errors.As(err, &status) && status.retryAfter > 0
}
