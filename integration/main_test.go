package integration_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// parts is what the tests of this package share: it takes a while to make, and no test changes it.
type parts struct {
	rig       *rig.Rig
	pkgs      *rig.Nixpkgs
	key       *rig.Key
	buildpack *integration.Buildpack
}

// workDir holds everything that the tests write; it is short, as store paths are rewritten to places below it.
var workDir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "nh")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
})

var sharedParts = sync.OnceValues(func() (parts, error) {
	ctx := context.Background()
	dir, err := workDir()
	if err != nil {
		return parts{}, err
	}
	var p parts
	if p.rig, err = rig.Open(rig.Options{}); err != nil {
		return p, err
	}
	if p.pkgs, err = p.rig.Nixpkgs(ctx); err != nil {
		return p, err
	}
	if p.key, err = p.rig.Key(ctx, "hydra.example.org-1"); err != nil {
		return p, err
	}
	p.buildpack, err = integration.Package(ctx, p.rig, filepath.Join(dir, "buildpack"))
	return p, err
})

// realParts are the shared parts; a test without them fails.
func realParts(t *testing.T) parts {
	t.Helper()
	p, err := sharedParts()
	if err != nil {
		t.Fatalf("NOT TESTED: %s", err)
	}
	return p
}

// bare is a platform of the test's own, with a place that no other test uses at the same time. Platforms with one
// name share the toolchain that was installed there.
func bare(t *testing.T, name string) *integration.Bare {
	t.Helper()
	p := realParts(t)
	dir, err := workDir()
	if err != nil {
		t.Fatal(err)
	}
	b := &integration.Bare{Buildpack: p.buildpack, Dir: filepath.Join(dir, name), Env: map[string]string{}}
	if err := b.NewImage(); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMain runs all tests of the package only where they are given the time that they take.
func TestMain(m *testing.M) {
	flag.Parse()
	chosen := flag.Lookup("test.run").Value.String()+flag.Lookup("test.skip").Value.String()+
		flag.Lookup("test.list").Value.String() != ""
	if !chosen && flag.Lookup("test.timeout").Value.String() == (10*time.Minute).String() {
		untested.Say("the integration tests, which take longer than go test allows by itself: run scripts/test, or some of them " +
			"by -run, or all by -timeout 45m")
		return
	}
	code := m.Run()
	if dir, err := workDir(); err == nil {
		if err := nar.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}
