package nixproot

import (
	"crypto/x509"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

var update = flag.Bool("update", false, "write docs/troubleshooting.md")

func TestThePageOfTroublesIsMadeOfTheAdvice(t *testing.T) {
	g := NewWithT(t)
	const file = "../docs/troubleshooting.md"
	page, err := os.ReadFile(file)
	g.Expect(err).NotTo(HaveOccurred())
	beginning, _, found := strings.Cut(string(page), "\n## "+chapters()[0].title+"\n")
	g.Expect(found).To(BeTrue())
	made := troubleshooting(beginning)
	if *update {
		g.Expect(os.WriteFile(file, []byte(made), 0o644)).To(Succeed())
		return
	}
	g.Expect(string(page)).To(Equal(made), "go test ./nixproot -run TestThePageOfTroubles -update writes it")
}

// Every entry is for a case, which is given its steps, or for a kind of finding, of which no other is.
func TestEveryEntryIsGiven(t *testing.T) {
	g := NewWithT(t)
	given := func(entry advice) bool {
		for _, c := range adviceCases() {
			known := entry.err.facts(c.err)
			if known != nil && strings.Contains(explain(c.err).Error(), strings.Join(entry.stepsWith(known), "\n  - ")) {
				return true
			}
		}
		return slices.ContainsFunc(exampleAnswers(), func(a cache.Answer) bool {
			known := entry.connection.facts(a.Err)
			if entry.answer != nil {
				known = entry.answer(a)
			}
			return known != nil && strings.Contains(strings.Join(answerSteps(a), "\n"), strings.Join(entry.stepsWith(known), "\n"))
		})
	}
	kinds := kindsOfFindings(t)
	for _, chapter := range chapters() {
		for _, entry := range chapter.entries {
			if entry.finding == "" {
				g.Expect(given(entry)).To(BeTrue(), "%q is never given", entry.message)
				continue
			}
			g.Expect(kinds).To(HaveKey(string(entry.finding)), "a second time, or of no such kind")
			delete(kinds, string(entry.finding))
		}
	}
	g.Expect(kinds).To(BeEmpty())
}

// kindsOfFindings are those that package roots has. Each is found somewhere.
func kindsOfFindings(t *testing.T) map[string]bool {
	t.Helper()
	g := NewWithT(t)
	var code string
	for _, file := range []string{"finding.go", "whynot.go", "hydrabuild.go", "upload.go", "imported.go"} {
		text, err := os.ReadFile("../roots/" + file)
		g.Expect(err).NotTo(HaveOccurred())
		code += string(text)
	}
	kinds := map[string]bool{}
	for _, found := range regexp.MustCompile(`(\w+)\s+Kind = "([a-z-]+)"`).FindAllStringSubmatch(code, -1) {
		g.Expect(regexp.MustCompile(`\b`+found[1]+`\b`).FindAllString(code, 2)).To(HaveLen(2), "%s is never found", found[1])
		kinds[found[2]] = true
	}
	return kinds
}

// Whoever looks for a message on the page has it from a build: what stands above an entry is said by the code, or by what
// it is made with.
func TestEveryMessageOfThePageIsSaid(t *testing.T) {
	g := NewWithT(t)
	var code strings.Builder
	joined := regexp.MustCompile(`"\s*\+\s*"`)
	g.Expect(filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (name == "../integration" || name == "../.git") {
			return fs.SkipDir
		}
		if ext := filepath.Ext(name); ext != ".go" && ext != ".nix" || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "../nixproot/advice") {
			return nil
		}
		text, err := os.ReadFile(name)
		code.WriteString(joined.ReplaceAllString(string(text), ""))
		return err
	})).To(Succeed())
	for _, status := range []int{401, 403, 407} {
		fmt.Fprintf(&code, "%d %s\n", status, http.StatusText(status))
	}
	name := x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a"}}, Host: "b"}
	for _, err := range []error{x509.UnknownAuthorityError{}, x509.CertificateInvalidError{Reason: x509.Expired}, name} {
		code.WriteString(err.Error() + "\n")
	}
	fmt.Fprintf(&code, "%s\n%s\n", &net.OpError{Op: "proxyconnect", Net: "tcp", Err: syscall.ECONNREFUSED}, &net.DNSError{Err: "no such host"})
	fmt.Fprintln(&code, "was not found in the Nix search path; experimental Nix feature 'x' is disabled") // as Nix says
	fmt.Fprintln(&code, syscall.ENOSPC, syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.EINVAL)
	// As the code has what an example stands for in a message, and what the page adds.
	example := strings.NewReplacer("x86_64-linux", "%s", "aarch64-linux", "%s", "4095", "%d", "not in git", "", "no such project", "no such %s", "no such jobset", "no such %s",
		"SignatureDoesNotMatch", "", "InvalidToken and others", "", "AccessDenied", "", "NoSuchBucket", "",
		", of a cache at localhost", "", ", of a link-local address (fe80::…) without its zone", "", ", of a path below /nix/store that a flake fetches", "", "the same, of a path that nixpkgs builds unchanged", "")
	var messages []string
	for _, chapter := range chapters() {
		for _, entry := range chapter.entries {
			if !strings.HasPrefix(entry.message, "the caches have …") { // which is said by its step
				messages = append(messages, regexp.MustCompile(` \(.*\)$`).ReplaceAllString(example.Replace(entry.message), ""))
			}
		}
	}
	for _, row := range slices.Concat(warnings(), selfExplaining(), atStart()) {
		messages = append(messages, row.message)
	}
	pieces := 0
	for _, message := range messages {
		for _, piece := range regexp.MustCompile(`…|, |; |: |finding |parsing `).Split(message, -1) {
			if piece = strings.Trim(piece, " .,"); len(piece) > 6 {
				pieces++
				g.Expect(strings.Contains(code.String(), piece)).To(BeTrue(), "nothing says %q, which %q has", piece, message)
			}
		}
	}
	g.Expect(pieces).To(BeNumerically(">", 120))
}

func TestAJobForAnotherSystemHasItsAdvice(t *testing.T) {
	const arm, intel = "aarch64-linux", "x86_64-linux"
	name := func(job, system string) []string {
		return []string{"where Hydra has a job of that name for " + system + ", name it: BP_NIX_HYDRA_JOB=<project>/<jobset>/" + job + "; or",
			"add " + system + " to the jobset, and a build machine for it to Hydra"}
	}
	add := func(system, platform string) []string {
		line := "add " + system + " to the jobset: to supportedSystems in release.nix, or as hydraJobs.<job>." + system +
			" in flake.nix, and a build machine for it to Hydra"
		if platform == "" {
			return []string{line}
		}
		return []string{line + "; or", "build the image for " + platform}
	}
	for _, c := range []struct {
		job, system string
		have        []string
		want        []string
	}{
		{"packages.x86_64-linux.app", arm, []string{intel}, name("packages.aarch64-linux.app", arm)},
		{"app.aarch64-linux", intel, []string{arm}, name("app.x86_64-linux", intel)},
		{"aarch64-darwin.app", intel, []string{"aarch64-darwin"}, name("x86_64-linux.app", intel)},
		{"x86_64-linux", arm, []string{intel}, name("aarch64-linux", arm)},
		{"app", arm, []string{intel}, add(arm, "linux/amd64")},               // a jobset that has app.x86_64-linux only
		{"app.aarch64-linux", arm, []string{intel}, add(arm, "linux/amd64")}, // of the same, by the name that it should have
		{"app", intel, []string{arm}, add(intel, "linux/arm64")},
		{"app", arm, []string{"aarch64-darwin"}, add(arm, "")}, // of which there are no images
		{"app", arm, []string{"aarch64-darwin", intel}, add(arm, "linux/amd64")},
		{"app", "riscv64-linux", []string{arm}, add("riscv64-linux", "linux/arm64")},
		{"x86_64-linux-tools.app", arm, []string{intel}, add(arm, "linux/amd64")},
		{"", arm, []string{intel}, add(arm, "linux/amd64")}, // all of a jobset
	} {
		var steps []string
		for _, line := range stepsFor(fmt.Errorf("a step: %w", &hydra.SystemError{Job: c.job, System: c.system, Have: c.have})) {
			steps = append(steps, strings.ReplaceAll(line, "\n", " "))
		}
		NewWithT(t).Expect(steps).To(Equal(c.want), "%s for %s", c.job, c.system)
	}
}

// troubleshooting is the page of all entries, below what it begins with.
func troubleshooting(beginning string) string {
	var page strings.Builder
	page.WriteString(beginning)
	for _, chapter := range chapters() {
		fmt.Fprintf(&page, "\n## %s\n", chapter.title)
		if chapter.rows != nil {
			fmt.Fprintf(&page, "%s\n\n| %s | it means |\n|---|---|\n", chapter.intro, chapter.says)
		}
		for _, row := range chapter.rows {
			fmt.Fprintf(&page, "| %s | %s |\n", row.message, row.meaning)
		}
		for _, entry := range chapter.entries {
			fmt.Fprintf(&page, "\n### %s\n%s\n\n", entry.message, entry.cause)
			for _, step := range entry.stepsWith(nil) {
				// A word in angle brackets would be taken for a tag.
				fmt.Fprintf(&page, "- %s\n", strings.NewReplacer("\n", "\n  ", "<", `\<`).Replace(step))
			}
		}
	}
	return page.String()
}
