package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Usage is what a whole process took, from its start to its end.
type Usage struct {
	Wall time.Duration
	CPU  time.Duration // user and system time, of its children too
	RSS  int64         // the most memory it had, in bytes
}

func seconds(d time.Duration) float64 { return d.Seconds() }

// child is the first argument of the processes that the program starts of itself.
const child = "-child"

// Child runs what the program was started for by itself, and reports whether it was.
func Child(ctx context.Context, args []string, stdout io.Writer) (bool, error) {
	if len(args) < 2 || args[0] != child {
		return false, nil
	}
	work, ok := map[string]func(context.Context, []string, io.Writer) error{
		"time": timed, "substitute": substituteChild, "hash": hashChild, "relocate": relocateChild,
		"unxz": unxzChild, "search": searchChild,
	}[args[1]]
	if !ok {
		return true, fmt.Errorf("no child process is called %q", args[1])
	}
	return true, work(ctx, args[2:], stdout)
}

// self is the command that runs a child.
func self(name string, args ...string) []string {
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	return append([]string{program, child, name}, args...)
}

// process runs a program to its end and measures it. What is measured is started by a small process between: a
// process is charged with the memory of the one that started it.
func process(ctx context.Context, env []string, command ...string) (Usage, []byte, error) {
	line := self("time", command...)
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	c.Env = env
	read, write, err := os.Pipe()
	if err != nil {
		return Usage{}, nil, err
	}
	defer read.Close()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr, c.ExtraFiles = &stdout, &stderr, []*os.File{write}
	err = c.Run()
	write.Close()
	if err != nil {
		return Usage{}, nil, fmt.Errorf("running %s: %w: %s", command[0], err, tail(stderr.String()))
	}
	var u Usage
	err = json.NewDecoder(read).Decode(&u)
	return u, stdout.Bytes(), err
}

func tail(s string) string {
	s = strings.TrimSpace(s)
	return s[max(0, len(s)-1000):]
}

// timed is the process between.
func timed(_ context.Context, command []string, _ io.Writer) error {
	c := exec.Command(command[0], command[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	start := time.Now()
	if err := c.Run(); err != nil {
		return err
	}
	used, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not tell what a process used")
	}
	u := Usage{Wall: time.Since(start), RSS: used.Maxrss << 10}
	u.CPU = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	report := os.NewFile(3, "report")
	return errors.Join(json.NewEncoder(report).Encode(u), report.Close())
}

// series is what several runs of one side of a comparison took.
type series struct{ wall, cpu, rss []float64 } // seconds, seconds, MiB

func (s *series) add(u Usage) {
	s.wall = append(s.wall, seconds(u.Wall))
	s.cpu = append(s.cpu, seconds(u.CPU))
	s.rss = append(s.rss, float64(u.RSS)/(1<<20))
}

// alternate runs each of some sides in turn, as often as there are pairs.
func (b *Bench) alternate(ctx context.Context, what string, sides ...func(context.Context) (Usage, error),
) ([]series, error) {
	all := make([]series, len(sides))
	for i := range b.Pairs {
		var line []string
		for j, side := range sides {
			if err := b.settle(ctx); err != nil {
				return nil, err
			}
			u, err := side(ctx)
			if err != nil {
				return nil, err
			}
			all[j].add(u)
			line = append(line, fmt.Sprintf("%.2f s (%.2f s of CPU, %d MiB)", seconds(u.Wall), seconds(u.CPU), u.RSS>>20))
		}
		b.Log("%s, %d of %d: %s", what, i+1, b.Pairs, strings.Join(line, ", "))
	}
	return all, nil
}
