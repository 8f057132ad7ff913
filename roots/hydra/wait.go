package hydra

import (
	"context"
	"fmt"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// wait is one stretch of patience, shared by the evaluation and the builds.
type wait struct {
	poll   poll
	limit  time.Duration
	log    func(format string, args ...any)
	start  time.Time
	delay  time.Duration
	paused bool

	line     string
	lineAt   time.Time
	noStatus bool // Hydra's list of running builds is of no use
}

func (c *Client) newWait(limit time.Duration) *wait {
	return &wait{poll: c.poll, limit: limit, log: c.log, start: time.Now(), delay: c.poll.first}
}

func (w *wait) waited() time.Duration {
	if !w.paused {
		return 0
	}
	return time.Since(w.start)
}

func (w *wait) started() bool { return w.paused }

// again says the line and reports whether there is time for another look.
func (w *wait) again(line string) bool {
	if time.Since(w.start) >= w.limit {
		return false
	}
	w.say(line)
	return true
}

// say logs a line when it is new or the last is a while ago.
func (w *wait) say(line string) {
	now := time.Now()
	if line == w.line && now.Sub(w.lineAt) < w.poll.line {
		return
	}
	w.line, w.lineAt = line, now
	if since := now.Sub(w.start).Round(time.Second); since > 0 {
		w.log("%s (%s so far, at most %s)", line, since, w.limit)
		return
	}
	w.log("%s (at most %s)", line, w.limit)
}

// pause sleeps until the next look, which is the last one when the limit comes first.
func (w *wait) pause(ctx context.Context) error {
	w.paused = true
	d := min(w.delay, w.limit-time.Since(w.start))
	w.delay = min(w.delay+w.delay/2, w.poll.longest)
	return retry.Sleep(ctx, max(d, time.Millisecond))
}

// buildLine says what is being waited for, with a link.
func (c *Client) buildLine(ctx context.Context, w *wait, unfinished []Build, all int) string {
	b := unfinished[0]
	state := "queued or running"
	if running, ok := c.running(ctx, w); ok {
		state = "queued"
		for _, one := range unfinished {
			if running[one.ID] {
				b, state = one, "running"
				break
			}
		}
	}
	rest := ""
	if all > 1 {
		rest = fmt.Sprintf(" (%d of %d builds are finished)", all-len(unfinished), all)
	}
	return fmt.Sprintf("waiting for Hydra to build %s, which is %s%s: %s", text.Clip(b.Job, clipped), state, rest, b.URL)
}

// running asks which builds have a step at work (Controller/Root.pm, status_GET): a build itself does not say. It
// is a courtesy, so a Hydra that does not answer it is not asked again.
func (c *Client) running(ctx context.Context, w *wait) (map[int64]bool, bool) {
	if w.noStatus {
		return nil, false
	}
	var ids map[int64]bool
	_, err := c.askJSON(ctx, question{path: "/status", once: true}, func(s *stream) error {
		ids = map[int64]bool{}
		return s.list(func() error {
			var one struct {
				ID number `json:"id"`
			}
			if err := s.value(buildLimit, &one); err != nil {
				return err
			}
			ids[int64(one.ID)] = true
			return s.keep(2 * valueSize)
		})
	})
	if err != nil {
		w.noStatus = true
		return nil, false
	}
	return ids, true
}
