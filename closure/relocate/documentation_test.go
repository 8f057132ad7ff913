package relocate_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

var (
	// formatLiteral is a format in this package's source: its name, a literal or a constant, and what is done about it.
	formatLiteral = regexp.MustCompile(`\bformat\{name: ("[^"]*"|\w+)[^,}]*((?:, \w+: [^,}]+)*)\}`)
	lookedInto    = regexp.MustCompile(`\b(look|kind|fix): `)
	textConstant  = regexp.MustCompile(`(?m)^\s*(?:const )?(\w+)\s*= "(.*)"`)
)

// TestEveryFormatHasARowInThePage finds the formats in this package's source, so that none is missed on the page: what a
// message calls a format is what a reader looks for there.
func TestEveryFormatHasARowInThePage(t *testing.T) {
	g := NewWithT(t)
	page, err := os.ReadFile("../../docs/relocation.md")
	g.Expect(err).NotTo(HaveOccurred())
	rows := strings.Join(regexp.MustCompile(`(?m)^\|.*`).FindAllString(string(page), -1), "\n")
	files, err := filepath.Glob("*.go")
	g.Expect(err).NotTo(HaveOccurred())
	var source strings.Builder
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			text, err := os.ReadFile(file)
			g.Expect(err).NotTo(HaveOccurred())
			source.Write(text)
		}
	}
	constants := map[string]string{}
	for _, found := range textConstant.FindAllStringSubmatch(source.String(), -1) {
		constants[found[1]] = found[2]
	}
	literals := formatLiteral.FindAllStringSubmatch(source.String(), -1)
	g.Expect(literals).To(HaveLen(strings.Count(source.String(), "format{name:")))
	var without []string
	for _, found := range literals {
		name := strings.Trim(found[1], `"`)
		if constant, ok := constants[found[1]]; ok {
			name = constant
		}
		name, _, _ = strings.Cut(name, " (") // what follows is a version, or another word for it
		inRows := regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(name) + `s?\b`)
		if lookedInto.MatchString(found[2]) && !inRows.MatchString(rows) {
			without = append(without, name)
		}
	}
	g.Expect(without).To(BeEmpty(), "formats without a row in docs/relocation.md")
}
