package relocate

import (
	"encoding/binary"
	"hash/crc32"
)

// png puts the checksums of chunks right (PNG specification, 5.3).
func (f *fixer) png(s source) ([]edit, error) {
	edits, err := f.text(s, format{})
	if err != nil || len(edits) == 0 {
		return nil, err
	}
	if !sameLength(edits) {
		return nil, errMalformed
	}
	if err := copied(s, Checksummed); err != nil {
		return nil, err
	}
	data := apply(s.data, edits)
	for at := len("\x89PNG\r\n\x1a\n"); at+12 <= len(data); {
		size := int(binary.BigEndian.Uint32(data[at:]))
		if size > len(data)-at-12 {
			return nil, errMalformed
		}
		end := at + 8 + size
		was, now := crc32.ChecksumIEEE(s.data[at+4:end]), crc32.ChecksumIEEE(data[at+4:end])
		if was != now && binary.BigEndian.Uint32(data[end:]) == was {
			edits = append(edits, edit{from: end, to: end + 4, data: binary.BigEndian.AppendUint32(nil, now)})
		}
		at = end + 4
	}
	return edits, sortEdits(edits)
}
