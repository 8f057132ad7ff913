package narinfo_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

// pair is a key that a test signs with.
func pair(name string) (narinfo.PublicKey, ed25519.PrivateKey) {
	secret := ed25519.NewKeyFromSeed([]byte(strings.Repeat(name[:1], ed25519.SeedSize)))
	return narinfo.PublicKey{Name: name, Key: secret.Public().(ed25519.PublicKey)}, secret
}

func sign(info *narinfo.NarInfo, name string, secret ed25519.PrivateKey) {
	data := ed25519.Sign(secret, []byte(info.Fingerprint()))
	info.Sigs = append(info.Sigs, narinfo.Signature{Name: name, Data: data})
}

func testKeys(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	nixos, err := narinfo.ParseKeys(nixosKey)
	if err != nil {
		t.Fatal(err)
	}

	it("verifies real narinfos with the real key of cache.nixos.org", func() {
		for _, text := range []string{netTools, hello} {
			sig, err := nixos.Verify(parse(text))
			Expect(err).NotTo(HaveOccurred())
			Expect(sig.Name).To(Equal("cache.nixos.org-1"))
		}
	})

	it("reads and verifies the narinfos of a public cache, and refuses those that were altered", func() {
		altered := map[string]string{
			"c12lxpykv6sld7a0sakcnr3y0la70x8w-hello-2.12.2.narinfo": "field References",
			"swxfvpa96x0qc9v2g7jvil2301dflvhg-hello-2.12.1.narinfo": "field References",
			"xi429w4ddvb1r77978hm7jfb2jsn559r-gcc-3.4.6.narinfo":    "does not fit",
		}
		for file, text := range published(t) {
			info, err := narinfo.Parse(strings.NewReader(text), "")
			if err == nil {
				_, err = nixos.Verify(info)
			}
			if says := altered[file]; says != "" {
				Expect(err).To(MatchError(ContainSubstring(says)), file)
				continue
			}
			Expect(err).NotTo(HaveOccurred(), file)
		}
	})

	it("is content with one trusted signature among others, in any order", func() {
		a, secret := pair("a")
		info := parse(netTools)
		sign(info, "a", secret)
		sig, err := narinfo.Keys{a}.Verify(info)
		Expect(err).NotTo(HaveOccurred())
		Expect(sig.Name).To(Equal("a"))
		b, _ := pair("b")
		b.Name = "a"
		sig, err = narinfo.Keys{b, a}.Verify(info)
		Expect(err).NotTo(HaveOccurred(), "two keys of one name")
		Expect(sig.Name).To(Equal("a"))
		good := sig
		info.Sigs[0].Name = "a"
		Expect(narinfo.Keys{a}.Verify(info)).To(Equal(good), "a bad signature of that name stands before it")
	})

	it("gives of several signatures the same one, in whatever order they and the keys are", func() {
		a, ofA := pair("a")
		b, ofB := pair("b")
		info := parse(without(netTools, "Sig"))
		for name, secret := range map[string]ed25519.PrivateKey{"b": ofB, "a": ofA} {
			sign(info, name, secret)
			sign(info, name, secret) // as caches may have it
		}
		first, err := narinfo.Keys{a, b}.Verify(info)
		Expect(err).NotTo(HaveOccurred())
		Expect(first.Name).To(Equal("a"))
		slices.Reverse(info.Sigs)
		Expect(narinfo.Keys{b, a}.Verify(info)).To(Equal(first))
	})

	it("reads keys that blanks, line breaks or commas separate", func() {
		a, _ := pair("a-1")
		b, _ := pair("b-1")
		for _, between := range []string{" ", "\n", ",", " , ", ",\n\t", "\r\n"} {
			keys, err := narinfo.ParseKeys(" " + a.String() + between + b.String() + between)
			Expect(err).NotTo(HaveOccurred(), "%q", between)
			Expect(keys).To(Equal(narinfo.Keys{a, b}), "%q", between)
		}
	})

	it("notices any change of what is signed, and says so", func() {
		for _, change := range []func(*narinfo.NarInfo){
			func(n *narinfo.NarInfo) { n.StorePath = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools" },
			func(n *narinfo.NarInfo) { n.NarHash[0] ^= 1 },
			func(n *narinfo.NarInfo) { n.NarSize++ },
			func(n *narinfo.NarInfo) { n.References = nil },
		} {
			info := parse(netTools)
			change(info)
			_, err := nixos.Verify(info)
			var e *narinfo.SignatureError
			Expect(errors.As(err, &e)).To(BeTrue())
			Expect(e.Bad).To(Equal([]string{"cache.nixos.org-1"}))
			Expect(err).To(MatchError(ContainSubstring(
				"the signature by cache.nixos.org-1 does not fit: the narinfo was altered")))
		}
	})

	it("does not mind changes of what is not signed", func() {
		info := parse(with(with(without(netTools, "FileHash"), "Compression", "zstd"), "URL", "elsewhere"))
		_, err := nixos.Verify(info)
		Expect(err).NotTo(HaveOccurred())
	})

	it("names who signed and who is trusted", func() {
		a, _ := pair("a")
		_, err := narinfo.Keys{a}.Verify(parse(netTools))
		var e *narinfo.SignatureError
		Expect(errors.As(err, &e)).To(BeTrue())
		Expect(e.Signed).To(Equal([]string{"cache.nixos.org-1", "hydra.other.net-1"}))
		Expect(e.Trusted).To(Equal([]string{"a"}))
		Expect(e.Bad).To(BeEmpty())
		Expect(err).To(MatchError("verifying signature of " +
			"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432: " +
			"it lacks a signature by a trusted key, being signed by cache.nixos.org-1, hydra.other.net-1 (trusted: a)"))
	})

	it("tells an unsigned narinfo, and that no key is trusted", func() {
		_, err := nixos.Verify(parse(without(netTools, "Sig")))
		Expect(err).To(MatchError(HaveSuffix(": it lacks a signature (trusted: cache.nixos.org-1)")))
		_, err = narinfo.Keys(nil).Verify(parse(netTools))
		Expect(err).To(MatchError(ContainSubstring("no key is trusted")))
	})

	it("reads keys between blanks and writes them as they were", func() {
		a, _ := pair("a")
		keys, err := narinfo.ParseKeys(" " + nixosKey + "\n\t" + a.String() + " ")
		Expect(err).NotTo(HaveOccurred())
		Expect(keys).To(HaveLen(2))
		Expect(keys[0].String()).To(Equal(nixosKey))
		unpadded, err := narinfo.ParseKeys(strings.TrimRight(nixosKey, "="))
		Expect(err).NotTo(HaveOccurred())
		Expect(unpadded[0].String()).To(Equal(nixosKey), "as Nix reads it")
		none, err := narinfo.ParseKeys("")
		Expect(err).NotTo(HaveOccurred())
		Expect(none).To(BeEmpty())
	})

	it("tells a secret key from a public one without repeating it", func() {
		_, secret := pair("s")
		encoded := base64.StdEncoding.EncodeToString(secret)
		_, err := narinfo.ParseKeys(nixosKey + " mine-1:" + encoded)
		Expect(err).To(Equal(&narinfo.SecretKeyError{Name: "mine-1"}))
		Expect(err).To(MatchError(`parsing public key "mine-1": this is a secret key`))
		for i := 0; i+8 <= len(encoded); i++ {
			Expect(err.Error()).NotTo(ContainSubstring(encoded[i : i+8]))
		}
	})

	it("refuses what is no key, without repeating what may be a secret", func() {
		for _, bad := range []struct{ text, problem string }{
			{"6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=", "no colon"},
			{":6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=", "no name"},
			{"a:", "it has 0 bytes, want 32"},
			{"a:6NCHdD59", "it has 6 bytes, want 32"},
			{"a:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShj", "it has 31 bytes, want 32"},
			{"https://cache.nixos.org", "not base64"},
		} {
			_, err := narinfo.ParsePublicKey(bad.text)
			Expect(err).To(MatchError(ContainSubstring(bad.problem)), bad.text)
			Expect(err.Error()).NotTo(ContainSubstring("6NCHdD59"), bad.text)
		}
	})

	it("reads and writes signatures", func() {
		text := "a:" + base64.StdEncoding.EncodeToString(make([]byte, 64))
		sig, err := narinfo.ParseSignature(text)
		Expect(err).NotTo(HaveOccurred())
		Expect(sig.String()).To(Equal(text))
		for _, bad := range []string{"", "a", "a:", ":AAAA", "a:AAAA", "a:????"} {
			_, err := narinfo.ParseSignature(bad)
			Expect(err).To(HaveOccurred(), bad)
		}
	})
}
