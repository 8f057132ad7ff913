package nixproot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// MachineError says that a closure's programs are for another machine than the one the image is for.
type MachineError struct {
	// Path is the store path and Program the file in it that was looked at, "" where the path is a file by itself.
	Path    storepath.Path
	Program string
	// By is what the program leads to where it is a script or a link: a script's interpreter, a link's end.
	By string
	// Machine is what the program runs on and System what the image is for, both as Nix names them where it does.
	Machine, System string
}

func (e *MachineError) Error() string {
	program := path.Join(e.Path.String(), e.Program)
	if e.By != "" {
		program += ", by " + e.By + ","
	}
	return fmt.Sprintf("checking programs: %s is for %s, and the image is for %s", program, e.Machine, e.System)
}

// elfMachines are Nix's names of what programs are for.
var elfMachines = map[elf.Machine]string{
	elf.EM_X86_64: "x86_64-linux", elf.EM_386: "i686-linux", elf.EM_AARCH64: "aarch64-linux", elf.EM_ARM: "armv7l-linux",
	elf.EM_RISCV: "riscv64-linux", elf.EM_PPC64: "powerpc64le-linux", elf.EM_LOONGARCH: "loongarch64-linux",
}

// bigEndian are those whose numbers begin with the highest byte.
var bigEndian = map[elf.Machine]string{
	elf.EM_S390: "s390x-linux", elf.EM_PPC64: "powerpc64-linux", elf.EM_AARCH64: "aarch64_be-linux",
}

// runsOn are the systems whose programs run on every machine of a system, as Nix counts them (its extra-platforms by
// default). Those for 32-bit ARM are not among what 64-bit ARM runs: Graviton 2 and 3 can, Graviton 4 and Apple's cannot.
var runsOn = map[string][]string{
	"x86_64-linux": {"x86_64-linux", "i686-linux"}, "aarch64-linux": {"aarch64-linux"},
}

// checkMachine looks at the programs of what was unpacked into the layers: a closure without one for system, and with
// some for another machine, is refused, and so is a root of that kind. Programs for other machines beside ours may be
// there: emulators and compilers bring some, and scripts that look after guests. Where paths are reused, their programs
// were looked at when they came, and only the roots are now. What is not in bin, sbin or libexec and not led to from there
// is not looked at: packages of npm bring an addon for each machine there is, and take the one that fits.
func checkMachine(result *closure.Result, layersDir string, roots []storepath.Path, system string) error {
	u := unpacked{system: system, view: result.View, dirs: map[string]string{}, paths: map[string]storepath.Path{}}
	for _, group := range result.Groups {
		for _, p := range group.Paths {
			u.paths[closure.BaseName(p, result.View)] = p
		}
	}
	for _, group := range result.Changed {
		for _, p := range group.Paths {
			base := closure.BaseName(p, result.View)
			u.dirs[base], u.paths[base] = filepath.Join(layersDir, group.Layer, base), p
		}
	}
	var all programs
	for _, group := range result.Changed {
		for _, p := range group.Paths {
			found, err := u.programsIn(p)
			if err != nil {
				return fmt.Errorf("checking programs: %w", err)
			}
			if found.foreign != nil && !found.ours && !found.reused && !found.file && slices.Contains(roots, p) {
				return found.foreign
			}
			all.add(found)
		}
	}
	if all.foreign != nil && !all.ours && result.Reused.Paths == 0 {
		return all.foreign
	}
	return nil
}

// programs says whether some run on the system, and names one that does not.
type programs struct {
	ours    bool
	foreign *MachineError
	file    bool // the store path is a file by itself, which may be data as well
	reused  bool // a script or a link leads to what was looked at when it came
}

func (p *programs) add(others programs) {
	p.ours = p.ours || others.ours
	if p.foreign == nil {
		p.foreign = others.foreign
	}
}

// note notes what a program is for.
func (p *programs) note(program MachineError) {
	switch {
	case program.Machine == "":
	case slices.Contains(runsOn[program.System], program.Machine):
		p.ours = true
	case p.foreign == nil:
		p.foreign = &program
	}
}

// unpacked are the store paths of a closure by their names in the view, and where those are that were unpacked.
type unpacked struct {
	system string
	view   relocate.View
	dirs   map[string]string
	paths  map[string]storepath.Path
}

// programsIn looks at the programs of a store path.
func (u unpacked) programsIn(p storepath.Path) (programs, error) {
	var found programs
	dir := u.dirs[closure.BaseName(p, u.view)]
	root, err := os.OpenRoot(dir)
	if err != nil && isFile(dir) {
		machine, _, err := programFile(os.Open(dir))
		found.file = true
		found.note(MachineError{Path: p, Machine: machine, System: u.system})
		return found, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return found, err
	}
	defer root.Close()
	for _, directory := range []string{"bin", "sbin", "libexec"} {
		info, err := root.Lstat(directory)
		if err != nil || !info.IsDir() {
			continue
		}
		entries, err := fs.ReadDir(root.FS(), directory)
		if err != nil {
			return found, err
		}
		for _, entry := range entries {
			if err := u.program(&found, p, root, directory+"/"+entry.Name()); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// program looks at what a file in a store path is for. A script is for what its interpreter is for, unless it is what
// makeWrapper puts before a program, and a link for what it leads to.
func (u unpacked) program(found *programs, p storepath.Path, root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	var to string
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		if to, err = root.Readlink(name); err == nil && !path.IsAbs(to) {
			to = path.Join("/", closure.BaseName(p, u.view), path.Dir(name), to)
		}
	case info.Mode().IsRegular():
		var machine string
		machine, to, err = programFile(root.Open(name))
		found.note(MachineError{Path: p, Program: name, Machine: machine, System: u.system})
	}
	if err != nil || to == "" {
		return err
	}
	if _, err := root.Lstat(path.Dir(name) + "/." + path.Base(name) + "-wrapped"); err == nil {
		return nil
	}
	u.follow(found, MachineError{Path: p, Program: name, System: u.system}, to)
	return nil
}

// interpreters is how many scripts may run each other before there is a program: the kernel takes no more.
const interpreters = 5

// follow notes what a script or a link is for by the program at its end.
func (u unpacked) follow(found *programs, program MachineError, to string) {
	for range interpreters {
		base, rest := u.find(to)
		if base == "" {
			return
		}
		if u.dirs[base] == "" {
			found.reused = true
			return
		}
		target, err := os.OpenRoot(u.dirs[base])
		if err != nil {
			return // a file by itself
		}
		program.By = path.Join(u.paths[base].String(), rest)
		program.Machine, to, err = programFile(target.Open(rest))
		target.Close()
		if err != nil {
			return
		}
		found.note(program)
	}
}

// find gives the store path that a place is in, by its name in the view, and what is behind that; "" is one that is not of
// the closure.
func (u unpacked) find(place string) (base, rest string) {
	for place != "" {
		base, place, _ = strings.Cut(place, "/")
		if _, ok := u.paths[base]; ok && place != "" {
			return base, place
		}
	}
	return "", ""
}

func isFile(name string) bool {
	info, err := os.Lstat(name)
	return err == nil && info.Mode().IsRegular()
}

// headLen is how much of a program is read: as much as the kernel reads of a script.
const headLen = 256

// programFile reads what a program is for, or, of a script, what runs it; both are "" for other files.
func programFile(f *os.File, err error) (machine, interpreter string, _ error) {
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	head := make([]byte, headLen)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", "", err
	}
	head = head[:n]
	if line, ok := bytes.CutPrefix(head, []byte("#!")); ok {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		if words := strings.Fields(string(line)); len(words) > 0 {
			return "", words[0], nil
		}
	}
	return machineOf(head), "", nil
}

// machineOf is what a program that begins with head is for, "" where that is none: ELF up to e_machine, which is in 32 and
// 64 bits alike, and Darwin's Mach-O (mach-o/loader.h).
func machineOf(head []byte) string {
	switch {
	case len(head) >= 20 && string(head[:4]) == elf.ELFMAG:
		return elfMachine(head)
	case len(head) >= 8 && (string(head[:4]) == "\xcf\xfa\xed\xfe" || string(head[:4]) == "\xce\xfa\xed\xfe"):
		switch binary.LittleEndian.Uint32(head[4:]) {
		case 0x01000007:
			return "x86_64-darwin"
		case 0x0100000c:
			return "aarch64-darwin"
		}
		return "darwin"
	// Of several machines: how many there are stands where a Java class has its version, 45 or more.
	case len(head) >= 8 && string(head[:4]) == "\xca\xfe\xba\xbe" && binary.BigEndian.Uint32(head[4:]) < 45:
		return "darwin"
	}
	return ""
}

func elfMachine(head []byte) string {
	names, order := elfMachines, binary.ByteOrder(binary.LittleEndian)
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		names, order = bigEndian, binary.BigEndian
	}
	machine := elf.Machine(order.Uint16(head[18:]))
	name, ok := names[machine]
	switch {
	case !ok:
		return strings.TrimPrefix(machine.String(), "EM_")
	case elf.OSABI(head[elf.EI_OSABI]) == elf.ELFOSABI_FREEBSD:
		return strings.Replace(name, "linux", "freebsd", 1)
	}
	return name
}
