package closure_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// golden are the digests of one small closure's layers, relocated and as it is, by closure.Format. Layers of the same
// format are reused by digest and metadata alone, so the same closure has to give the same bytes for as long as the
// format is the same. Where a digest changes, Format has to go up, and the new digests belong here beside it.
var golden = map[int]map[string]string{
	1: {
		"relocated": "2cd71587762c4e1d296be54ba6ba2ddfc4e154daba8093e2ed631edb0e9e5831",
		"as it is":  "354691a80242e1a56f930b71a497f63e792179c1ba892849e4a598302fb1aba6",
	},
	2: { // links of the view lead up and down again
		"relocated": "f7d041fa4a589df6c8cacf42d86359cc48682142f6e7afb41e6880d30276a43d",
		"as it is":  "6fc8e87e6580d2b546bd4504cce778ba048381358f85e84ad8b8ca5b18501b1e",
	},
	4: { // layers are named by what they hold
		"relocated": "f2c1848c279c1f6ffeb5f5e893da564fa558d7e247c87366f0ed4d236623f303",
		"as it is":  "2844b7290a7537a2b66f642ebe925b5907a958442668548d63265080292d426f",
	},
	5: { // layers are ordered by size and by what they need
		"relocated": "2c877e66024ed76b47423123c611e6db8687f9dfc9b9873d31d086ee02f5f2b1",
		"as it is":  "c6f84ec8949b1fe8ff117552a1dc8e298cb2bf08e7cfd70732678bef33ab4255",
	},
	7: { // wrappers name programs by where they lie
		"relocated": "3a46b71cd50fd29d1a4d2d0d18aec088ee218a1558be940ea3a93dcbee8f32e3",
		"as it is":  "1532ed932654428430d6c732266b23a4af98ccb8f405500415b6c14c9493ee8b",
	},
	8: { // and what else they name of the same path
		"relocated": "3b4cc27cc0fa5a3ecf10d5426568d6cfe6da2f6a5c629be01c315b0e84a8a5e3",
		"as it is":  "154ea17c593607c9b2e3df75c7bcce5359c81cc51548ccb76b919251bf19c957",
	},
	9: { // small paths that start programs of others name them so as well, and have a layer apart
		"relocated": "912c1d96ddc83b427625ee222c4ce5dacff999bfbaefbc3700de1b9f801c79d6",
		"as it is":  "f6ecd40866fce855f840beaa14014f8e20da1b0b2952c4ab8351a72d6f5cd506",
	},
	10: { // archives in and behind programs are rewritten as they were, and slashes that are numbers
		"relocated": "4005902ac0352fe5c56d3c65ea02ad171b46f12440e987a1120f1c67787dd05e",
		"as it is":  "9b526546d0d578d7f581dc80db3372fd992a57bd9c9f76934f5f34a717af3932",
	},
	11: { // Racket's code is rewritten where its messages have shortened paths
		"relocated": "75938d01fb3ddd2014f75dabc15bfe860d2233b80939bd6d57126da22f1739d9",
		"as it is":  "d9db6e0e08ae46d03a135460b76d4c97222f41d1dec2d1aaf70f1f27928fd3d2",
	},
	12: { // hashes in templates of pages are made anew, and what is compressed anew keeps its length
		"relocated": "2fb4f307dedc5d565410bfd2096ade03e98a0a135ae28f734a3f39f7aaff4e25",
		"as it is":  "650d5e5a9fbebbd9553c9a49ebc748442ac765389f008bf46aa77a4264fcc264",
	},
	6: { // links of the view are short: paths have the view's names in their layers
		"relocated": "6c6872869cb3375c79e58d16d1413077eaef65c869b98dffa95b4c2acea45163",
		"as it is":  "bfdeea5930ff37500b1b33ca464a3adee601f386d99ec92b146c984b7838b6eb",
	},
	3: { // fixups have a length, and compressed files are rewritten
		"relocated": "14cb6715f9243eb3652763d2fbe3093a54a0d0702db7fbc11ba7eb48853d33da",
		"as it is":  "4aed6267826d6be8a7ed89ff02d6b33dd8eb8a2883cb651b98d6be152735fb57",
	},
}

func testGolden(t *testing.T, _ spec.G, it spec.S) {
	const layers = "/layers/nixproot_nix-hydra" // what is written depends on this place, not on where the test writes it

	it("gives the same layers as every version of its format did", func() {
		RegisterTestingT(t)
		defer syscall.Umask(syscall.Umask(0o022)) // as the buildpack's program has it
		ctx := context.Background()
		c := newBinaryCache(t)
		lib, module := pathOf("golden", "lib-1.0"), "import os\n"
		c.add(lib, map[string]string{"lib/lib.so": "\x7fELF\x00" + lib.String() + "\x00", "share/doc": "words\n"}, lib)
		own := pathOf("golden", "app-1.0")
		source := module + "HOME = '" + lib.String() + "'\n"
		app := c.add(own, map[string]string{
			"bin/app": "#!" + lib.String() + "/bin/sh\n", "etc/lib": "-> " + lib.String() + "/lib",
			"mod.py": source, "near": "-> ../" + lib.Base() + "/share",
			// fresh byte code, which is marked as not to be checked
			"__pycache__/mod.cpython-312.pyc": "\xcb\x0d\r\n\x00\x00\x00\x00\x01\x00\x00\x00" +
				string(rune(len(source))) + "\x00\x00\x00" + lib.String(),
			"empty": "",
			// a program of Node.js, named by where it lies
			"bin/wrapped": "#!" + lib.String() + "/bin/sh\nA=" + own.String() + " node " + own.String() + "/a.mjs\n",
			// what is compressed anew: the compressors of a layer's format are those of go.mod
			"words.gz": stored(lib.String() + "/share\n"),
		}, lib)
		view := viewAt(layers + "/view")
		digests := map[string]string{}
		for name, l := range map[string]relocate.View{"relocated": view, "as it is": {}} {
			dir, staging := t.TempDir(), filepath.Join(t.TempDir(), "staging")
			result, err := closure.Substitute(ctx, closure.Options{
				Caches: c.open(), Roots: []storepath.Path{app}, Staging: staging, View: l,
			})
			Expect(err).NotTo(HaveOccurred())
			Expect(result.Blockers).To(BeEmpty())
			Expect(closure.Install(ctx, result, staging, dir)).To(Succeed())
			Expect(closure.WriteView(ctx, filepath.Join(dir, "view"), result.Groups, layers, l)).To(Succeed())
			if !l.IsZero() {
				records, err := os.ReadFile(filepath.Join(dir, layerOf(result, app), closure.PathsName))
				Expect(err).NotTo(HaveOccurred())
				Expect(string(records)).To(MatchRegexp(`"fixups":.*{"file":"near".*{"file":"__pycache__/mod`), "else less is covered")
			}
			digests[name] = digest(dir)
			Expect(nar.RemoveAll(dir)).To(Succeed())
		}
		Expect(digests).To(Equal(golden[closure.Format]), "raise closure.Format")
	})
}

// layerOf is the layer that has a path.
func layerOf(result *closure.Result, p storepath.Path) string {
	i := slices.IndexFunc(result.Groups, func(g closure.Group) bool { return slices.Contains(g.Paths, p) })
	return result.Groups[i].Layer
}

// stored is text in gzip that is not compressed, and so the same whatever compresses.
func stored(text string) string {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	Expect(err).NotTo(HaveOccurred())
	_, err = w.Write([]byte(text))
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Close()).To(Succeed())
	return b.String()
}

// digest is of all that a layer's archive has of a tree: names, modes, contents, targets.
func digest(dir string) string {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content := ""
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			content, err = os.Readlink(path)
		case 0:
			var raw []byte
			raw, err = os.ReadFile(path)
			content = string(raw)
		}
		fmt.Fprintf(sum, "%q %s %q\n", strings.TrimPrefix(path, dir), info.Mode(), content)
		return err
	})
	Expect(err).NotTo(HaveOccurred())
	return hex.EncodeToString(sum.Sum(nil))
}
