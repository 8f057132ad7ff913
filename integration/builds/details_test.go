package builds_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// TestADebugLogSaysOfEachStorePathWhereItIsFrom goes through what docs/troubleshooting.md says that BP_LOG_LEVEL=debug
// adds to a log.
func TestADebugLogSaysOfEachStorePathWhereItIsFrom(t *testing.T) {
	RegisterTestingT(t)
	s := newShelf(t)
	p := newPlatform(t, s, "")
	first, second := s.app(1, 3, 4000), s.app(2, 3, 4000)
	cache := "file://" + s.dir

	plain := p.try(first)
	Expect(plain.Status).To(BeZero(), plain.Log)
	Expect(plain.Log).NotTo(ContainSubstring("Asking "))
	Expect(plain.Log).NotTo(ContainSubstring("Layer closure-"))
	Expect(plain.Log).NotTo(ContainSubstring("Platform Environment"))

	image := p.contents()
	Expect(p.NewImage()).To(Succeed())
	told := p.try(first, "BP_LOG_LEVEL", "debug").Log
	Expect(p.contents() == image).To(BeTrue(), "the image is the same")
	for _, what := range []string{
		"Asking " + cache + " for store paths signed by shelf-1\n",
		first.String() + " 744 B, from " + cache + ", signed by shelf-1\n",
		// What the libraries add.
		"Application contents:\n.\nProcfile\n", "Platform Bindings: []", "BP_NIX_STORE_PATH:" + first.String(), "Writing layer metadata: ",
	} {
		Expect(told).To(ContainSubstring(what))
	}
	Expect(strings.Count(told, "Layer closure-")).To(Equal(4))
	Expect(strings.Count(told, ", new: 1 path\n")).To(Equal(4))
	Expect(strings.Count(told, "from "+cache+", signed by shelf-1\n")).To(Equal(4))

	told = p.try(second, "BP_LOG_LEVEL", "debug").Log
	Expect(strings.Count(told, ", kept: 1 path\n")).To(Equal(1), told)
	Expect(strings.Count(told, ", known from the last build, signed by shelf-1\n")).To(Equal(1), told)
	Expect(strings.Count(told, ", new: 1 path\n")).To(Equal(3), told)

	told = p.try(first, "BP_LOG_LEVEL", "debug", "BP_NIX_REQUIRE_SIGS", "false", "BP_NIX_TRUSTED_PUBLIC_KEYS", "").Log
	Expect(told).To(ContainSubstring("Asking " + cache + " for store paths signed or not\n"))
	Expect(told).To(ContainSubstring(first.String() + " 744 B, from " + cache + ", unsigned\n"))
}

// TestALogLevelThatDoesNothingIsNamed goes by libpak, which takes debug in any letters and passes over all else.
func TestALogLevelThatDoesNothingIsNamed(t *testing.T) {
	RegisterTestingT(t)
	s := newShelf(t)
	p := newPlatform(t, s, "")
	app := s.app(1, 1, 4000)
	for level, warned := range map[string]bool{"verbose": true, "trace": true, "debug ": true, "info": false, "INFO": false, "Debug": false} {
		built := p.try(app, "BP_LOG_LEVEL", level)
		Expect(built.Status).To(BeZero(), built.Log)
		const takes = " and takes info or debug: the log is that of info\n"
		Expect(strings.Contains(built.Log, `Warning: BP_LOG_LEVEL is "`+level+`"`+takes)).To(Equal(warned), "%s: %s", level, built.Log)
	}
}

// TestALongLineOfAProcfileIsCutInTheLogAlone builds with a program's name and with arguments that are as long as Linux takes.
func TestALongLineOfAProcfileIsCutInTheLogAlone(t *testing.T) {
	RegisterTestingT(t)
	s := newShelf(t)
	p := newPlatform(t, s, "")
	app := s.app(1, 1, 4000)
	long := strings.Repeat("x", 130000)
	Expect(os.WriteFile(filepath.Join(p.app, "Procfile"), []byte("web: app "+long+"\nother: "+long+"\n"), 0o644)).To(Succeed())
	built := p.try(app)
	Expect(built.Status).To(BeZero(), built.Log)
	Expect(len(built.Log)).To(BeNumerically("<", 4000))
	processes, err := p.Processes()
	Expect(err).NotTo(HaveOccurred())
	Expect(processes["web"]).To(HaveExactElements(HaveSuffix("nix-hydra-launch"), "--process", "app "+long))
}
