package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// ownShellFlag makes this program a shell, for images that have none. LINE [NAME [ARGUMENT…]] follow, as after "sh -c".
const ownShellFlag = "--nix-hydra-shell"

// ownShell is the command that starts this program as the shell of a line. It runs inside the engine, as any shell does.
func (l *launcher) ownShell(text string, nameAndArgs []string) *command {
	argv := append([]string{ProcessProgramName, ownShellFlag, text}, nameAndArgs...)
	return &command{argv: argv, path: l.self, env: l.env, needsEngine: true, shell: true}
}

// runOwnShell runs a line by mvdan.cc/sh and returns its exit status.
func runOwnShell(text string, nameAndArgs, environ []string) (code int) {
	fail := func(problem any) int {
		fmt.Fprintf(os.Stderr, "%s: running command line %q without a shell: %v: the image has no shell, add bash to the "+
			"closure\n", ProgramName, text, problem)
		return exitUsage
	}
	name, args := "sh", nameAndArgs
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(text), name)
	if err != nil {
		return fail(err)
	}
	runner, err := interp.New(interp.Env(expand.ListEnviron(environ...)), interp.Params(append([]string{"--"}, args...)...),
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.ExecHandlers(withOwnShell))
	if err != nil {
		return fail(err)
	}
	defer func() {
		if problem := recover(); problem != nil { // the library panics where it does not implement something
			code = fail(problem)
		}
	}()
	var exit interp.ExitStatus
	switch err = runner.Run(context.Background(), file); {
	case errors.As(err, &exit):
		return int(exit)
	case err != nil:
		return fail(err)
	}
	return 0
}

// withOwnShell makes this program run "sh -c LINE" in a line, too, where the image has no such shell.
func withOwnShell(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		if len(args) > 2 && isShell(args[0]) && args[1] == "-c" {
			hc := interp.HandlerCtx(ctx)
			_, missing := interp.LookPathDir(hc.Dir, hc.Env, args[0])
			if self, err := os.Executable(); missing != nil && err == nil {
				args = append([]string{self, ownShellFlag}, args[2:]...)
			}
		}
		return next(ctx, args)
	}
}
