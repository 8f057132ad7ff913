package builds_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

// TestMain makes this test program the buildpack's where it is called by one of the buildpack's names.
func TestMain(m *testing.M) {
	if slices.Contains([]string{"detect", "build", "verify", "inspect", "survey"}, filepath.Base(os.Args[0])) {
		nixproot.Main(os.Args, os.Stdout, os.Stderr)
		os.Exit(0)
	}
	os.Exit(m.Run())
}
