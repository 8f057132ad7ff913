package relocate

import (
	"bytes"
	"strings"
)

// JSON may have a backslash before a slash (RFC 8259, 7), and some writers of it, PHP's among them, put one before each. As
// that is for the writer to choose, a reference in JSON can be rewritten at equal length: as many slashes of what it
// becomes have one as it had. Elsewhere, in an expression of sed for instance, a slash without one means something else.

const escapedPrefix = `\/nix\/store\/`

// escapedReference gives the place of the reference in JSON whose hash stands at buf[i:].
func escapedReference(name string, buf []byte, i int) (from int, ok bool) {
	from = i - len(escapedPrefix)
	return from, strings.HasSuffix(name, ".json") && from >= 0 && string(buf[from:i]) == escapedPrefix
}

// escaped puts backslashes before as many slashes of target as a reference has; nil where it has fewer.
func escaped(target string) []byte {
	backslashes := len(escapedPrefix) - behind
	if strings.Count(target, "/") < backslashes {
		return nil
	}
	return bytes.Replace([]byte(target), []byte("/"), []byte(`\/`), backslashes)
}
