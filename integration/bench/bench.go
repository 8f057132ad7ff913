// Package bench measures what the documentation claims, on real parts: substitution against Nix and against the limit
// of the machine, programs of a relocated closure against the same ones in /nix, a second build against the first.
// The program in cmd/bench prints what is measured; scripts/bench runs it.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// Options say what to measure on.
type Options struct {
	Rig *rig.Rig
	// Closure is the directory of a binary cache to measure with; empty means the rig's big closure.
	Closure string
	// Dir is an empty directory on the file system to measure on, short, as store paths are rewritten to a place in it.
	Dir string
	// Disks says to measure substitution in file systems of the run's own, made in files in Dir, where that can be done.
	Disks bool
	// PureGo is this program built with the tag purego, for the suite of that name.
	PureGo string
	// Pairs is how often each comparison is made; the medians count.
	Pairs int
	// Out receives the rows, Log a line for each step.
	Out io.Writer
	Log func(format string, args ...any)
}

// Bench is one run of the program.
type Bench struct {
	Options
	fixture *fixture
	runs    int
	old     []string // directories that are done with
	removed time.Time
}

// New gives a Bench.
func New(options Options) *Bench {
	if options.Pairs <= 0 {
		options.Pairs = 3
	}
	return &Bench{Options: options}
}

var suites = []struct {
	name    string
	measure func(*Bench, context.Context) error
}{
	{"substitute", (*Bench).substitute}, {"launch", (*Bench).launch}, {"rebuild", (*Bench).rebuild},
	{"resolve", (*Bench).resolve}, {"fleet", (*Bench).fleet}, {"purego", (*Bench).purego},
	{"instructions", (*Bench).instructions}, {"pack", (*Bench).packs}, {"survey", (*Bench).survey},
	{"try", (*Bench).try},
}

// Suites are the parts that can be measured one by one, in order.
func Suites() (names []string) {
	for _, s := range suites {
		names = append(names, s.name)
	}
	return names
}

// Measure measures one part, which is one of Suites, and prints its rows.
func (b *Bench) Measure(ctx context.Context, suite string) error {
	err := suites[slices.Index(Suites(), suite)].measure(b, ctx)
	if err != nil {
		err = fmt.Errorf("measuring %s: %w", suite, err)
	}
	return errors.Join(err, b.sweep())
}

// Figure is one measured number.
type Figure struct {
	Name  string
	Value float64
	Unit  string // "ratio", "s", "MiB"...
	// Bar is what it must reach, as "<=1.02", "<256" or ">=1"; "" where there is none.
	Bar string
}

// Reaches reports whether the value is what the bar demands; without a bar it always is.
func (f Figure) Reaches() bool {
	for _, comparison := range []string{"<=", ">=", "<", ">"} {
		text, ok := strings.CutPrefix(f.Bar, comparison)
		if !ok {
			continue
		}
		limit, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return false
		}
		c := cmp.Compare(f.Value, limit)
		return c == 0 && len(comparison) == 2 || c < 0 && comparison[0] == '<' || c > 0 && comparison[0] == '>'
	}
	return f.Bar == ""
}

// String is the figure's row: name, value, unit, bar and "ok" or "short", separated by tabs.
func (f Figure) String() string {
	result := "ok"
	if !f.Reaches() {
		result = "short"
	}
	value := strconv.FormatFloat(f.Value, 'f', 3, 64)
	if f.Value >= 1e4 {
		value = strconv.FormatFloat(f.Value, 'f', 0, 64)
	}
	return strings.Join([]string{f.Name, value, f.Unit, cmp.Or(f.Bar, "-"), result}, "\t")
}

// row prints a figure.
func (b *Bench) row(name string, value float64, unit, bar string) {
	fmt.Fprintln(b.Out, Figure{name, value, unit, bar})
}

// newDir makes a new newDir of the run's own.
func (b *Bench) newDir() (string, error) {
	b.runs++
	dir := filepath.Join(b.Dir, strconv.Itoa(b.runs))
	return dir, os.MkdirAll(dir, 0o755)
}

// discard marks a directory as done with. It is removed at once where that costs nothing, in memory, and else later.
func (b *Bench) discard(dir string) {
	b.old = append(b.old, dir)
	if inMemory(dir) {
		_ = b.sweep()
	}
}

func inMemory(dir string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(dir, &stat) == nil && stat.Type == unix.TMPFS_MAGIC
}

// sweep removes what is done with.
func (b *Bench) sweep() error {
	var failed error
	for _, dir := range b.old {
		failed = errors.Join(failed, nar.RemoveAll(dir))
		b.removed = time.Now()
	}
	b.old = nil
	return failed
}

// recently is how long ext4 passes over inodes that were deleted when it looks for free ones (recently_deleted in
// Linux, fs/ext4/ialloc.c): a minute, and five more where what it has changed of their block is not on the disk. For so
// long whatever makes files there takes several times its time.
const recently = 365 * time.Second

// settle waits until the file system has written what came before, so that nobody has to wait for somebody else's
// files, and, if it is the one to be measured, until it has forgotten what was removed.
func (b *Bench) settle(ctx context.Context) error {
	if inMemory(b.Dir) {
		return nil
	}
	unix.Sync()
	if b.Disks {
		return nil
	}
	return b.outlast(ctx, b.removed)
}

// outlast waits until the file system has forgotten what was removed at a time.
func (b *Bench) outlast(ctx context.Context, removed time.Time) error {
	rest := recently - time.Since(removed)
	if rest <= 0 {
		return nil
	}
	b.Log("waiting %d s until the file system makes new files as fast as before much was removed", int(rest.Seconds()))
	select {
	case <-time.After(rest):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Clone(values)
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// ratio is the median of a's values divided by b's, pair by pair: what disturbs the machine for a while disturbs both
// of a pair.
func ratio(a, b []float64) float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		ratios = append(ratios, a[i]/b[i])
	}
	return median(ratios)
}
