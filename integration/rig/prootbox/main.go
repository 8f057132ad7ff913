// Command prootbox is a static program around Debian's PRoot, for tests that cannot download the real static one: a ZIP
// archive with PRoot, its loader and its libraries follows the program's own bytes. They are put into memory and
// started there, so that nothing is needed of the machine, not even a place for files.
package main

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func main() {
	// What the launcher asked for, to be killed with it, is the first thread's: another one's exec would lose it.
	runtime.LockOSThread()
	fmt.Fprintln(os.Stderr, "prootbox:", run())
	os.Exit(126)
}

func run() error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	info, err := self.Stat()
	if err != nil {
		return err
	}
	archive, err := zip.NewReader(self, info.Size())
	if err != nil {
		return fmt.Errorf("reading own archive: %w", err)
	}
	places := map[string]string{}
	preload := ""
	for _, file := range archive.File {
		place, err := inMemory(file)
		if err != nil {
			return fmt.Errorf("loading %s: %w", file.Name, err)
		}
		places[file.Name] = place
		if file.Name != "loader" && file.Name != "proot" {
			if preload != "" {
				preload += ":"
			}
			preload += place
		}
	}
	args := []string{"proot", "--inhibit-cache", "--preload", preload, "--argv0", "proot", places["proot"]}
	return fmt.Errorf("starting proot: %w", unix.Exec(places["loader"], append(args, os.Args[1:]...), os.Environ()))
}

// inMemory copies a file of the archive to memory and gives the path it has there.
func inMemory(file *zip.File) (string, error) {
	contents, err := file.Open()
	if err != nil {
		return "", err
	}
	descriptor, err := unix.MemfdCreate(file.Name, 0)
	if err != nil {
		return "", err
	}
	memory := os.NewFile(uintptr(descriptor), file.Name)
	if _, err := io.Copy(memory, contents); err != nil {
		return "", err
	}
	// The descriptor stays open until the program starts; its number must not be freed by a finalizer.
	kept, err := unix.Dup(descriptor)
	if err != nil {
		return "", err
	}
	if err := memory.Close(); err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/self/fd/%d", kept), contents.Close()
}
