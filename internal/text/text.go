// Package text writes what others have said into one line of a message, short, printable, counted, and compares names.
package text

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clip puts a text on one line of at most limit characters: control characters, those that change the order in which others are
// shown, and invalid bytes become blanks, runs of blanks one, and what is cut off an ellipsis.
func Clip(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	s = Line(s)
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit]) + "…"
}

// Cut keeps at most limit bytes of a text and puts an ellipsis for the rest. It leaves what it keeps as it is, for %q.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for range utf8.UTFMax - 1 {
		if limit > 0 && !utf8.RuneStart(s[limit]) {
			limit--
		}
	}
	return s[:limit] + "…"
}

// Short is Cut to what one name or value may take in a message.
func Short(s string) string { return Cut(s, 120) }

// Line puts a text on one line: runs of blanks and line breaks become one blank.
func Line(s string) string { return strings.Join(strings.Fields(s), " ") }

// Valid has a question mark for each byte that is no UTF-8, as many as there are: a glob of question marks matches what it was.
func Valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// Count counts things: "1 path", "2 paths".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Bytes writes a number of bytes for people, in powers of 1000: "512 B", "3.4 MB".
func Bytes(n int64) string {
	const units = "kMGTPE"
	if n < 1000 && n > -1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for (value >= 999.95 || value <= -999.95) && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", value, units[unit])
}

// List is a list of names in a sentence, printable, of which all beyond limit are counted: "a, b and 3 more".
func List(names []string, limit int) string {
	var shown []string
	for _, name := range names[:min(limit, len(names))] {
		shown = append(shown, Printable(name))
	}
	list := strings.Join(shown, ", ")
	if len(names) > limit {
		return fmt.Sprintf("%s and %d more", list, len(names)-limit)
	}
	return list
}

// Files is a list of names of files, as List gives it: one that is not plain is quoted, where a stranger has chosen it.
func Files(names []string, limit int) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		if quoted[i] = strconv.Quote(name); quoted[i] == `"`+name+`"` {
			quoted[i] = name
		}
	}
	return List(quoted, limit)
}

// Printable shows text that a stranger wrote so that a terminal takes none of it as a command, nor shows it in another
// order than it is in.
func Printable(s string) string {
	plain := func(c rune) bool { return c != utf8.RuneError && strconv.IsPrint(c) }
	if !strings.ContainsFunc(s, func(c rune) bool { return !plain(c) }) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}

// Block is Printable for a text of several lines, which tabs may indent. A character that stands for one that is not shown
// stays.
func Block(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		c, n := utf8.DecodeRuneInString(s)
		if c == '\n' || c == '\t' || c == utf8.RuneError && n > 1 {
			b.WriteString(s[:n])
		} else {
			b.WriteString(Printable(s[:n]))
		}
		s = s[n:]
	}
	return b.String()
}

// Distance is how many bytes have to be put in, left out or replaced to make b of a (Levenshtein's distance).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
