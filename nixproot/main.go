package nixproot

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"syscall"

	"github.com/buildpacks/libcnb/v2"
	cnblog "github.com/buildpacks/libcnb/v2/log"
	"github.com/paketo-buildpacks/libpak/v2"
	"github.com/paketo-buildpacks/libpak/v2/log"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
)

// GCPercent is how much garbage the program lets come, in per cent of what is in use: what a build allocates is little
// and long-lived, so that collecting costs next to nothing, and memory is what platforms bound builds by.
const GCPercent = 40

// Main is the buildpack's program: detect, build or verify, by the name it is called under.
func Main(args []string, out io.Writer) {
	debug.SetGCPercent(GCPercent)
	out = redacting{out}
	logger := log.NewPaketoLogger(out)
	if filepath.Base(args[0]) == "verify" {
		os.Exit(Verify(args[1:], out))
	}
	libpak.BuildpackMain(Detect{Logger: logger}.Detect, Build{Logger: logger}.Build,
		libcnb.WithArguments(args), libcnb.WithLogger(cnblog.New(out)))
}

// interruptible is a context that ends when the platform wants the build to end, so that what is half done is
// removed.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// redacting hides passwords and signatures in URLs in all that is logged. Our own messages have none; this is for the
// libraries' debug output, which prints the whole environment.
type redacting struct{ to io.Writer }

var secretURL = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]*[@?][^\s"'<>]*`)

// Write passes a message on.
func (r redacting) Write(p []byte) (int, error) {
	plain := secretURL.ReplaceAllFunc(p, func(u []byte) []byte { return []byte(cache.Redact(string(u))) })
	if _, err := r.to.Write(plain); err != nil {
		return 0, err
	}
	return len(p), nil
}
