package closure_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestRefusals(t *testing.T) {
	spec.Run(t, "what a trusted key signed and no store can hold", testRefusals)
}

func testRefusals(t *testing.T, _ spec.G, it spec.S) {
	var (
		c       *binaryCache
		staging string
		a, b    = pathOf("1", "a-1"), pathOf("1", "b-1")
	)

	it.Before(func() {
		RegisterTestingT(t)
		c, staging = newBinaryCache(t), filepath.Join(t.TempDir(), "staging")
	})
	it.After(func() { Expect(nar.RemoveAll(staging)).To(Succeed()) })

	// refused substitutes a and gives the error, which names the cache and the path.
	refused := func() error {
		t.Helper()
		_, err := closure.Substitute(context.Background(), closure.Options{
			Caches: c.open(), Staging: staging, Roots: []storepath.Path{a},
		})
		Expect(err).To(MatchError(And(ContainSubstring(c.url()), ContainSubstring(a.Base()))))
		return err
	}

	for _, name := range []string{"..", "x/y", "."} {
		it("is refused by cache, path and name: an entry named "+name, func() {
			var archive bytes.Buffer
			for _, word := range []string{"nix-archive-1", "(", "type", "directory", "entry", "(", "name", name, "node", "(",
				"type", "regular", "contents", "x", ")", ")", ")"} {
				Expect(binary.Write(&archive, binary.LittleEndian, uint64(len(word)))).To(Succeed())
				archive.WriteString(word)
				archive.Write(make([]byte, -len(word)&7))
			}
			c.serve(a, archive.Bytes())
			Expect(refused()).To(MatchError(And(ContainSubstring("nar: "), ContainSubstring(`"`+name+`"`))))
		})
	}

	it("is refused by cache, paths and field: a reference loop", func() {
		c.add(a, map[string]string{"a": ""}, b)
		c.add(b, map[string]string{"a": ""}, a)
		Expect(refused()).To(MatchError(And(ContainSubstring("field References"), ContainSubstring("reference loop"),
			ContainSubstring(b.Base()))))
	})

	it("is refused by cache, paths and field: a reference to nothing", func() {
		c.add(a, map[string]string{"a": ""}, b)
		Expect(refused()).To(MatchError(ContainSubstring(a.Base() + " → " + b.Base() + ": narinfo field References of " +
			a.Base() + " at " + c.url() + ": ")))
	})

	it("is not refused: a content address that cannot be read, where a signature proves the path", func() {
		c.add(a, map[string]string{"a": ""})
		file := filepath.Join(c.dir, a.HashPart()+".narinfo")
		info, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(file, append(info, "CA: fixed:git:sha1:x\n"...), 0o644)).To(Succeed())
		result, err := closure.Substitute(context.Background(), closure.Options{
			Caches: c.open(), Staging: staging, Roots: []storepath.Path{a},
		})
		Expect(err).NotTo(HaveOccurred())
		layers := t.TempDir()
		Expect(closure.Install(context.Background(), result, staging, layers)).To(Succeed())
		Expect(proven(t, layers, c.keys).Paths).To(ConsistOf(HaveField("Signed", keyName)))
	})

	it("is not refused: more entries than are taken of a path that only its contents prove", func() {
		c.add(a, map[string]string{"a": "", "b": "", "c": ""})
		options := closure.Options{Staging: staging, Roots: []storepath.Path{a}}
		options.SetMaxUnprovenEntries(3)
		substitute := func() error {
			options.Caches = c.open()
			_, err := closure.Substitute(context.Background(), options)
			return err
		}
		Expect(substitute()).To(Succeed())

		hash := storepath.Hash(sha256.Sum256(c.nars[a]))
		alone, err := storepath.Make("source", hash, "alone")
		Expect(err).NotTo(HaveOccurred())
		c.add(alone, map[string]string{"a": "", "b": "", "c": ""})
		file := filepath.Join(c.dir, alone.HashPart()+".narinfo")
		info, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		unsigned, _, _ := strings.Cut(string(info), "Sig:")
		Expect(os.WriteFile(file, []byte(unsigned+"CA: fixed:r:"+hash.String()+"\n"), 0o644)).To(Succeed())
		options.Roots = []storepath.Path{alone}
		Expect(substitute()).To(MatchError(ContainSubstring("there are more than 3 entries")))
		options.SetMaxUnprovenEntries(4)
		Expect(substitute()).To(Succeed())
	})
}
