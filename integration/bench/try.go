package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// try runs scripts/try as a newcomer does: in a fresh clone, with nothing downloaded, compiled or made before, and once again.
// What the Docker engine keeps of an earlier time stays there.
func (b *Bench) try(ctx context.Context) error {
	dir, err := b.newDir()
	if err != nil {
		return err
	}
	defer b.discard(dir)
	clone := filepath.Join(dir, "clone")
	if out, err := exec.CommandContext(ctx, "git", "clone", "-q", ".", clone).CombinedOutput(); err != nil {
		return fmt.Errorf("cloning this checkout: %w: %s", err, tail(string(out)))
	}
	env := os.Environ()
	for _, name := range []string{"NIX_HYDRA_CACHE", "GOCACHE", "GOMODCACHE"} {
		env = append(env, name+"="+filepath.Join(dir, name))
	}
	for _, run := range []struct{ name, bar string }{{"first", "<=240"}, {"second", "<=20"}} {
		b.Log("scripts/try in a fresh clone, for the %s time", run.name)
		began := time.Now()
		said := &talk{last: began}
		c := exec.CommandContext(ctx, filepath.Join(clone, "scripts/try"))
		c.Env, c.Stdout, c.Stderr = env, said, said
		if err := c.Run(); err != nil {
			return fmt.Errorf("running scripts/try: %w: %s", err, tail(said.text.String()))
		}
		said.pause()
		b.row("try."+run.name+".seconds", seconds(time.Since(began)), "s", run.bar)
		b.row("try."+run.name+".silence", seconds(said.longest), "s", "<10")
	}
	return nil
}

// talk is what a program says, and the longest time for which it said nothing.
type talk struct {
	text    bytes.Buffer
	last    time.Time
	longest time.Duration
}

func (t *talk) Write(p []byte) (int, error) {
	t.pause()
	return t.text.Write(p)
}

// pause ends a time of saying nothing.
func (t *talk) pause() {
	now := time.Now()
	t.longest, t.last = max(t.longest, now.Sub(t.last)), now
}
