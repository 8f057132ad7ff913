package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// MismatchError is a layer that is not what the image says of it.
type MismatchError struct {
	Layer, Got, Want string
}

// Error names both digests.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("layer %s: its digest is %s, want %s", e.Layer, e.Got, e.Want)
}

// Overlay lays the image's layers over each other, with the contents of the files that keep names. Their digests are
// checked. temp is a directory for contents, "" for the system's, of which they take no more than filetree.Room says. Close the
// overlay after use.
func (i *Image) Overlay(ctx context.Context, temp string, keep func(path string) bool) (*filetree.Overlay, error) {
	overlay, err := filetree.NewOverlay(temp, MaxSize, keep)
	if err != nil {
		return nil, err
	}
	var packed int64
	for _, layer := range i.Layers {
		packed += layer.Size
	}
	if a, ok := i.files.(*archive); ok {
		packed = min(packed, a.given)
	}
	overlay.Room = filetree.Room(packed)
	for n, layer := range i.Layers {
		if err := i.apply(ctx, overlay, n, layer); err != nil {
			overlay.Close()
			return nil, fmt.Errorf("unpacking layer %d of the image (%s): %w", n+1, layer.DiffID, err)
		}
	}
	return overlay, nil
}

func (i *Image) apply(ctx context.Context, overlay *filetree.Overlay, number int, layer Layer) error {
	file, _, err := i.files.open(layer.name)
	if err != nil {
		return err
	}
	defer file.Close()
	packed, unpacked := sha256.New(), sha256.New()
	whole := io.TeeReader(file, packed)
	content, err := unpack(whole, func(text string) { overlay.NoteForeign(number, "the archive", text) })
	if err != nil {
		return err
	}
	defer content.Close()
	if err := overlay.Apply(ctx, io.TeeReader(content, unpacked), number); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, regularfile.NewReader(ctx, whole)); err != nil {
		return err
	}
	if got := digestOf(unpacked); got != layer.DiffID {
		return &MismatchError{Layer: layer.DiffID, Got: got, Want: layer.DiffID}
	}
	if got := digestOf(packed); layer.digest != "" && got != layer.digest {
		return &MismatchError{Layer: layer.DiffID, Got: got, Want: layer.digest}
	}
	return nil
}

func digestOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// unpack reads a layer by what its bytes begin with, as container engines do. note is told what no engine's compression
// does, beside which a runtime that loads layers lazily could find other files.
func unpack(r io.Reader, note func(string)) (io.ReadCloser, error) {
	head := make([]byte, 4)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), r)
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return newMembers(bufio.NewReader(whole), note)
	case isZstd(head):
		frames := decompress.ZstdParts(whole, func() { note("its compression has several parts") })
		decoder, err := decompress.NewZstd(frames, zstdWindow)
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	}
	return io.NopCloser(whole), nil
}

// isZstd reports whether a file begins with a frame of zstd's, or with one to skip.
func isZstd(head []byte) bool {
	magic := binary.LittleEndian.Uint32(head)
	return magic == 0xfd2fb528 || magic&^0xf == 0x184d2a50
}

// members reads the members of a gzip stream, of which there should be one, with nothing in its header.
type members struct {
	*gzip.Reader
	from *bufio.Reader
	note func(string)
}

func newMembers(from *bufio.Reader, note func(string)) (*members, error) {
	reader, err := gzip.NewReader(from)
	if err != nil {
		return nil, err
	}
	reader.Multistream(false)
	if len(reader.Extra)+len(reader.Name)+len(reader.Comment) > 0 {
		note("its compression has a name, a comment or a field more")
	}
	return &members{reader, from, note}, nil
}

// Read reads a piece.
func (m *members) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if _, more := m.from.Peek(1); more != nil {
		return n, more // io.EOF, mostly
	}
	m.note("its compression has several parts")
	if err := m.Reset(m.from); err != nil {
		return n, err
	}
	m.Multistream(false)
	return n, nil
}
