// Package boundedtoml decodes TOML that a stranger may have written. The decoder itself takes memory and time by the square of
// a key's parts: of one key of 40 KB, 8 GiB and half a minute.
package boundedtoml

import (
	"fmt"

	"github.com/BurntSushi/toml"
)

const (
	// maxParts bounds the dots of keys that stand in one line, maxDepth how deep arrays and inline tables nest. No lifecycle
	// writes more than 6 of each.
	maxParts, maxDepth = 32, 32
	// maxDots bounds those of all keys. An image of 127 layers has a thousand.
	maxDots = 64 << 10
)

// Decode decodes data into v. A document with keys of more parts than 32, of more than 65,536 parts together, or that nests
// deeper than 32 levels, is an error.
func Decode(data []byte, v any) (toml.MetaData, error) {
	s := scanner{data: data, line: 1}
	if err := s.check(); err != nil {
		return toml.MetaData{}, err
	}
	return toml.Decode(string(data), v)
}

// scanner goes through a document. Of what is no TOML it is enough that the decoder says so.
type scanner struct {
	data  []byte
	at    int
	line  int
	dots  int // outside of strings, in this line
	all   int // in all lines
	depth int
}

func (s *scanner) check() error {
	for s.at < len(s.data) {
		c := s.data[s.at]
		s.at++
		switch c {
		case '\n':
			s.line, s.dots = s.line+1, 0
		case '#':
			s.skipLine()
		case '"', '\'':
			s.text(c)
		case '.':
			s.dots++
			s.all++
		case '[', '{':
			s.depth++
		case ']', '}':
			s.depth = max(s.depth-1, 0)
		}
		if s.dots > maxParts {
			return fmt.Errorf("line %d has a key of more than %d parts", s.line, maxParts)
		}
		if s.all > maxDots {
			return fmt.Errorf("its keys have more than %d parts", maxDots)
		}
		if s.depth > maxDepth {
			return fmt.Errorf("line %d nests deeper than %d levels", s.line, maxDepth)
		}
	}
	return nil
}

// text skips the rest of a string that began with a quote: to its end in the line or, where it began with three, to the next
// three, which up to two that are part of it may come before.
func (s *scanner) text(quote byte) {
	three := s.at+1 < len(s.data) && s.data[s.at] == quote && s.data[s.at+1] == quote
	if three {
		s.at += 2
	}
	for quotes := 0; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == quote:
			quotes++
			if !three {
				s.at++
				return
			}
			continue
		case quotes >= 3:
			return
		case c == '\n':
			if !three {
				return
			}
			s.line, s.dots = s.line+1, 0
		case c == '\\' && quote == '"':
			s.at++
		}
		quotes = 0
	}
}

// skipLine goes to the end of the line.
func (s *scanner) skipLine() {
	for s.at < len(s.data) && s.data[s.at] != '\n' {
		s.at++
	}
}
