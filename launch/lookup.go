package launch

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// maxLinks bounds how many links of a path are followed. It is more than Linux follows (path_resolution(7)), so that the error is
// the one that Linux gives for the path.
const maxLinks = 64

// maxOffered bounds how many of the closure's programs a message lists.
const maxOffered = 24

// command is one program to start.
type command struct {
	argv    []string
	program string // the name or path of the program to look for; "" for argv[0]
	path    string // the program's file, as it is seen inside the engine; locate sets it
	env     environment

	needsEngine bool // where no engine works it is not started: the user said run_proot.sh, or a line may use the closure
	closure     bool // the program's file is in the closure; locate sets it
	shell       bool // the program is a shell, or this one instead of it, that runs a line
}

// locate finds the file of the command's program, which is named by a path or looked up on PATH. Paths below /nix/store are
// looked up in the view where only the engine will have them there.
func (l *launcher) locate(cmd *command) error {
	name := cmd.program
	if name == "" {
		name = cmd.argv[0]
	}
	if name == "" {
		return &failure{exitNotFound, errors.New("the program's name is empty")}
	}
	if strings.Contains(name, "/") {
		return l.try(cmd, name)
	}
	var worse error
	for _, dir := range filepath.SplitList(cmd.env.get("PATH")) {
		if dir == "" {
			dir = "."
		}
		err := l.try(cmd, dir+"/"+name)
		if err == nil {
			return nil
		}
		if f := (*failure)(nil); errors.As(err, &f) && f.code == exitCannotRun && worse == nil {
			worse = err
		}
	}
	if worse != nil {
		return worse
	}
	return &failure{exitNotFound, l.notFound(name, cmd.env.get("PATH"))}
}

// try makes path the command's program if it can be executed.
func (l *launcher) try(cmd *command, path string) error {
	err := executable(l.onDisk(path))
	switch {
	case err == nil:
		cmd.path, cmd.closure = path, l.inClosure(path)
		return nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		kept := ""
		if !filepath.IsAbs(path) {
			kept = ": of the source an image keeps the Procfile and what BP_INCLUDE_FILES names"
		}
		return &failure{exitNotFound, fmt.Errorf("%s: no such file%s%s", path, kept, l.offer())}
	}
	return &failure{exitCannotRun, fmt.Errorf("%s: %w", path, err)}
}

// inClosure reports whether a file is the closure's.
func (l *launcher) inClosure(path string) bool {
	if strings.HasPrefix(path, storepath.Dir+"/") || strings.HasPrefix(path, l.config.View+"/") {
		return true
	}
	return slices.ContainsFunc(l.config.Bin, func(dir string) bool { return filepath.Dir(path) == dir })
}

// onDisk is the path by which this process reaches a file that the app reaches by path. They differ where /nix/store is only
// there inside an engine.
func (l *launcher) onDisk(path string) string {
	if l.engine.name != "" || !filepath.IsAbs(path) {
		return path
	}
	return l.resolve(path)
}

// resolve follows a path's links as the app would inside an engine: /nix/store leads to the view. A path that leads nowhere is
// returned as far as it was followed.
func (l *launcher) resolve(path string) string {
	todo, done := strings.Split(path, "/")[1:], "/"
	for links := 0; len(todo) > 0 && links < maxLinks; {
		part := todo[0]
		todo = todo[1:]
		done = filepath.Join(done, part)
		if done == storepath.Dir {
			done = l.config.View
			continue
		}
		target, err := os.Readlink(done)
		if err != nil {
			continue
		}
		links++
		todo = append(strings.Split(target, "/"), todo...)
		if filepath.IsAbs(target) {
			done = "/"
		} else {
			done = filepath.Dir(done)
		}
	}
	return filepath.Join(done, filepath.Join(todo...))
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	one, _ := os.Stat(a)
	other, _ := os.Stat(b)
	return os.SameFile(one, other) // false where one is not there
}

// executable reports why a file cannot be executed by this user; nil where it can.
func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.New("is a directory, not a program")
	}
	if info.Mode()&0o111 == 0 || syscall.Access(path, 1) != nil {
		return errors.New("is not executable")
	}
	return nil
}

func (l *launcher) notFound(name, path string) error {
	where := "PATH is empty"
	if path != "" {
		where = "searched " + strings.ReplaceAll(path, ":", ", ")
	}
	return fmt.Errorf("%s: no such program: %s%s", name, where, l.offer())
}

// offer is the part of a message that lists the closure's programs, so that a typing error is seen at once.
func (l *launcher) offer() string {
	var names []string
	for _, dir := range l.engine.bin {
		entries, _ := os.ReadDir(l.onDisk(dir))
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch n := len(names); {
	case n == 0:
		return "\nthe closure offers no programs"
	case n > maxOffered:
		return fmt.Sprintf("\nthe closure offers: %s and %d more", strings.Join(names[:maxOffered], ", "), n-maxOffered)
	}
	return "\nthe closure offers: " + strings.Join(names, ", ")
}

// cannotExec explains why a file that is there could not be executed. Mostly its interpreter is missing. real is the path by
// which this process reaches it.
func cannotExec(path, real string, err error) error {
	if errors.Is(err, syscall.ENOEXEC) {
		problem := "neither a program for this machine nor a script with a #! line"
		if program, err := elf.Open(real); err == nil {
			problem = fmt.Sprintf("a program for %s, and this machine is %s", program.Machine, runtime.GOARCH)
			_ = program.Close()
		}
		return &failure{exitCannotRun, fmt.Errorf("%s: %s", path, problem)}
	}
	if interpreter := interpreterOf(real); errors.Is(err, fs.ErrNotExist) && interpreter != "" {
		return &failure{exitCannotRun, fmt.Errorf("%s: its interpreter %s is not in the image", path, interpreter)}
	}
	return &failure{exitCannotRun, fmt.Errorf("starting %s: %w", path, err)}
}

// interpreterOf reads the interpreter that a script's first line or an ELF program names.
func interpreterOf(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	head := make([]byte, 256)
	n, _ := file.Read(head)
	if script, ok := bytes.CutPrefix(head[:n], []byte("#!")); ok {
		first, _, _ := bytes.Cut(script, []byte("\n"))
		if words := strings.Fields(string(first)); len(words) > 0 {
			return words[0]
		}
		return ""
	}
	program, err := elf.NewFile(file)
	if err != nil {
		return ""
	}
	for _, p := range program.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err == nil {
			return string(bytes.TrimRight(name, "\x00"))
		}
	}
	return ""
}
