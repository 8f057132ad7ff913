package nixproot

import (
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// logWidth is how wide a line of the log is, in columns. A terminal has as many at least, and logs are read side by
// side with other things.
const logWidth = 80

// folding breaks the lines of a log between words, so that each fits; what follows is indented by four more columns, as
// two more are those of a line of its own that belongs to this one. A word that does not fit, such as a store path, stays
// whole. A line may come in parts.
//
// What ends a build in an error is not folded: people look for its phrases and copy its lines, and a terminal wraps them
// without breaking them.
type folding struct {
	to     io.Writer
	indent int  // of the line
	at     int  // the column that is reached
	blanks int  // that are not yet written, as the line may end before the next word
	inText bool // the line has a word
}

// piece is what a line is made of: its end, blanks, or a word.
var piece = regexp.MustCompile("\n| +|[^\n ]+")

// Write passes on what is logged.
func (f *folding) Write(p []byte) (int, error) {
	var out strings.Builder
	for _, text := range piece.FindAllString(string(p), -1) {
		switch {
		case text == "\n":
			out.WriteString(text)
			*f = folding{to: f.to}
		case text[0] != ' ':
			f.word(&out, text)
		case f.inText:
			f.blanks += len(text)
		default:
			out.WriteString(text)
			f.indent += len(text)
			f.at += len(text)
		}
	}
	if _, err := io.WriteString(f.to, out.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// word writes a word, in a new line where this one has no room for it.
func (f *folding) word(out *strings.Builder, text string) {
	width := columns(text)
	if f.blanks > 0 && f.at+f.blanks+width > logWidth {
		f.at = f.indent + 4
		out.WriteString("\n" + strings.Repeat(" ", f.at))
	} else {
		out.WriteString(strings.Repeat(" ", f.blanks))
		f.at += f.blanks
	}
	f.blanks = 0
	out.WriteString(text)
	f.at += width
	f.inText = f.inText || width > 0
}

// columns is how wide a text is where each character has a column, without colours.
func columns(text string) int { return utf8.RuneCountInString(colour.ReplaceAllString(text, "")) }

// colour is an escape sequence that changes the colour of what follows.
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")
