package nar_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

// TestNamesOfNixsOwnCases has the names that Nix's tests of archives are about (tests/functional/nars.sh, nar-access.sh):
// docs/nix-tests.md lists them. Names are bytes here, on a file system that keeps them apart.
func TestNamesOfNixsOwnCases(t *testing.T) {
	for what, text := range map[string]string{
		"names that differ by case": archive(dir(
			entry("x", dir(entry("FOO", file("1")), entry("Foo", dir(entry("a", link("b")))), entry("foo", dir(entry("A", file("")),
				entry("a", dir(entry("foo", file("2")))))))),
			entry("xt_CONNMARK.h", file("a")), entry("xt_CONNmark.h", file("b")), entry("xt_connmark.h", file("c")))),
		"names that another system's hack makes of such": archive(dir(
			entry("Test", file("1")), entry("Test~nix~case~hack~1", file("2")), entry("test", file("3")))),
		"names that are the same once normalized": archive(dir(
			entry("a\xcc\x82", file("decomposed")), entry("\xc3\xa2", file("composed")))),
		"names that are no text":        archive(dir(entry("\x01\x1b[2K", file("")), entry("\n", file("")), entry("\xff\xfe", link("\xff")))),
		"names that look like commands": archive(dir(entry(" ", file("")), entry("$(touch x)", file("")), entry("-rf", dir()))),
		"a file of zeros and one of holes": archive(dir(entry("a", file(strings.Repeat("\x00", 100_000))),
			entry("b", file("x"+strings.Repeat("\x00", 70_000)+"y")))),
	} {
		t.Run(what, func(t *testing.T) {
			RegisterTestingT(t)
			Expect(dump(t, unpack(t, text)) == text).To(BeTrue())
		})
	}
}

// TestPlacesOfNixsOwnCases restores to places that are none.
func TestPlacesOfNixsOwnCases(t *testing.T) {
	RegisterTestingT(t)
	for _, place := range []string{"", "out/.", "out/..", ".", "..", "missing/out", "/"} {
		for _, text := range []string{archive(file("x")), archive(dir()), archive(link("foo"))} {
			temp := tempDir(t)
			dest := place
			if place != "" && place != "/" {
				dest = temp + "/" + place
			}
			tree := nar.NewTree(dest)
			Expect(nar.Copy(tree, nar.NewReader(strings.NewReader(text)), nil)).NotTo(Succeed(), "%q", place)
			Expect(tree.Discard()).To(Succeed())
			left, err := os.ReadDir(temp)
			Expect(err).NotTo(HaveOccurred())
			Expect(left).To(BeEmpty())
		}
	}
	t.Chdir(tempDir(t))
	for _, text := range []string{archive(file("x")), archive(dir(entry("a", file("")))), archive(link("foo"))} {
		tree := nar.NewTree("out") // which has no directory in its name
		Expect(nar.Copy(tree, nar.NewReader(strings.NewReader(text)), nil)).To(Succeed())
		Expect(dump(t, "out") == text).To(BeTrue())
		Expect(nar.RemoveAll("out")).To(Succeed())
	}
}

// TestDumpingToAFullDisk fails, and says so.
func TestDumpingToAFullDisk(t *testing.T) {
	RegisterTestingT(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	Expect(err).NotTo(HaveOccurred())
	defer full.Close()
	source := filepath.Join(tempDir(t), "f")
	Expect(os.WriteFile(source, []byte(strings.Repeat("x", 1<<20)), 0o644)).To(Succeed())
	err = nar.Dump(context.Background(), full, source)
	Expect(errors.Is(err, syscall.ENOSPC)).To(BeTrue(), "%v", err)
}
