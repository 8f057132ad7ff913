package nixproot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/internal/processgroup"
)

// endGrace is how long processes may go on after they were sent a signal to end, or after the one that started them has ended
// while they still write.
const endGrace = 2 * time.Second

// interruptGrace is how long a command may take to end once it was interrupted: a build ends within a second of SIGTERM.
const interruptGrace = 700 * time.Millisecond

// runToEnd runs a command in a process group of its own, which its cancellation interrupts, and ends whatever it leaves
// behind, in whatever group or session that is. It returns the names of what it ended. Nothing else that this process
// has started may be running.
func runToEnd(command *exec.Cmd) (left []string, err error) {
	// Processes whose parent has ended become children of this one, and so can be found.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	err = processgroup.Run(command, unix.SIGINT, interruptGrace, endGrace)
	left = endChildren()
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	return left, err
}

// endChildren kills all children of this process, and those that become its children by that, and returns the names
// of those that were running.
func endChildren() (names []string) {
	for {
		found := children()
		if len(found) == 0 {
			return names
		}
		for _, child := range found {
			if child.running {
				names = append(names, child.name)
			}
			_ = unix.Kill(child.pid, unix.SIGKILL)
			for {
				if _, err := unix.Wait4(child.pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
					break
				}
			}
		}
	}
}

// child is a process that this one is the parent of.
type child struct {
	pid     int
	name    string
	running bool
}

// children are found in /proc, as proc_pid_stat(5) describes it.
func children() (found []child) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent …, where the name may hold anything.
		first, last := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		if first < 0 || last < first {
			continue
		}
		fields := strings.Fields(string(text[last+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text[:first])))
		if err == nil {
			found = append(found, child{pid: pid, name: string(text[first+1 : last]), running: fields[0] != "Z"})
		}
	}
	return found
}
