package cache_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestContentAddress(t *testing.T) {
	spec.Run(t, "content address", testContentAddress, spec.Report(report.Terminal{}))
}

func testContentAddress(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	// The path that Nix 2.8 gave to the file "hello\n" by `nix-store --add-fixed sha256`: its address is the hash of the
	// file, not of the NAR, so that a narinfo alone proves nothing.
	const path = storepath.Path("/nix/store/gy454w1cxaq731grqwylhzf4pp9r5izh-hello.txt")
	archive := func(text string) []byte {
		var b bytes.Buffer
		w := nar.NewWriter(&b)
		Expect(w.Entry(&nar.Entry{Kind: nar.Regular, Size: int64(len(text))})).To(Succeed())
		_, err := w.Write([]byte(text))
		Expect(err).NotTo(HaveOccurred())
		Expect(w.Close()).To(Succeed())
		return b.Bytes()
	}
	publish := func(s *server, data []byte) {
		n := s.add(t, "hello", "zstd", data, nil)
		s.drop(n.StorePath.HashPart() + ".narinfo")
		n.StorePath, n.Sigs = path, nil
		n.CA = "fixed:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq"
		s.put(path.HashPart()+".narinfo", []byte(n.String()))
	}

	it("takes an unsigned path whose contents are those of its address", func() {
		s := newServer(t)
		publish(s, archive("hello\n"))
		Expect(fetch(open(t, options(s.URL)), path)).To(Equal(archive("hello\n")))
	})

	it("asks for no NAR that nobody signed and that says to be larger than what is taken so", func() {
		s := newServer(t)
		data := archive("hello\n")
		publish(s, data)
		o := options(s.URL)
		o.SetMaxUnsignedSize(int64(len(data)) - 1)
		_, err := fetch(open(t, o), path)
		Expect(answers(err)).To(ConsistOf(HaveField("Why", ContainSubstring("NarSize is %d", len(data)))))
		Expect(s.asked("nar/hello.nar.zstd")).To(BeEmpty())
		o.SetMaxUnsignedSize(int64(len(data)))
		Expect(fetch(open(t, o), path)).To(Equal(data))
	})

	it("refuses other contents behind a right address and a right NarHash", func() {
		s := newServer(t)
		publish(s, archive("hullo\n"))
		_, err := fetch(open(t, options(s.URL)), path)
		var mismatch *cache.VerifyError
		Expect(errors.As(err, &mismatch)).To(BeTrue(), "%v", err)
		Expect(mismatch.Field).To(Equal("CA"))
	})

	it("holds contents to their address also where signatures are off, as Nix does", func() {
		s := newServer(t)
		publish(s, archive("hullo\n"))
		o := options(s.URL)
		o.RequireSigs = false
		_, err := fetch(open(t, o), path)
		Expect(err).To(MatchError(ContainSubstring("CA is an address of other contents")))
	})

	it("needs no address where a trusted key signed", func() {
		s := newServer(t)
		data := archive("hello\n")
		n := s.add(t, "signed", "none", data, func(n *narinfo.NarInfo) { n.CA = "fixed:sha1:" + "x" })
		Expect(n.NarHash).To(Equal(storepath.Hash(sha256.Sum256(data))))
		Expect(fetch(open(t, options(s.URL)), n.StorePath)).To(Equal(data))
	})
}
