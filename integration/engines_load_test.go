package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// busyApp starts programs without end, of which some leave a child behind that is nobody's, and some die of a signal; it
// says where one did not end as it should, takes SIGWINCH, which goes to all of its group and ends none, for a word, and ends
// with 9 upon SIGTERM.
const busyApp = `bash -c '
exec 2>/dev/null
trap "echo stopped; exit 9" TERM
trap "echo heard" WINCH
right=0
echo ready
while :; do
  for code in 0 3 77; do
    bash -c "(sleep 0.05 &) ; exit $code"
    test $? = $code || echo "lost $code"
  done
  bash -c "kill -KILL \$\$" 2>/dev/null
  test $? = 137 || echo "lost 137"
  bash -c "sleep 0.02 & exit 5" | cat
  right=$((right + 1))
  test $((right % 20)) != 0 || echo "rounds $right"
done'`

// TestEnginesUnderLoad keeps an image under each engine busy, with signals and restarts in between: no process stays a
// zombie, nothing grows, and no exit status is lost. It takes as many seconds for each as $ENGINES_TEST_LOAD_SECONDS says,
// which scripts/soak sets.
func TestEnginesUnderLoad(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv("ENGINES_TEST_LOAD_SECONDS"))
	if err != nil {
		untested.Skip(t, "engines under load: scripts/soak engines does it")
	}
	w := newEngineWorld(t)
	for _, r := range w.everyEngine() {
		if r.engine == launch.EngineUserns && !usernsTested(t) {
			continue
		}
		t.Run(r.engine, func(t *testing.T) {
			RegisterTestingT(t)
			w.load(t, r, time.Duration(seconds)*time.Second)
		})
	}
}

func (w *engineWorld) load(t *testing.T, r running, length time.Duration) {
	launcher := filepath.Join(r.Layers(), "launcher/bin", launch.ProcessProgramName)
	container, err := w.rig.Start(w.ctx, r.image, r.options(r.host, launcher, "--process", busyApp))
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(container.Remove(w.ctx)).To(Succeed()) }()
	logs := func() string {
		text, _ := container.Logs(w.ctx)
		return text
	}
	dice := rand.New(rand.NewPCG(1, 1))
	var restarts, signals, most int
	var resident []int
	zombies := map[string]int{} // how often in a row one was seen
	for end := time.Now().Add(length); time.Now().Before(end); {
		starts := strings.Count(logs(), "ready")
		Eventually(func() int { return strings.Count(logs(), "ready") }, "60s", "50ms").Should(BeNumerically(">=", max(1, starts)))
		for range 5 + dice.IntN(10) {
			time.Sleep(time.Duration(50+dice.IntN(200)) * time.Millisecond)
			docker(w.ctx, "kill", "--signal", "WINCH", container.ID)
			signals++
			processes, memory := top(w.ctx, container, zombies)
			most = max(most, processes)
			resident = append(resident, memory)
		}
		heard := strings.Count(logs(), "heard")
		docker(w.ctx, "kill", "--signal", "WINCH", container.ID)
		Eventually(func() int { return strings.Count(logs(), "heard") }, "30s", "50ms").Should(BeNumerically(">", heard), "a signal is lost")
		code, took, err := container.Stop(w.ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(code).To(Equal(9), "docker stop took %v: %s", took, tail(logs()))
		restarts++
		ready := strings.Count(logs(), "ready")
		docker(w.ctx, "start", container.ID)
		Eventually(func() int { return strings.Count(logs(), "ready") }, "60s", "50ms").Should(BeNumerically(">", ready))
	}
	said := logs()
	rounds := strings.Count(said, "rounds")
	quarter := len(resident) / 4
	early, late := slices.Max(resident[:max(1, quarter)]), slices.Max(resident[len(resident)-max(1, quarter):])
	t.Logf("%s: %v, %d restarts, %d signals, %d times 20 rounds of 5 programs, at most %d processes, %d MiB resident early, %d late",
		r.engine, length, restarts, signals, rounds, most, early>>10, late>>10)
	Expect(said).NotTo(ContainSubstring("lost"), "exit statuses are lost")
	Expect(slices.Max(append(valuesOf(zombies), 0))).To(BeNumerically("<", 5), "zombies stay: %v", zombies)
	Expect(most).To(BeNumerically("<", 60))
	Expect(late).To(BeNumerically("<", 2*early+(32<<10)), "memory grows")
}

// top counts a container's processes and their resident memory in KiB, and how often in a row each zombie was seen.
func top(ctx context.Context, c *rig.Container, zombies map[string]int) (processes, resident int) {
	out := docker(ctx, "top", c.ID, "-eo", "pid,stat,rss")
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		processes++
		kib, _ := strconv.Atoi(fields[2])
		resident += kib
		if strings.HasPrefix(fields[1], "Z") {
			seen[fields[0]] = true
			zombies[fields[0]]++
		}
	}
	for pid := range zombies {
		if !seen[pid] && zombies[pid] < 5 {
			delete(zombies, pid)
		}
	}
	return processes, resident
}

func docker(ctx context.Context, args ...string) string {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%v: %s", args, out)
	return string(out)
}

func valuesOf(counts map[string]int) []int {
	var all []int
	for _, n := range counts {
		all = append(all, n)
	}
	return all
}

func tail(text string) string { return fmt.Sprintf("…%s", text[max(0, len(text)-500):]) }
