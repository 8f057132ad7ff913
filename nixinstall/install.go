package nixinstall

import (
	"context"
	"errors"
)

// InstallOptions say more about a release than its file does.
type InstallOptions struct {
	// SHA256 (hex) is checked against the tarball where it is set. What was found becomes Metadata.Release.
	SHA256 string
	// Log, if set, receives a line for each step.
	Log func(format string, args ...any)
}

// Install unpacks a release tarball in the official layout (nix-VERSION-ARCH-linux.tar.xz: store/, .reginfo,
// install), checks every path against its registered NAR hash, rewrites it to dir and leaves there the programs,
// ready to run, and a compressed pack of them that Restore unpacks again. dir must be absolute and short enough for
// relocation; it is the place the programs run from. A failed Install leaves dir without either.
func Install(ctx context.Context, tarball, dir string, o InstallOptions) (Toolchain, error) {
	return Toolchain{}, errors.New("installing the Nix toolchain: relocation is not wired up yet")
}

// Restore opens what Install left in dir, unpacking the programs from the pack where they are not there. A dir that
// holds something else, an altered pack or a pack for another place gives a *StaleError; the answer to that is
// Install.
func Restore(ctx context.Context, dir string) (Toolchain, error) {
	return Toolchain{}, &StaleError{Dir: dir, Reason: "there is no toolchain"}
}

// Shed removes the unpacked programs and keeps the pack, so that a cached layer stays small.
func (t Toolchain) Shed() error {
	return nil
}
