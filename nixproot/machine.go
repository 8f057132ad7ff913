package nixproot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// machineError says that a closure's programs are for another machine than the one the image is for.
type machineError struct {
	// Path is the store path and Program the file in it that was looked at, "" where the path is a file by itself.
	Path    storepath.Path
	Program string
	// By is what the program leads to where it is a script or a link: a script's interpreter, a link's end.
	By string
	// Machine is what the program runs on and System what the image is for, both as Nix names them where it does.
	Machine, System string
}

func (e *machineError) Error() string {
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
	foreign *machineError
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
func (p *programs) note(program machineError) {
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
	base := closure.BaseName(p, u.view)
	if isFile(u.dirs[base]) {
		machine, _, err := programFile(u.dirs[base])
		found.file = true
		found.note(machineError{Path: p, Machine: machine, System: u.system})
		return found, err
	}
	for _, directory := range []string{"bin", "sbin", "libexec"} {
		names, reused, err := u.names(path.Join(base, directory))
		if err != nil {
			return found, err
		}
		found.reused = found.reused || reused
		for _, name := range names {
			if err := u.program(&found, p, path.Join(directory, name)); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// names are those of a directory's entries. The directory may be a link: buildEnv makes one where a single path has it.
func (u unpacked) names(directory string) (names []string, reused bool, _ error) {
	at, ok := u.resolve(directory)
	if !ok || u.dirs[at.base] == "" {
		return nil, ok, nil
	}
	if info, err := os.Lstat(u.file(at)); err != nil || !info.IsDir() {
		return nil, false, nil
	}
	entries, err := os.ReadDir(u.file(at))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, false, err
}

// interpreters is how many scripts may run each other before there is a program: the kernel takes no more.
const interpreters = 5

// program looks at what a file in a store path is for. A link is for what it leads to, and a script for what its interpreter
// is for, unless it is what makeWrapper puts before a program.
func (u unpacked) program(found *programs, p storepath.Path, name string) error {
	program := machineError{Path: p, Program: name, System: u.system}
	named := place{closure.BaseName(p, u.view), name}
	to := path.Join(named.base, named.rest)
	for range 1 + interpreters {
		at, ok := u.resolve(to)
		if ok && u.dirs[at.base] == "" {
			found.reused = true
			return nil
		}
		if !ok || !isFile(u.file(at)) {
			return nil
		}
		if at != named {
			program.By = path.Join(u.paths[at.base].String(), at.rest)
		}
		var err error
		if program.Machine, to, err = programFile(u.file(at)); err != nil || to == "" {
			found.note(program)
			return err
		}
		wrapped := place{at.base, path.Join(path.Dir(at.rest), "."+path.Base(at.rest)+"-wrapped")}
		if _, err := os.Lstat(u.file(wrapped)); err == nil {
			to = path.Join(wrapped.base, wrapped.rest)
		}
	}
	return nil
}

// place is a file in a store path, by that path's name in the view.
type place struct{ base, rest string }

// file is where a place is while the image is built.
func (u unpacked) file(at place) string { return filepath.Join(u.dirs[at.base], at.rest) }

// maxLinks is how many links may lead to a file: the kernel follows no more.
const maxLinks = 40

// resolve gives what is at the end of all links, through whichever store paths they lead; ok is false where that is in none
// of the closure. A path that stays in the previous image is not here to be followed further.
func (u unpacked) resolve(to string) (at place, ok bool) {
	for range 1 + maxLinks {
		at.base, at.rest = u.find(to)
		if at.base == "" {
			return at, false
		}
		if u.dirs[at.base] == "" {
			return at, true
		}
		if to = u.firstLink(at); to == "" {
			return at, true
		}
	}
	return at, false
}

// firstLink is what a place is by the first link on the way to it, "" where there is none.
func (u unpacked) firstLink(at place) string {
	way, rest := place{base: at.base}, at.rest
	for {
		if link, err := os.Readlink(u.file(way)); err == nil {
			if !path.IsAbs(link) {
				link = path.Join("/", way.base, way.rest, "..", link)
			}
			return path.Join(link, rest)
		}
		if rest == "" {
			return ""
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		way.rest = path.Join(way.rest, name)
	}
}

// find gives the store path that a place is in, by its name in the view, and what is behind that; "" is one that is not of
// the closure.
func (u unpacked) find(place string) (base, rest string) {
	for place != "" {
		base, place, _ = strings.Cut(place, "/")
		if _, ok := u.paths[base]; ok {
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
func programFile(name string) (machine, interpreter string, _ error) {
	f, err := os.Open(name)
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

// machineOf is the machine that a program beginning with head is for, "" where head is not a program's: ELF up to e_machine, which is in 32 and
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
