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

// folding breaks the lines of a log between words, so that each fits; what follows is indented by two more columns. A
// word that does not fit, such as a store path, stays whole.
type folding struct{ to io.Writer }

// Write passes whole lines on.
func (f folding) Write(p []byte) (int, error) {
	var folded strings.Builder
	for line := range strings.Lines(string(p)) {
		fold(&folded, line)
	}
	if _, err := io.WriteString(f.to, folded.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// fold writes a line, with its end, as lines that fit.
func fold(out *strings.Builder, line string) {
	if columns(line) <= logWidth {
		out.WriteString(line)
		return
	}
	text := strings.TrimRight(line, "\n")
	words := strings.TrimLeft(text, " ")
	indent := len(text) - len(words)
	out.WriteString(text[:indent])
	at := indent
	for i, word := range strings.Split(words, " ") {
		switch width := columns(word); {
		case i == 0:
			at += width
		case at+1+width > logWidth:
			out.WriteString("\n" + strings.Repeat(" ", indent+2))
			at = indent + 2 + width
		default:
			out.WriteString(" ")
			at += 1 + width
		}
		out.WriteString(word)
	}
	out.WriteString(line[len(text):])
}

// columns is how wide a text is where each character has a column, without colours and a line's end.
func columns(text string) int {
	return utf8.RuneCountInString(strings.TrimRight(colour.ReplaceAllString(text, ""), "\n"))
}

// colour is an escape sequence that changes the colour of what follows.
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")
