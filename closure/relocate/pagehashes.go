package relocate

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"path"
	"regexp"
)

// Which files a browser loads by their hashes, which may have those hashes, and how they are written.

// isAsset reports whether a browser may load the file of that name by its hash.
func isAsset(name string) bool {
	switch path.Ext(name) {
	case ".css", ".dll", ".js", ".mjs", ".wasm": // .NET loads its own so, and Rust's Trunk names its module in a page
		return true
	}
	return false
}

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

// scriptText is a script or a style sheet in a page.
var scriptText = regexp.MustCompile(`(?is)<(?:script|style)\b[^>]*>(.*?)</(?:script|style)\s*>`)

// isPackedPage reports whether the file of that name may be one that a server sends to those who can unpack it.
func isPackedPage(name string) bool {
	switch path.Ext(name) {
	case ".br", ".gz", ".zst":
		return isPage(stem(name))
	}
	return false
}

// integrityText is a hash in base-64: "sha384-…" in a page or a script, "sha512": "…" in a list.
var integrityText = regexp.MustCompile(`sha(?:256|384|512)(?:-|": ?")([A-Za-z0-9+/]{43,86})`)

// hashTexts are the hashes of data as pages have them, but for the padding.
func hashTexts(data []byte) (texts []string) {
	sha256, sha384, sha512 := sha256.Sum256(data), sha512.Sum384(data), sha512.Sum512(data)
	for _, sum := range [][]byte{sha256[:], sha384[:], sha512[:]} {
		texts = append(texts, base64.RawStdEncoding.EncodeToString(sum))
	}
	return texts
}

// hashed is a file that has hashes of others, or whose hashes others may have.
type hashed struct {
	file     string
	hashes   []hashText // of others, in an inspection
	was, now []string   // its own, where it changes
}

// hashText is a hash and where it stands.
type hashText struct {
	at   int
	text string
}

// hashesIn are those that a page has.
func hashesIn(data []byte) (hashes []hashText) {
	for _, at := range integrityText.FindAllSubmatchIndex(data, maxEdits) {
		hashes = append(hashes, hashText{at[2], string(data[at[2]:at[3]])})
	}
	return hashes
}

// changedScripts are the scripts and style sheets in a page that are others now, as many as are wanted.
func changedScripts(file string, was, now []byte, most int) (changed []*hashed) {
	if !hasScripts(file) || len(was) != len(now) {
		return nil
	}
	for _, at := range scriptText.FindAllSubmatchIndex(was, maxEdits) {
		if from, to := at[2], at[3]; len(changed) < most && !bytes.Equal(was[from:to], now[from:to]) {
			changed = append(changed, &hashed{file: file, was: hashTexts(was[from:to]), now: hashTexts(now[from:to])})
		}
	}
	return changed
}
