package relocate

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

const (
	// regexpPrefix is storePrefix as PCRE compiles it, behind its first byte: each character has OP_CHAR before it
	// (pcre2_internal.h; the same in PCRE 8).
	regexpPrefix = "/\x1dn\x1di\x1dx\x1d/\x1ds\x1dt\x1do\x1dr\x1de\x1d/"
	opChar       = 0x1d
	// exportedRegexp is what begins a regular expression as Elixir has it in a module from OTP 28 on (erl_bif_re.c,
	// re_import_1): a header of 14 bytes, which has the checksum over the compiled form and then the version of that, and
	// the expression as it was written. Of a version that it does not know the runtime takes what was written.
	exportedRegexp  = "w\x13re_exported_patternm\x00\x00\x00\x0ere-PCRE2"
	exportedVersion = len(exportedRegexp) + 4
	unknownVersion  = 0xff
	// oldRegexp begins what PCRE 8 has compiled, as Elixir has it up to OTP 27 (pcre_internal.h, MAGIC_NUMBER).
	oldRegexp = "ERCP"
)

// regexps finds the hashes of members in buf[from:to] as PCRE compiles them, and gives the places of their first characters.
func regexps(buf []byte, from, to int, m *members, found func(i, member int)) {
	const span = len(regexpPrefix) + 1
	for at := max(0, from-span); ; {
		next := bytes.Index(buf[at:], []byte(regexpPrefix))
		if next < 0 || at+next+span >= to {
			return
		}
		at += next + span
		if at < from || at+2*hashLen-1 > len(buf) {
			continue
		}
		var hash [hashLen]byte
		for c := range hash {
			hash[c] = buf[at+2*c]
		}
		if member := m.find(hash[:]); member >= 0 {
			found(at, member)
		}
	}
}

// regexps has the runtime compile anew what names a store path, or rewrites the compiled form where nothing else is over it.
func (t *textEdits) regexps() {
	looked, end, old := 0, 0, false // up to where for expressions, and those that were there last
	regexps(t.data, 0, len(t.data), t.f.scan.members, func(i, member int) {
		if last := bytes.LastIndex(t.data[looked:i], []byte(exportedRegexp)); last >= 0 {
			at := looked + last + exportedVersion
			end = exportedEnd(t.data[:i], looked+last)
			if i < end {
				t.edits = append(t.edits, edit{from: at, to: at + 1, data: []byte{unknownVersion}})
			}
		}
		old = old || bytes.Contains(t.data[looked:i], []byte(oldRegexp))
		looked = i
		// What the expression has to end with is looked for first, so the hash may not be its end.
		from, to := i-2*len(storePrefix), i+2*hashLen-1
		switch {
		case i < end:
		case len(t.edits) > maxEdits:
		case old && bytes.HasPrefix(t.data[to:], []byte{opChar, '-'}):
			data := widen(string(t.f.targets[member]), 2)
			for c := 1; c < len(data); c += 2 {
				data[c] = opChar
			}
			t.edits = append(t.edits, edit{from: from, to: to, data: data})
		default:
			t.blocked(member, "in a compiled regular expression")
		}
	})
	slices.SortFunc(t.edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
}

// exportedEnd gives where the compiled form ends of the exported regular expression that begins at data[from:]: it is the
// next binary that begins with the mark of PCRE's serialized code (pcre2_serialize.c).
func exportedEnd(data []byte, from int) int {
	at := bytes.Index(data[from:], []byte("S2RP"))
	if at < 4 {
		return 0
	}
	return from + at + int(binary.BigEndian.Uint32(data[from+at-4:]))
}
