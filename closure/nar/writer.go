package nar

import (
	"encoding/binary"
	"errors"
	"io"
)

// writerBuffer is what a Writer gathers before it writes: the words between files, and small files with them.
const writerBuffer = 32 << 10

// errClosed is what a Sink answers after Close.
var errClosed = errors.New("nar: already closed")

// Writer is a Sink that serializes an archive, closing directories by itself. What it writes is what Nix would have
// dumped for such a tree; calls that no archive could cause are refused.
type Writer struct {
	w    io.Writer
	buf  []byte
	seq  sequence
	size int64 // of the last file
	err  error
}

// NewWriter writes an archive to w, which is not closed.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, buf: make([]byte, 0, writerBuffer)} }

// Entry writes an entry's head, after the ends of the directories that it lies outside of.
func (w *Writer) Entry(e *Entry) error {
	if w.err != nil {
		return w.err
	}
	first := !w.seq.started
	ended, err := w.seq.enter(e)
	if err != nil {
		return w.fail(err)
	}
	if first {
		w.words(magic)
	} else {
		for range ended {
			w.words(wordClose, wordClose)
		}
		w.words(wordEntry, wordOpen, wordName, e.Name(), wordNode)
	}
	w.words(wordOpen, wordType, e.Kind.String())
	switch e.Kind {
	case Regular:
		if e.Executable {
			w.words(wordExec, "")
		}
		w.words(wordData)
		w.size = e.Size
		w.length(e.Size)
		if e.Size == 0 {
			w.endNode(e.Path)
		}
	case Symlink:
		w.words(wordTarget, e.Target)
		w.endNode(e.Path)
	}
	return w.flush(writerBuffer / 2)
}

// Write writes contents of the last entry.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := w.seq.write(len(p)); err != nil {
		return 0, w.fail(err)
	}
	if len(p) <= writerBuffer/2 {
		w.buf = append(w.buf, p...)
	} else {
		if err := w.flush(0); err != nil {
			return 0, err
		}
		if _, err := w.w.Write(p); err != nil {
			return 0, w.fail(err)
		}
	}
	if w.seq.left == 0 {
		w.zeros(padding(w.size))
		w.endNode(w.seq.path)
	}
	return len(p), w.flush(writerBuffer / 2)
}

// Close ends the archive, which must be complete, and writes what is buffered.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.seq.end(); err != nil {
		return w.fail(err)
	}
	for open := w.seq.open; open > 0; open-- {
		w.words(wordClose)
		if open > 1 {
			w.words(wordClose)
		}
	}
	if err := w.flush(0); err != nil {
		return err
	}
	w.err = errClosed
	return nil
}

func (w *Writer) fail(err error) error {
	w.err = at(w.seq.path, err)
	return w.err
}

// endNode ends a file or symlink and, unless it is the root, the directory entry around it.
func (w *Writer) endNode(path string) {
	w.words(wordClose)
	if path != "" {
		w.words(wordClose)
	}
}

func (w *Writer) words(words ...string) {
	for _, word := range words {
		w.length(int64(len(word)))
		w.buf = append(w.buf, word...)
		w.zeros(padding(int64(len(word))))
	}
}

func (w *Writer) length(n int64) { w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(n)) }

func (w *Writer) zeros(n int) {
	var zeros [align]byte
	w.buf = append(w.buf, zeros[:n]...)
}

// flush writes the buffer once it holds more than keep bytes.
func (w *Writer) flush(keep int) error {
	if len(w.buf) <= keep {
		return nil
	}
	_, err := w.w.Write(w.buf)
	w.buf = w.buf[:0]
	if err != nil {
		return w.fail(err)
	}
	return nil
}
