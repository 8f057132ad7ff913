package integration_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"

	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
)

// packs are what the compressed files hold that a build keeps in a volume's cached layers, one after the other: no
// search of the volume itself sees into them.
func (p *platform) packs(volume string) []byte {
	p.t.Helper()
	command := exec.Command("docker", "run", "--rm", "--user", "0", "--volume", volume+":/v:ro", "--entrypoint", "/bin/tar",
		p.pack.Images.Build, "-C", "/v", "-cf", "-", ".")
	all, err := command.Output()
	must(err)
	var contents bytes.Buffer
	eachFile(bytes.NewReader(all), ".tar", func(layer io.Reader) {
		eachFile(layer, ".nar.zst", func(pack io.Reader) {
			decoded, err := zstd.NewReader(pack)
			must(err)
			defer decoded.Close()
			_, err = contents.ReadFrom(decoded)
			must(err)
		})
	})
	return contents.Bytes()
}

// eachFile reads those files of an archive whose names have a suffix.
func eachFile(archive io.Reader, suffix string, read func(io.Reader)) {
	files := tar.NewReader(archive)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		Expect(err).NotTo(HaveOccurred())
		if header.Typeflag == tar.TypeReg && strings.HasSuffix(header.Name, suffix) {
			read(files)
		}
	}
}
