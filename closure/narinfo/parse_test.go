package narinfo_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// served is how caches in use write the narinfo of one path, by their sources: field order, hash encodings and what
// they leave out.
var served = map[string]struct{ text, url, compression, sigs string }{
	"cache.nixos.org": {netTools, "nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar.xz", "xz",
		"cache.nixos.org-1 hydra.other.net-1"},
	// nix-serve.psgi: no FileHash, no FileSize; an empty line where there is no signature.
	"nix-serve without signatures": {`StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
URL: nar/00bgd045z0d4icpbc2yyz4gx48ak44la-0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6.nar
Compression: none
NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
NarSize: 464152
References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27
Deriver: 10dx1q4ivjb115y3h90mipaaz533nr0d-net-tools-1.60_p20170221182432.drv

`, "nar/00bgd045z0d4icpbc2yyz4gx48ak44la-0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6.nar", "none", ""},
	// harmonia-cache/src/narinfo.rs: FileHash is the NarHash, and the URL has a query.
	"harmonia": {`StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
URL: nar/0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6.nar?hash=00bgd045z0d4icpbc2yyz4gx48ak44la
Compression: none
FileHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
FileSize: 464152
NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
NarSize: 464152
References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27
Sig: cache.nixos.org-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/LJjWkTZ+ZWOI9NTtjo/woMdvAg==
`, "nar/0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6.nar?hash=00bgd045z0d4icpbc2yyz4gx48ak44la", "none",
		"cache.nixos.org-1"},
	// attic, server/src/narinfo/mod.rs: one signature, System, a deriver that is not known.
	"attic": {`StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
URL: nar/00bgd045z0d4icpbc2yyz4gx48ak44la.nar
Compression: zstd
FileHash: sha256:1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d
FileSize: 114980
NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
NarSize: 464152
References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27
System: x86_64-linux
Deriver: unknown-deriver
Sig: cache.nixos.org-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/LJjWkTZ+ZWOI9NTtjo/woMdvAg==
`, "nar/00bgd045z0d4icpbc2yyz4gx48ak44la.nar", "zstd", "cache.nixos.org-1"},
	// Hydra, src/lib/Hydra/View/NARInfo.pm: a URL that is the path's base name, System.
	"Hydra": {`StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
URL: nar/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
Compression: xz
NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
NarSize: 464152
References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27
Deriver: 10dx1q4ivjb115y3h90mipaaz533nr0d-net-tools-1.60_p20170221182432.drv
System: x86_64-linux
Sig: cache.nixos.org-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/LJjWkTZ+ZWOI9NTtjo/woMdvAg==
`, "nar/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432", "xz", "cache.nixos.org-1"},
	// niks3: compressed, and yet neither FileHash nor FileSize.
	"niks3": {`StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
URL: nar/0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6.nar.zst
Compression: zstd
NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
NarSize: 464152
References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27
Sig: niks3-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/LJjWkTZ+ZWOI9NTtjo/woMdvAg==
`, "nar/0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6.nar.zst", "zstd", "niks3-1"},
	// What newer releases of Nix add.
	"a later Nix": {netTools + "Provenance: {\"type\":\"copied\"}\n",
		"nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar.xz", "xz", "cache.nixos.org-1 hydra.other.net-1"},
}

func testParse(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	for _, name := range names(served) {
		it("reads what "+name+" writes", func() {
			want := served[name]
			for _, text := range []string{want.text, strings.ReplaceAll(want.text, "\n", "\r\n")} {
				info := parse(text)
				Expect(info.StorePath.Name()).To(Equal("net-tools-1.60_p20170221182432"))
				Expect(info.URL).To(Equal(want.url))
				Expect(info.Compression).To(Equal(want.compression))
				Expect(info.NarHash.String()).To(Equal("sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6"))
				Expect(info.NarSize).To(BeEquivalentTo(464152))
				Expect(info.References).To(Equal(
					[]storepath.Path{"/nix/store/7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27"}))
				var sigs []string
				for _, sig := range info.Sigs {
					sigs = append(sigs, sig.Name)
				}
				Expect(strings.Join(sigs, " ")).To(Equal(want.sigs))
				Expect(parse(info.String())).To(Equal(info), "written and read again")
			}
		})
	}

	it("reads what cachix writes: FileHash in hexadecimal, in the URL as well", func() {
		info := parse(`StorePath: /nix/store/fgqfmzv1vzb60041sqwb1sprnw456v7r-cachix-0.1.0.1
URL: nar/bb4f7c671e49346b1bbc12e4ffbc9415c56b8aae99cec6ca4e26176c2b2f3e46.nar.xz
Compression: xz
FileHash: sha256:bb4f7c671e49346b1bbc12e4ffbc9415c56b8aae99cec6ca4e26176c2b2f3e46
FileSize: 1862008
NarHash: sha256:0qd3ij4b0f8r1gdzghkk2q4imr4pxbz60dagqi1jb5vsp07y6ms4
NarSize: 14738784
References: 14nlrnm6bv7z25c9ismlhc2mrxsriyq2-gmp-6.1.2 6r6hk0qq5jd8n0sbfmpri0wd7icszi16-gcc-7.3.0-lib
Deriver: w8qqbm6mdnlka134x3iffnw3rg62l1l0-cachix-0.1.0.1.drv
`)
		Expect(info.FileHash.IsZero()).To(BeFalse())
		Expect(info.FileSize).To(BeEquivalentTo(1862008))
		Expect(info.References).To(HaveLen(2))
	})

	it("takes a missing or empty Compression for bzip2", func() {
		Expect(parse(without(netTools, "Compression")).Compression).To(Equal("bzip2"))
		Expect(parse(with(netTools, "Compression", "")).Compression).To(Equal("bzip2"))
	})

	it("takes missing, empty and unordered References", func() {
		Expect(parse(without(netTools, "References")).References).To(BeEmpty())
		Expect(parse(with(netTools, "References", "")).References).To(BeEmpty())
		Expect(parse(without(netTools, "References") + "References:\n").References).To(BeEmpty())
		Expect(parse(with(netTools, "References", "xcp9cav49dmsjbwdjlmkjxj10gkpx553-b  "+
			"563528481rvhc5kxwipjmg6rqrl95mdx-a xcp9cav49dmsjbwdjlmkjxj10gkpx553-b")).References).To(Equal([]storepath.Path{
			"/nix/store/563528481rvhc5kxwipjmg6rqrl95mdx-a", "/nix/store/xcp9cav49dmsjbwdjlmkjxj10gkpx553-b"}))
	})

	it("takes missing and empty FileHash and FileSize", func() {
		info := parse(with(with(netTools, "FileHash", ""), "FileSize", ""))
		Expect(info.FileHash.IsZero()).To(BeTrue())
		Expect(info.FileSize).To(BeZero())
	})

	it("ignores a deriver and signatures that it cannot read, and fields that it does not know", func() {
		Expect(parse(with(netTools, "Deriver", "unknown-deriver")).Deriver).To(BeEmpty())
		text := with(with(netTools, "Deriver", "???"), "Sig", "no-colon") + "Sig: a:b64?\nSig: short:AAAA\nFrom: the future\n"
		info := parse(text + "Sig: cache.nixos.org-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/" +
			"LJjWkTZ+ZWOI9NTtjo/woMdvAg==\nFrom: another\n")
		Expect(info.Deriver).To(BeEmpty())
		Expect(info.Sigs).To(HaveLen(1))
	})

	it("reads thousands of references", func() {
		var refs []string
		for i := range 4000 {
			digest := make([]byte, 20)
			digest[0], digest[1] = byte(i), byte(i>>8)
			refs = append(refs, storepath.Encode32(digest)+"-"+strings.Repeat("n", 200))
		}
		Expect(parse(with(netTools, "References", strings.Join(refs, " "))).References).To(HaveLen(4000))
	})

	it("keeps nothing of what it does not know, and no signature longer than any", func() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var all []*narinfo.NarInfo
		for range 100 {
			all = append(all, parse(netTools+"X: "+strings.Repeat("x", 1<<19)+"\nURL: nar/"+strings.Repeat("/", 4000)+"\n"))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		Expect(int64(after.HeapAlloc) - int64(before.HeapAlloc)).To(BeNumerically("<", 4<<20))
		long := strings.Repeat("n", 1000) + "-1:" + base64.StdEncoding.EncodeToString(make([]byte, 64))
		Expect(parse(netTools + "Sig: " + long + "\n").Sigs).To(Equal(all[0].Sigs))
		runtime.KeepAlive(all)
	})

	it("takes each thing up to its bound, and no byte or signature more", func() {
		refuses := func(text, problem string) {
			_, err := narinfo.Parse(strings.NewReader(text), "")
			Expect(err).To(MatchError(ContainSubstring(problem)))
		}
		rest := 1<<20 - len(netTools) - len("X: \n")
		parse(netTools + "X: " + strings.Repeat("x", rest) + "\n")
		refuses(netTools+"X: "+strings.Repeat("x", rest+1)+"\n", "longer than 1048576 bytes")

		Expect(parse(with(netTools, "URL", strings.Repeat("n", 8192))).URL).To(HaveLen(8192))
		refuses(with(netTools, "URL", strings.Repeat("n", 8193)), "longer than 8192 bytes")

		Expect(parse(with(netTools, "NarSize", "1099511627776")).NarSize).To(BeEquivalentTo(1 << 40))

		sig := ":" + base64.StdEncoding.EncodeToString(make([]byte, 64)) + "\n"
		unsigned := without(netTools, "Sig")
		Expect(parse(unsigned + strings.Repeat("Sig: a"+sig, 256)).Sigs).To(HaveLen(256))
		refuses(unsigned+strings.Repeat("Sig: a"+sig, 257), "more than 256 signatures")

		name := strings.Repeat("n", 512-len(sig)+len("\n"))
		Expect(parse(unsigned + "Sig: " + name + sig).Sigs).To(HaveLen(1))
		Expect(parse(unsigned + "Sig: n" + name + sig).Sigs).To(BeEmpty())
	})

	it("writes and reads a content address and several references", func() {
		info := parse(with(with(netTools, "CA", "fixed:md5:4425hx5d1mc9y39llj4k4nm55i"), "References",
			"563528481rvhc5kxwipjmg6rqrl95mdx-a xcp9cav49dmsjbwdjlmkjxj10gkpx553-b"))
		Expect(info.CA).NotTo(BeEmpty())
		Expect(info.References).To(HaveLen(2))
		Expect(parse(info.String())).To(Equal(info))
	})

	refused := map[string]struct{ text, field, problem string }{
		"nothing": {"", "", "empty"},
		"blanks":  {"\n \r\n", "", "empty"},
		"a login page": {"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n", "",
			"this is an HTML page, not a narinfo"},
		"JSON":                {`{"error":"no such cache"}`, "", "this is JSON"},
		"plain words":         {"missed hash\n", "", "want Name: value"},
		"a body that was cut": {netTools[:len(netTools)-20], "", "cut short"},
		"a huge body": {netTools + "X: " + strings.Repeat("x", 1<<20) + "\n",
			"", "longer than 1048576 bytes"},
		"no StorePath":                {without(netTools, "StorePath"), "StorePath", "missing"},
		"no URL":                      {without(netTools, "URL"), "URL", "missing"},
		"no NarHash":                  {without(netTools, "NarHash"), "NarHash", "missing"},
		"no NarSize":                  {without(netTools, "NarSize"), "NarSize", "missing"},
		"an empty URL":                {with(netTools, "URL", ""), "URL", "empty"},
		"a URL with blanks":           {with(netTools, "URL", "nar/a b.nar"), "URL", "character ' '"},
		"a URL beyond reason":         {with(netTools, "URL", strings.Repeat("n", 9000)), "URL", "longer than 8192 bytes"},
		"a Compression beyond reason": {with(netTools, "Compression", strings.Repeat("n", 9000)), "Compression", "longer than 8192 bytes"},
		"a StorePath beyond reason":   {with(netTools, "StorePath", storepath.Dir+"/"+strings.Repeat("n", 9000)), "StorePath", ""},
		"a CA beyond reason":          {with(netTools, "CA", strings.Repeat("n", 9000)), "CA", "longer than 8192 bytes"},
		"a URL with controls":         {with(netTools, "URL", "nar/\x1b[31m.nar"), "URL", `character '\x1b'`},
		"a NarSize of zero":           {with(netTools, "NarSize", "0"), "NarSize", "zero"},
		"a NarSize below zero":        {with(netTools, "NarSize", "-1"), "NarSize", `found "-1"`},
		"a NarSize out of range":      {with(netTools, "NarSize", "18446744073709551616"), "NarSize", "want a number"},
		"a NarSize beyond reason":     {with(netTools, "NarSize", "1099511627777"), "NarSize", "more than 1099511627776"},
		"a FileSize that is none":     {with(netTools, "FileSize", "1e6"), "FileSize", "want a number"},
		"an empty NarHash":            {with(netTools, "NarHash", ""), "NarHash", "want sha256"},
		"a NarHash by md5": {with(netTools, "NarHash",
			"md5:d41d8cd98f00b204e9800998ecf8427e"), "NarHash", "not sha256"},
		"a NarHash too short":     {with(netTools, "NarHash", "sha256:0lxjvvpr"), "NarHash", "digest"},
		"a FileHash that is none": {with(netTools, "FileHash", "sha256:xyz"), "FileHash", "parsing hash"},
		"a StorePath without dir": {with(netTools, "StorePath",
			"00bgd045z0d4icpbc2yyz4gx48ak44la-x"), "StorePath", "not below"},
		"a StorePath elsewhere": {with(netTools, "StorePath", "/etc/passwd"), "StorePath", "not below"},
		"a StorePath with more": {with(netTools, "StorePath",
			"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x/bin"), "StorePath", "'/'"},
		"an empty StorePath": {with(netTools, "StorePath", ""), "StorePath", "not below"},
		"a reference with a slash": {with(netTools, "References",
			"../../etc/passwd"), "References", "want a 32-character hash"},
		"a reference that is a path": {with(netTools, "References",
			"/nix/store/7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-x"), "References", "hash"},
	}
	refused["References twice"] = struct{ text, field, problem string }{
		with(netTools, "References", "7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-x") + "References: \n", "References", "twice"}
	refused["CA twice"] = struct{ text, field, problem string }{netTools + "CA: text:x\nCA: text:x\n", "CA", "twice"}
	for _, name := range names(refused) {
		it("refuses "+name, func() {
			want := refused[name]
			_, err := narinfo.Parse(strings.NewReader(want.text), storepath.Dir)
			var e *narinfo.FieldError
			Expect(errors.As(err, &e)).To(BeTrue(), "%v", err)
			Expect(e.Field).To(Equal(want.field))
			Expect(err).To(MatchError(ContainSubstring(want.problem)))
			Expect(strings.Count(err.Error(), "\n")).To(BeZero())
		})
	}

	it("takes of a field that is there twice the last, as Nix does", func() {
		whole := parse(netTools)
		Expect(parse(netTools + netTools[:strings.Index(netTools, "References:")])).To(Equal(whole))
		Expect(parse("URL: nar/other\nCompression: none\nFileHash: sha256:" + strings.Repeat("0", 52) + "\nFileSize: 7\nNarSize: 7\n" +
			"References: \nDeriver: unknown-deriver\nFoo: bar\nFoo: bar\n" + netTools)).To(Equal(whole))
		Expect(parse(with(netTools, "FileSize", "7") + "FileSize: \n").FileSize).To(BeZero())
	})

	it("takes a FileHash by another algorithm of Nix's, which says nothing", func() {
		for _, hash := range []string{"md5:d41d8cd98f00b204e9800998ecf8427e", "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
			"sha512:" + strings.Repeat("0", 128)} {
			Expect(parse(with(netTools, "FileHash", hash)).FileHash.IsZero()).To(BeTrue(), hash)
		}
	})

	it("says the line and the field", func() {
		_, err := narinfo.Parse(strings.NewReader(strings.Replace(netTools, "464152", "many", 1)), "")
		Expect(err).To(MatchError(`narinfo line 7: field NarSize: want a number of bytes, found "many"`))
	})

	it("refuses another store directory", func() {
		_, err := narinfo.Parse(strings.NewReader(netTools), "/gnu/store")
		Expect(err).To(MatchError(ContainSubstring("the cache's store directory is /gnu/store, want /nix/store")))
	})

	it("passes on what is wrong with the connection", func() {
		broken := errors.New("connection reset")
		_, err := narinfo.Parse(iotest.ErrReader(broken), "")
		Expect(errors.Is(err, broken)).To(BeTrue())
		var e *narinfo.FieldError
		Expect(errors.As(err, &e)).To(BeFalse())
	})
}

// FuzzParse: whatever is accepted is complete, and the same when it is written and read again.
func FuzzParse(f *testing.F) {
	f.Add(netTools)
	f.Add(hello)
	for _, text := range published(f) {
		f.Add(text)
	}
	for _, name := range names(served) {
		f.Add(served[name].text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		info, err := narinfo.Parse(strings.NewReader(text), "")
		if err != nil {
			return
		}
		g := NewWithT(t)
		g.Expect(info.StorePath).NotTo(BeEmpty())
		g.Expect(info.URL).NotTo(BeEmpty())
		g.Expect(info.NarSize).To(BeNumerically(">", 0))
		again, err := narinfo.Parse(strings.NewReader(info.String()), "")
		g.Expect(err).NotTo(HaveOccurred())
		if len(info.References) == 0 {
			info.References, again.References = nil, nil
		}
		g.Expect(again).To(Equal(info))
		_, _ = info.VerifyCA()
	})
}

// FuzzParseKeys: whatever is read as keys is the same when it is written and read again, and a secret one is never
// repeated.
func FuzzParseKeys(f *testing.F) {
	f.Add(nixosKey)
	f.Add(nixosKey + " , a-1:\n")
	f.Add("a:" + strings.Repeat("A", 86) + "==")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := narinfo.ParseKeys(text)
		if err != nil {
			return
		}
		g := NewWithT(t)
		var again []string
		for _, key := range keys {
			again = append(again, key.String())
		}
		g.Expect(narinfo.ParseKeys(strings.Join(again, ","))).To(Equal(keys))
	})
}

// FuzzParseSignature: whatever is read is the same when it is written and read again.
func FuzzParseSignature(f *testing.F) {
	f.Add("cache.nixos.org-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/LJjWkTZ+ZWOI9NTtjo/woMdvAg==")
	f.Add(":")
	f.Fuzz(func(t *testing.T, text string) {
		sig, err := narinfo.ParseSignature(text)
		if err != nil {
			return
		}
		g := NewWithT(t)
		g.Expect(narinfo.ParseSignature(sig.String())).To(Equal(sig))
	})
}

// FuzzVerify: a signature holds for what was signed, however the narinfo is written, and for nothing else.
func FuzzVerify(f *testing.F) {
	for _, text := range published(f) {
		f.Add(text, "1", uint8(0))
	}
	f.Add(netTools, "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x", uint8(3))
	f.Add(hello, ",;\n", uint8(2))
	seed := sha256.Sum256([]byte("fuzz"))
	secret := ed25519.NewKeyFromSeed(seed[:])
	keys := narinfo.Keys{{Name: "fuzz-1", Key: secret.Public().(ed25519.PublicKey)}}
	f.Fuzz(func(t *testing.T, text, other string, field uint8) {
		info, err := narinfo.Parse(strings.NewReader(text), "")
		if err != nil {
			return
		}
		info.Sigs = []narinfo.Signature{{Name: "fuzz-1", Data: ed25519.Sign(secret, []byte(info.Fingerprint()))}}
		again, err := narinfo.Parse(strings.NewReader(info.String()), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Verify(again); err != nil {
			t.Fatalf("signed and not valid: %v", err)
		}
		signed := func(i *narinfo.NarInfo) string { return fmt.Sprint(i.StorePath, i.NarHash, i.NarSize, i.References) }
		was := signed(again)
		switch field % 5 {
		case 0:
			again.StorePath += storepath.Path(other)
		case 1:
			again.NarHash[len(other)%len(again.NarHash)] ^= 1
		case 2:
			again.NarSize += int64(len(other))
		case 3:
			again.References = append(again.References, storepath.Path(other))
		case 4:
			again.References = again.References[:len(again.References)/2]
		}
		if signed(again) == was {
			return
		}
		if _, err := keys.Verify(again); err == nil {
			t.Fatalf("a signature of %s holds for %s", was, signed(again))
		}
	})
}
