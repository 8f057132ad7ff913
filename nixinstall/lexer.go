package nixinstall

import "strings"

// codeOf blanks the comments and texts of an expression, and leaves what "${…}" puts into texts.
func codeOf(text string) string { return scan(text, false) }

// withoutComments blanks the comments of an expression, and texts in two single quotes, which are mostly scripts; of those, too,
// it leaves what "${…}" puts into them.
func withoutComments(text string) string { return scan(text, true) }

func scan(text string, keep bool) string {
	l := &lexer{text: text, keep: keep, code: []byte(text), levels: []level{{}}}
	for l.at < len(text) {
		if l.level().quote == 0 {
			l.inCode()
		} else {
			l.inText()
		}
	}
	return string(l.code)
}

// lexer goes through an expression.
type lexer struct {
	text   string
	keep   bool   // texts in double quotes
	code   []byte // the text, blanked up to at
	at     int
	levels []level // the last is the innermost
}

// level is a text in code, or code in a text.
type level struct {
	quote byte // of a text, 0 of code
	depth int  // braces that are open in code
}

func (l *lexer) level() *level           { return &l.levels[len(l.levels)-1] }
func (l *lexer) begin(quote byte)        { l.levels = append(l.levels, level{quote: quote}) }
func (l *lexer) end()                    { l.levels = l.levels[:max(1, len(l.levels)-1)] }
func (l *lexer) starts(with string) bool { return strings.HasPrefix(l.text[l.at:], with) }

// blank goes n bytes on and blanks them, but line ends and what is kept.
func (l *lexer) blank(n int) {
	kept := l.keep && l.level().quote == '"'
	for end := min(l.at+n, len(l.text)); l.at < end; l.at++ {
		if !kept && l.text[l.at] != '\n' {
			l.code[l.at] = ' '
		}
	}
}

// blankThrough blanks all up to the end of a comment.
func (l *lexer) blankThrough(end string) {
	n := len(l.text) - l.at
	if at := strings.Index(l.text[l.at:], end); at >= 0 {
		n = at + len(end)
	}
	l.blank(n)
}

func (l *lexer) inText() {
	switch double := l.level().quote == '"'; {
	case l.starts("${"):
		l.at += 2
		l.begin(0)
	case l.starts("$$"), double && l.starts(`\`):
		l.blank(2)
	case !double && l.starts(`''\`):
		l.blank(4)
	case !double && (l.starts("'''") || l.starts("''$")):
		l.blank(3)
	case double && l.starts(`"`):
		l.blank(1)
		l.end()
	case !double && l.starts("''"):
		l.blank(2)
		l.end()
	default:
		l.blank(1)
	}
}

func (l *lexer) inCode() {
	switch {
	case l.starts("#"):
		l.blankThrough("\n")
	case l.starts("/*"):
		l.blankThrough("*/")
	case l.starts(`"`):
		l.begin('"')
		l.blank(1)
	case l.starts("''"):
		l.begin('\'')
		l.blank(2)
	case l.starts("{"):
		l.level().depth++
		l.at++
	case l.starts("}") && l.level().depth > 0:
		l.level().depth--
		l.at++
	case l.starts("}"):
		l.at++
		l.end()
	default:
		l.at++
	}
}
