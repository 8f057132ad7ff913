package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// fixture is the closure to measure with, as binary caches on disk whose paths are all signed by a key of the run's
// own, so that both sides check signatures.
type fixture struct {
	dir    string
	secret ed25519.PrivateKey
	public string
	// infos are the closure's narinfos as they were, by path; first is the cache that they came from.
	infos map[storepath.Path]*narinfo.NarInfo
	first string
	roots []storepath.Path
	// caches are directories by compression.
	caches map[string]string
	// zstd are the narinfos of the cache with that compression.
	zstd map[storepath.Path]*narinfo.NarInfo
	// own compresses the rig's closure; nil where the closure is somebody else's.
	own func(compression string) (string, error)
	// python and nginx are paths with programs to measure, "" where the closure has none.
	python, nginx storepath.Path
}

const keyName = "bench.example.org-1"

// open gives the run's fixture, made at the first call.
func (b *Bench) open(ctx context.Context) (*fixture, error) {
	if b.fixture != nil {
		return b.fixture, nil
	}
	f := &fixture{dir: filepath.Join(b.Dir, "caches"), caches: map[string]string{}}
	start := time.Now()
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	f.secret = secret
	f.public = narinfo.PublicKey{Name: keyName, Key: public}.String()
	if b.Closure != "" {
		err = b.openForeign(f)
	} else {
		err = b.openOwn(ctx, f)
	}
	if err != nil {
		return nil, fmt.Errorf("preparing the closure: %w", err)
	}
	var size int64
	for _, n := range f.infos {
		size += n.NarSize
	}
	b.Log("the closure: %d paths, %.2f GB", len(f.infos), float64(size)/1e9)
	if time.Since(start) > time.Minute/2 {
		b.removed = time.Now() // by the builds that made it
	}
	b.fixture = f
	return f, nil
}

func (f *fixture) compressions() []string {
	var list []string
	for name := range f.caches {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// openOwn takes the rig's big closure, compressed by Nix.
func (b *Bench) openOwn(ctx context.Context, f *fixture) error {
	big, err := b.Rig.BigClosure(ctx)
	if err != nil {
		return err
	}
	key, err := b.Rig.Key(ctx, "hydra.example.org-1")
	if err != nil {
		return err
	}
	f.roots = []storepath.Path{storepath.Path(big.Root)}
	f.python, f.nginx = storepath.Path(big.Python), storepath.Path(big.Nginx)
	f.own = func(compression string) (string, error) {
		b.Log("compressing the closure with %s, unless that was done in an earlier run", compression)
		return b.Rig.Cache(ctx, rig.CacheOptions{Compression: compression, Key: key}, big.Root)
	}
	if f.first, err = f.own("zstd"); err != nil {
		return err
	}
	if f.infos, err = readInfos(f.first); err != nil {
		return err
	}
	f.zstd = f.infos
	f.caches["zstd"], err = f.sign("zstd", f.first, f.infos)
	return err
}

// openForeign takes somebody else's cache. All paths that no other path refers to are roots.
func (b *Bench) openForeign(f *fixture) error {
	dir, err := filepath.Abs(b.Closure)
	if err != nil {
		return err
	}
	if f.infos, err = readInfos(dir); err != nil {
		return err
	}
	f.first = dir
	referred := map[storepath.Path]bool{}
	compression := map[string]int{}
	for p, n := range f.infos {
		for _, ref := range n.References {
			referred[ref] = referred[ref] || ref != p
			if f.infos[ref] == nil {
				return fmt.Errorf("%s refers to %s, which is not in %s", p, ref, dir)
			}
		}
		compression[n.Compression]++
	}
	for p := range f.infos {
		if !referred[p] {
			f.roots = append(f.roots, p)
		}
	}
	slices.Sort(f.roots)
	most := ""
	for name, count := range compression {
		if most == "" || count > compression[most] {
			most = name
		}
	}
	if most == "zstd" {
		f.zstd = f.infos
	}
	f.caches[most], err = f.sign(most, dir, f.infos)
	return err
}

// readInfos reads all narinfos of a cache's directory.
func readInfos(dir string) (map[storepath.Path]*narinfo.NarInfo, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.narinfo"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no narinfo: it does not appear to be a binary cache", dir)
	}
	infos := map[storepath.Path]*narinfo.NarInfo{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		n, err := narinfo.Parse(bytes.NewReader(text), storepath.Dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		infos[n.StorePath] = n
	}
	return infos, nil
}

// sign makes a cache whose narinfos are signed by the run's key and whose files are links to those of from.
func (f *fixture) sign(name, from string, infos map[storepath.Path]*narinfo.NarInfo) (string, error) {
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	info := []byte("StoreDir: " + storepath.Dir + "\nWantMassQuery: 1\nPriority: 30\n")
	if err := os.WriteFile(filepath.Join(dir, "nix-cache-info"), info, 0o644); err != nil {
		return "", err
	}
	for _, n := range infos {
		file := filepath.FromSlash(n.URL)
		if err := link(filepath.Join(from, file), filepath.Join(dir, file)); err != nil {
			return "", err
		}
		if err := f.write(dir, *n); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// link makes at a symbolic link to a file, whose directory is made too.
func link(file, at string) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(file, at); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// write signs a narinfo and writes it.
func (f *fixture) write(dir string, n narinfo.NarInfo) error {
	n.Sigs = []narinfo.Signature{{Name: keyName, Data: ed25519.Sign(f.secret, []byte(n.Fingerprint()))}}
	n.CA = ""
	return os.WriteFile(filepath.Join(dir, n.StorePath.HashPart()+".narinfo"), []byte(n.String()), 0o644)
}

// cache gives the directory of the cache with a compression, compressed by Nix where there was none.
func (b *Bench) cache(ctx context.Context, f *fixture, compression string) (string, error) {
	if dir, ok := f.caches[compression]; ok {
		return dir, nil
	}
	from, err := b.compressed(ctx, f, compression)
	if err != nil {
		return "", fmt.Errorf("compressing the closure with %s: %w", compression, err)
	}
	infos, err := readInfos(from)
	if err != nil {
		return "", err
	}
	if compression == "zstd" {
		f.zstd = infos
	}
	f.caches[compression], err = f.sign(compression, from, infos)
	return f.caches[compression], err
}

func (b *Bench) compressed(ctx context.Context, f *fixture, compression string) (string, error) {
	if f.own != nil {
		return f.own(compression)
	}
	b.Log("compressing the closure with %s, which takes long", compression)
	nix, err := b.Rig.Nix(ctx)
	if err != nil {
		return "", err
	}
	to := filepath.Join(b.Dir, "recompressed-"+compression)
	home, err := b.newDir()
	if err != nil {
		return "", err
	}
	b.discard(home)
	args := []string{"--extra-experimental-features", "nix-command", "copy", "--no-check-sigs",
		"--from", "file://" + f.caches[f.compressions()[0]],
		"--to", "file://" + to + "?parallel-compression=true&compression=" + compression}
	for _, root := range f.roots {
		args = append(args, string(root))
	}
	command := exec.CommandContext(ctx, filepath.Join(nix.Bin, "nix"), args...)
	command.Env = append(nixEnvironment(home), "PATH="+os.Getenv("PATH"))
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, tail(string(out)))
	}
	return to, nil
}

// nixEnvironment lets Nix know nothing but what home holds, and its defaults.
func nixEnvironment(home string) []string {
	return []string{"HOME=" + home, "NIX_CONF_DIR=" + home, "NIX_STATE_DIR=" + filepath.Join(home, "state"),
		"NIX_CONFIG=build-users-group =\n", "LANG=C.UTF-8"}
}
