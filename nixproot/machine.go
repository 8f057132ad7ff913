package nixproot

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// MachineError says that a closure's programs are for another machine than the one the image is for.
type MachineError struct {
	// Path is the store path and Program the file in it that was looked at.
	Path    storepath.Path
	Program string
	// Machine is what the program runs on and System what the image is for, both as Nix names them where it does.
	Machine, System string
}

func (e *MachineError) Error() string {
	return fmt.Sprintf("checking programs: %s/%s is for %s, and the image is for %s", e.Path, e.Program, e.Machine, e.System)
}

// elfMachines are Nix's names of what programs are for.
var elfMachines = map[elf.Machine]string{
	elf.EM_X86_64: "x86_64-linux", elf.EM_386: "i686-linux", elf.EM_AARCH64: "aarch64-linux", elf.EM_ARM: "armv7l-linux",
	elf.EM_RISCV: "riscv64-linux", elf.EM_PPC64: "powerpc64le-linux", elf.EM_S390: "s390x-linux",
	elf.EM_LOONGARCH: "loongarch64-linux",
}

// programMachines are those whose programs run on a system: its own and its 32-bit twin.
var programMachines = map[string][]elf.Machine{
	"x86_64-linux": {elf.EM_X86_64, elf.EM_386}, "aarch64-linux": {elf.EM_AARCH64, elf.EM_ARM},
}

// checkMachine looks at the programs of what was unpacked into the layers: a closure without one for system, and with
// some for another machine, is refused. Programs for other machines beside ours may be there: emulators and compilers
// bring some. Where paths are reused, their programs were looked at when they came, and only the roots are now.
func checkMachine(result *closure.Result, layersDir string, roots []storepath.Path, system string) error {
	var all programs
	for _, group := range result.Changed {
		for _, p := range group.Paths {
			found, err := programsIn(p, filepath.Join(layersDir, group.Layer, closure.BaseName(p, result.View)), system)
			if err != nil {
				return fmt.Errorf("checking programs: %w", err)
			}
			if found.foreign != nil && !found.ours && slices.Contains(roots, p) {
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
}

func (p *programs) add(others programs) {
	p.ours = p.ours || others.ours
	if p.foreign == nil {
		p.foreign = others.foreign
	}
}

// programsIn looks at the programs of a store path, which is unpacked in dir.
func programsIn(p storepath.Path, dir, system string) (programs, error) {
	var found programs
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) || err != nil && isFile(dir) {
		return found, nil // a file by itself
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
			name := directory + "/" + entry.Name()
			if !entry.Type().IsRegular() {
				continue
			}
			machine, ok, err := machineOf(root, name)
			switch {
			case err != nil:
				return found, err
			case !ok:
			case slices.Contains(programMachines[system], machine):
				found.ours = true
			case found.foreign == nil:
				found.foreign = &MachineError{Path: p, Program: name, Machine: machineName(machine), System: system}
			}
		}
	}
	return found, nil
}

func isFile(name string) bool {
	info, err := os.Lstat(name)
	return err == nil && !info.IsDir()
}

// machineOf reads what an ELF program is for; ok is false for other files.
func machineOf(root *os.Root, name string) (machine elf.Machine, ok bool, err error) {
	f, err := root.Open(name)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	var head [20]byte // up to e_machine, in 32 and 64 bits alike
	if _, err := io.ReadFull(f, head[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, false, nil
	} else if err != nil {
		return 0, false, err
	}
	if string(head[:4]) != elf.ELFMAG {
		return 0, false, nil
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	return elf.Machine(order.Uint16(head[18:])), true, nil
}

func machineName(m elf.Machine) string {
	if name, ok := elfMachines[m]; ok {
		return name
	}
	return strings.TrimPrefix(m.String(), "EM_")
}
