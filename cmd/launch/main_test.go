package main

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// The main goroutine runs TestMain as it runs main.
func TestMain(m *testing.M) {
	for range 4 * runtime.GOMAXPROCS(0) {
		go func() {
			for {
				runtime.Gosched()
			}
		}()
	}
	for range 20 {
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 2e6}, nil) // a system call so long that the scheduler gives its place away
		elsewhere = elsewhere || unix.Gettid() != os.Getpid()
	}
	os.Exit(m.Run())
}

var elsewhere bool

func TestMainStaysOnTheFirstThread(t *testing.T) {
	if elsewhere {
		t.Error("the main goroutine ran on another thread than the process's first, where PRoot crashes an exec")
	}
}
