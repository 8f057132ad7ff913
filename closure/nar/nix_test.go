package nar_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// nixStore is the real nix-store: $NIX_HYDRA_TEST_NIX, a program or the directory it is in, or one on PATH.
func nixStore(t *testing.T) string {
	t.Helper()
	given := os.Getenv("NIX_HYDRA_TEST_NIX")
	if info, err := os.Stat(given); err == nil && info.IsDir() {
		given = filepath.Join(given, "nix-store")
	}
	if given == "" {
		given = "nix-store"
	}
	program, err := exec.LookPath(given)
	if err != nil && os.Getenv("NIX_HYDRA_TEST_NIX") != "" {
		t.Fatalf("there is no nix-store at $NIX_HYDRA_TEST_NIX: %v", err)
	}
	if err != nil {
		untested.Skip(t, "there is no nix-store to compare with on PATH; run scripts/test, which gets one, or apt-get install nix-bin")
	}
	return program
}

// runNix runs nix-store with a store and a home of its own.
func runNix(t *testing.T, program string, stdin io.Reader, args ...string) string {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "NIX_STORE_DIR="+home+"/store", "NIX_STATE_DIR="+home+"/state",
		"NIX_LOG_DIR="+home+"/log", "NIX_CONF_DIR="+home, "NIX_REMOTE=")
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	NewWithT(t).Expect(cmd.Run()).To(Succeed(), "%v: %s", args, &stderr)
	return stdout.String()
}

// TestDumpsAsNixDoes: what Tree writes and what Dump reads is what nix-store --restore and --dump make of it.
func TestDumpsAsNixDoes(t *testing.T) {
	program := nixStore(t)
	g := NewWithT(t)
	t.Log("compared with", strings.TrimSpace(runNix(t, program, nil, "--version")))
	for name, text := range map[string]string{
		"everything": all(), "a file": archive(file("x")), "a symlink": archive(link("x")), "nothing": archive(dir()),
		"an executable": archive(words("(", "type", "regular", "executable", "", "contents", "x", ")")),
		"depth":         nested(60),
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			ours := unpack(t, text)
			g.Expect(runNix(t, program, nil, "--dump", ours) == text).To(BeTrue(), "our tree, dumped by Nix")
			theirs := filepath.Join(tempDir(t), "out")
			runNix(t, program, strings.NewReader(text), "--restore", theirs)
			g.Expect(dump(t, theirs) == text).To(BeTrue(), "Nix's tree, dumped by us")
		})
	}
	for _, real := range []string{"/usr/share/perl5", "/usr/share/zoneinfo", "/bin", program} {
		if _, err := os.Stat(real); err != nil {
			continue
		}
		want := runNix(t, program, nil, "--dump", real)
		g.Expect(dump(t, real) == want).To(BeTrue(), real)
		lines, err := read(want)
		g.Expect(err).NotTo(HaveOccurred(), real)
		g.Expect(lines).NotTo(BeEmpty())
		g.Expect(dump(t, unpack(t, want)) == want).To(BeTrue(), real)
	}
}

// TestRefusesWhatNixRefuses: the refusals for safety's sake are Nix's own. (Old releases take names out of order.)
func TestRefusesWhatNixRefuses(t *testing.T) {
	program := nixStore(t)
	for _, name := range []string{"an empty name", "the name .", "the name ..", "a name with a slash", "a name with a NUL",
		"symlink then directory", "padding in contents", "another magic"} {
		cmd := exec.CommandContext(t.Context(), program, "--restore", filepath.Join(tempDir(t), "out"))
		cmd.Stdin = strings.NewReader(malformed[name].text)
		NewWithT(t).Expect(cmd.Run()).NotTo(Succeed(), name)
	}
}
