package closure_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
)

func testVerify(t *testing.T, _ spec.G, it spec.S) {
	var (
		c         *binaryCache
		img       image
		manifests map[string]closure.Manifest
		graph     *closure.Graph
		group     closure.Group
		victim    storepath.Path // a path that refers to itself
		layer     string         // the directory of the layer that has it
		file      string         // a file in it
	)

	it.Before(func() {
		RegisterTestingT(t)
		c, img = newBinaryCache(t), newImage(t)
		graph = c.stock(newWorld(1, 30))
		result := img.build(c, graph, nil)
		manifests = result.Manifests()
		for _, g := range result.Groups {
			for _, p := range g.Paths {
				if slices.Contains(graph.Nodes[p].References, p) {
					victim, group = p, g
				}
			}
		}
		Expect(victim).NotTo(BeEmpty())
		layer = filepath.Join(img.layers, group.Layer)
		file = filepath.Join(layer, victim.Base(), "bin", "run")
	})

	verify := func() *closure.Audit {
		t.Helper()
		audit, err := verifyDir(context.Background(), img.layers, closure.VerifyOptions{
			Keys: c.keys, Manifests: manifests, View: filepath.Base(img.view), Dir: img.layers,
		})
		Expect(err).NotTo(HaveOccurred())
		return audit
	}
	problem := func(audit *closure.Audit) string {
		t.Helper()
		var problems []string
		for _, p := range audit.Paths {
			if p.Problem != "" {
				Expect(p.Path).To(Equal(victim), p.Problem)
				problems = append(problems, p.Problem)
			}
		}
		Expect(problems).To(HaveLen(1))
		return problems[0]
	}
	write := func(path, text string) {
		t.Helper()
		dir := filepath.Dir(path)
		Expect(os.Chmod(dir, 0o755)).To(Succeed())
		Expect(os.RemoveAll(path)).To(Succeed())
		Expect(os.WriteFile(path, []byte(text), 0o555)).To(Succeed())
	}
	records := func(change func(*closure.Record)) {
		t.Helper()
		var r closure.Records
		raw, err := os.ReadFile(filepath.Join(layer, closure.RecordsName))
		Expect(err).NotTo(HaveOccurred())
		Expect(json.Unmarshal(raw, &r)).To(Succeed())
		for i := range r.Paths {
			if r.Paths[i].Path == victim {
				change(&r.Paths[i])
			}
		}
		raw, err = json.Marshal(r)
		Expect(err).NotTo(HaveOccurred())
		write(filepath.Join(layer, closure.RecordsName), string(raw))
	}

	it("proves every path and says who signed it", func() {
		audit := verify()
		Expect(intact(audit)).To(BeTrue(), "%+v", audit)
		Expect(audit.Paths).To(HaveLen(30))
		for _, p := range audit.Paths {
			Expect(p.Signed).To(Equal(keyName))
			Expect(p.NarSize).To(Equal(int64(len(c.nars[p.Path]))))
		}
	})

	it("lists signatures that it has no key for", func() {
		audit, err := verifyDir(context.Background(), img.layers, closure.VerifyOptions{})
		Expect(err).NotTo(HaveOccurred())
		Expect(intact(audit)).To(BeTrue())
		Expect(audit.Paths[0].Signed).To(BeEmpty())
		Expect(audit.Paths[0].Claimed).To(Equal([]string{keyName}))
	})

	it("does not take another key of the same name", func() {
		other := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
		audit, err := verifyDir(context.Background(), img.layers, closure.VerifyOptions{
			Keys: narinfo.Keys{{Name: keyName, Key: other}},
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(audit.Paths[0].Problem).To(ContainSubstring("does not fit"))
	})

	it("sees a byte that changed", func() {
		raw, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		raw[len(raw)-2] ^= 1
		write(file, string(raw))
		Expect(problem(verify())).To(ContainSubstring("has changed: its NAR hash is"))
	})

	it("sees a reference that leads back out of the layers although its NAR would be as signed", func() {
		raw, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		write(file, strings.Replace(string(raw), img.layout.Rename(victim), string(victim), 1))
		Expect(problem(verify())).To(ContainSubstring("it is not as relocating"))
	})

	it("sees a change that a made-up fixup would hide", func() {
		raw, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		end := len(raw) - 1
		was := raw[end]
		raw[end] = '!'
		write(file, string(raw))
		records(func(r *closure.Record) {
			Expect(json.Unmarshal([]byte(`[{"file":"bin/run","offset":`+jsonOf(end)+`,"was":`+jsonOf([]byte{was})+`}]`),
				&r.Fixups)).To(Succeed())
		})
		Expect(problem(verify())).To(ContainSubstring("it is not as relocating"))
	})

	it("sees another hash than the signed one, and another one than the image's metadata has", func() {
		records(func(r *closure.Record) { r.NarHash = storepath.Hash{1}.String() })
		Expect(problem(verify())).To(ContainSubstring("the image's metadata"))
		manifests = nil
		Expect(problem(verify())).To(ContainSubstring("does not fit"))
	})

	it("misses a path that is gone", func() {
		Expect(os.Chmod(filepath.Join(layer, victim.Base()), 0o755)).To(Succeed())
		Expect(nar.RemoveAll(filepath.Join(layer, victim.Base()))).To(Succeed())
		Expect(problem(verify())).To(Equal("it is not in the layer"))
	})

	it("misses a whole layer", func() {
		Expect(nar.RemoveAll(layer)).To(Succeed())
		var missing []storepath.Path
		for _, p := range verify().Paths {
			if p.Problem == "it is not in the layer" {
				missing = append(missing, p.Path)
			}
		}
		Expect(missing).To(Equal(group.Paths))
	})

	it("lists what belongs to no path", func() {
		write(filepath.Join(layer, "stranger"), "")
		Expect(os.Symlink("/", filepath.Join(img.view, "way-out"))).To(Succeed())
		Expect(os.Mkdir(filepath.Join(img.layers, "closure-99"), 0o755)).To(Succeed())
		write(filepath.Join(img.layers, "closure-99", "x"), "")
		audit := verify()
		Expect(audit.Extra).To(ConsistOf("closure-99/x", group.Layer+"/stranger", "store/way-out"))
		Expect(intact(audit)).To(BeFalse())
	})

	it("sees a link that leads elsewhere", func() {
		link := img.layout.Rename(victim)
		Expect(os.Remove(link)).To(Succeed())
		Expect(os.Symlink("/tmp", link)).To(Succeed())
		Expect(problem(verify())).To(ContainSubstring("does not lead to it"))
	})

	it("lives with records that somebody has mangled", func() {
		for _, text := range []string{"", "{", `{"format":99}`, `{"format":1,"prefix":"x"}`,
			`{"format":1,"prefix":"/nix/store","paths":[{"path":"../../etc"}]}`,
			`{"format":1,"prefix":"/nix/store","paths":[{"path":"` + string(victim) + `","references":["x"]}]}`,
			`{"format":1,"prefix":"/nix/store","paths":[{"path":"` + string(victim) +
				`","narHash":"` + storepath.Hash{}.String() +
				`","ca":"x:y","fixups":[{"file":"bin/run","offset":-7,"was":"AAAA"}]}]}`,
		} {
			write(filepath.Join(layer, closure.RecordsName), text)
			Expect(intact(verify())).To(BeFalse(), text)
		}
	})

	it("says that there is nothing", func() {
		_, err := verifyDir(context.Background(), t.TempDir(), closure.VerifyOptions{})
		Expect(err).To(MatchError(closure.ErrNoClosure))
	})

	it("ends when it is told to", func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := verifyDir(ctx, img.layers, closure.VerifyOptions{})
		Expect(err).To(MatchError(context.Canceled))
	})
}

// verifyDir verifies layers on disk.
func verifyDir(ctx context.Context, dir string, options closure.VerifyOptions) (*closure.Audit, error) {
	layers, done, err := filetree.ReadDirectory(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	defer done()
	return closure.Verify(ctx, layers, options)
}

func jsonOf(v any) string {
	raw, err := json.Marshal(v)
	Expect(err).NotTo(HaveOccurred())
	return string(raw)
}

// intact reports whether every path is as signed, by a trusted key where any are given, and nothing is there besides.
func intact(a *closure.Audit) bool {
	return len(a.Extra)+len(a.Altered) == 0 &&
		!slices.ContainsFunc(a.Paths, func(p closure.Audited) bool { return p.Problem != "" || p.Untrusted })
}
