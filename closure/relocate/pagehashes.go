package relocate

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"iter"
	"path"
	"strings"
)

// Which files may have the hashes by which a browser loads others, and how they are written.

// isPage reports whether the file of that name may have hashes of what a browser loads.
func isPage(name string) bool {
	switch path.Ext(name) {
	case ".cjs", ".js", ".json", ".mjs":
		return true
	}
	return hasScripts(name)
}

// hasScripts reports whether the file of that name is a page, or what one is made of, in whatever language of templates: it may
// have scripts and style sheets in it, whose hashes the policy of a page may have (W3C, "Content Security Policy").
func hasScripts(name string) bool {
	switch path.Ext(name) {
	case ".htm", ".html", ".shtml", ".xht", ".xhtml",
		".ejs", ".erb", ".ftl", ".ftlh", ".gohtml", ".haml", ".hbs", ".j2", ".jinja", ".jinja2", ".jsp", ".liquid", ".mako",
		".mustache", ".njk", ".php", ".phtml", ".pug", ".slim", ".tmpl", ".tpl", ".tt", ".twig", ".vm":
		return true
	}
	return false
}

// scriptsIn gives the places of scripts and style sheets in a page.
func scriptsIn(page []byte) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		unclosed := map[string]bool{}
		for at := 0; ; {
			n := bytes.IndexByte(page[at:], '<')
			if n < 0 {
				return
			}
			at += n + 1
			name := scriptTag(page[at:])
			if name == "" || unclosed[name] {
				continue
			}
			begin := bytes.IndexByte(page[at:], '>')
			if begin < 0 {
				return
			}
			from := at + begin + 1
			to := endTag(page, from, name)
			if unclosed[name] = to < 0; to < 0 {
				continue
			}
			if at = to; !yield(from, to) {
				return
			}
		}
	}
}

// scriptTag is the name of the element that begins at b, behind "<", if it is a script or a style sheet.
func scriptTag(b []byte) string {
	for _, name := range []string{"script", "style"} {
		if len(b) > len(name) && strings.EqualFold(string(b[:len(name)]), name) && !isWord(b[len(name)]) {
			return name
		}
	}
	return ""
}

// isWord reports whether c may go on with a name.
func isWord(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '_'
}

// endTag is where the element of that name ends whose contents begin at page[from], or -1.
func endTag(page []byte, from int, name string) int {
	for at := from; ; at++ {
		n := bytes.Index(page[at:], []byte("</"))
		if n < 0 {
			return -1
		}
		if at += n; scriptTag(page[at+len("</"):]) == name {
			return at
		}
	}
}

// scriptHashes are the hashes that the policy of a page may have of a script in it: browsers read each end of a line as one
// character (HTML, "Preprocessing the input stream").
func scriptHashes(script []byte) []string {
	texts := hashTexts(script)
	if bytes.IndexByte(script, '\r') >= 0 {
		lines := bytes.ReplaceAll(bytes.ReplaceAll(script, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
		texts = append(texts, hashTexts(lines)...)
	}
	return texts
}

// isPacked reports whether the file of that name may be one that a server sends to those who can unpack it.
func isPacked(name string) bool {
	switch path.Ext(name) {
	case ".br", ".gz", ".zst":
		return true
	}
	return false
}

// isPackedPage is isPacked for a page.
func isPackedPage(name string) bool { return isPacked(name) && isPage(stem(name)) }

// pageSums makes hashes as pages have them.
type pageSums []hash.Hash

func newPageSums() pageSums { return pageSums{sha256.New(), sha512.New384(), sha512.New()} }

func (s pageSums) Write(p []byte) (int, error) {
	for _, h := range s {
		h.Write(p)
	}
	return len(p), nil
}

// texts are the hashes in base-64, but for the padding.
func (s pageSums) texts() (texts []string) {
	for _, h := range s {
		texts = append(texts, base64.RawStdEncoding.EncodeToString(h.Sum(nil)))
	}
	return texts
}

// hashTexts are the hashes of data as pages have them.
func hashTexts(data []byte) []string {
	s := newPageSums()
	_, _ = s.Write(data)
	return s.texts()
}

// hashText is a hash and where it stands.
type hashText struct {
	at, to int
	text   string
}

// hashesIn are those that a page has: "sha384-…" in a page or a script, "sha512": "…" in a list.
func hashesIn(data []byte) iter.Seq[hashText] {
	return func(yield func(hashText) bool) {
		for at := 0; ; {
			n := bytes.Index(data[at:], []byte("sha"))
			if n < 0 {
				return
			}
			at += n + len("sha")
			from := hashBegin(data, at)
			if from == 0 {
				continue
			}
			if h, ok := hashAt(data, from); ok {
				if at = h.to; !yield(h) {
					return
				}
			}
		}
	}
}

// hashBegin is where the hash begins that the number at data[at] says the kind of, or 0.
func hashBegin(data []byte, at int) int {
	if len(data)-at < len("256-") {
		return 0
	}
	switch string(data[at : at+len("256")]) {
	case "256", "384", "512":
		at += len("256")
	default:
		return 0
	}
	next := func() byte {
		c, size := character(data[at:])
		at += size
		return c
	}
	c := next()
	if c == '-' {
		return at
	}
	if c == '"' || c == '\'' {
		c = next()
	}
	colons := 0
	for ; c == ' ' || c == ':'; c = next() {
		colons += int(c / ':')
	}
	if colons != 1 || c != '"' && c != '\'' {
		return 0
	}
	return at
}

// longestHash is how many characters SHA-512 has in base-64; SHA-384 has 64, and SHA-256 has 43.
const longestHash = 86

// hashAt is the hash that begins at data[at].
func hashAt(data []byte, at int) (hashText, bool) {
	h := hashText{at: at, to: at}
	text := make([]byte, 0, longestHash+1)
	for len(text) < cap(text) {
		c, size := character(data[h.to:])
		if size == 0 || !isHashCharacter(c) {
			break
		}
		text, h.to = append(text, c), h.to+size
	}
	h.text = string(text)
	return h, len(text) == longestHash || len(text) == 64 || len(text) == 43
}

// isHashCharacter reports whether c is one of base-64.
func isHashCharacter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '+' || c == '/'
}
