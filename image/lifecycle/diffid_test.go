package lifecycle_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
)

func testDiffID(t *testing.T, _ spec.G, it spec.S) {
	it("is the digest of the archive that the lifecycle makes", func() {
		RegisterTestingT(t)
		dir := filepath.Join(t.TempDir(), "layer")
		for _, made := range []string{dir, filepath.Join(dir, "b")} {
			Expect(os.Mkdir(made, 0o755)).To(Succeed())
		}
		Expect(os.WriteFile(filepath.Join(dir, "b", "file"), []byte("contents"), 0o444)).To(Succeed())
		Expect(os.Symlink("b/file", filepath.Join(dir, "a"))).To(Succeed())

		var want bytes.Buffer
		archive := tar.NewWriter(&want)
		write := func(name, target string, uid, gid int, contents string) {
			info, err := os.Lstat(name)
			Expect(err).NotTo(HaveOccurred())
			header, err := tar.FileInfoHeader(info, target)
			Expect(err).NotTo(HaveOccurred())
			if uid < 0 {
				uid, gid = header.Uid, header.Gid
			}
			Expect(archive.WriteHeader(&tar.Header{
				Typeflag: header.Typeflag, Name: name, Linkname: target, Size: int64(len(contents)), Mode: header.Mode,
				Uid: uid, Gid: gid, ModTime: time.Unix(315532801, 0),
			})).To(Succeed())
			_, err = archive.Write([]byte(contents))
			Expect(err).NotTo(HaveOccurred())
		}
		var parents []string
		for parent := filepath.Dir(dir); parent != "/"; parent = filepath.Dir(parent) {
			parents = append([]string{parent}, parents...)
		}
		for _, parent := range parents {
			write(parent, "", -1, -1, "")
		}
		write(dir, "", 1001, 1002, "")
		write(filepath.Join(dir, "a"), "b/file", 1001, 1002, "")
		write(filepath.Join(dir, "b"), "", 1001, 1002, "")
		write(filepath.Join(dir, "b/file"), "", 1001, 1002, "contents")
		Expect(archive.Close()).To(Succeed())
		Expect(lifecycle.DiffID(t.Context(), dir, 1001, 1002)).To(Equal(fmt.Sprintf("sha256:%x", sha256.Sum256(want.Bytes()))))
	})
}
