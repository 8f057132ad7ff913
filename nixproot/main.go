package nixproot

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/buildpacks/libcnb/v2"
	cnblog "github.com/buildpacks/libcnb/v2/log"
	"github.com/heroku/color"
	"github.com/paketo-buildpacks/libpak/v2"
	"github.com/paketo-buildpacks/libpak/v2/log"
	"github.com/paketo-buildpacks/libpak/v2/utils"
)

// GCPercent is how much garbage the program lets come, in per cent of what is in use: what a build allocates is little
// and long-lived, so that collecting costs next to nothing, and memory is what platforms bound builds by.
const GCPercent = 20

// layersUmask lets anybody read what layers hold: an image may run as another user than the one who built it.
const layersUmask = 0o022

// Main is the buildpack's program: detect, build, inspect, survey or verify, by the name it is called under.
func Main(args []string, out, errs io.Writer) {
	debug.SetGCPercent(GCPercent)
	syscall.Umask(layersUmask)
	noCoreDumps()
	stdlog.SetOutput(io.Discard)    // where Go's HTTP client repeats a server's words, as often as they come
	switch filepath.Base(args[0]) { // these redact what they write before they make JSON or HTML of it
	case "verify":
		os.Exit(Verify(args[1:], out, errs))
	case "inspect":
		os.Exit(Inspect(args[1:], out, errs))
	case "survey":
		os.Exit(Survey(args[1:], os.Stdin, out, errs))
	}
	variables := environment(os.Environ(), os.Getenv(libcnb.EnvPlatformDirectory))
	color.Disable(variables["NO_COLOR"] != "")                                // https://no-color.org
	logger := log.NewPaketoLogger(newRedacting(&folding{to: out}, variables)) // in this order: a secret may have blanks
	out, errs = newRedacting(out, variables), newRedacting(errs, variables)
	if err := checkBindings(bindingsDir()); err != nil {
		fmt.Fprintln(errs, err)
		os.Exit(1)
	}
	libpak.BuildpackMain(Detect{Logger: logger}.Detect, Build{Logger: logger}.Build,
		libcnb.WithArguments(args), libcnb.WithLogger(cnblog.New(out)),
		libcnb.WithExitHandler(utils.NewExitHandler(utils.WithExitHandlerLogger(log.NewPaketoLogger(out)), utils.WithExitHandlerWriter(errs))),
		// The log has said all that is written then.
		libcnb.WithEnvironmentWriter(utils.NewEnvironmentWriter(utils.WithEnvironmentWriterLogger(log.NewDiscardLogger()))),
		libcnb.WithTOMLWriter(utils.NewTOMLWriter(utils.WithTOMLWriterLogger(log.NewDiscardLogger()))))
}

// noCoreDumps has this process and those that it starts leave no image of their memory, which holds logins. A limit of one
// byte also keeps the kernel from handing one to a program, as core_pattern may say and a limit of zero does not (Linux,
// fs/coredump.c; core(5)).
func noCoreDumps() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &limit) == nil {
		limit.Cur = min(1, limit.Max)
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	}
}

// interruptible is a context that ends when the platform wants the build to end, so that what is half done is
// removed.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}
