package filetree

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
)

// keep writes contents to the spool.
func (o *Overlay) keep(file *File, contents io.Reader) error {
	if file.Size == 0 {
		return nil
	}
	start := o.end
	if o.buffer == nil {
		o.buffer = make([]byte, 64<<10)
	}
	if _, err := o.spool.Seek(start, io.SeekStart); err != nil {
		return fmt.Errorf("writing a temporary file: %w", err)
	}
	if err := CopySparse(o.spool, io.LimitReader(contents, file.Size), o.buffer, &o.Room); err != nil {
		return err
	}
	end, err := o.spool.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("writing a temporary file: %w", err)
	}
	if o.end = end; end-start != file.Size {
		return io.ErrUnexpectedEOF
	}
	file.content = &spooled{file: o.spool, from: start, size: file.Size}
	return nil
}

// ErrNoRoom is the error of what takes more space than a Room.
var ErrNoRoom = errors.New("unpacked it takes so much more space than packed that it may be made to fill the disk")

// Room is how many bytes may be written of what is packed in that many. Programs and their data take two to ten times as much.
func Room(packed int64) int64 { return max(256<<20, 32*packed) }

// CopySparse writes what it reads at a file's position, by a buffer. Zeros become holes: what has nothing else takes no space.
// What is written is taken from room, in bytes; where that has not as much, the error is ErrNoRoom.
func CopySparse(file *os.File, from io.Reader, buf []byte, room *int64) error {
	for {
		n, err := io.ReadFull(from, buf)
		if n > 0 {
			if len(bytes.TrimLeft(buf[:n], "\x00")) > 0 {
				if *room -= int64(n); *room < 0 {
					return ErrNoRoom
				}
				_, writeErr := file.Write(buf[:n])
				err = cmp.Or(writeErr, err)
			} else if end, seekErr := file.Seek(int64(n), io.SeekCurrent); seekErr != nil {
				err = seekErr
			} else if info, statErr := file.Stat(); statErr != nil || info.Size() < end {
				err = cmp.Or(statErr, file.Truncate(end), err)
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// spooled is contents in the spool.
type spooled struct {
	file       *os.File
	from, size int64
}

func (s *spooled) open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.file, s.from, s.size)), nil
}
