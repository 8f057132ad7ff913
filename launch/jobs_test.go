package launch_test

import (
	"bufio"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestJobs(t *testing.T) {
	spec.Run(t, "jobs and traps", testJobs, spec.Report(report.Terminal{}))
}

func testJobs(t *testing.T, context spec.G, it spec.S) {
	var img *image
	it.Before(func() {
		RegisterTestingT(t)
		img = newImage(t, true)
		img.env = []string{"PATH=/nowhere", "F=" + filepath.Join(img.dir, "file")} // no shell, no sleep
	})

	it("waits for the next job that ends, with its status", func() {
		for line, want := range map[string]result{
			`app sleep 1000 & app exit 7 & wait -n`:                                  {code: 7},
			`app exit 3 & wait -n; echo $?; wait -n; echo $?`:                        {out: "3\n127\n"},
			`{ app exit 1; exit 4; } & wait -n`:                                      {code: 4},
			`(app exit 1; app exit 8) & wait -n`:                                     {code: 8},
			`app exit 0 | app exit 9 & wait -n`:                                      {code: 9},
			`set -e; app exit 5 & wait -n; app echo never`:                           {code: 5},
			`app exit 1 & app exit 2 & wait; echo $?`:                                {out: "0\n"},
			`for i in 1 2; do app exit 2 & done; wait -n; wait -n; wait -n; echo $?`: {out: "127\n"},
			`f() { app exit 6 & wait -n; }; f`:                                       {code: 6},
			`f() { app exit 6 & wait; echo in; }; f & wait -n`:                       {out: "in\n"},
			`app echo x > $F & wait -n; app upper < $F`:                              {out: "X\n"},
			`nosuch & wait -n`:                                                       {code: 127},
			`app die 9 & wait -n`:                                                    {code: 137},
			`(app exit 3 & wait)`:                                                    {},
		} {
			r := run(img.process(line))
			Expect(r.out).To(Equal(want.out), line)
			Expect(r.code).To(Equal(want.code), line)
		}
	})

	it("runs a trap's action once the signal has ended the programs", func() {
		for line, want := range map[string]result{
			`trap 'echo bye' TERM INT; app serve 5`:                               {code: 5, out: "bye"},
			`trap 'echo bye' 15; app serve 5; echo after`:                         {out: "bye after"},
			`trap 'exit 9' SIGTERM; while :; do app serve 5; done`:                {code: 9},
			`trap 'exit 9' TERM; echo ready; while :; do sleep infinity; done`:    {code: 9},
			`trap 'exit 9' TERM; echo ready; while :; do :; done`:                 {code: 9},
			`trap 'echo bye; exit 4' TERM; app drain 0.2 0 & wait; echo never`:    {code: 4, out: "bye drained after 1"},
			`trap 'echo bye; exit 4' TERM; app drain 0.2 0 & wait -n; echo never`: {code: 4, out: "bye drained after 1"},
			`trap 'app echo bye' EXIT; app serve 5; echo never`:                   {code: 5, out: "bye"},
			`trap 'echo no' TERM; trap - TERM; app serve 5; echo never`:           {code: 5},
			`f() { app serve 5; echo never; }; trap 'echo bye; exit 6' TERM; f`:   {code: 6, out: "bye"},
			`trap 'echo "bye  *"; exit 6' TERM; app serve 5; [ "a  b" = x ] || :`: {code: 6, out: "bye  *"},
			`trap : EXIT; echo ready; read x`:                                     {code: 143},
		} {
			cmd := img.process(line)
			in, err := cmd.StdinPipe()
			Expect(err).NotTo(HaveOccurred())
			out, err := cmd.StdoutPipe()
			Expect(err).NotTo(HaveOccurred())
			Expect(cmd.Start()).To(Succeed())
			lines := bufio.NewScanner(out)
			until(lines, "ready")
			Expect(cmd.Process.Signal(syscall.SIGTERM)).To(Succeed())
			var said []string
			for lines.Scan() {
				if lines.Text() != "ending by 15" {
					said = append(said, lines.Text())
				}
			}
			_ = cmd.Wait()
			_ = in.Close()
			Expect(strings.Join(said, " ")).To(Equal(want.out), line)
			Expect(cmd.ProcessState.ExitCode()).To(Equal(want.code), line)
		}
	})
}
