package builds_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration"
)

// shelf is a signed binary cache in a directory, with what the tests of whole builds put there.
type shelf struct {
	dir string
	key ed25519.PrivateKey
}

func newShelf(t *testing.T) *shelf {
	seed := sha256.Sum256([]byte("shelf-1"))
	s := &shelf{dir: t.TempDir(), key: ed25519.NewKeyFromSeed(seed[:])}
	Expect(os.Mkdir(filepath.Join(s.dir, "nar"), 0o755)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(s.dir, "nix-cache-info"), []byte("StoreDir: /nix/store\n"), 0o644)).To(Succeed())
	return s
}

func (s *shelf) publicKey() string {
	return narinfo.PublicKey{Name: "shelf-1", Key: s.key.Public().(ed25519.PublicKey)}.String()
}

// add serves a path with these files; those in bin are executable.
func (s *shelf) add(name string, files map[string]string, refs ...storepath.Path) storepath.Path {
	sum := sha256.Sum256([]byte(name))
	p, err := storepath.FromBase(storepath.Encode32(sum[:20]) + "-" + name)
	Expect(err).NotTo(HaveOccurred())
	var raw bytes.Buffer
	w := nar.NewWriter(&raw)
	Expect(w.Entry(&nar.Entry{Kind: nar.Directory})).To(Succeed())
	dirs := map[string]bool{}
	names := make([]string, 0, len(files))
	for file := range files {
		names = append(names, file)
	}
	slices.Sort(names)
	for _, file := range names {
		if dir := filepath.Dir(file); dir != "." && !dirs[dir] {
			dirs[dir] = true
			Expect(w.Entry(&nar.Entry{Kind: nar.Directory, Path: dir})).To(Succeed())
		}
		text := strings.ReplaceAll(files[file], "$out", p.String())
		Expect(w.Entry(&nar.Entry{Kind: nar.Regular, Path: file, Size: int64(len(text)),
			Executable: strings.HasPrefix(file, "bin/")})).To(Succeed())
		_, err := w.Write([]byte(text))
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(w.Close()).To(Succeed())
	refs = slices.Sorted(slices.Values(refs))
	info := &narinfo.NarInfo{StorePath: p, URL: "nar/" + p.Base() + ".nar", Compression: "none",
		NarHash: sha256.Sum256(raw.Bytes()), NarSize: int64(raw.Len()), References: refs}
	info.Sigs = []narinfo.Signature{{Name: "shelf-1", Data: ed25519.Sign(s.key, []byte(info.Fingerprint()))}}
	Expect(os.WriteFile(filepath.Join(s.dir, info.URL), raw.Bytes(), 0o644)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(s.dir, p.HashPart()+".narinfo"), []byte(info.String()), 0o644)).To(Succeed())
	return p
}

// app serves an app of a version with libraries, each of some files, of which all but the last two are in every version.
func (s *shelf) app(version, libraries, size int) storepath.Path {
	dice := rand.New(rand.NewPCG(7, 7))
	var refs []storepath.Path
	uses := "#!/bin/sh\n"
	for i := range libraries {
		name := fmt.Sprintf("lib-%d-1.0", i)
		if i >= libraries-2 {
			name = fmt.Sprintf("lib-%d-%d.0", i, version)
		}
		files := map[string]string{"lib/own": "I am $out\n", "share/empty": ""}
		for n := range 4 {
			data := make([]byte, 1+dice.IntN(2*size/4))
			for k := range data {
				data[k] = byte(dice.Uint32())
			}
			files[fmt.Sprintf("share/data-%d", n)] = string(data)
		}
		refs = append(refs, s.add(name, files))
		uses += "# " + refs[i].String() + "/lib/own\n"
	}
	return s.add(fmt.Sprintf("app-%d.0", version), map[string]string{"bin/app": uses + "echo $out\n"}, refs...)
}

// platform calls this test program as the lifecycle calls a buildpack.
type platform struct {
	*integration.Bare
	t   *testing.T
	app string
}

// newPlatform is one without an image yet, at dir, or at a directory of its own where dir is "".
func newPlatform(t *testing.T, s *shelf, dir string) *platform {
	if dir == "" {
		dir = shortDir(t)
	}
	buildpack := filepath.Join(t.TempDir(), "buildpack")
	self, err := os.Executable()
	Expect(err).NotTo(HaveOccurred())
	text, err := os.ReadFile("../../buildpack.toml")
	Expect(err).NotTo(HaveOccurred())
	Expect(os.MkdirAll(filepath.Join(buildpack, "bin"), 0o755)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(buildpack, "buildpack.toml"), text, 0o644)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(buildpack, "bin", "launch"), []byte("#!/bin/sh\n"), 0o755)).To(Succeed())
	for _, name := range []string{"detect", "build"} {
		Expect(os.Symlink(self, filepath.Join(buildpack, "bin", name))).To(Succeed())
	}
	p := &platform{t: t, app: t.TempDir(), Bare: &integration.Bare{
		Buildpack: &integration.Buildpack{Dir: buildpack}, Dir: dir, Env: map[string]string{
			"BP_NIX_SUBSTITUTERS": "file://" + s.dir, "BP_NIX_TRUSTED_PUBLIC_KEYS": s.publicKey(), "BP_NIX_ENGINE": "relocate",
		},
	}}
	Expect(os.WriteFile(filepath.Join(p.app, "Procfile"), []byte("web: app\n"), 0o644)).To(Succeed())
	return p
}

// shortDir is a directory with a short name, as store paths are rewritten to places below it.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "nk")
	Expect(err).NotTo(HaveOccurred())
	Expect(os.Chmod(dir, 0o755)).To(Succeed())
	t.Cleanup(func() { _ = nar.RemoveAll(dir) })
	return dir
}

// try builds an image of a store path.
func (p *platform) try(root storepath.Path, env ...string) *integration.Outcome {
	p.t.Helper()
	settings := map[string]string{"BP_NIX_STORE_PATH": root.String()}
	for i := 0; i < len(env); i += 2 {
		settings[env[i]] = env[i+1]
	}
	o, err := p.Build(context.Background(), p.app, settings)
	Expect(err).NotTo(HaveOccurred())
	return o
}

// build builds an image of a store path, and gives what is in it.
func (p *platform) build(root storepath.Path, env ...string) string {
	p.t.Helper()
	o := p.try(root, env...)
	Expect(o.Status).To(BeZero(), o.Log)
	return p.contents()
}

// contents is what is in the layers, metadata and all.
func (p *platform) contents() string {
	var raw bytes.Buffer
	Expect(nar.Dump(context.Background(), &raw, p.Layers())).To(Succeed())
	return raw.String()
}
