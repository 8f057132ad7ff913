package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// Debian's Node.js has names of files compiled in that do not fit where a store path must stand. The longer names go
// over comments of scripts that are compiled in too, and the one instruction that loads each address is changed.
// x86-64 only.
var comment = regexp.MustCompile(`// \.\./\.\./\.\./usr/share/nodejs/[^\n]*\n`)

// retarget makes a program or library use the files named on the right in place of those on the left.
func (t *tree) retarget(pattern string, names map[string]string) error {
	files, err := filepath.Glob(filepath.Join(t.spec.Out, pattern))
	if err != nil || len(files) == 0 || t.spec.Triplet != "x86_64-linux-gnu" {
		return err
	}
	contents, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	for _, old := range sorted(names) {
		if err := replaceName(contents, old, filepath.Join(t.spec.Out, names[old])); err != nil {
			return fmt.Errorf("%s in %s: %w", old, filepath.Base(files[0]), err)
		}
	}
	return os.WriteFile(files[0], contents, 0o755)
}

func replaceName(contents []byte, old, name string) error {
	file, err := elf.NewFile(bytes.NewReader(contents))
	if err != nil {
		return err
	}
	at := bytes.Index(contents, append([]byte{0}, old+"\x00"...))
	if at < 0 {
		return nil
	}
	place := 0
	for _, found := range comment.FindAllIndex(contents, -1) {
		if found[1]-found[0] >= len(name)+4 {
			place = found[0] + len("//")
			break
		}
	}
	if place == 0 {
		return fmt.Errorf("no comment is long enough for %s", name)
	}
	from, to := address(file, at+1), address(file, place)
	text := file.Section(".text")
	changed := 0
	for i := int(text.Offset); i < int(text.Offset+text.Size)-7; i++ {
		// lea register, [rip+displacement]
		if contents[i]&0xfb != 0x48 || contents[i+1] != 0x8d || contents[i+2]&0xc7 != 0x05 {
			continue
		}
		next := address(file, i+7)
		if next+int64(int32(binary.LittleEndian.Uint32(contents[i+3:]))) == from {
			binary.LittleEndian.PutUint32(contents[i+3:], uint32(to-next))
			changed++
		}
	}
	if changed == 0 {
		return fmt.Errorf("no instruction loads its address")
	}
	copy(contents[place:], name+"\x00")
	return nil
}

// address is the address in memory of an offset in the file.
func address(file *elf.File, offset int) int64 {
	for _, program := range file.Progs {
		if program.Type == elf.PT_LOAD && uint64(offset) >= program.Off && uint64(offset) < program.Off+program.Filesz {
			return int64(uint64(offset) - program.Off + program.Vaddr)
		}
	}
	return -1
}
