package verify_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/closurelayer"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/verify"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
)

func testClosure(t *testing.T, _ spec.G, it spec.S) {
	var (
		f         *imagetest.Image
		keys      narinfo.Keys
		manifests map[string]closure.Manifest
		victim    storepath.Path // a path that refers to itself
		group     string         // the layer that has it
		layer     string         // and its directory
		file      string         // a file in it
		viewDir   string
		view      relocate.View
	)

	it.Before(func() {
		RegisterTestingT(t)
		f = imagetest.New(t, launch.EngineRelocate)
		victim, group, manifests = f.Lib, f.LayerOf(f.Lib), f.Manifests()
		layer, viewDir = filepath.Join(f.LayersDir, group), filepath.Join(f.LayersDir, launchlayer.View)
		file = filepath.Join(f.LayersDir, f.Tree(victim), "bin", "lib")
		var err error
		keys, err = narinfo.ParseKeys(f.Key)
		Expect(err).NotTo(HaveOccurred())
		view, err = relocate.NewView(imagetest.View)
		Expect(err).NotTo(HaveOccurred())
	})

	check := func(options verify.ClosureOptions) *verify.ClosureReport {
		t.Helper()
		report, err := verifyClosure(t.Context(), f.LayersDir, options)
		Expect(err).NotTo(HaveOccurred())
		return report
	}
	verifyAll := func() *verify.ClosureReport {
		t.Helper()
		return check(verify.ClosureOptions{Keys: keys, Manifests: manifests, View: launchlayer.View, Dir: imagetest.Dir})
	}
	problem := func(report *verify.ClosureReport) string {
		t.Helper()
		var problems []string
		for _, p := range report.Paths {
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
	records := func(change func(*closure.PathInfo)) {
		t.Helper()
		var r closure.PathInfos
		raw, err := os.ReadFile(filepath.Join(layer, closure.PathsName))
		Expect(err).NotTo(HaveOccurred())
		Expect(json.Unmarshal(raw, &r)).To(Succeed())
		for i := range r.Paths {
			if r.Paths[i].Path == victim {
				change(&r.Paths[i])
			}
		}
		raw, err = json.Marshal(r)
		Expect(err).NotTo(HaveOccurred())
		write(filepath.Join(layer, closure.PathsName), string(raw))
	}

	it("proves every path and says who signed it", func() {
		report := verifyAll()
		Expect(flawless(report)).To(BeTrue(), "%+v", report)
		Expect(report.Paths).To(HaveLen(3))
		for _, p := range report.Paths {
			Expect(p.Signed).To(Equal(keyName))
		}
	})

	it("lists signatures that it has no key for", func() {
		report := check(verify.ClosureOptions{})
		Expect(flawless(report)).To(BeTrue())
		Expect(report.Paths[0].Signed).To(BeEmpty())
		Expect(report.Paths[0].Claimed).To(Equal([]string{keyName}))
	})

	it("does not take another key of the same name", func() {
		other := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
		report := check(verify.ClosureOptions{Keys: narinfo.Keys{{Name: keyName, Key: other}}})
		Expect(report.Paths[0].Problem).To(ContainSubstring("does not fit"))
	})

	it("sees a byte that changed", func() {
		raw, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		raw[len(raw)-2] ^= 1
		write(file, string(raw))
		Expect(problem(verifyAll())).To(ContainSubstring("has changed: its NAR hash is"))
	})

	it("sees a reference that leads back out of the layers although its NAR would be as signed", func() {
		raw, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		write(file, strings.Replace(string(raw), view.Rename(victim), string(victim), 1))
		Expect(problem(verifyAll())).To(ContainSubstring("it is not as relocating"))
	})

	it("sees a change that a made-up fixup would hide", func() {
		raw, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		end := len(raw) - 1
		was := raw[end]
		raw[end] = '!'
		write(file, string(raw))
		records(func(r *closure.PathInfo) {
			Expect(json.Unmarshal([]byte(`[{"file":"bin/lib","offset":`+jsonOf(end)+`,"was":`+jsonOf([]byte{was})+`}]`),
				&r.Fixups)).To(Succeed())
		})
		Expect(problem(verifyAll())).To(ContainSubstring("it is not as relocating"))
	})

	it("sees another hash than the signed one, and another one than the image's metadata has", func() {
		records(func(r *closure.PathInfo) { r.NarHash = storepath.Hash{1}.String() })
		Expect(problem(verifyAll())).To(ContainSubstring("the image's metadata"))
		manifests = nil
		Expect(problem(verifyAll())).To(ContainSubstring("does not fit"))
	})

	it("misses a path that is gone", func() {
		Expect(os.Chmod(filepath.Join(f.LayersDir, f.Tree(victim)), 0o755)).To(Succeed())
		Expect(nar.RemoveAll(filepath.Join(f.LayersDir, f.Tree(victim)))).To(Succeed())
		Expect(problem(verifyAll())).To(Equal("it is not in the layer"))
	})

	it("misses a whole layer", func() {
		Expect(nar.RemoveAll(layer)).To(Succeed())
		var missing []storepath.Path
		for _, p := range verifyAll().Paths {
			if p.Problem == "it is not in the layer" {
				missing = append(missing, p.Path)
			}
		}
		Expect(missing).To(ContainElement(victim))
	})

	it("takes no layer whose name no build gives: wrappers have it, which a shell reads, and so has PATH", func() {
		link := filepath.Join(viewDir, filepath.Base(view.Rename(victim)))
		for _, name := range []string{"closure-$(id)", "closure-a:b", "closure-0001", "closure-0001-00000000000e"} {
			Expect(os.Rename(layer, filepath.Join(f.LayersDir, name))).To(Succeed())
			layer = filepath.Join(f.LayersDir, name)
			Expect(os.Remove(link)).To(Succeed())
			Expect(os.Symlink(closure.LinkTarget(imagetest.Dir, name, victim, view), link)).To(Succeed())
			report := check(verify.ClosureOptions{Keys: keys, View: launchlayer.View, Dir: imagetest.Dir})
			Expect(report.Altered).To(ContainElement(HaveField("Why", "no build gives a layer such a name")), name)
		}
	})

	it("lists what belongs to no path", func() {
		write(filepath.Join(layer, "stranger"), "")
		Expect(os.Symlink("/", filepath.Join(viewDir, "way-out"))).To(Succeed())
		Expect(os.Mkdir(filepath.Join(f.LayersDir, "closure-99"), 0o755)).To(Succeed())
		write(filepath.Join(f.LayersDir, "closure-99", "x"), "")
		report := verifyAll()
		Expect(report.Extra).To(ConsistOf("closure-99/x", group+"/stranger", "view/way-out"))
		Expect(flawless(report)).To(BeFalse())
	})

	it("sees a link that leads elsewhere", func() {
		link := filepath.Join(viewDir, filepath.Base(view.Rename(victim)))
		Expect(os.Remove(link)).To(Succeed())
		Expect(os.Symlink("/tmp", link)).To(Succeed())
		Expect(problem(verifyAll())).To(ContainSubstring("does not lead to it"))
	})

	it("lives with records that somebody has mangled", func() {
		for _, text := range []string{"", "{", `{"format":99}`, `{"format":1,"prefix":"x"}`,
			`{"format":1,"prefix":"/nix/store","paths":[{"path":"../../etc"}]}`,
			`{"format":1,"prefix":"/nix/store","paths":[{"path":"` + string(victim) + `","references":["x"]}]}`,
			`{"format":1,"prefix":"/nix/store","paths":[{"path":"` + string(victim) +
				`","narHash":"` + storepath.Hash{}.String() +
				`","ca":"x:y","fixups":[{"file":"bin/lib","offset":-7,"was":"AAAA"}]}]}`,
		} {
			write(filepath.Join(layer, closure.PathsName), text)
			Expect(flawless(verifyAll())).To(BeFalse(), text)
		}
	})

	it("reads no more references than a narinfo has room for", func() {
		references := strings.Repeat(`"`+string(victim)+`",`, 40_000)
		write(filepath.Join(layer, closure.PathsName), fmt.Sprintf(`{"format":%d,"prefix":"/nix/store","paths":[{"path":"%s","references":[%s"%[2]s"]}]}`,
			closure.Format, victim, references))
		Expect(verifyAll().Altered).To(ContainElement(HaveField("Why", ContainSubstring("has 40001 references, more than"))))
	})

	it("says that there is nothing", func() {
		_, err := verifyClosure(t.Context(), t.TempDir(), verify.ClosureOptions{})
		Expect(err).To(MatchError(closurelayer.ErrNone))
	})

	it("ends when it is told to", func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := verifyClosure(ctx, f.LayersDir, verify.ClosureOptions{})
		Expect(err).To(MatchError(context.Canceled))
	})
}

// verifyClosure verifies layers on disk.
func verifyClosure(ctx context.Context, dir string, options verify.ClosureOptions) (*verify.ClosureReport, error) {
	layers, done, err := filetree.ReadDirectory(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	defer done()
	return verify.Closure(ctx, layers, options)
}

func jsonOf(v any) string {
	raw, err := json.Marshal(v)
	Expect(err).NotTo(HaveOccurred())
	return string(raw)
}

// flawless reports whether every path is as it was signed, by whomever, and nothing is there besides.
func flawless(r *verify.ClosureReport) bool {
	return len(r.Extra)+len(r.Altered) == 0 &&
		!slices.ContainsFunc(r.Paths, func(p verify.Path) bool { return p.Problem != "" })
}

// keyName is the key that signed the paths of test images.
const keyName = "forged-1"
