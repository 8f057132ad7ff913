package regularfile_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// TestOnlyBoundedRegularFilesAreRead reads regular files alone, within their limit, and without waiting.
func TestOnlyBoundedRegularFilesAreRead(t *testing.T) {
	g, ctx, dir := NewWithT(t), context.Background(), t.TempDir()
	file := filepath.Join(dir, "file")
	g.Expect(os.WriteFile(file, []byte("text"), 0o644)).To(Succeed())
	g.Expect(regularfile.Read(ctx, file, 4)).To(Equal([]byte("text")))
	_, err := regularfile.Read(ctx, file, 3)
	g.Expect(err).To(MatchError(ContainSubstring("more than 3 bytes")))

	g.Expect(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644)).To(Succeed())
	g.Expect(os.Symlink("file", filepath.Join(dir, "link"))).To(Succeed())
	for _, name := range []string{filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), dir, "/dev/zero"} {
		_, err := regularfile.Read(ctx, name, 4)
		g.Expect(err).To(HaveOccurred(), name)
	}
	_, err = regularfile.Read(ctx, filepath.Join(dir, "absent"), 4)
	g.Expect(err).To(MatchError(os.ErrNotExist))
}

// TestALinkIsFollowedWhereThatIsAskedFor reads through one, and no more than a regular file of so many bytes.
func TestALinkIsFollowedWhereThatIsAskedFor(t *testing.T) {
	g, ctx, dir := NewWithT(t), context.Background(), t.TempDir()
	link := func(target string) string {
		name := filepath.Join(dir, "to-"+filepath.Base(target))
		g.Expect(os.Symlink(target, name)).To(Succeed())
		return name
	}
	g.Expect(os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o644)).To(Succeed())
	g.Expect(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644)).To(Succeed())
	name := link("file")
	g.Expect(regularfile.ReadLinked(ctx, name, 4)).To(Equal([]byte("text")))
	_, err := regularfile.ReadLinked(ctx, name, 3)
	g.Expect(err).To(MatchError(ContainSubstring("more than 3 bytes")))
	for _, name := range []string{link("fifo"), link("/dev/zero"), link(dir)} {
		_, err := regularfile.ReadLinked(ctx, name, 4)
		g.Expect(err).To(MatchError(ContainSubstring("no regular file")), name)
	}

	root, err := os.OpenRoot(dir)
	g.Expect(err).NotTo(HaveOccurred())
	defer root.Close()
	file, err := regularfile.OpenIn(root, "to-file")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(file.Close()).To(Succeed())
	for _, name := range []string{"fifo", "to-fifo", "to-zero", "."} {
		_, err := regularfile.OpenIn(root, name)
		g.Expect(err).To(HaveOccurred(), name)
	}
}

// TestNewReader ends with its context, and says why that ended.
func TestNewReader(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("it took too long")
	r := regularfile.NewReader(ctx, bytes.NewReader(make([]byte, 10)))
	NewWithT(t).Expect(io.ReadFull(r, make([]byte, 5))).To(Equal(5))
	cancel(why)
	_, err := r.Read(make([]byte, 1))
	NewWithT(t).Expect(err).To(MatchError(why))
}

func TestResolveStaysBelowTheRoot(t *testing.T) {
	g := NewWithT(t)
	outside, root := t.TempDir(), t.TempDir()
	link := filepath.Join(outside, "root")
	for name, to := range map[string]string{
		link: root, filepath.Join(root, "in"): "dir/../file", filepath.Join(root, "absolute"): filepath.Join(root, "file"),
		filepath.Join(root, "out"): outside, filepath.Join(root, "up"): "../" + filepath.Base(root) + "x", filepath.Join(root, "nowhere"): "none",
	} {
		g.Expect(os.Symlink(to, name)).To(Succeed())
	}
	g.Expect(os.Mkdir(filepath.Join(root, "dir"), 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(root, "file"), nil, 0o644)).To(Succeed())
	g.Expect(os.Mkdir(root+"x", 0o755)).To(Succeed())
	t.Cleanup(func() { os.Remove(root + "x") })
	for _, from := range []string{root, link} {
		for _, name := range []string{"in", "absolute", "file", "dir/../file"} {
			g.Expect(regularfile.Resolve(from, name)).To(Equal("file"), name)
		}
		g.Expect(regularfile.Resolve(from, ".")).To(Equal("."))
		for name, want := range map[string]error{"out": regularfile.ErrOutside, "up": regularfile.ErrOutside, "..": regularfile.ErrOutside,
			"nowhere": fs.ErrNotExist} {
			_, err := regularfile.Resolve(from, name)
			g.Expect(err).To(MatchError(want), name)
		}
	}
	_, err := regularfile.Resolve(filepath.Join(root, "none"), "file")
	g.Expect(err).To(MatchError(fs.ErrNotExist))
}
