// Package busy lets tests' limits of time follow what else the machine does, so that one fails for what the code does only.
package busy

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

// Limit is how long something may take here and now that takes less than d on an idle machine. Of n that want c processors each
// gets c/n of one; how many there are is the load average of the last minute, proc_loadavg(5).
func Limit(d time.Duration) time.Duration {
	averages, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return d
	}
	return stretched(d, string(averages), runtime.NumCPU())
}

func stretched(d time.Duration, averages string, processors int) time.Duration {
	var load float64
	if _, err := fmt.Sscan(averages, &load); err != nil {
		return d
	}
	return time.Duration(float64(d) * (1 + load/float64(processors)))
}
