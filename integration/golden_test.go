package integration_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	. "github.com/onsi/gomega"
)

var update = flag.Bool("update", false, "write the logs of builds in testdata/logs as they are now")

// changing is what is another in every build, or on another machine.
var changing = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`/nix/store/[0-9a-z]{32}-`), "/nix/store/<hash>-"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://<cache>"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(ms|s|kB|MB|GB|B|KB|MiB)\b`), "<n> $2"},
	{regexp.MustCompile(`\b\d+ (references|harmless|paths|files|closure layers)\b`), "<n> $1"},
	{regexp.MustCompile(`\bNix \d+\.\d+\.\d+\b`), "Nix <version>"},
}

// golden compares what the buildpack says in a build with what it is to say, which is read by people: each decision once,
// in lines of 80 columns.
func golden(name, log string) {
	_, said, found := strings.Cut(log, "===> BUILDING\n")
	Expect(found).To(BeTrue(), log)
	said, _, found = strings.Cut(said, "===> EXPORTING\n")
	Expect(found).To(BeTrue(), log)
	for line := range strings.Lines(said) {
		line = strings.TrimRight(line, "\n")
		if utf8.RuneCountInString(line) > logWidth && strings.Contains(strings.TrimSpace(line), " ") {
			Expect(line).To(BeEmpty(), "it has more than 80 columns")
		}
	}
	for _, c := range changing {
		said = c.what.ReplaceAllString(said, c.by)
	}
	file := filepath.Join("testdata/logs", name+".txt")
	if *update {
		must(os.MkdirAll(filepath.Dir(file), 0o755))
		must(os.WriteFile(file, []byte(said), 0o644))
	}
	want, err := os.ReadFile(file)
	must(err)
	// Where lines break depends on numbers.
	Expect(strings.Fields(said)).To(Equal(strings.Fields(string(want))),
		"%s\ngo test ./integration -run TestPack/samples -update writes it", said)
}

// logWidth is the most columns that a line has.
const logWidth = 80
