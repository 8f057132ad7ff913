package rig

import (
	"io"
	"os/exec"
)

// untar unpacks a tar file over what is in dir; owners has files belong to whom the archive says.
func untar(r io.Reader, dir string, owners bool) error {
	owner := "--no-same-owner"
	if owners {
		owner = "--same-owner"
	}
	command := exec.Command("tar", "-xpf", "-", "-C", dir, "--numeric-owner", "--keep-directory-symlink", owner)
	command.Stdin = r
	_, err := output(command)
	return err
}
