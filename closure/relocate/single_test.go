package relocate_test

import (
	"bytes"
	stdcontext "context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// testSingle tries store paths that are files.
func testSingle(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })
	ctx, refs := stdcontext.Background(), []storepath.Path{dep}
	// become relocates a path of that name, whose contents are these, and gives what they are then.
	become := func(name, contents string) string {
		p := storepath.Path(strings.TrimSuffix(string(self), self.Name()) + name)
		files, dir := archive(regular("", contents)), filepath.Join(t.TempDir(), "file")
		o := relocate.Original{Path: p, References: refs, NarHash: sha256.Sum256(archived(t, files))}
		rewriter := view(t).Rewrite(p, refs, nar.NewTree(dir))
		send(t, rewriter, files, whole)
		report, err := view(t).FixTree(ctx, dir, o, rewriter.Report())
		Expect(err).NotTo(HaveOccurred())
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		seen := view(t).Inspect(p, refs, t.TempDir())
		send(t, seen, files, whole)
		Expect(seen.Report().Fixups).To(Equal(report.Fixups))
		o.Fixups = report.Fixups
		Expect(view(t).VerifyTree(ctx, dir, t.TempDir(), o)).To(Succeed())
		return readBack(t, dir, "")
	}

	it("takes one that is a list of checksums, of files that are not there", func() {
		list := sha256sum("x") + "  app.tar.gz\n"
		Expect(become("app.tar.gz.sha256", list)).To(Equal(list))
		Expect(become("sums", list+sha256sum("y")+"  "+string(self)+"\n")).To(Equal(list + sha256sum("y") + "  " + selfNow + "\n"))
	})

	it("knows the format by the path's name", func() {
		var packed bytes.Buffer
		w := brotli.NewWriter(&packed)
		_, err := io.WriteString(w, strings.Repeat("open('"+string(dep)+"')\n", 9))
		Expect(err).NotTo(HaveOccurred())
		Expect(w.Close()).To(Succeed())
		text, err := io.ReadAll(brotli.NewReader(strings.NewReader(become("app.js.br", packed.String()))))
		Expect(err).NotTo(HaveOccurred())
		Expect(string(text)).To(Equal(strings.Repeat("open('"+depNow+"')\n", 9)))
		var decoded string
		Expect(json.Unmarshal([]byte(become("app.json", `"`+strings.ReplaceAll(string(dep), "/", `\/`)+`"`)), &decoded)).To(Succeed())
		Expect(decoded).To(Equal(depNow))
	})
}
