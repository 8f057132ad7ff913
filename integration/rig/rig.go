package rig

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

// Suite is the Debian suite that real programs, Nix above all, are taken from. It is the newest one with a release
// of its own name, so that its Nix is a current one.
const Suite = "forky"

// Options say where a Rig keeps what it makes and whom it tells.
type Options struct {
	// Dir is the cache directory. Empty means $NIX_HYDRA_CACHE, else nix-hydra-buildpack in the user's cache directory.
	Dir string
	// Arch is the architecture that images, packages and closures are for, as Go names it; empty means $NIX_HYDRA_ARCH,
	// else this machine's. Another one's programs run under QEMU where the kernel was told to (see Emulated); Nix, pack
	// and what else only makes the parts are this machine's in any case.
	Arch string
	// Log is told, a line at a time, what is downloaded or built. Nil means standard error.
	Log func(format string, args ...any)
}

// Rig makes real parts to test on and keeps them in a cache directory, so that a second call is quick. All methods may
// be called by many goroutines and many processes at once.
type Rig struct {
	dir  string
	arch string
	log  func(format string, args ...any)
}

// Open gives a Rig on a cache directory, made when missing.
func Open(options Options) (*Rig, error) {
	dir := cmp.Or(options.Dir, os.Getenv("NIX_HYDRA_CACHE"))
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("finding cache directory (set NIX_HYDRA_CACHE): %w", err)
		}
		dir = filepath.Join(base, "nix-hydra-buildpack")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding cache directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making cache directory: %w", err)
	}
	log := options.Log
	if log == nil {
		log = func(format string, args ...any) { fmt.Fprintf(os.Stderr, "rig: "+format+"\n", args...) }
	}
	arch := cmp.Or(options.Arch, os.Getenv("NIX_HYDRA_ARCH"), runtime.GOARCH)
	if arch != "amd64" && arch != "arm64" {
		return nil, fmt.Errorf("opening rig: no architecture %q, it knows amd64 and arm64", arch)
	}
	return &Rig{dir: dir, arch: arch, log: log}, nil
}

// host is the rig of this machine's own architecture, which has the programs that make the parts.
func (r *Rig) host() *Rig { return &Rig{dir: r.dir, arch: runtime.GOARCH, log: r.log} }

// foreign reports whether the parts are for another machine than this one.
func (r *Rig) foreign() bool { return r.arch != runtime.GOARCH }

// Dir is the cache directory.
func (r *Rig) Dir() string { return r.dir }

// Arch is the architecture that the parts are for, as Go names it.
func (r *Rig) Arch() string { return r.arch }

// System is Nix's name of what the parts are for, as "x86_64-linux".
func (r *Rig) System() string { return r.cpu() + "-linux" }

// cpu is the kernel's name of the architecture.
func (r *Rig) cpu() string {
	if r.arch == "arm64" {
		return "aarch64"
	}
	return "x86_64"
}

// triplet is Debian's name of the directory for this architecture's libraries.
func (r *Rig) triplet() string { return r.cpu() + "-linux-gnu" }

// cached gives the directory <cache>/<kind>/<key>, where key stands for the inputs. When it is missing, it is made by
// calling build with a directory beside it, which is then renamed; final is the name it will have.
func (r *Rig) cached(
	ctx context.Context, kind string, inputs []string, build func(ctx context.Context, dir, final string) error,
) (string, error) {
	sum := sha256.Sum256([]byte(kind + "\x00" + strings.Join(inputs, "\x00")))
	key := hex.EncodeToString(sum[:])[:16]
	final := filepath.Join(r.dir, kind, key)
	if _, err := os.Lstat(final); err == nil {
		return final, nil
	}
	unlock, err := r.lock(ctx, kind+"-"+key)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Lstat(final); err == nil {
		return final, nil
	}
	dir := filepath.Join(r.dir, kind, ".making-"+key)
	if err := nar.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("making %s: %w", kind, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making %s: %w", kind, err)
	}
	if err := build(ctx, dir, final); err != nil {
		return "", errors.Join(fmt.Errorf("making %s: %w", kind, err), nar.RemoveAll(dir))
	}
	if err := os.Rename(dir, final); err != nil {
		return "", fmt.Errorf("making %s: %w", kind, err)
	}
	return final, nil
}

// doing says what is done, and when that has ended how long it took, where somebody may have wondered.
func (r *Rig) doing(format string, args ...any) (ended func()) {
	what, began := fmt.Sprintf(format, args...), time.Now()
	r.log("%s", what)
	return func() {
		if took := time.Since(began); took > 2*time.Second {
			r.log("%s: took %.0f s", what, took.Seconds())
		}
	}
}

// lock waits for the named lock, which other processes honour too.
func (r *Rig) lock(ctx context.Context, name string) (unlock func(), err error) {
	directory := filepath.Join(r.dir, "locks")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	file, err := os.OpenFile(filepath.Join(directory, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	said := false
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", name, err), file.Close())
		}
		if !said {
			said = true
			r.log("waiting for another process that makes %s", name)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("locking %s: %w", name, ctx.Err()), file.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
