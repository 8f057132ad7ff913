package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// startCommand is a program to start and wait for; it must end by itself, with status 0.
type startCommand struct {
	Argv []string
	Env  []string // nil: this process's
	Dir  string
	Attr *syscall.SysProcAttr // nil: an ordinary child
}

// startTimes are the wall-clock times of a command's starts, from before the fork to the end of the process.
type startTimes struct {
	Best, Median time.Duration
	Count        int
}

// compareStarts starts a and b by turns, rounds times each after one unmeasured start of both, and returns the times of
// each. Turns make a busy machine slow both alike; the medians' difference is what b adds to a.
func compareStarts(ctx context.Context, rounds int, a, b startCommand) (startTimes, startTimes, error) {
	var taken [2][]time.Duration
	for round := range rounds + 1 {
		for i, c := range []startCommand{a, b} {
			t, err := once(ctx, c)
			if err != nil {
				return startTimes{}, startTimes{}, err
			}
			if round > 0 {
				taken[i] = append(taken[i], t)
			}
		}
	}
	return summary(taken[0]), summary(taken[1]), nil
}

func once(ctx context.Context, c startCommand) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stderr, cmd.SysProcAttr = c.Env, c.Dir, os.Stderr, c.Attr
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("measuring the start of %v: %w", c.Argv, err)
	}
	return time.Since(begin), nil
}

func summary(taken []time.Duration) startTimes {
	if len(taken) == 0 {
		return startTimes{}
	}
	slices.Sort(taken)
	return startTimes{Best: taken[0], Median: taken[len(taken)/2], Count: len(taken)}
}
