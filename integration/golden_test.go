package integration_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration"
)

var update = flag.Bool("update", false, "write the logs of builds in testdata/logs as they are now")

// changing is what is another in every build, or on another machine.
var changing = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`(?m)^ *(Fetching: .*|.* so far(, at .*)?)\n`), ""}, // progress, where it takes long
	{regexp.MustCompile(`/nix/store/[0-9a-z]{32}-`), "/nix/store/<hash>-"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://<cache>"},
	{regexp.MustCompile(`\b(\d+m)?\d+(\.\d+)? ?(ms|s)\b`), "<n> s"}, // as long as it takes
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(kB|MB|GB|B)\b`), "<n> B"},
	{regexp.MustCompile(`\b\d+ (references|paths|store paths|narinfos|files)\b`), "<n> $1"},
	{regexp.MustCompile(`\b[1-9]\d* of \d+ changed\b`), "<n> of <n> changed"},
	{regexp.MustCompile(`\b(Nix|Nix Hydra Buildpack) \d+\.\d+\.\d+\b`), "$1 <version>"},
}

// unchanging is a log without what changes, a line for each that the buildpack meant.
func unchanging(log string) []string {
	log = integration.Unfolded(log)
	for _, c := range changing {
		log = c.what.ReplaceAllString(log, c.by)
	}
	return strings.Split(log, "\n")
}

// A build on a busy machine says how far it is more often, and other figures.
func TestLogsOfBusyMachinesAreTheSame(t *testing.T) {
	RegisterTestingT(t)
	const idle = `    Evaluated deploy.nix in a source named "source"; the caches have what it
        gives
    Fetched 16 paths, 99.4 MB unpacked, in 220ms (31.6 MB/s)
    Closure layers: 16 of 16 changed
`
	const busy = `    Evaluating deploy.nix: 10s so far, at
        /nix/store/1snh9dfazhwid94xwc4g9a6b2vhaslsg-source/steps.nix
    Evaluated deploy.nix in a source named "source"; the caches have what it
        gives
    Fetching: 9 of at least 16 paths, 999.9 MB of at least 999.9 MB, 368.6 kB/s,
        1m22s left
    Fetched 16 paths, 99.4 MB unpacked, in 1m41.02s (983.7 kB/s)
    Collecting what the evaluation does not use any more: 5s so far
    Closure layers: 16 of 16 changed
`
	Expect(unchanging(busy)).To(Equal(unchanging(idle)))
	Expect(unchanging(strings.Replace(idle, "16 of", "0 of", 1))).NotTo(Equal(unchanging(idle)))
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
