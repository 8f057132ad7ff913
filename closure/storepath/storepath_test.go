package storepath_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestStorePath(t *testing.T) {
	spec.Run(t, "storepath", testStorePath, spec.Report(report.Terminal{}))
}

func testStorePath(t *testing.T, context spec.G, it spec.S) {
	const hello = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432"

	it.Before(func() { RegisterTestingT(t) })

	it("splits a store path into hash part and name", func() {
		p, err := storepath.Parse(hello)
		Expect(err).NotTo(HaveOccurred())
		Expect(p.HashPart()).To(Equal("00bgd045z0d4icpbc2yyz4gx48ak44la"))
		Expect(p.Name()).To(Equal("net-tools-1.60_p20170221182432"))
		Expect(p.String()).To(Equal(hello))
		again, err := storepath.FromBase(p.Base())
		Expect(err).NotTo(HaveOccurred())
		Expect(again).To(Equal(p))
	})

	it("refuses what Nix refuses", func() {
		for _, bad := range []string{
			"", "/nix/store", "/nix/store/", "/gnu/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x",
			"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la", "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-",
			"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a/b", "/nix/store/../../etc/passwd-0123456789012345-x",
			"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44le-x", "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a b",
			"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-..", "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-é",
			"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-" + strings.Repeat("a", 212),
		} {
			_, err := storepath.Parse(bad)
			Expect(err).To(HaveOccurred(), bad)
		}
	})

	it("computes the path that Nix gives to contents", func() {
		// nix-store --add-fixed --recursive sha256 of a directory "tree" with this NAR hash, by Nix 2.8
		digest, err := storepath.ParseHash("sha256:149f2xk1zfq8vz3d0fxjj8sbmmz7p8znz5m0as0zhxzb96qb7rv4")
		Expect(err).NotTo(HaveOccurred())
		p, err := storepath.Make("source", digest, "tree")
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Base()).To(Equal("b9s9xi7l1gxvf6ia53pmd8m9mb09njkr-tree"))
		_, err = storepath.Make("source", digest, "a/b")
		Expect(err).To(HaveOccurred())
	})

	it("reads a hash in each form Nix writes", func() {
		want := storepath.Hash(sha256.Sum256([]byte("abc")))
		// The base-32 form is what `nix-hash --type sha256 --to-base32` prints for the SHA-256 of "abc".
		Expect(want.String()).To(Equal("sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s"))
		for _, s := range []string{
			want.String(),
			"sha256:" + hex.EncodeToString(want[:]),
			"sha256:" + base64.StdEncoding.EncodeToString(want[:]),
			"sha256-" + base64.StdEncoding.EncodeToString(want[:]),
		} {
			h, err := storepath.ParseHash(s)
			Expect(err).NotTo(HaveOccurred(), s)
			Expect(h).To(Equal(want), s)
		}
	})

	it("refuses a hash of another algorithm, length or alphabet", func() {
		for _, bad := range []string{
			"", "sha256", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:abc",
			"sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5e",
			"sha256:zb8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s",
		} {
			_, err := storepath.ParseHash(bad)
			Expect(err).To(HaveOccurred(), bad)
		}
	})
}

func FuzzDecode32(f *testing.F) {
	f.Add("1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s")
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := storepath.Decode32(s)
		if err != nil {
			return
		}
		if got := storepath.Encode32(raw); len(got) == len(s) && got != s {
			t.Fatalf("%q decodes to %x, which encodes to %q", s, raw, got)
		}
	})
}
