package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// maxDepth bounds how deep a document nests. Those of images have 6 levels.
const maxDepth = 64

// object is an object or array of a JSON document that is being read.
type object struct {
	names map[string]bool // those that were there; nil for an array
	free  bool            // its names are anybody's choice: a label's, a volume's
	name  string          // the last of the names
	value bool            // the value of name comes next
}

// unambiguous reports a name that an object in a JSON document has twice. Of two, readers take the first, the last, or parts
// of both; and some, Go's among them, take "env" for "Env", but not where names are free.
func unambiguous(document []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	open := []*object{{}}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		in := open[len(open)-1]
		switch name, _ := token.(string); {
		case token == json.Delim('}'), token == json.Delim(']'):
			open = open[:len(open)-1]
		case in.names == nil || in.value:
			in.value = false
			next := &object{}
			switch token {
			case json.Delim('{'):
				next.names, next.free = map[string]bool{}, isFree(in.name)
			case json.Delim('['):
			default:
				continue
			}
			if open = append(open, next); len(open) > maxDepth {
				return fmt.Errorf("it nests deeper than %d levels", maxDepth)
			}
		case in.names[name], !in.free && in.names[folded(name)]:
			return fmt.Errorf("it has %.80q twice in one object", name)
		default:
			if !in.free {
				in.names[folded(name)] = true
			}
			in.names[name], in.name, in.value = true, name, true
		}
	}
}

// isFree reports whether the names in an object of that name are anybody's choice.
func isFree(name string) bool {
	return slices.ContainsFunc([]string{"Labels", "Annotations", "Volumes", "ExposedPorts"}, func(free string) bool {
		return strings.EqualFold(name, free)
	})
}

// folded is one text for all that encoding/json takes for the same name.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for each := unicode.SimpleFold(r); each != r; each = unicode.SimpleFold(each) {
			least = min(least, each)
		}
		return least
	}, name)
}
