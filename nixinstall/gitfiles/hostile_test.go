package gitfiles_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

// hostile is a .git that nobody's git has written.
type hostile struct{ dir string }

func newHostile(t *testing.T) hostile {
	t.Helper()
	h := hostile{t.TempDir()}
	h.write(t, "HEAD", []byte("ref: refs/heads/main\n"))
	return h
}

func (h hostile) write(t *testing.T, name string, data []byte) {
	t.Helper()
	file := filepath.Join(h.dir, ".git", name)
	NewWithT(t).Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
	NewWithT(t).Expect(os.WriteFile(file, data, 0o644)).To(Succeed())
}

// object writes a loose object of a text that need not be what the name says.
func (h hostile) object(t *testing.T, id string, text []byte) {
	t.Helper()
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, err := z.Write(text)
	NewWithT(t).Expect(errors.Join(err, z.Close())).To(Succeed())
	h.write(t, "objects/"+id[:2]+"/"+id[2:], packed.Bytes())
}

// add writes a well-formed loose object and gives its name.
func (h hostile) add(t *testing.T, kind string, data []byte) string {
	t.Helper()
	id := gitfiles.ObjectID(kind, data, 20)
	h.object(t, id, append(fmt.Appendf(nil, "%s %d\x00", kind, len(data)), data...))
	return id
}

// read reads everything that a build may want of a repository.
func (h hostile) read(ctx context.Context) error {
	r, err := gitfiles.Open(ctx, h.dir)
	if err != nil || r == nil {
		return err
	}
	rev, _, err := r.Head(ctx)
	if err == nil && rev != "" {
		if _, err = r.Commit(ctx, rev); err == nil {
			_, err = r.Snapshot(ctx, rev)
		}
		if err == nil {
			_, err = r.Count(ctx, rev)
		}
	}
	return errors.Join(err, r.Close())
}

// refused wants a repository not to be read, in little time and memory, and not to be waited for once the context ends.
func (h hostile) refused(t *testing.T, words string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err := h.read(context.Background())
	runtime.ReadMemStats(&after)
	g := NewWithT(t)
	g.Expect(err).To(MatchError(ContainSubstring(words)))
	g.Expect(time.Since(start)).To(BeNumerically("<", busy.Limit(20*time.Second)))
	g.Expect(after.Sys-before.Sys).To(BeNumerically("<", 256<<20), "memory from the system")

	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	start = time.Now()
	_ = h.read(ctx)
	g.Expect(time.Since(start)).To(BeNumerically("<", busy.Limit(5*time.Second)))
}

func testHostile(t *testing.T, _ spec.G, it spec.S) {
	const id = "0123456789012345678901234567890123456789"

	it("does not wait for what is no regular file", func() {
		for _, name := range []string{"HEAD", "commondir", "config", "packed-refs", "refs/heads/main", "objects/info/alternates"} {
			h := newHostile(t)
			file := filepath.Join(h.dir, ".git", name)
			NewWithT(t).Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
			NewWithT(t).Expect(os.RemoveAll(file)).To(Succeed())
			NewWithT(t).Expect(unix.Mkfifo(file, 0o644)).To(Succeed())
			h.refused(t, "no regular file")
		}
		for _, store := range []string{"objects", "elsewhere"} { // where packs are looked for
			h := newHostile(t)
			h.write(t, "HEAD", []byte(id))
			h.write(t, "objects/info/alternates", []byte("../elsewhere\n"))
			NewWithT(t).Expect(os.MkdirAll(filepath.Join(h.dir, ".git", store), 0o755)).To(Succeed())
			NewWithT(t).Expect(unix.Mkfifo(filepath.Join(h.dir, ".git", store, "pack"), 0o644)).To(Succeed())
			h.refused(t, "not a directory")
		}
		h := hostile{t.TempDir()}
		NewWithT(t).Expect(unix.Mkfifo(filepath.Join(h.dir, ".git"), 0o644)).To(Succeed())
		h.refused(t, "no regular file")
		h = newHostile(t)
		NewWithT(t).Expect(os.Remove(filepath.Join(h.dir, ".git/HEAD"))).To(Succeed())
		NewWithT(t).Expect(os.Symlink("/dev/zero", filepath.Join(h.dir, ".git/HEAD"))).To(Succeed())
		h.refused(t, "symbolic links")
	})

	it("does not show what a link leads to", func() {
		const secret = "machine cache password s3cret"
		elsewhere := t.TempDir()
		NewWithT(t).Expect(os.WriteFile(filepath.Join(elsewhere, "netrc"), []byte(secret), 0o600)).To(Succeed())
		h := newHostile(t)
		h.write(t, "HEAD", []byte("ref: refs/elsewhere/netrc\n"))
		NewWithT(t).Expect(os.Mkdir(filepath.Join(h.dir, ".git/refs"), 0o755)).To(Succeed())
		NewWithT(t).Expect(os.Symlink(elsewhere, filepath.Join(h.dir, ".git/refs/elsewhere"))).To(Succeed())
		h.refused(t, "holds no commit")
		NewWithT(t).Expect(h.read(context.Background())).NotTo(MatchError(ContainSubstring("s3cret")))
	})

	it("does not look through packs without end, the same ones borrowed again and again", func() {
		h := newHostile(t)
		h.write(t, "HEAD", []byte(id))
		h.write(t, "objects/info/alternates", []byte(strings.Repeat("../borrowed\n", 30)))
		index := append([]byte("\xfftOc\x00\x00\x00\x02"), make([]byte, 4*256+40)...)
		for i := range 500 {
			h.write(t, fmt.Sprintf("borrowed/pack/pack-%d.idx", i), index)
			h.write(t, fmt.Sprintf("borrowed/pack/pack-%d.pack", i), nil)
		}
		h.refused(t, "looking for packs: there are more than")
	})

	it("does not inflate an object of which it does not know the end", func() {
		for text, words := range map[string]string{
			strings.Repeat("x", 64<<20):                          "its head does not end",
			"commit 10\x00" + strings.Repeat("\x00", 64<<20):     "has not the 10 bytes",
			"commit 99999999999\x00" + strings.Repeat("y", 1000): "its size is",
			"commit -5\x00":    "its size is",
			"commit 5\x00tree": "has not the 5 bytes",
		} {
			h := newHostile(t)
			h.write(t, "HEAD", []byte(id))
			h.object(t, id, []byte(text))
			h.refused(t, words)
		}
	})

	it("does not follow alternates without end", func() {
		h := newHostile(t)
		h.write(t, "objects/info/alternates", []byte(strings.Repeat(".\n", 3000)))
		h.refused(t, "borrows objects from")
		h = newHostile(t)
		h.write(t, "objects/info/alternates", []byte(strings.Repeat("a/..\n.\n../objects\n", 1000)))
		h.refused(t, "borrows objects from")
	})

	it("does not walk trees of trees without end", func() {
		h := newHostile(t)
		tree := h.add(t, "blob", []byte("leaf"))
		mode := "100644"
		for range 40 {
			var entries bytes.Buffer
			name, err := hex.DecodeString(tree)
			NewWithT(t).Expect(err).NotTo(HaveOccurred())
			for i := range 10 {
				fmt.Fprintf(&entries, "%s %d\x00%s", mode, i, name)
			}
			tree, mode = h.add(t, "tree", entries.Bytes()), "40000"
		}
		h.write(t, "HEAD", []byte(h.add(t, "commit", []byte("tree "+tree+"\n\nmessage\n"))))
		h.refused(t, "there are more than")
	})

	it("does not descend without end, nor read names without end", func() {
		h := newHostile(t)
		tree, mode := h.add(t, "blob", nil), "100644"
		for range 70 {
			name, _ := hex.DecodeString(tree)
			tree, mode = h.add(t, "tree", fmt.Appendf(nil, "%s %s\x00%s", mode, strings.Repeat("d", 200), name)), "40000"
		}
		h.write(t, "HEAD", []byte(h.add(t, "commit", []byte("tree "+tree+"\n\n"))))
		h.refused(t, "nested more than")
	})

	it("takes a history that refers to what is not here as one that cannot be counted", func() {
		h := newHostile(t)
		tree := h.add(t, "tree", nil)
		h.write(t, "HEAD", []byte(h.add(t, "commit", []byte("tree "+tree+"\nparent "+id+"\n\n"))))
		NewWithT(t).Expect(h.read(context.Background())).To(Succeed())
		h.write(t, "HEAD", []byte(h.add(t, "commit", []byte("tree "+tree+"\nparent nobody\n\n"))))
		h.refused(t, `"nobody" is no object name`)
	})
}

// FuzzRepository reads a .git of which a stranger has written every file: it ends, and in what it gives there is no
// revision that is none.
func FuzzRepository(f *testing.F) {
	seed := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	pack, index := seed("pack-seed.pack"), seed("pack-seed.idx")
	head := bytes.TrimSpace(seed("head"))
	f.Add(head, []byte("[remote \"origin\"]\n\turl = x\n"), pack, index, []byte("."), []byte(nil))
	f.Add([]byte("ref: refs/heads/main"), []byte("[extensions]\nobjectformat = sha256"), pack[:40], index, []byte("/tmp"), head)
	f.Add(head, []byte(nil), []byte(nil), []byte(nil), []byte(nil), []byte("commit 4\x00tree"))
	f.Fuzz(func(t *testing.T, head, config, pack, index, alternates, object []byte) {
		h := newHostile(t)
		h.write(t, "HEAD", head)
		h.write(t, "config", config)
		h.write(t, "objects/pack/pack-a.pack", pack)
		h.write(t, "objects/pack/pack-a.idx", index)
		h.write(t, "objects/info/alternates", alternates)
		h.write(t, "packed-refs", object)
		if len(head) == 40 && !bytes.ContainsAny(head, "/\x00.") {
			h.object(t, string(head), object)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r, err := gitfiles.Open(ctx, h.dir)
		if err != nil || r == nil {
			return
		}
		defer r.Close()
		rev, _, err := r.Head(ctx)
		if err != nil || rev == "" {
			return
		}
		if _, err := hex.DecodeString(rev); err != nil {
			t.Fatalf("%q is a revision", rev)
		}
		_, _ = r.Snapshot(ctx, rev)
		_, _ = r.Count(ctx, rev)
		if ctx.Err() != nil {
			t.Fatal("it does not end")
		}
	})
}
