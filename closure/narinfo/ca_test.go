package narinfo_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// today is where Nix 2.34 puts the same contents that refer to themselves.
const today = "0pcgs54pr21z62lf4j9ix2qkvfk1qng4-selfish"

// addressed is what Nix 2.8 made of one file ("hello\n") and one directory by `nix-store --add-fixed`, with and without
// --recursive, of texts by builtins.toFile, and of a path that refers to itself by `nix store make-content-addressed`.
var addressed = map[string]struct{ path, ca, refs string }{
	"a file by md5": {"dra1cz5vbrhclpv4y1q0psnbkxz581bk-hello.txt", "fixed:md5:4425hx5d1mc9y39llj4k4nm55i", ""},
	"a file by sha1": {"svdva85yi507g9vncgsaxvnd1r808h4w-hello.txt",
		"fixed:sha1:iwjz551fyw0cxcjgf4l6c879zabd6wpm", ""},
	"a file by sha256": {"gy454w1cxaq731grqwylhzf4pp9r5izh-hello.txt",
		"fixed:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq", ""},
	"a file by sha512": {"9a8mxachqmcv8x2cfijdps9dyxgyyrzm-hello.txt",
		"fixed:sha512:0lrc0dwnvipqviibf7qfm1y492qvjwb1zhkcyi05cndmva1mr" +
			"5gjcgrnz1x36djmk0sfg8djd2n0qv68vib2jg590mwznar9jcjphp7", ""},
	"a NAR of a file": {"i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt",
		"fixed:r:sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw", ""},
	"a directory by md5":  {"xsnzdwvk78rqrpmzqbb7mc993cff61y5-tree", "fixed:r:md5:2wa869z31wa65hk4v3rx6bgl3n", ""},
	"a directory by sha1": {"09376phk18l40v94rphgkrldsm9v61c7-tree", "fixed:r:sha1:g50x9zjnqgcm6w9qcmdb362ny0ysk564", ""},
	"a directory by sha256": {"b9s9xi7l1gxvf6ia53pmd8m9mb09njkr-tree",
		"fixed:r:sha256:149f2xk1zfq8vz3d0fxjj8sbmmz7p8znz5m0as0zhxzb96qb7rv4", ""},
	"a directory by sha512": {"dh3dr00kh3dlkijr3lscrzidzxv6k7sn-tree",
		"fixed:r:sha512:1y2nzxfln48wsw8xpf2p70j2nl9pxp75ya0fvb95vxqx7cs53j" +
			"lpi1z0gg0h6x5saqcs2sddgrsxk1js8f25f1y61lrnckafdf0rrjc", ""},
	"a text": {"r3z4jv0vv64bg5bx1qw11vrqrb7hfbzc-dep",
		"text:sha256:1j7sfwqriah6x0bn61297wg42675194hdmh8lkc9vb7izhhy0gd3", ""},
	"a text with a reference": {"10y3637sj208x22766y1l29b7wjarc11-text-with-ref",
		"text:sha256:18vzd3ghvm1y1yngbz22c0dhrd66rpqplbbrmcxj9467mh126vls", "z5ivr36ksfl8h2zzm29y0q1s4wcl79ic-inner"},
	"a NAR with references, to itself as well": {"5irzbl1hn4xzhz01jfa9m3304nnbhq35-selfish",
		"fixed:r:sha256:12kmp4j93zh9r5if0gvfppwd7zrkaplavyi5m0gpl9w00pxg9d4i",
		"5irzbl1hn4xzhz01jfa9m3304nnbhq35-selfish facdsnqijfy1x0rgcd52gfsjgmys2zcq-dep"},
	"a NAR with references, to itself as well, by Nix 2.34": {today,
		"fixed:r:sha256:1agr50lfkp1njgai9h01pk4ylxf3ml54p1z78yx6zd0li2qy10jm",
		today + " facdsnqijfy1x0rgcd52gfsjgmys2zcq-dep"},
}

// contents is the archive of each of them.
func contents(path string) []byte {
	var b bytes.Buffer
	w := nar.NewWriter(&b)
	file := func(path, text string) {
		Expect(w.Entry(&nar.Entry{Path: path, Kind: nar.Regular, Size: int64(len(text))})).To(Succeed())
		_, err := w.Write([]byte(text))
		Expect(err).NotTo(HaveOccurred())
	}
	dir := func(path string) { Expect(w.Entry(&nar.Entry{Path: path, Kind: nar.Directory})).To(Succeed()) }
	self := storepath.Dir + "/" + path
	switch _, name, _ := strings.Cut(path, "-"); name {
	case "hello.txt":
		file("", "hello\n")
	case "dep":
		file("", "a dependency\n")
	case "text-with-ref":
		file("", "see /nix/store/z5ivr36ksfl8h2zzm29y0q1s4wcl79ic-inner\n")
	case "tree":
		dir("")
		dir("bin")
		text := "#!/bin/sh\n"
		Expect(w.Entry(&nar.Entry{Path: "bin/x", Kind: nar.Regular, Executable: true, Size: int64(len(text))})).To(Succeed())
		_, err := w.Write([]byte(text))
		Expect(err).NotTo(HaveOccurred())
	case "selfish":
		dir("")
		dir("bin")
		file("bin/run", "#!"+self+"/bin/other /nix/store/facdsnqijfy1x0rgcd52gfsjgmys2zcq-dep\n")
		Expect(w.Entry(&nar.Entry{Path: "link", Kind: nar.Symlink, Target: self + "/bin/run"})).To(Succeed())
		file("twice", self+self+"\n")
		file("zeros", strings.Repeat("\x00", 70000)+self+"\n")
	}
	Expect(w.Close()).To(Succeed())
	return b.Bytes()
}

// claim is the narinfo of one of them.
func claim(name string) (*narinfo.NarInfo, []byte) {
	a := addressed[name]
	data := contents(a.path)
	text := with(with(without(without(netTools, "Sig"), "Deriver"), "StorePath", storepath.Dir+"/"+a.path), "CA", a.ca)
	info := parse(with(text, "References", a.refs))
	info.NarHash, info.NarSize = sha256.Sum256(data), int64(len(data))
	return info, data
}

func testVerifyCA(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	for _, name := range names(addressed) {
		it("computes the path that Nix gave "+name, func() {
			info, _ := claim(name)
			ok, err := info.VerifyCA()
			Expect(err).NotTo(HaveOccurred())
			Expect(ok).To(BeTrue())
		})

		it("notices another name, reference or digest of "+name, func() {
			for _, change := range []func(*narinfo.NarInfo){
				func(n *narinfo.NarInfo) { n.StorePath += "x" },
				func(n *narinfo.NarInfo) { n.StorePath = n.StorePath[:11] + "n" + n.StorePath[12:] },
				func(n *narinfo.NarInfo) {
					n.References = append(n.References, "/nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-other")
				},
				func(n *narinfo.NarInfo) { n.CA = n.CA[:len(n.CA)-1] + "0" },
			} {
				info, _ := claim(name)
				change(info)
				ok, err := info.VerifyCA()
				var e *narinfo.FieldError
				Expect(errors.As(err, &e)).To(BeTrue(), "%v", err)
				Expect(e.Field).To(Equal("CA"))
				Expect(ok).To(BeFalse())
			}
		})
	}

	it("has nothing to say where nothing is claimed", func() {
		ok, err := parse(netTools).VerifyCA()
		Expect(err).NotTo(HaveOccurred())
		Expect(ok).To(BeFalse())
	})

	it("notices a NarHash that is not the address", func() {
		info, _ := claim("a directory by sha256")
		info.NarHash[0] ^= 1
		ok, err := info.VerifyCA()
		Expect(err).To(MatchError(ContainSubstring("is not the NarHash")))
		Expect(ok).To(BeFalse())
	})

	it("refuses addresses that it cannot read", func() {
		for ca, problem := range map[string]string{
			"sha256:149f2xk1zfq8vz3d0fxjj8sbmmz7p8znz5m0as0zhxzb96qb7rv4": "want text:, fixed: or fixed:r:",
			"fixed:git:sha1:iwjz551fyw0cxcjgf4l6c879zabd6wpm":             `algorithm "git"`,
			"fixed:blake3:149f2xk1zfq8vz3d0fxjj8sbmmz7p8znz5m0as0zhxzb96": `algorithm "blake3"`,
			"fixed:sha256:":        "0 characters",
			"fixed:sha256":         "0 characters",
			"fixed:r:sha256:short": "5 characters",
			"fixed:sha1:???????????????????????????????e":        "not Nix base-32",
			"text:sha1:iwjz551fyw0cxcjgf4l6c879zabd6wpm":         "want sha256",
			"fixed:md5:zzzzzzzzzzzzzzzzzzzzzzzzzz":               "overflow",
			"fixed:md5:d41d8cd98f00b204e9800998ecf8427g":         "invalid byte",
			"text:sha256:" + strings.Repeat("0", 52):             "makes the path",
			"fixed:r:" + strings.Repeat("sha256:", 1000) + "abc": "characters",
		} {
			info := parse(netTools)
			info.CA = ca
			ok, err := info.VerifyCA()
			Expect(err).To(MatchError(ContainSubstring(problem)), ca)
			Expect(ok).To(BeFalse())
		}
	})
}

func testContentCheck(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	run := func(info *narinfo.NarInfo, data []byte, piece int) error {
		check, err := info.ContentCheck()
		Expect(err).NotTo(HaveOccurred())
		for len(data) > 0 {
			n := min(piece, len(data))
			_, err := check.Write(data[:n])
			Expect(err).NotTo(HaveOccurred())
			data = data[n:]
		}
		return check.Verify()
	}

	for _, name := range names(addressed) {
		it("accepts the contents of "+name+", in pieces of any size", func() {
			info, data := claim(name)
			for _, piece := range []int{1, 7, 31, 33, 4096, len(data)} {
				Expect(run(info, data, piece)).To(Succeed())
			}
		})

		it("notices a changed bit in "+name, func() {
			info, data := claim(name)
			at := bytes.LastIndexAny(data, "\n") - 1
			data[at] ^= 1
			Expect(run(info, data, 1000)).To(MatchError(ContainSubstring("against its content address " + info.CA)))
			data[at] ^= 1
			Expect(run(info, data[:len(data)-200*len(data)/1000-1], 1000)).NotTo(Succeed(), "cut short")
		})
	}

	it("keeps few of the places where a path refers to itself, however many there are", func() {
		const places = 2 << 20
		zeroed := sha256.New()
		zeros := make([]byte, 32*1024)
		for range places / 1024 {
			zeroed.Write(zeros)
		}
		digest := storepath.Hash(zeroed.Sum(nil))
		path, err := storepath.Make("source:self", digest, "selfish")
		Expect(err).NotTo(HaveOccurred())
		info := &narinfo.NarInfo{StorePath: path, References: []storepath.Path{path}, CA: "fixed:r:" + digest.String(), NarHash: digest}
		Expect(info.VerifyCA()).To(BeTrue())
		check, err := info.ContentCheck()
		Expect(err).NotTo(HaveOccurred())
		piece := []byte(strings.Repeat(path.HashPart(), 1024))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range places / 1024 {
			_, err := check.Write(piece)
			Expect(err).NotTo(HaveOccurred())
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		Expect(int64(after.HeapAlloc) - int64(before.HeapAlloc)).To(BeNumerically("<", 12<<20))
		Expect(check.Verify()).To(Succeed())
	})

	it("checks older addresses of paths that refer to themselves a million times, and of none that do more often", func() {
		for places, want := range map[int]types.GomegaMatcher{
			1 << 20: Succeed(), 1<<20 + 1: MatchError(ContainSubstring("refers to itself more than 1048576 times")),
		} {
			old := sha256.New()
			old.Write(make([]byte, 32*places))
			for i := range places {
				fmt.Fprintf(old, "|%d", 32*i)
			}
			digest := storepath.Hash(old.Sum(nil))
			path, err := storepath.Make("source:self", digest, "selfish")
			Expect(err).NotTo(HaveOccurred())
			info := &narinfo.NarInfo{StorePath: path, References: []storepath.Path{path}, CA: "fixed:r:" + digest.String()}
			Expect(run(info, bytes.Repeat([]byte(path.HashPart()), places), 1<<20)).To(want)
		}
	})

	it("notices its own hash put where zeros were", func() {
		info, data := claim("a NAR with references, to itself as well")
		at := bytes.Index(data, make([]byte, 1000)) + 100
		copy(data[at:], info.StorePath.HashPart())
		Expect(run(info, data, 1000)).NotTo(Succeed())
	})

	it("takes only a file for a file", func() {
		info, _ := claim("a file by sha256")
		Expect(run(info, contents("x-tree"), 1000)).To(MatchError(ContainSubstring("not a single file")))
		Expect(run(info, nil, 1000)).NotTo(Succeed())
	})

	it("wants an address", func() {
		_, err := parse(netTools).ContentCheck()
		Expect(err).To(HaveOccurred())
	})
}
