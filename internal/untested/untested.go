// Package untested has tests say what they leave out. go test shows nothing of a package that passes, neither what its tests
// print nor that they were skipped, so a machine without a program would look as if everything had been tested.
package untested

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// said are the lines that this process has said.
var said sync.Map

// Say says, once in a process, what is not tested and why, on the standard error of whoever runs the tests: the go command's,
// which goes to the terminal, and else this process's own.
func Say(format string, args ...any) {
	line := "*** NOT TESTED: " + fmt.Sprintf(format, args...) + " ***"
	if _, before := said.LoadOrStore(line, true); before {
		return
	}
	runner, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/2", os.Getppid()), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, line)
		return
	}
	fmt.Fprintln(runner, line)
	_ = runner.Close()
}

// Skip skips a test and says so.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...)
	Say("%s: %s", t.Name(), why)
	t.Skip("NOT TESTED: " + why)
}
