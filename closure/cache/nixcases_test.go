package cache_test

import (
	stdcontext "context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestNixsOwnCases(t *testing.T) {
	spec.Run(t, "a case of Nix's own tests", testNixsOwnCases, spec.Report(report.Terminal{}))
}

// testNixsOwnCases are those of tests/functional in NixOS/nix that nothing else here has: docs/nix-tests.md lists all.
func testNixsOwnCases(t *testing.T, context spec.G, it spec.S) {
	var s *server
	ctx := stdcontext.Background()
	it.Before(func() {
		RegisterTestingT(t)
		s = newServer(t)
	})

	context("binary-cache.sh", func() {
		it("an altered narinfo is refused, and another cache's is taken, in either order", func() {
			good := newServer(t)
			dependency := storePath("dependency")
			edit := func(n *narinfo.NarInfo) {
				n.References, n.Sigs = []storepath.Path{dependency}, nil
				trusted.sign(n)
			}
			n := good.add(t, "a", "xz", content("a", 4000), edit)
			s.add(t, "a", "xz", content("a", 4000), func(n *narinfo.NarInfo) {
				edit(n)
				n.References = nil
			})
			_, err := open(t, options(s.URL)).Lookup(ctx, n.StorePath)
			Expect(err).To(MatchError(ContainSubstring("does not verify")))
			for _, urls := range [][]string{{s.URL, good.URL}, {good.URL, s.URL}} {
				found, err := open(t, options(urls...)).Lookup(ctx, n.StorePath)
				Expect(err).NotTo(HaveOccurred())
				Expect(found.CacheURL).To(Equal(good.URL))
				Expect(found.References).To(ConsistOf(dependency))
			}
		})

		it("a directory whose name has a plus sign or a blank is a cache", func() {
			n := s.add(t, "a", "none", content("a", 4000), nil)
			for _, name := range []string{"binary+cache", "binary cache"} {
				dir := filepath.Join(t.TempDir(), name)
				for _, file := range []string{"nix-cache-info", n.StorePath.HashPart() + ".narinfo", n.URL} {
					Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755)).To(Succeed())
					Expect(os.WriteFile(filepath.Join(dir, file), s.file(file), 0o644)).To(Succeed())
				}
				for _, url := range []string{dir, "file://" + dir} {
					Expect(fetch(open(t, options(url)), n.StorePath)).To(Equal(content("a", 4000)), url)
				}
			}
		})

		it("a NAR that is empty is no NAR, and another cache's is taken", func() {
			good := newServer(t)
			n := good.add(t, "a", "xz", content("a", 4000), nil)
			s.add(t, "a", "xz", content("a", 4000), nil)
			s.put(n.URL, nil)
			_, err := fetch(open(t, options(s.URL)), n.StorePath)
			Expect(err).To(MatchError(ContainSubstring(s.URL)))
			Expect(fetch(open(t, options(s.URL, good.URL)), n.StorePath)).To(Equal(content("a", 4000)))
		})

		it("a cache goes on to serve when its nix-cache-info is gone meanwhile, and none is found anew without", func() {
			n := s.add(t, "a", "none", content("a", 4000), nil)
			set := open(t, options(s.URL))
			s.drop("nix-cache-info")
			Expect(fetch(set, n.StorePath)).To(Equal(content("a", 4000)))
			_, err := cache.Open(ctx, options(s.URL))
			Expect(err).To(MatchError(ContainSubstring("does not appear to be a binary cache")))
		})
	})

	it("substitute-with-invalid-ca.sh: a path with another's NAR behind its own content address is refused", func() {
		address := func(n *narinfo.NarInfo) {
			var err error
			n.Sigs, n.CA = nil, "fixed:r:"+n.NarHash.String()
			n.StorePath, err = storepath.Make("source", n.NarHash, n.StorePath.Name())
			Expect(err).NotTo(HaveOccurred())
		}
		good := s.add(t, "good.txt", "xz", content("good", 4000), address)
		bad := s.add(t, "bad.txt", "xz", content("bad", 5000), address)
		other := *good
		other.URL, other.FileHash, other.FileSize, other.NarHash, other.NarSize = bad.URL, bad.FileHash, bad.FileSize, bad.NarHash, bad.NarSize
		s.put(good.StorePath.HashPart()+".narinfo", []byte(other.String()))
		_, err := fetch(open(t, options(s.URL)), good.StorePath)
		Expect(err).To(HaveOccurred())
		other.NarHash = good.NarHash // only the file is the other's
		s.put(good.StorePath.HashPart()+".narinfo", []byte(other.String()))
		_, err = fetch(open(t, options(s.URL)), good.StorePath)
		var mismatch *cache.VerifyError
		Expect(errors.As(err, &mismatch)).To(BeTrue(), "%v", err)
	})

	it("signing.sh: of several signatures one by a trusted key is enough, and more do not count for more", func() {
		n := s.add(t, "a", "none", content("a", 100), func(n *narinfo.NarInfo) {
			n.Sigs = nil
			for _, name := range []string{"cache1.example.org", "trusted-1", "cache2.example.org"} {
				newSigner(name).sign(n)
			}
		})
		Expect(open(t, options(s.URL)).Lookup(ctx, n.StorePath)).To(HaveField("Signature.Name", "trusted-1"))
		n = s.add(t, "b", "none", content("b", 100), func(n *narinfo.NarInfo) {
			n.Sigs = nil
			for range 20 {
				newSigner("cache1.example.org").sign(n)
			}
		})
		_, err := open(t, options(s.URL)).Lookup(ctx, n.StorePath)
		Expect(err).To(MatchError(ContainSubstring("lacks a signature by a trusted key")))
	})

	it("signing.sh: a content-addressed path needs no signature, and signing it does no harm", func() {
		for _, signed := range []bool{false, true} {
			n := s.add(t, "c", "none", content("c", 100), func(n *narinfo.NarInfo) {
				var err error
				n.Sigs, n.CA = nil, "fixed:r:"+n.NarHash.String()
				n.StorePath, err = storepath.Make("source", n.NarHash, "c")
				Expect(err).NotTo(HaveOccurred())
				if signed {
					newSigner("cache1.example.org").sign(n)
				}
			})
			Expect(fetch(open(t, options(s.URL)), n.StorePath)).To(Equal(content("c", 100)))
		}
	})

	it("binary-cache-compression.sh: what Nix may pack with and nothing here unpacks is refused by name", func() {
		for _, compression := range []string{"lzma", "lz4", "lzip", "lzop", "compress", "grzip", "lrzip"} {
			n := s.add(t, "a", "none", content("a", 100), func(n *narinfo.NarInfo) { n.Compression = compression })
			_, err := open(t, options(s.URL)).Lookup(ctx, n.StorePath)
			Expect(err).To(MatchError(ContainSubstring(`Compression "`+compression+`"`)), compression)
		}
	})
}
