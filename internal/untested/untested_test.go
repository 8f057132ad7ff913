package untested_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// asked has TestSkipped be one that cannot run.
const asked = "UNTESTED_TEST_SKIP"

func TestSkipped(t *testing.T) {
	if os.Getenv(asked) != "" {
		untested.Say("all of it on Sundays")
		untested.Skip(t, "there is no %s here", "moon")
	}
}

func TestSkippedTestsAreSeenThroughGoTestOnce(t *testing.T) {
	RegisterTestingT(t)
	seen := filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(seen)
	Expect(err).NotTo(HaveOccurred())
	command := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-run", "^TestSkipped$", ".", "./")
	command.Env, command.Stderr = append(os.Environ(), asked+"=1"), stderr
	out, err := command.Output()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
	Expect(stderr.Close()).To(Succeed())
	text, err := os.ReadFile(seen)
	Expect(err).NotTo(HaveOccurred())
	Expect(strings.Split(strings.TrimSpace(string(text)), "\n")).To(Equal([]string{
		"*** NOT TESTED: all of it on Sundays ***", "*** NOT TESTED: TestSkipped: there is no moon here ***",
	}))
}
