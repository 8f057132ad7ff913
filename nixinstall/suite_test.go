package nixinstall_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// toolchainEnv names a Nix release tarball in the official layout; scripts/test sets it.
const toolchainEnv = "NIX_HYDRA_TEST_TOOLCHAIN"

// system is the one that expressions are evaluated for, on any machine: it is in the store paths to compare with.
const system = "x86_64-linux"

func TestNixInstall(t *testing.T) {
	suite := spec.New("nixinstall", spec.Report(report.Terminal{}), spec.Sequential())
	suite("AddSource", testAddSource)
	suite("Arguments", testArguments)
	suite("Collect", testCollect)
	suite("Evaluate", testEvaluate)
	suite("EvaluateErrors", testEvaluateErrors)
	suite("EvaluateFlakes", testEvaluateFlakes)
	suite("EvaluateSets", testEvaluateSets)
	suite("Fetched", testFetched)
	suite("Fetchers", testFetchers)
	suite("FlakeInputs", testFlakeInputs)
	suite("Install", testInstall)
	suite("Killed", testKilled)
	suite("LeftOut", testLeftOut)
	suite("Ordinary", testOrdinary)
	suite("PrivateCaches", testPrivateCaches)
	suite("RenameSource", testRenameSource)
	suite("State", testState)
	suite("Substitution", testSubstitution)
	suite.Run(t)
}

// installed is the toolchain that the tests share: installing it takes seconds, and questions do not change it.
var installed = sync.OnceValues(func() (nixinstall.Toolchain, error) {
	dir, err := os.MkdirTemp("", "n") // short: store paths are rewritten to it
	if err != nil {
		return nixinstall.Toolchain{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nixinstall.Toolchain{}, err
	}
	return nixinstall.Install(context.Background(), os.Getenv(toolchainEnv), filepath.Join(dir, "nix"),
		nixinstall.InstallOptions{})
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv(toolchainEnv) != "" {
		if t, err := installed(); err == nil {
			if err := nar.RemoveAll(filepath.Dir(t.Dir)); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	os.Exit(code)
}

// tarball is the release to install.
func tarball(t *testing.T) string {
	t.Helper()
	name := os.Getenv(toolchainEnv)
	if name == "" {
		untested.Skip(t, "%s names no Nix release tarball (nix-VERSION-SYSTEM.tar.xz); run scripts/test, which "+
			"makes one", toolchainEnv)
	}
	return name
}

// nix is a relocated Nix with a state directory of its own.
func nix(t *testing.T, change ...func(*nixinstall.Settings)) nixinstall.Toolchain {
	t.Helper()
	tarball(t)
	toolchain, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	settings := nixinstall.Settings{
		State: stateDir(t), RequireSigs: true, System: system, Log: t.Logf,
		Environment: os.Environ(),
	}
	for _, c := range change {
		c(&settings)
	}
	return toolchain.With(settings)
}

// stateDir is a directory for Nix's state; a store has directories that only nar.RemoveAll removes for an ordinary user.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "eval")
	t.Cleanup(func() {
		if err := nar.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
