// Package starttime measures what one way of starting a program costs over another. scripts/bench and the launcher's
// tests use it.
package starttime

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// Command is a program to start and wait for; it must end by itself, with status 0.
type Command struct {
	Argv []string
	Env  []string // nil: this process's
	Dir  string
	Attr *syscall.SysProcAttr // nil: an ordinary child
}

// Times are the wall-clock times of a command's starts, from before the fork to the end of the process.
type Times struct {
	Best, Median time.Duration
	Count        int
}

// Compare starts a and b by turns, rounds times each after one unmeasured start of both, and returns the times of
// each. Turns make a busy machine slow both alike; the medians' difference is what b adds to a.
func Compare(ctx context.Context, rounds int, a, b Command) (Times, Times, error) {
	var taken [2][]time.Duration
	for round := range rounds + 1 {
		for i, c := range []Command{a, b} {
			t, err := once(ctx, c)
			if err != nil {
				return Times{}, Times{}, err
			}
			if round > 0 {
				taken[i] = append(taken[i], t)
			}
		}
	}
	return summary(taken[0]), summary(taken[1]), nil
}

func once(ctx context.Context, c Command) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stderr, cmd.SysProcAttr = c.Env, c.Dir, os.Stderr, c.Attr
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("measuring the start of %v: %w", c.Argv, err)
	}
	return time.Since(begin), nil
}

func summary(taken []time.Duration) Times {
	if len(taken) == 0 {
		return Times{}
	}
	slices.Sort(taken)
	return Times{Best: taken[0], Median: taken[len(taken)/2], Count: len(taken)}
}
