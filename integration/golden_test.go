package integration_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration"
)

var update = flag.Bool("update", false, "write the logs of builds in testdata/logs as they are now")

// changing is what is another in every build, or on another machine.
var changing = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`(?m)^ *Fetching: .*\n`), ""}, // progress
	{regexp.MustCompile(`/nix/store/[0-9a-z]{32}-`), "/nix/store/<hash>-"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://<cache>"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(ms|s)\b`), "<n> s"}, // as long as it takes
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(kB|MB|GB|B|KB|MiB)\b`), "<n> $2"},
	{regexp.MustCompile(`\b\d+ (references|harmless|paths|files|closure layers)\b`), "<n> $1"},
	{regexp.MustCompile(`\bNix \d+\.\d+\.\d+\b`), "Nix <version>"},
}

// golden compares what the buildpack says in a build with what it is to say, which is read by people: each decision once.
func (p *platform) golden(name, log string) {
	Expect(integration.TooWide(building(p.said))).To(BeEmpty())
	said := building(log)
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
	// What is on which line depends on numbers.
	Expect(strings.Fields(said)).To(Equal(strings.Fields(string(want))), "%s\ngo test ./integration -run TestPack/samples -update writes it", said)
}

// building is what the buildpack says in a build.
func building(log string) string {
	_, said, found := strings.Cut(log, "===> BUILDING\n")
	Expect(found).To(BeTrue(), log)
	said, _, found = strings.Cut(said, "===> EXPORTING\n")
	Expect(found).To(BeTrue(), log)
	return said
}
