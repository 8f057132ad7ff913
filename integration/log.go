package integration

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// logWidth is how many columns a line of the buildpack's log has at most, where it is more than a word.
const logWidth = 80

// container is what pack puts before a line where it runs each phase in a container of its own.
var container = regexp.MustCompile(`^\[[a-z]+\] `)

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

func plainText(s string) string { return Unfolded(colours.ReplaceAllString(s, "")) }

// Unfolded is a log with those lines in one that were broken to fit, so that tests find what they look for wherever a line
// breaks.
func Unfolded(log string) string {
	var lines []string
	width, indented := 0, 0 // of the last line as it was, and of the one that it goes on from
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\n")
		own := container.ReplaceAllString(line, "")
		text := strings.TrimLeft(own, " ")
		first, _, _ := strings.Cut(text, " ")
		indent := len(own) - len(text)
		if len(lines) > 0 && text != "" && indent == indented+4 && width+1+utf8.RuneCountInString(first) > logWidth {
			lines[len(lines)-1] += " " + text
		} else {
			lines, indented = append(lines, line), indent
		}
		width = utf8.RuneCountInString(own)
	}
	return strings.Join(lines, "\n") + "\n"
}

// TooWide are the lines of a build's log that are more than a word and do not fit.
func TooWide(log string) []string {
	var lines []string
	for line := range strings.Lines(log) {
		line = container.ReplaceAllString(strings.TrimRight(line, "\n"), "")
		if utf8.RuneCountInString(line) > logWidth && strings.Contains(strings.TrimSpace(line), " ") {
			lines = append(lines, line)
		}
	}
	return lines
}
