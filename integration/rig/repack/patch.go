package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// patch goes through all regular files of the store path: programs and libraries get loader and library paths,
// scripts get their interpreters.
func (t *tree) patch(ctx context.Context) error {
	libraries, err := t.libraries()
	if err != nil {
		return err
	}
	return filepath.WalkDir(t.spec.Out, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		head, err := start(name)
		switch {
		case err != nil:
			return err
		case string(head) == elf.ELFMAG && t.spec.LibC != "":
			return t.patchELF(ctx, name, libraries)
		case strings.HasPrefix(string(head), "#!"):
			return t.patchScript(name)
		}
		return nil
	})
}

func start(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, len(elf.ELFMAG))
	n, _ := file.Read(head)
	return head[:n], file.Close()
}

// libraries says which directory of Out has which shared library.
func (t *tree) libraries() (map[string]string, error) {
	own := map[string]string{}
	lib := filepath.Join(t.spec.Out, "lib")
	if _, err := os.Stat(lib); err != nil {
		return own, nil
	}
	err := filepath.WalkDir(lib, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.Contains(entry.Name(), ".so") {
			if _, taken := own[entry.Name()]; !taken {
				own[entry.Name()] = filepath.Dir(name)
			}
		}
		return err
	})
	return own, err
}

// patchELF sets loader and library path with patchelf. What is no dynamic program or library is left as it is.
func (t *tree) patchELF(ctx context.Context, name string, own map[string]string) error {
	file, err := elf.Open(name)
	if err != nil {
		return nil // an object of another kind, as some test data is
	}
	defer file.Close()
	needed, err := file.ImportedLibraries()
	if err != nil || file.Type != elf.ET_EXEC && file.Type != elf.ET_DYN {
		return nil
	}
	var args []string
	for _, program := range file.Progs {
		if program.Type == elf.PT_INTERP {
			args = append(args, "--set-interpreter", filepath.Join(t.spec.LibC, t.spec.Loader))
		}
	}
	if paths := t.runPath(file, needed, own); len(paths) > 0 {
		args = append(args, "--set-rpath", strings.Join(paths, ":"))
	}
	if len(args) == 0 {
		return nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if err := os.Chmod(name, info.Mode().Perm()|0o200); err != nil {
		return err
	}
	if file.Type == elf.ET_EXEC {
		// patchelf 0.18 makes room in such a program by two segments that overlap, which ends in a crash; a library gets
		// a segment of its own at the end, so the program passes for a library meanwhile.
		if err := setType(name, elf.ET_DYN); err != nil {
			return err
		}
	}
	libraries := filepath.Join(t.spec.Tools, "usr/lib", t.spec.Triplet)
	loader := filepath.Join(libraries, filepath.Base(t.spec.Loader))
	args = append([]string{"--library-path", libraries, filepath.Join(t.spec.Tools, "usr/bin/patchelf")}, args...)
	if out, err := exec.CommandContext(ctx, loader, append(args, name)...).CombinedOutput(); err != nil {
		return fmt.Errorf("patchelf %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	if file.Type == elf.ET_EXEC {
		if err := setType(name, elf.ET_EXEC); err != nil {
			return err
		}
	}
	return os.Chmod(name, info.Mode().Perm())
}

// setType writes the file's type into its header.
func setType(name string, kind elf.Type) error {
	const offset = 16 // e_type follows e_ident
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte{byte(kind), 0}, offset)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// runPath is the directories in which the needed libraries are, in the order of need, after what the file itself says
// relative to its own place.
func (t *tree) runPath(file *elf.File, needed []string, own map[string]string) []string {
	var paths []string
	seen := map[string]bool{}
	add := func(directory string) {
		if directory != "" && !seen[directory] {
			seen[directory] = true
			paths = append(paths, directory)
		}
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		values, _ := file.DynString(tag)
		for _, value := range values {
			for _, directory := range strings.Split(value, ":") {
				switch {
				case strings.HasPrefix(directory, "$ORIGIN"):
					add(directory)
				case strings.HasPrefix(directory, "/usr/"):
					if inner := t.name(directory[1:]); inner != "" && t.find(inner) != "" {
						add(filepath.Join(t.find(inner), inner))
					}
				}
			}
		}
	}
	for _, library := range needed {
		if directory, ok := own[library]; ok {
			add(directory)
			continue
		}
		add(t.libraryDirectory(library))
	}
	return paths
}

// libraryDirectory is the directory of an input that has a library: directly among the libraries, or one directory below, where
// Debian keeps alternatives.
func (t *tree) libraryDirectory(library string) string {
	if strings.HasPrefix(library, "ld-linux") {
		return ""
	}
	directory := "lib/" + t.spec.Triplet
	if owner := t.find(directory + "/" + library); owner != "" {
		return filepath.Join(owner, directory)
	}
	if owner := t.find("lib/" + library); owner != "" {
		return filepath.Join(owner, "lib")
	}
	for _, input := range t.spec.Inputs {
		found, _ := filepath.Glob(filepath.Join(input, directory, "*", library))
		if len(found) > 0 {
			return filepath.Dir(found[0])
		}
	}
	return ""
}

var debianPath = regexp.MustCompile(`(^|[^A-Za-z0-9._/+}-])(/usr)?/(bin|sbin|lib|libexec|share|etc)/([A-Za-z0-9._+/@-]+)`)

// patchScript gives a script its interpreter, and every file that it names by its place in Debian, from the store.
func (t *tree) patchScript(name string) error {
	contents, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	first, rest, _ := bytes.Cut(contents, []byte("\n"))
	line := t.interpreter(string(first))
	if bytes.IndexByte(rest, 0) < 0 {
		rest = debianPath.ReplaceAllFunc(rest, t.replace)
	}
	patched := append([]byte(line+"\n"), rest...)
	if bytes.Equal(patched, contents) {
		return nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if err := os.Chmod(name, info.Mode().Perm()|0o200); err != nil {
		return err
	}
	if err := os.WriteFile(name, patched, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chmod(name, info.Mode().Perm())
}

// interpreter sets a script's first line as nixpkgs' patchShebangs does.
func (t *tree) interpreter(line string) string {
	words := strings.Fields(strings.TrimPrefix(line, "#!"))
	if len(words) == 0 {
		return line
	}
	if filepath.Base(words[0]) == "env" && len(words) > 1 && !strings.HasPrefix(words[1], "-") {
		words = words[1:]
	}
	program := "bin/" + filepath.Base(words[0])
	owner := t.find(program)
	if owner == "" {
		return line
	}
	words[0] = filepath.Join(owner, program)
	return "#!" + strings.Join(words, " ")
}

// replace is the store's place of a file named by its place in Debian.
func (t *tree) replace(match []byte) []byte {
	parts := debianPath.FindSubmatch(match)
	name := strings.TrimRight(string(parts[3])+"/"+string(parts[4]), "/.")
	inner := t.name(name)
	if inner == "" {
		return match
	}
	owner := t.find(inner)
	if owner == "" {
		return match
	}
	tail := string(parts[3]) + "/" + string(parts[4])
	return append(append([]byte{}, parts[1]...), (filepath.Join(owner, inner) + tail[len(name):])...)
}
