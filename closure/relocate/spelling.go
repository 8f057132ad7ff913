package relocate

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// What writes pages may spell a character of a hash in another way than by itself: "+" is &#43; for Go's html/template, &#x2B; for
// ASP.NET and \u002B for its JSON, "/" is &#x2F; for Tera, \u002F for what makes scripts of data (devalue) and \/ for PHP. The hash
// that takes its place has other characters, and takes as many bytes: nothing else in the file moves, and what has the file's size
// stays right.

// maxSpelled bounds how many bytes one character may take, maxBackslashes those before it: in a string in a string in a string.
const maxSpelled, maxBackslashes = 32, 8

// namedCharacters are those of hashes, and around them, that HTML has names for.
var namedCharacters = map[string]byte{"plus": '+', "sol": '/', "equals": '=', "colon": ':', "quot": '"', "apos": '\'', "grave": '`'}

// character is the one that b begins with, however it is spelled, and how many bytes it takes.
func character(b []byte) (c byte, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	b = b[:min(len(b), maxSpelled)]
	switch b[0] {
	case '&':
		c, size = ofHTML(b)
	case '\\':
		c, size = ofString(b)
	case '%':
		if len(b) >= len("%2F") {
			c, size = asciiOf(b[1:3], 16), len("%2F")
		}
	}
	if c == 0 {
		return b[0], 1
	}
	return c, size
}

// asciiOf is the character of ASCII whose number digits are, or 0.
func asciiOf(digits []byte, base int) byte {
	n, err := strconv.ParseUint(string(digits), base, 7)
	if err != nil {
		return 0
	}
	return byte(n)
}

// ampersand is how long the ampersand is that begins b: in what is itself an attribute of HTML, it is spelled as &amp;.
func ampersand(b []byte) int {
	n := len("&")
	for bytes.HasPrefix(b[n:], []byte("amp;")) {
		n += len("amp;")
	}
	return n
}

// ofHTML reads a character reference of HTML or XML.
func ofHTML(b []byte) (c byte, size int) {
	begin := ampersand(b)
	name, _, ok := bytes.Cut(b[begin:], []byte(";"))
	digits, isNumber := bytes.CutPrefix(name, []byte("#"))
	switch {
	case !ok:
		return 0, 0
	case !isNumber:
		c = namedCharacters[string(name)]
	case len(digits) > 0 && digits[0]|0x20 == 'x':
		c = asciiOf(digits[1:], 16)
	default:
		c = asciiOf(digits, 10)
	}
	return c, begin + len(name) + len(";")
}

// ofString reads a character behind a backslash, or several, as in strings of JSON and JavaScript, which may stand in others.
func ofString(b []byte) (c byte, size int) {
	for size < min(len(b)-1, maxBackslashes) && b[size] == '\\' {
		size++
	}
	digits := 0
	switch c = b[size]; c {
	case '/', '"', '\'', '`':
	case 'u':
		digits = len("002F")
	case 'x':
		digits = len("2F")
	default:
		return 0, 0
	}
	if size += 1 + digits; size > len(b) {
		return 0, 0
	}
	if digits > 0 {
		c = asciiOf(b[size-digits:size], 16)
	}
	return c, size
}

// spelledAs spells c as another character is spelled, in as many bytes; "" where that cannot be done.
func spelledAs(spelling string, c byte) string {
	begin, end, base := spelling[:1], "", 16
	switch begin {
	case "&":
		at := ampersand([]byte(spelling))
		if begin, end = spelling[:at+len("#x")], ";"; !strings.EqualFold(begin[at:], "#x") {
			begin, base = spelling[:at]+"#", 10 // zeros may stand before a number, so there is room for a name's in it
		}
	case `\`:
		at := strings.LastIndexByte(spelling, '\\') + 1
		if spelling[at] == '/' && c == '/' {
			return spelling
		} else if spelling[at] == '/' {
			return ""
		}
		begin = spelling[:at+1]
	}
	digits := strconv.FormatUint(uint64(c), base)
	if !strings.ContainsAny(spelling[len(begin):], "abcdef") {
		digits = strings.ToUpper(digits)
	}
	zeros := len(spelling) - len(begin) - len(digits) - len(end)
	if zeros < 0 {
		return ""
	}
	return begin + strings.Repeat("0", zeros) + digits + end
}

// spelled is the edit that puts another hash in the place of h, in as many bytes: as many characters as before are spelled as they
// were. Where fewer can be, as only "/" may be \/, blanks behind the closing quote make up for it. It reports false where nothing
// does.
func (h hashText) spelled(data []byte, now string) (edit, bool) {
	e := edit{from: h.at, to: h.to, data: []byte(now)}
	if h.to-h.at == len(now) {
		return e, true
	}
	w := newSpelling(now)
	plus := false
	for at := h.at; at < h.to; {
		c, size := character(data[at:])
		if size > 1 {
			w.spell(string(data[at:at+size]), c)
		}
		plus = plus || size == 1 && c == '+'
		at += size
	}
	e.data = []byte(strings.Join(w.chars, ""))
	inURL := bytes.IndexByte(data[h.at:h.to], '%') >= 0 // where a plus may be a blank
	if w.failed || inURL && !plus && bytes.IndexByte(e.data, '+') >= 0 {
		return e, false
	}
	if w.blanks > 0 {
		if e.to = blanksAt(data, h.to); e.to == 0 {
			return e, false
		}
		e.data = slices.Concat(e.data, data[h.to:e.to], bytes.Repeat([]byte(" "), w.blanks))
	}
	return e, true
}

// spelling is a hash that is being spelled.
type spelling struct {
	chars  []string
	now    string
	blanks int // that make up for what could not be
	failed bool
}

func newSpelling(now string) *spelling { return &spelling{chars: strings.Split(now, ""), now: now} }

// spell spells one more character as c is: the same if it can be, else one that is no letter or digit, else any.
func (s *spelling) spell(as string, c byte) {
	if as[0] == '%' {
		c = '+' // which may be a blank in a query
	}
	for _, wanted := range []string{string(rune(c)), "+/", s.now} {
		for i := range s.chars {
			if len(s.chars[i]) > 1 || strings.IndexByte(wanted, s.now[i]) < 0 {
				continue
			}
			if text := spelledAs(as, s.now[i]); text != "" {
				s.chars[i] = text
				return
			}
		}
	}
	if as[0] == '&' {
		s.failed = !s.zeros(len(as)-1) || s.failed
		return
	}
	s.blanks += len(as) - 1
}

// zeros puts so many of them before the shortest number that a character is spelled as, and reports whether there is one.
func (s *spelling) zeros(many int) bool {
	shortest := -1
	for i, text := range s.chars {
		if text[0] == '&' && (shortest < 0 || len(text) < len(s.chars[shortest])) {
			shortest = i
		}
	}
	if shortest < 0 {
		return false
	}
	text := s.chars[shortest]
	s.chars[shortest] = spelledAs(text[:len(text)-1]+strings.Repeat("0", many)+";", s.now[shortest])
	return true
}

// blanksAt is where blanks mean nothing behind the hash that ends at data[at]: behind the quote that closes it, or where there is a
// blank already; 0 for nowhere.
func blanksAt(data []byte, at int) int {
	for at < len(data) {
		c, size := character(data[at:])
		switch {
		case c == '=':
		case data[at] == ' ':
			return at
		case strings.IndexByte("\"'`", c) >= 0 && data[at] != '%':
			return at + size
		default:
			return 0
		}
		at += size
	}
	return 0
}
