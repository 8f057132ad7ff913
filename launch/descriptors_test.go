package launch_test

import (
	"os"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestDescriptors(t *testing.T) {
	spec.Run(t, "descriptors", func(t *testing.T, _ spec.G, it spec.S) {
		it("are not lost where programs are started side by side", func() {
			RegisterTestingT(t)
			startMany(newImage(t, true))
		})
	}, spec.Report(report.Terminal{}))
}

// startMany starts lines of several programs hundreds of times side by side, some with descriptors that a child
// inherits, and wants all of them right.
func startMany(img *image) {
	lines := map[string]string{
		`true && app show | grep -c HOME`:                                             "1\n",
		`/bin/true && env | grep HOME`:                                                "HOME=/tmp\n",
		`x=$(env | grep HOME | head -c4); echo $x`:                                    "HOME\n",
		`app echo a | app upper && app echo b | app upper`:                            "A\nB\n",
		`echo "$(app echo x | app upper)$(app echo y | cat)" 2>&1`:                    "Xy\n",
		`app echo one & app exit 0; wait`:                                             "one\n",
		`run_proot.sh app echo a && run_proot.sh app echo $(run_proot.sh app echo b)`: "a\nb\n",
	}
	null, err := os.Open(os.DevNull)
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = null.Close() }()
	type start struct{ line, want string }
	starts := make(chan start)
	var (
		waiting sync.WaitGroup
		mu      sync.Mutex
		wrong   []result
	)
	for worker := range 4 {
		waiting.Go(func() {
			for s := range starts {
				cmd := img.process(s.line)
				for range worker * 3 {
					cmd.ExtraFiles = append(cmd.ExtraFiles, null)
				}
				if r := run(cmd); r.code != 0 || r.out != s.want || r.err != "" {
					r.err = s.line + ": " + r.err
					mu.Lock()
					wrong = append(wrong, r)
					mu.Unlock()
				}
			}
		})
	}
	for range 50 {
		for line, want := range lines {
			starts <- start{line, want}
		}
	}
	close(starts)
	waiting.Wait()
	Expect(wrong).To(BeEmpty())
}
