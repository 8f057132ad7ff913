package nixproot

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestMachine(t *testing.T) { spec.Run(t, "machine", testMachine) }

func testMachine(t *testing.T, _ spec.G, it spec.S) {
	const (
		app  = storepath.Path("/nix/store/00000000000000000000000000000000-app")
		bash = storepath.Path("/nix/store/11111111111111111111111111111111-bash")
	)
	var layers string
	it.Before(func() {
		RegisterTestingT(t)
		layers = t.TempDir()
	})
	program := func(m elf.Machine, order binary.AppendByteOrder) string {
		data := byte(elf.ELFDATA2LSB)
		if order == binary.BigEndian {
			data = byte(elf.ELFDATA2MSB)
		}
		head := append([]byte(elf.ELFMAG), byte(elf.ELFCLASS64), data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		head = order.AppendUint16(order.AppendUint16(head, uint16(elf.ET_DYN)), uint16(m))
		return string(head) + "and more"
	}
	var (
		amd64 = program(elf.EM_X86_64, binary.LittleEndian)
		arm64 = program(elf.EM_AARCH64, binary.LittleEndian)
		s390x = program(elf.EM_S390, binary.BigEndian)
	)
	// unpacked writes the files of store paths, and gives them as just unpacked.
	unpacked := func(files map[storepath.Path]map[string]string) *closure.Result {
		Expect(os.RemoveAll(layers)).To(Succeed())
		group := closure.Group{Layer: "closure-00"}
		for p, texts := range files {
			group.Paths = append(group.Paths, p)
			for name, text := range texts {
				file := filepath.Join(layers, group.Layer, p.Base(), name)
				Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
				Expect(os.WriteFile(file, []byte(text), 0o755)).To(Succeed())
			}
		}
		return &closure.Result{Changed: []closure.Group{group}}
	}
	check := func(result *closure.Result, system string) error {
		return checkMachine(result, layers, []storepath.Path{app}, system)
	}

	it("refuses a path whose programs are for another machine, with both names", func() {
		result := unpacked(map[storepath.Path]map[string]string{app: {"bin/serve": amd64, "bin/run": "#!/bin/sh\n"}})
		Expect(check(result, "x86_64-linux")).To(Succeed())
		err := check(result, "aarch64-linux")
		Expect(err).To(MatchError("checking programs: " + app.String() +
			"/bin/serve is for x86_64-linux, and the image is for aarch64-linux"))
		Expect(explain(err)).To(MatchError(ContainSubstring("add it to the systems of the jobset")))
		result.Reused.Paths = 3
		Expect(check(result, "aarch64-linux")).To(HaveOccurred())
	})

	it("looks at what a script's closure has, unless that was looked at before", func() {
		result := unpacked(map[storepath.Path]map[string]string{app: {"bin/run": "#!/bin/sh\n"}, bash: {"bin/bash": s390x}})
		var wrong *MachineError
		Expect(errors.As(check(result, "x86_64-linux"), &wrong)).To(BeTrue())
		Expect(wrong.Machine).To(Equal("s390x-linux"))
		result.Reused.Paths = 3
		Expect(check(result, "x86_64-linux")).To(Succeed())
	})

	it("says nothing of a program for another machine beside ours, of data, and of a 32-bit program", func() {
		Expect(check(unpacked(map[storepath.Path]map[string]string{
			app: {"bin/serve": arm64, "bin/firmware": s390x, "share/x": amd64}, bash: {"bin/short": "\x7fELF"},
		}), "aarch64-linux")).To(Succeed())
		Expect(check(unpacked(map[storepath.Path]map[string]string{app: {"bin/serve": "text", "data": "x"}}),
			"aarch64-linux")).To(Succeed())
		Expect(check(unpacked(map[storepath.Path]map[string]string{
			app: {"bin/serve": program(elf.EM_386, binary.LittleEndian)}}), "x86_64-linux")).To(Succeed())
	})

	it("takes a path that is a file by itself", func() {
		result := unpacked(map[storepath.Path]map[string]string{app: {}})
		Expect(os.MkdirAll(filepath.Join(layers, "closure-00"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(layers, "closure-00", app.Base()), []byte(amd64), 0o755)).To(Succeed())
		Expect(check(result, "aarch64-linux")).To(Succeed())
	})
}
