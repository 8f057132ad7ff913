package nixinstall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/processgroup"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// stopDelay is how long Nix may take to stop once asked, before it is killed: in some of its builtins it does not look. A
// build ends within a second of SIGTERM, and nothing of a state that is broken off is used again.
const stopDelay = 500 * time.Millisecond

// outputDelay is how long what Nix wrote may take to be read once it has ended: on a busy machine longer than to end it, and
// something that it has started may still hold the pipe.
const outputDelay = 10 * time.Second

// command is one run of one of the toolchain's programs.
type command struct {
	program string
	args    []string
	stdin   string
	pure    bool
	// doing is what the run is for, as the log has it: "evaluating shell.nix".
	doing string
}

// answer is what a run printed.
type answer struct {
	stdout []byte
	log    *journal
}

// damaged is what Nix says of a state directory that was cut off while it was written, or altered.
var damaged = regexp.MustCompile(`SQLite (?:statement|database)|is not a database|disk image is malformed|` +
	`/nix/var/nix/db/\S* is corrupt|schema is version \d+, but I only support`)

// run runs a program with the toolchain's own configuration and environment. An error is a *nixError where Nix
// itself said what is wrong. A state directory that Nix cannot read is emptied: it is a cache, and nothing in it is
// needed but time.
func (t Toolchain) run(ctx context.Context, c command) (answer, error) {
	result, err := t.try(ctx, c)
	var failure *nixError
	if err == nil || !errors.As(err, &failure) || !damaged.MatchString(failure.last().Raw) {
		return result, err
	}
	t.logf("%s: what was kept of earlier evaluations is damaged (%s); starting without it", c.doing,
		text.Line(failure.last().Raw))
	if err := emptyDir(t.settings.State); err != nil {
		return result, fmt.Errorf("%s: %w", c.doing, err)
	}
	return t.try(ctx, c)
}

// try runs a program once.
func (t Toolchain) try(ctx context.Context, c command) (answer, error) {
	if t.settings.State == "" || !filepath.IsAbs(t.settings.State) {
		return answer{}, fmt.Errorf("running %s: the state directory %q is not an absolute path", c.program, t.settings.State)
	}
	for _, dir := range []string{t.settings.root(), t.settings.home()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return answer{}, fmt.Errorf("running %s: %w", c.program, err)
		}
	}
	bundle, err := t.bundle()
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", c.doing, err)
	}
	local, err := t.settings.serve(bundle)
	if err != nil {
		return answer{}, fmt.Errorf("%s: serving a cache: %w", c.doing, err)
	}
	defer local.stop()
	t.settings.Substituters = local.urls // t is a copy
	if len(local.servers) > 0 {
		t.settings.Environment = t.settings.unproxied()
	}
	configDir, err := t.configDir(c.pure, bundle)
	if err != nil {
		return answer{}, err
	}
	defer os.RemoveAll(configDir)

	log := newJournal(t.settings, c.doing, local.names)
	defer log.stop()
	return t.exec(ctx, c, configDir, log)
}

// exec runs a program whose configuration is in configDir, and reads its log.
func (t Toolchain) exec(ctx context.Context, c command, configDir string, log *journal) (answer, error) {
	var stdout bytes.Buffer
	cmd := exec.CommandContext(ctx, t.program(c.program), c.args...)
	cmd.Env = t.environment(configDir)
	cmd.Dir = t.settings.home()
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.Stdout = &stdout
	cmd.Stderr = log
	err := processgroup.Run(cmd, syscall.SIGTERM, stopDelay, outputDelay) // with git and ssh
	log.flush()
	result := answer{stdout: stdout.Bytes(), log: log}
	switch {
	case err == nil:
		return result, nil
	case ctx.Err() != nil:
		return result, fmt.Errorf("%s: %w", c.doing, context.Cause(ctx))
	case errors.Is(err, os.ErrNotExist):
		return result, fmt.Errorf("%s: the toolchain is not whole: %w", c.doing, err)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(log.errors) > 0 {
		return result, &nixError{doing: c.doing, messages: log.errors, warnings: log.warnings}
	}
	return result, fmt.Errorf("%s: %w%s", c.doing, err, log.tail())
}

// nixError is what Nix logged when it gave up: the errors, in order; the last one ended it.
type nixError struct {
	doing    string
	messages []message
	warnings []string
}

func (e *nixError) last() message { return e.messages[len(e.messages)-1] }

func (e *nixError) Error() string {
	return fmt.Sprintf("%s: %s", e.doing, text.Line(e.last().Raw))
}

var _ io.Writer = (*journal)(nil)
