package nixinstall

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	// formatVersion changes when Metadata or the pack do.
	formatVersion = 1
	metadataName  = "toolchain.json"
	packName      = "toolchain.nar.zst"
	// unpackedName is there while the programs are, all of them.
	unpackedName = "unpacked"
	stagingName  = ".release-"
)

// InstallOptions say more about a release than its file does.
type InstallOptions struct {
	// SHA256 (hex) is checked against the tarball where it is set. What was found becomes Metadata.Release.
	SHA256 string
	// Log, if set, receives a line for each step.
	Log func(format string, args ...any)
}

func (o InstallOptions) logf(format string, args ...any) {
	if o.Log != nil {
		o.Log(format, args...)
	}
}

// Install unpacks a release tarball in the official layout (nix-VERSION-ARCH-linux.tar.xz: store/, .reginfo,
// install), checks every path against its registered NAR hash, rewrites it to dir and leaves there the programs,
// ready to run, and a compressed pack of them that Restore unpacks again. dir must be absolute and short enough for
// relocation (*relocate.TooLongError says so where it is not); it is the place the programs run from. What an
// earlier Install left there is removed first. A failed Install leaves nothing that Restore would take.
func Install(ctx context.Context, tarball, dir string, o InstallOptions) (Toolchain, error) {
	t, err := install(ctx, tarball, dir, o)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // a program that was killed for that only says that it was
	}
	if err != nil {
		return Toolchain{}, fmt.Errorf("installing the Nix toolchain from %s: %w", filepath.Base(tarball), err)
	}
	return t, nil
}

func install(ctx context.Context, tarball, dir string, o InstallOptions) (Toolchain, error) {
	view, err := relocate.NewView(dir)
	if err != nil {
		return Toolchain{}, err
	}
	if err := emptyDir(dir); err != nil {
		return Toolchain{}, err
	}
	staging, err := os.MkdirTemp(dir, stagingName)
	if err != nil {
		return Toolchain{}, err
	}
	defer nar.RemoveAll(staging)
	r, err := unpackRelease(ctx, tarball, staging)
	if err != nil {
		return Toolchain{}, err
	}
	if o.SHA256 != "" && !strings.EqualFold(o.SHA256, r.sha256) {
		return Toolchain{}, fmt.Errorf("its sha256 is %s, want %s", r.sha256, o.SHA256)
	}
	if ours := hostSystem(); r.system != ours {
		return Toolchain{}, fmt.Errorf("it is for %s, and this machine is %s", r.system, ours)
	}
	t := Toolchain{Dir: dir, Metadata: Metadata{
		Format: formatVersion, Version: r.version, System: r.system, Prefix: dir, Release: r.sha256,
	}}
	if err := t.relocate(ctx, view, r, o); err != nil {
		return Toolchain{}, errors.Join(err, emptyDir(dir))
	}
	return t, nil
}

// relocate relocates the release's paths into t.Dir, tries them out and packs them.
func (t *Toolchain) relocate(ctx context.Context, view relocate.View, r *release, o InstallOptions) error {
	var paths []storepath.Path
	for _, reg := range r.paths {
		paths = append(paths, reg.Path)
		t.Metadata.Paths = append(t.Metadata.Paths, view.Base(reg.Path))
	}
	slices.Sort(t.Metadata.Paths)
	if found := view.Collisions(paths); len(found) > 0 {
		return fmt.Errorf("relocating to %s: %s", t.Dir, found[0])
	}
	for _, reg := range r.paths {
		if err := relocatePath(ctx, view, filepath.Join(r.dir, "store", reg.Path.Base()), reg, o); err != nil {
			return err
		}
	}
	if err := t.findPrograms(); err != nil {
		return err
	}
	if err := t.probe(ctx); err != nil {
		return err
	}
	if err := t.pack(ctx); err != nil {
		return fmt.Errorf("packing the toolchain: %w", err)
	}
	metadata, err := json.MarshalIndent(t.Metadata, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(t.Dir, unpackedName), nil, 0o644); err != nil {
		return err
	}
	o.logf("Its %s are relocated to %s", text.Count(len(paths), "store path"), t.Dir)
	return writeFile(filepath.Join(t.Dir, metadataName), append(metadata, '\n'))
}

// relocatePath checks one path of a release and writes it, rewritten, to where it will run.
func relocatePath(ctx context.Context, view relocate.View, from string, reg registration, o InstallOptions) error {
	sum := sha256.New()
	tree := nar.NewTree(view.Rename(reg.Path))
	rewriter := view.Rewrite(reg.Path, reg.References, tree)
	if err := nar.DumpTo(ctx, nar.Tee(nar.NewWriter(sum), rewriter), from); err != nil {
		return errors.Join(fmt.Errorf("relocating %s: %w", reg.Path, err), tree.Discard())
	}
	if got := storepath.Hash(sum.Sum(nil)); got != reg.NarHash {
		return errors.Join(fmt.Errorf("verifying %s: its NAR hash is %s, registered is %s", reg.Path, got, reg.NarHash),
			tree.Discard())
	}
	for _, blocker := range rewriter.Report().Blockers {
		if blocker.Harmless == "" {
			o.logf("relocating %s: %s", reg.Path.Name(), blocker)
		}
	}
	return nil
}

// findPrograms finds the path that Nix is in, and certificates.
func (t *Toolchain) findPrograms() error {
	for _, base := range t.Metadata.Paths {
		dir := filepath.Join(t.Dir, base)
		if isFile(filepath.Join(dir, "etc/ssl/certs/ca-bundle.crt")) {
			t.Metadata.Certificates = base
		}
		if !isFile(filepath.Join(dir, "bin/nix")) || !isFile(filepath.Join(dir, "bin/nix-store")) {
			continue
		}
		// Several paths of a release have the programs; the one that is named as the release is meant.
		if t.Metadata.Program == "" || strings.HasSuffix(base, "-nix-"+t.Metadata.Version) {
			t.Metadata.Program = base
		}
	}
	if t.Metadata.Program == "" {
		return errors.New("no path of the release has bin/nix and bin/nix-store")
	}
	return nil
}

// probe runs the programs once: what was rewritten must work here.
func (t *Toolchain) probe(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, t.program("nix"), "--version")
	cmd.Env = []string{"HOME=" + t.Dir, "NIX_CONF_DIR=" + t.Dir, "NIX_USER_CONF_FILES="}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("trying %s: %w: %s", t.program("nix"), err, text.Line(output.String()))
	}
	fields := strings.Fields(output.String())
	if len(fields) == 0 || fields[len(fields)-1] != t.Metadata.Version {
		return fmt.Errorf("trying %s: it says %q, want version %s", t.program("nix"), text.Line(output.String()),
			t.Metadata.Version)
	}
	return nil
}

// Restore opens what Install left in dir, unpacking the programs from the pack where they are not there. A dir that
// holds something else, an altered pack or a pack for another place gives a *StaleError; the answer to that is
// Install. Whether the metadata is the one that was installed is for the caller to compare: it lies beside the pack.
func Restore(ctx context.Context, dir string) (Toolchain, error) {
	stale := func(format string, args ...any) (Toolchain, error) {
		return Toolchain{}, &StaleError{Dir: dir, Reason: fmt.Sprintf(format, args...)}
	}
	text, err := os.ReadFile(filepath.Join(dir, metadataName))
	if errors.Is(err, fs.ErrNotExist) {
		return stale("there is none")
	}
	if err != nil {
		return stale("%s", err)
	}
	t := Toolchain{Dir: dir}
	if err := json.Unmarshal(text, &t.Metadata); err != nil {
		return stale("its description cannot be read: %s", err)
	}
	if reason := t.Metadata.unusable(dir); reason != "" {
		return stale("%s", reason)
	}
	if t.unpacked() {
		return t, nil
	}
	if err := t.unpack(ctx); err != nil {
		if ctx.Err() != nil {
			return Toolchain{}, err
		}
		return stale("%s", err)
	}
	return t, nil
}

// unusable says why a toolchain with this description cannot be used from dir; "" if it can.
func (m Metadata) unusable(dir string) string {
	switch {
	case m.Format != formatVersion:
		return fmt.Sprintf("its format is %d, want %d", m.Format, formatVersion)
	case m.Prefix != dir:
		return fmt.Sprintf("it was made for %s", m.Prefix)
	case m.System != hostSystem():
		return fmt.Sprintf("it is for %s, and this machine is %s", m.System, hostSystem())
	case !slices.IsSorted(m.Paths):
		return "its description is out of order"
	case !slices.Contains(m.Paths, m.Program):
		return "its description names no program"
	case m.Certificates != "" && !slices.Contains(m.Paths, m.Certificates):
		return "its description names certificates that it does not have"
	}
	for _, base := range m.Paths {
		if base != filepath.Base(base) || strings.HasPrefix(base, ".") {
			return fmt.Sprintf("its description names the path %.80q", base)
		}
	}
	return ""
}

// unpacked reports whether the programs are there.
func (t Toolchain) unpacked() bool {
	return isFile(filepath.Join(t.Dir, unpackedName)) && isFile(t.program("nix"))
}

// Shed removes the unpacked programs and keeps the pack, so that a cached layer stays small.
func (t Toolchain) Shed() error {
	if err := t.removePrograms(); err != nil {
		return fmt.Errorf("removing the unpacked Nix toolchain: %w", err)
	}
	return nil
}

func (t Toolchain) removePrograms() error {
	if err := os.Remove(filepath.Join(t.Dir, unpackedName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, base := range t.Metadata.Paths {
		if err := nar.RemoveAll(filepath.Join(t.Dir, base)); err != nil {
			return err
		}
	}
	return nil
}

// emptyDir makes dir an empty directory.
func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	// The description goes first: without it nothing here is taken for a toolchain.
	if err := os.Remove(filepath.Join(dir, metadataName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if err := nar.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// hostSystem is this machine's Nix system.
func hostSystem() string {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	return arch + "-" + runtime.GOOS
}

// writeFile writes a file in one step.
func writeFile(name string, data []byte) error {
	if err := os.WriteFile(name+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
