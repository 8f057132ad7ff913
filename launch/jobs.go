package launch

import (
	"context"
	"math"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/interp"
)

// jobs are what a line's main shell runs beside itself, and the signals that its traps are to hear of. Only lines that
// wait for jobs are made to report them.
type jobs struct {
	mu      sync.Mutex
	running int
	ended   []int            // statuses that no wait has asked for, oldest first
	signals []syscall.Signal // trapped, their actions still to be run
	news    chan struct{}    // closed when something ends or is trapped, and made anew
}

func newJobs() *jobs { return &jobs{news: make(chan struct{})} }

// change does something under the lock and wakes whoever waits for news.
func (j *jobs) change(do func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	do()
	close(j.news)
	j.news = make(chan struct{})
}

// unheard are the trapped signals whose actions are still to be run.
func (j *jobs) unheard() []syscall.Signal {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.signals)
}

// start is the built-in before a job.
func (j *jobs) start(context.Context, interp.HandlerContext, []string) error {
	j.change(func() { j.running++ })
	return nil
}

// end is the built-in that ends a job with its status.
func (j *jobs) end(_ context.Context, _ interp.HandlerContext, args []string) error {
	code, _ := strconv.Atoi(args[1])
	j.change(func() { j.running--; j.ended = append(j.ended, code) })
	return exitStatus(code)
}

// wait is the built-in: for all jobs, or by -n for the next that ends. A trapped signal ends it.
func (j *jobs) wait(ctx context.Context, _ interp.HandlerContext, args []string) error {
	next := len(args) > 1
	for {
		j.mu.Lock()
		news, code, over := j.news, 0, true
		switch {
		case len(j.signals) > 0:
			code = exitSignal + int(j.signals[0])
		case next && len(j.ended) > 0:
			code, j.ended = j.ended[0], j.ended[1:]
		case j.running > 0:
			over = false
		case next:
			code = exitNotFound
		default:
			j.ended = nil
		}
		j.mu.Unlock()
		if over {
			return exitStatus(code)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		}
	}
}

// sleep stands for the program, where the image lacks it. A signal ends it as it ends a program.
func (j *jobs) sleep(ctx context.Context, hc interp.HandlerContext, args []string) error {
	total := time.Duration(0)
	for _, word := range args[1:] {
		d, err := duration(word)
		if err != nil {
			return complain(hc, 1, "sleep", err)
		}
		total += min(d, math.MaxInt64-total)
	}
	over := time.After(total)
	for {
		j.mu.Lock()
		news, signals := j.news, j.signals
		j.mu.Unlock()
		if len(signals) > 0 {
			return exitStatus(exitSignal + int(signals[0]))
		}
		select {
		case <-over:
			return nil
		case <-ctx.Done():
			return nil
		case <-news:
		}
	}
}

// exitStatus is a built-in's exit status as the interpreter takes it.
func exitStatus(code int) error {
	if code == 0 {
		return nil
	}
	return interp.ExitStatus(code)
}
