package relocate

import (
	"bytes"
	"strings"
)

// Some writers spell each slash in another way than by itself, where the format leaves that to them. A reference that is spelled
// so can be rewritten at equal length: as many slashes of what it becomes are spelled so as were in it.
//
// JSON may have a backslash before a slash (RFC 8259, 7), as PHP writes it. Elsewhere, in an expression of sed for instance, a
// slash without one means something else. A number for a character means the same as the character in JSON and in JavaScript, where
// what makes scripts of data has it in them (serialize-javascript, devalue), and in HTML and XML (templates of Mustache, Tera).

const escapedInJSON = `\/`

var escapedSlashes = []string{`\u002f`, `\u002F`, "&#x2f;", "&#x2F;", "&#47;"}

// escapedReference gives the place of the reference whose hash stands at buf[i:], in a file of that name, and how slashes are
// spelled in it; "" for none.
func escapedReference(name string, buf []byte, i int) (from int, slash string) {
	if i == 0 || buf[i-1] == '/' && !strings.HasSuffix(name, ".json") {
		return 0, ""
	}
	for _, slash := range append(escapedSlashes, escapedInJSON) {
		prefix := strings.ReplaceAll(storePrefix, "/", slash)
		if bytes.HasSuffix(buf[:i], []byte(prefix)) {
			return i - len(prefix), slash
		}
	}
	return 0, ""
}

// escaped spells as many slashes of target so as a reference has; nil where it has fewer.
func escaped(target, slash string) []byte {
	slashes := strings.Count(storePrefix, "/")
	if strings.Count(target, "/") < slashes {
		return nil
	}
	return []byte(strings.Replace(target, "/", slash, slashes))
}
