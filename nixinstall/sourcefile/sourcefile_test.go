package sourcefile_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall/sourcefile"
)

// TestOnlyBoundedRegularFilesAreRead reads regular files alone, within their limit, and without waiting.
func TestOnlyBoundedRegularFilesAreRead(t *testing.T) {
	g, ctx, dir := NewWithT(t), context.Background(), t.TempDir()
	file := filepath.Join(dir, "file")
	g.Expect(os.WriteFile(file, []byte("text"), 0o644)).To(Succeed())
	g.Expect(sourcefile.Read(ctx, file, 4)).To(Equal([]byte("text")))
	_, err := sourcefile.Read(ctx, file, 3)
	g.Expect(err).To(MatchError(ContainSubstring("more than 3 bytes")))

	g.Expect(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644)).To(Succeed())
	g.Expect(os.Symlink("file", filepath.Join(dir, "link"))).To(Succeed())
	for _, name := range []string{filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), dir, "/dev/zero"} {
		_, err := sourcefile.Read(ctx, name, 4)
		g.Expect(err).To(HaveOccurred(), name)
	}
	_, err = sourcefile.Read(ctx, filepath.Join(dir, "absent"), 4)
	g.Expect(err).To(MatchError(os.ErrNotExist))
}

// TestNewReader ends with its context.
func TestNewReader(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r := sourcefile.NewReader(ctx, bytes.NewReader(make([]byte, 10)))
	NewWithT(t).Expect(io.ReadFull(r, make([]byte, 5))).To(Equal(5))
	cancel()
	_, err := r.Read(make([]byte, 1))
	NewWithT(t).Expect(err).To(MatchError(context.Canceled))
}
