package gitfiles

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxName bounds an entry's mode and name.
const maxName = 4096 + 16

// treeEntry is a file or directory of a tree.
type treeEntry struct {
	mode Mode
	name string
	id   string
}

// nextEntry reads the first entry of a tree, "<mode> <name>\0<object name>", and gives what follows.
func nextEntry(data []byte, hashSize int) (entry treeEntry, rest []byte, err error) {
	end := bytes.IndexByte(data[:min(len(data), maxName)], 0)
	if end < 0 || len(data) < end+1+hashSize {
		return entry, nil, errors.New("it is cut off")
	}
	octal, name, _ := strings.Cut(string(data[:end]), " ")
	mode, err := strconv.ParseUint(octal, 8, 32)
	if err != nil || !isName(name) {
		return entry, nil, fmt.Errorf("entry %.80q is none", data[:end])
	}
	id := data[end+1 : end+1+hashSize]
	return treeEntry{mode: Mode(mode), name: name, id: hex.EncodeToString(id)}, data[end+1+hashSize:], nil
}

// normal is one of the four modes; ancient repositories have others for regular files.
func normal(m Mode) Mode {
	switch m {
	case Symlink, Submodule:
		return m
	}
	if m&0o100 != 0 {
		return Executable
	}
	return Regular
}

func isName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.Contains(name, "/")
}
