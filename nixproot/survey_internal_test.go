package nixproot

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/closure/survey"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
)

func testSurveyCommand(t *testing.T, _ spec.G, it spec.S) {
	const path = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app"
	it.Before(func() { RegisterTestingT(t) })

	it("explains itself where it is called wrongly", func() {
		var out bytes.Buffer
		Expect(Survey([]string{"https://cache.example.org"}, strings.NewReader(""), &out, &out)).To(Equal(2))
		Expect(out.String()).To(HavePrefix("survey: it takes a binary cache, and a store path at least\nusage: survey"))
	})

	it("reads store paths from arguments, files and standard input, and says which line is none", func() {
		list := filepath.Join(t.TempDir(), "list")
		Expect(os.WriteFile(list, []byte("# a list\n\n"+path+"\n"), 0o644)).To(Succeed())
		o, err := parseSurvey([]string{"--json", "file:///cache", path, list, "-"}, strings.NewReader(path+"\n"), &bytes.Buffer{}, &bytes.Buffer{})
		Expect(err).NotTo(HaveOccurred())
		Expect(o.roots).To(HaveLen(3))
		_, err = parseSurvey([]string{"http://::1:8080", path}, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
		Expect(err).To(MatchError(ContainSubstring("an IPv6 address stands in brackets")))
		o, err = parseSurvey([]string{"/cache", path, "--json"}, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
		Expect(err).NotTo(HaveOccurred())
		Expect(o.cache).To(Equal("/cache"))
		Expect(o.json).To(BeTrue())
		_, err = parseSurvey([]string{"file:///cache", "-"}, strings.NewReader("glibc\n"), &bytes.Buffer{}, &bytes.Buffer{})
		Expect(err).To(MatchError(ContainSubstring("glibc")))
		_, err = parseSurvey([]string{"file:///cache", path + "/bin/app"}, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
		Expect(err).To(MatchError(ContainSubstring("parsing store path")))
		o, err = parseSurvey([]string{"/cache", path + "/", "-"}, strings.NewReader(path+"/\r\n"), &bytes.Buffer{}, &bytes.Buffer{})
		Expect(err).NotTo(HaveOccurred()) // as a shell completes it
		Expect(o.roots).To(HaveLen(2))
	})

	it("fails in one line where the cache is none", func() {
		var out bytes.Buffer
		Expect(Survey([]string{"file://" + t.TempDir(), path}, strings.NewReader(""), &out, &out)).To(Equal(2))
		Expect(out.String()).To(HavePrefix("survey: "))
	})

	it("says of each closure of a cache whether it relocates, for people and for programs", func() {
		f := imagetest.New(t, launch.EngineRelocate)
		run := func(args ...string) (int, []string) {
			var out bytes.Buffer
			code := Survey(append(args, f.Cache, f.App.String(), f.Lib.String()), strings.NewReader(""), &out, &out)
			return code, strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		}
		code, lines := run("--key", f.Key)
		Expect(code).To(Equal(0), strings.Join(lines, "\n"))
		Expect(lines).To(HaveLen(3))
		Expect(lines[0]).To(MatchRegexp("^relocates  " + f.App.String() + ": 3 paths, .* MB, [1-9][0-9]* references$"))
		Expect(lines[1]).To(HavePrefix("relocates  " + f.Lib.String() + ": 1 path, "))
		Expect(lines[2]).To(HavePrefix("2 closures: 2 relocate, 0 of them with fixups; 0 do not; 0 could not be read. 3 store paths, "))
		code, lines = run("--key", f.Key, "--json")
		Expect(code).To(Equal(0))
		Expect(lines).To(HaveLen(3))
		for _, line := range lines {
			Expect(json.Valid([]byte(line))).To(BeTrue(), line)
		}
		code, lines = run() // signed by no key that is trusted by default
		Expect(code).To(Equal(2))
		Expect(lines[0]).To(HavePrefix("unknown    " + f.App.String() + ": "))
		code, _ = run("--unsigned")
		Expect(code).To(Equal(0))
		code, lines = run("--unsigned", "--layers", "/a/directory/that/is/so/long/that/too/few/characters/of/the/hash/remain")
		Expect(code).To(Equal(2))
		Expect(lines[0]).To(HavePrefix("survey: "))
	})

	it("ends with 1 where a closure does not relocate", func() {
		f := imagetest.New(t, launch.EngineRelocate)
		dir := strings.TrimPrefix(f.Cache, "file://")
		blocked := storepath.Path("/nix/store/11bgd045z0d4icpbc2yyz4gx48ak44la-table")
		var contents bytes.Buffer
		w := nar.NewWriter(&contents)
		hash := f.Lib.HashPart() // apart from its store directory, which nothing can be written to in place
		Expect(w.Entry(&nar.Entry{Kind: nar.Regular, Size: int64(len(hash))})).To(Succeed())
		Expect(io.WriteString(w, hash)).To(Equal(len(hash)))
		Expect(w.Close()).To(Succeed())
		sum := sha256.Sum256(contents.Bytes())
		Expect(os.WriteFile(filepath.Join(dir, "table.nar"), contents.Bytes(), 0o644)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, blocked.HashPart()+".narinfo"), fmt.Appendf(nil,
			"StorePath: %s\nURL: table.nar\nCompression: none\nNarHash: sha256:%s\nNarSize: %d\nReferences: %s\n",
			blocked, storepath.Encode32(sum[:]), contents.Len(), f.Lib.Base()), 0o644)).To(Succeed())
		var out bytes.Buffer
		Expect(Survey([]string{"--unsigned", f.Cache, f.App.String(), blocked.String()}, strings.NewReader(""), &out, &out)).To(Equal(1))
		Expect(out.String()).To(ContainSubstring("BLOCKED    " + blocked.String() + ": 2 paths"))
		Expect(out.String()).To(ContainSubstring("2 closures: 1 relocate, 0 of them with fixups; 1 do not; 0 could not be read."))
	})

	it("names what stands in the way, with nothing that a terminal obeys", func() {
		var out bytes.Buffer
		Expect(surveyText(&out, survey.Closure{Root: path, Paths: 2, Blocking: 1, Harmless: 3, Fixups: map[string]int{"zip": 2},
			Blockers: []closure.Blocker{{Path: path, File: "bin/\x1b[2J", Kind: "data", Detail: "squashfs"}, {Path: path, Kind: "data", Detail: "7z"}}})).To(Succeed())
		Expect(out.String()).To(ContainSubstring(path + ": data: 7z\n"))
		Expect(out.String()).To(ContainSubstring(": 2 paths, 0.0 MB; 1 place in the way, 3 harmless (75 %); fixups: zip 2"))
		Expect(out.String()).To(ContainSubstring(`bin/\x1b[2J: data: squashfs`))
	})
}
