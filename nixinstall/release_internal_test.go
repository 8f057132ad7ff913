package nixinstall

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestInternals(t *testing.T) {
	suite := spec.New("internals", spec.Report(report.Terminal{}))
	suite("release archive", testRelease)
	suite("journal", testJournal)
	suite("attribute path", testAttrPath)
	suite("plan", testParsePlan)
	suite.Run(t)
}

func testRelease(t *testing.T, _ spec.G, it spec.S) {
	const (
		top  = "nix-2.35.2-x86_64-linux/"
		base = "m2wvjw2h7w6631q8zbim1cw3y5a52g8p-a"
		reg  = "/nix/store/" + base + "\n1f7f928c3635203de2e2f74b916a59e7c7aa4bd46cc975048891bd37e9ae6bb2\n1\n\n0\n"
	)
	it.Before(func() { RegisterTestingT(t) })

	unpack := func(headers ...tar.Header) (string, error) {
		t.Helper()
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		for _, h := range headers {
			text := ""
			switch {
			case strings.HasSuffix(h.Name, ".reginfo"):
				text = reg
			case h.Typeflag == tar.TypeReg:
				text = "x"
			}
			h.Mode, h.Size = 0o755, int64(len(text))
			Expect(w.WriteHeader(&h)).To(Succeed())
			_, err := w.Write([]byte(text))
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(w.Close()).To(Succeed())
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		Expect(os.Mkdir(dir, 0o755)).To(Succeed())
		root, err := os.OpenRoot(dir)
		Expect(err).NotTo(HaveOccurred())
		defer root.Close()
		u := &unpacking{release: &release{dir: dir}, root: root, copying: make([]byte, 4096)}
		err = u.all(context.Background(), tar.NewReader(&archive))
		if err == nil {
			err = u.complete()
		}
		entries, readErr := os.ReadDir(parent)
		Expect(readErr).NotTo(HaveOccurred())
		Expect(entries).To(HaveLen(1), "something was written beside the directory")
		return dir, err
	}
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	info := file(top + ".reginfo")

	it("unpacks store and registration of a release, and leaves its scripts", func() {
		dir, err := unpack(file(top+"install"), file(top+"install-multi-user"), info,
			tar.Header{Name: top + "store/", Typeflag: tar.TypeDir},
			tar.Header{Name: top + "store/" + base + "/", Typeflag: tar.TypeDir},
			file(top+"store/"+base+"/bin/x"), link(top+"store/"+base+"/bin/y", "/nix/store/"+base+"/bin/x"),
			tar.Header{Name: top + "store/" + base + "/bin/z", Typeflag: tar.TypeLink,
				Linkname: top + "store/" + base + "/bin/x"})
		Expect(err).NotTo(HaveOccurred())
		entries, err := os.ReadDir(filepath.Join(dir, "store", base, "bin"))
		Expect(err).NotTo(HaveOccurred())
		Expect(entries).To(HaveLen(3))
		Expect(filepath.Join(dir, "install")).NotTo(BeAnExistingFile())
	})

	it("refuses what leads out, what is no part of a release and what is not registered", func() {
		good := file(top + "store/" + base + "/x")
		for problem, headers := range map[string][]tar.Header{
			"leads out of":       {info, file(top + "store/../../../evil")},
			"out of the archive": {info, file("/etc/evil")},
			"one directory":      {info, file("other/store/" + base)},
			"nothing there":      {info, file(top + "lib/x")},
			"escapes":            {info, link(top+"store/"+base, "../.."), file(top + "store/" + base + "/evil")},
			"hash":               {info, file(top + "store/evil")},
			"which is not in":    {info, {Name: top + "store/" + base, Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
			"neither":            {info, {Name: top + "store/" + base, Typeflag: tar.TypeFifo}},
			"file exists":        {info, good, good},
			"not in the archive": {info},
			"not registered":     {info, good, file(top + "store/52pqh1qsvqvhn629j4rqgi8jlp36n8k3-b/x")},
			"no .reginfo":        {good},
			"official layout":    {},
		} {
			_, err := unpack(headers...)
			Expect(err).To(MatchError(ContainSubstring(problem)))
		}
	})
}

func testJournal(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("keeps errors, warnings and what was read, in any pieces, without colours and credentials", func() {
		log := strings.Join([]string{
			`@nix {"action":"msg","level":4,"msg":"evaluating file '/nix/store/m2wvjw2h7w6631q8zbim1cw3y5a52g8p-a/x.nix'"}`,
			`@nix {"action":"msg","level":1,"msg":"\u001b[35;1mwarning:\u001b[0m no 'https://me:pw@example.org/x?token=abc'"}`,
			`@nix {"action":"msg","level":0,"msg":"\u001b[31merror:\u001b[0m no","raw_msg":"\u001b[1mno\u001b[0m",` +
				`"line":null,"file":null}`,
			`@nix {"action":"start","type":108,"fields":["/nix/store/52pqh1qsvqvhn629j4rqgi8jlp36n8k3-b","https://u:p@c"]}`,
			`@nix {"action":"start","type":108,"fields":[1]}`, `@nix {`, `plain`,
		}, "\n")
		for _, size := range []int{1, 7, len(log)} {
			j := newJournal(Settings{}, "testing", nil)
			for i := 0; i < len(log); i += size {
				n, err := j.Write([]byte(log[i:min(len(log), i+size)]))
				Expect(err).NotTo(HaveOccurred())
				Expect(n).To(BeNumerically(">", 0))
			}
			j.flush()
			j.stop()
			Expect(j.errors).To(HaveLen(1))
			Expect(j.errors[0].Raw).To(Equal("no"))
			Expect(j.warnings).To(Equal([]string{"no 'https://example.org/x?token=hidden'"}))
			Expect(j.used).To(HaveLen(2))
			Expect(j.substituted).To(HaveLen(1))
			Expect(j.plain).To(Equal([]string{"@nix {", "plain"}))
		}
	})
}

func testAttrPath(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("splits at dots outside quotes", func() {
		for text, want := range map[string][]string{
			"": {}, "a": {"a"}, "a.b.c": {"a", "b", "c"}, `a."b.c".d`: {"a", "b.c", "d"}, `"a.b"`: {"a.b"},
			"list.1": {"list", "1"}, ".packages.x": {"", "packages", "x"}, `a."".b`: {"a", "", "b"},
		} {
			parts, err := parseAttrPath(text)
			Expect(err).NotTo(HaveOccurred(), text)
			Expect(parts).To(Equal(want), text)
		}
	})

	it("writes a Nix string that means itself", func() {
		Expect(quoteNix("a\"b\\c${d}\r$${e}")).To(Equal(`"a\"b\\c\${d}\r$\${e}"`))
	})
}

func testParsePlan(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("reads of Nix's lists what would be built", func() {
		Expect(parseWouldBuild([]string{
			"this derivation will be built:\n  /nix/store/m2wvjw2h7w6631q8zbim1cw3y5a52g8p-a.drv\n",
			"these 2 paths will be fetched (1.00 MiB download, 2.00 MiB unpacked):",
			"  /nix/store/52pqh1qsvqvhn629j4rqgi8jlp36n8k3-b", "  /nix/store/m2wvjw2h7w6631q8zbim1cw3y5a52g8p-a",
			"don't know how to build these paths:", "  /nix/store/52pqh1qsvqvhn629j4rqgi8jlp36n8k3-c",
			"these derivations will be built:\n  /nix/store/52pqh1qsvqvhn629j4rqgi8jlp36n8k3-d.drv",
		})).To(Equal([]storepath.Path{"/nix/store/m2wvjw2h7w6631q8zbim1cw3y5a52g8p-a.drv",
			"/nix/store/52pqh1qsvqvhn629j4rqgi8jlp36n8k3-d.drv"}))
	})
}
