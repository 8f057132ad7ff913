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
	{regexp.MustCompile(`(?m)^ *(Fetching: |Evaluating .* so far).*\n`), ""}, // progress, where it takes long
	{regexp.MustCompile(`/nix/store/[0-9a-z]{32}-`), "/nix/store/<hash>-"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://<cache>"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(ms|s)\b`), "<n> s"}, // as long as it takes
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(kB|MB|GB|B|KB|MiB)\b`), "<n> $2"},
	{regexp.MustCompile(`\b\d+ (references|paths|store paths|narinfos|files)\b`), "<n> $1"},
	{regexp.MustCompile(`\b[1-9]\d* of \d+ changed\b`), "<n> of <n> changed"},
	{regexp.MustCompile(`\bNix \d+\.\d+\.\d+\b`), "Nix <version>"},
}

// unchanging is a log without what changes, a line for each that the buildpack meant.
func unchanging(log string) []string {
	log = integration.Unfolded(log)
	for _, c := range changing {
		log = c.what.ReplaceAllString(log, c.by)
	}
	return strings.Split(log, "\n")
}

// golden compares what the buildpack said in the last build with what it is to say, which is read by people: each decision
// once, in lines that fit. The file is a log as a build wrote it.
func (p *platform) golden(name string) {
	said := building(p.said)
	Expect(integration.TooWide(said)).To(BeEmpty())
	file := filepath.Join("testdata/logs", name+".txt")
	if *update {
		must(os.MkdirAll(filepath.Dir(file), 0o755))
		must(os.WriteFile(file, []byte(said), 0o644))
	}
	want, err := os.ReadFile(file)
	must(err)
	Expect(unchanging(said)).To(Equal(unchanging(string(want))), "%s\ngo test ./integration -run TestPack/samples -update writes it", said)
}

// building is what the buildpack says in a build, without what the lifecycle says before.
func building(log string) string {
	_, said, found := strings.Cut(log, "===> BUILDING\n")
	Expect(found).To(BeTrue(), log)
	said, _, found = strings.Cut(said, "===> EXPORTING\n")
	Expect(found).To(BeTrue(), log)
	_, said, found = strings.Cut(said, "\nNix Hydra Buildpack ")
	Expect(found).To(BeTrue(), log)
	return "Nix Hydra Buildpack " + said
}
