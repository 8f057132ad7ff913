package bench

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// countedSize is how many bytes of files the search is counted on. They are picked from as many archives as it takes, which
// QEMU unpacks many times slower than the machine does.
const countedSize = 32 << 20

// pluginSuite is the last Debian suite whose QEMU takes plug-ins: later ones have it linked statically.
const pluginSuite = "bookworm"

//go:embed plugin/instructions.c
var pluginSource []byte

// counted is this program as it is counted: for an architecture, with assembly or without.
type counted struct {
	name string // of its rows
	cpu  string // as QEMU calls the architecture
	arch string
	tags string
	file string
}

// instructions counts what the xz decoder and relocation's search take for each byte, on both architectures whatever the
// machine is. Unlike seconds it is the same within a few hundredths in every run, on a busy machine too; how long a processor
// takes for them it does not say.
func (b *Bench) instructions(ctx context.Context) error {
	f, err := b.open(ctx)
	if err != nil {
		return err
	}
	dir, err := b.newDir()
	if err != nil {
		return err
	}
	plugin, err := compilePlugin(ctx, dir)
	if err != nil {
		return err
	}
	for _, c := range []counted{
		{name: "arm64", cpu: "aarch64", arch: "arm64", tags: "purego"}, {name: "amd64", cpu: "x86_64", arch: "amd64", tags: "purego"},
		{name: "amd64_assembly", cpu: "x86_64", arch: "amd64"},
	} {
		c.file = filepath.Join(dir, c.name)
		build := exec.CommandContext(ctx, "go", "build", "-tags", c.tags, "-o", c.file, "./integration/bench/cmd/bench")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+c.arch)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building for %s: %w: %s", c.arch, err, out)
		}
		if err := b.countBoth(ctx, f, plugin, c); err != nil {
			return err
		}
	}
	return nil
}

// compilePlugin makes the plug-in with the machine's own compiler.
func compilePlugin(ctx context.Context, dir string) (string, error) {
	source, plugin := filepath.Join(dir, "instructions.c"), filepath.Join(dir, "instructions.so")
	if err := os.WriteFile(source, pluginSource, 0o600); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "cc", "-O2", "-shared", "-fPIC", "-o", plugin, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compiling QEMU's plug-in: %w: %s", err, out)
	}
	return plugin, nil
}

// countBoth counts the decoder and the search. What each takes to start and to get its bytes is taken off.
func (b *Bench) countBoth(ctx context.Context, f *fixture, plugin string, c counted) error {
	b.Log("counting instructions: %s", c.name)
	dir, err := b.cache(ctx, f, "xz")
	if err != nil {
		return err
	}
	files, size, err := packed(dir, sampleSize)
	if err != nil {
		return err
	}
	all, _, err := b.count(ctx, plugin, c, append([]string{"unxz"}, files...)...)
	if err != nil {
		return err
	}
	none, _, err := b.count(ctx, plugin, c, "unxz")
	if err != nil {
		return err
	}
	b.row("instructions.xz."+c.name, float64(all-none)/float64(size), "a byte", "")

	if dir, err = b.cache(ctx, f, "zstd"); err != nil {
		return err
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		var turns [2]int64
		var found searched
		for i := range turns {
			var out []byte
			turns[i], out, err = b.count(ctx, plugin, c, "search", dir, kind, strconv.Itoa(i+1), strconv.Itoa(countedSize))
			if err == nil {
				err = json.Unmarshal(out, &found)
			}
			if err != nil {
				return err
			}
		}
		b.row("instructions.search."+kind+"."+c.name, float64(turns[1]-turns[0])/float64(found.Size), "a byte", "")
	}
	return nil
}

// count runs a child under QEMU and gives the instructions it took. Only what the child itself does is to be among them: no
// other thread of Go's, and no collection of garbage but those it asks for.
func (b *Bench) count(ctx context.Context, plugin string, c counted, args ...string) (int64, []byte, error) {
	qemu, err := b.Rig.ProgramOf(ctx, pluginSuite, "qemu-user", "qemu-"+c.cpu)
	if err != nil {
		return 0, nil, err
	}
	out := c.file + ".count"
	line := append([]string{"-cpu", "max", "-plugin", plugin + ",out=" + out, c.file, child}, args...)
	command := exec.CommandContext(ctx, qemu, line...)
	command.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return 0, nil, fmt.Errorf("counting instructions of %s: %w: %s", c.name, err, tail(stderr.String()))
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return 0, nil, fmt.Errorf("counting instructions of %s: %w", c.name, err)
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return n, stdout.Bytes(), err
}
