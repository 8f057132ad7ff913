package rig

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig/deb"
)

// untar unpacks a tar file below dir.
func untar(name, dir string, owners bool) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	err = untarReader(file, dir, owners)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

func untarReader(r io.Reader, dir string, owners bool) error {
	files := tar.NewReader(r)
	for {
		header, err := files.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		header.Name = strings.Trim(filepath.Clean("/"+header.Name), "/")
		if header.Name == "" {
			continue
		}
		if header.Typeflag == tar.TypeLink {
			header.Linkname = strings.Trim(filepath.Clean("/"+header.Linkname), "/")
		}
		if err := deb.Place(dir, header, files); err != nil {
			return err
		}
		target := filepath.Join(dir, header.Name)
		if owners {
			if err := os.Lchown(target, header.Uid, header.Gid); err != nil {
				return err
			}
		}
		if header.Typeflag == tar.TypeReg || header.Typeflag == tar.TypeDir {
			if err := os.Chmod(target, header.FileInfo().Mode()); err != nil {
				return err
			}
		}
	}
}
