package cache_test

import (
	stdcontext "context"
	"errors"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

func TestSignatures(t *testing.T) {
	spec.Run(t, "signatures", testSignatures, spec.Report(report.Terminal{}))
}

func testSignatures(t *testing.T, context spec.G, it spec.S) {
	var first *server
	ctx := stdcontext.Background()
	data := []byte("a NAR")

	it.Before(func() {
		RegisterTestingT(t)
		first = newServer(t)
	})

	it("says which trusted key signed a path", func() {
		n := first.add(t, "a", "none", data, func(n *narinfo.NarInfo) { newSigner("stranger-1").sign(n) })
		Expect(open(t, options(first.URL)).Lookup(ctx, n.StorePath)).To(HaveField("Signature.Name", "trusted-1"))
	})

	it("refuses an unknown key, naming cache, path, field, key and those that would do", func() {
		n := first.add(t, "a", "none", data, func(n *narinfo.NarInfo) { n.Sigs = nil; newSigner("stranger-1").sign(n) })
		_, err := open(t, options(first.URL)).Lookup(ctx, n.StorePath)
		Expect(answers(err)).To(ConsistOf(And(
			HaveField("URL", first.URL), HaveField("Reason", cache.Untrusted), HaveField("Keys", []string{"stranger-1"}),
			HaveField("Trusted", narinfo.Keys{trusted.public()}))))
		Expect(err.Error()).To(And(ContainSubstring(n.StorePath.String()), ContainSubstring(first.URL),
			ContainSubstring("field Sig"), ContainSubstring("signed by stranger-1")))
		var signature *narinfo.SignatureError
		Expect(errors.As(err, &signature)).To(BeTrue())
	})

	it("shows nothing of a key's name that could rewrite a terminal", func() {
		n := first.add(t, "a", "none", data, func(n *narinfo.NarInfo) {
			n.Sigs = nil
			odd := newSigner("odd")
			odd.name = "evil\r\x1b[2Kall is well"
			odd.sign(n)
		})
		log := &logged{}
		o := options(first.URL)
		o.Log = log.log
		_, err := open(t, o).Lookup(ctx, n.StorePath)
		Expect(err.Error() + log.String()).To(And(ContainSubstring(`signed by "evil\r\x1b[2Kall is well"`),
			Not(ContainSubstring("\x1b")), Not(ContainSubstring("\r"))))
	})

	it("refuses a path that is not signed, and another key of the same name", func() {
		n := first.add(t, "a", "none", data, func(n *narinfo.NarInfo) { n.Sigs = nil })
		_, err := open(t, options(first.URL)).Lookup(ctx, n.StorePath)
		Expect(err).To(MatchError(ContainSubstring("not signed")))
		n = first.add(t, "b", "none", data, func(n *narinfo.NarInfo) {
			n.Sigs = nil
			impostor := newSigner("other")
			impostor.name = "trusted-1"
			impostor.sign(n)
		})
		_, err = open(t, options(first.URL)).Lookup(ctx, n.StorePath)
		Expect(err).To(MatchError(ContainSubstring("trusted key trusted-1 does not verify")))
	})

	it("takes anything when signatures are turned off in words", func() {
		n := first.add(t, "a", "none", data, func(n *narinfo.NarInfo) { n.Sigs = nil })
		o := options(first.URL)
		o.RequireSigs, o.Keys = false, nil
		Expect(open(t, o).Lookup(ctx, n.StorePath)).To(HaveField("Signature.Name", ""))
	})

	it("refuses to work without any trusted key", func() {
		o := options(first.URL)
		o.Keys = nil
		_, err := cache.Open(ctx, o)
		Expect(err).To(MatchError(cache.ErrNoKeys))
	})
}
