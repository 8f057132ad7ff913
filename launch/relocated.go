package launch

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// nameChars are the characters of which a store path's base name consists.
const nameChars = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-._?="

// relocated is a text with the closure's store paths replaced by the layers' directories that hold them, so that a store path in
// a command line, an argument or a variable means the same under every engine. The directories themselves rather than their
// links in the view: some programs compare a path that they are given with its real one.
//
// What is replaced is "/nix/store/<hash>-<name>" where a path begins there (beginsPath) and the closure has a store path of that
// hash and name, whole (of the hash, as much as the view's links have). Everything else stays, byte for byte. That is safe in any
// syntax: such a text means that store path and nothing else, and no shell and no list treats a character of the layer's directory
// otherwise than those of the store path. The directory has a longer name: a text that gets too long by it has those of the links in
// the view, which are no longer than a store path.
func (l *launcher) relocated(text string) string {
	if l.engine.name != EngineRelocate {
		return text
	}
	if longer := l.replaced(text, true); len(longer) < maxText {
		return longer
	}
	return l.replaced(text, false)
}

// maxText is what an argument or a variable may take, with a zero byte at its end: MAX_ARG_STRLEN of execve(2).
const maxText = 128 << 10

// replaced is a text in which paths of the closure are named by where they really lie, or by their links.
func (l *launcher) replaced(text string, resolved bool) string {
	const store = storepath.Dir + "/"
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, store)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if !beginsPath(out.String()) {
			out.WriteString(store)
			text = rest
			continue
		}
		base := rest[:len(rest)-len(strings.TrimLeft(rest, nameChars))]
		if name, path := l.layerDir(base, resolved); path != "" {
			out.WriteString(path)
			rest = rest[len(name):]
		} else {
			out.WriteString(store)
		}
		text = rest
	}
}

// beginsPath reports whether a path begins after a text: after nothing, after a character that ends words and paths ("=", ":", a
// quote, a blank), after an option ("-L") and after "file://". After "/mnt", "..", "~", "$ROOT" or "${ROOT}", with more slashes
// behind them, too, it is inside a longer path, which is no store path.
func beginsPath(before string) bool {
	before = strings.TrimRight(before, "/")
	above := strings.TrimRight(before, nameChars[:len(nameChars)-2]+"~}")
	last := before[len(above):]
	option := strings.HasPrefix(last, "-") && !strings.HasSuffix(above, "/") && !strings.HasSuffix(last, "}")
	switch {
	case last == "" || option:
		return true
	case strings.HasSuffix(above, "${"): // what a variable is else: ${A-/x}, ${A+/x}
		return strings.HasSuffix(last, "-") || strings.HasSuffix(last, "+")
	case strings.HasSuffix(above, ":"): // ${A:+/x}, and ${A:+$A:}/x, by which a list begins with what there was
		return last == "+" || last == "}"
	}
	return strings.HasSuffix(above, `\`) && (last == "n" || last == "t") // a line's end or a tab in quotes, as JSON has it
}

func (l *launcher) relocatedAll(texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = l.relocated(text)
	}
	return all
}

// layerDir is the directory in a layer that holds a store path of the closure, as its link in the view says, or, not resolved, that
// link; "" for no path of the closure. base may go on after the store path's name with characters that names may have, too:
// "name=value", "name?query", a full stop. So it is cut off at one of these until it is the name of a path, the longest first.
func (l *launcher) layerDir(base string, resolved bool) (name, dir string) {
	for name = base; name != ""; name = name[:max(strings.LastIndexAny(name, "=?."), 0)] {
		link := viewPath(l.config.View, name)
		target, err := os.Readlink(link)
		switch {
		case err != nil:
			continue
		case !resolved:
			target = link
		case !filepath.IsAbs(target):
			target = filepath.Join(l.config.View, target)
		}
		return name, target
	}
	return "", ""
}

// viewPath is a store path's link in the view of a relocated closure. The link's name has so many characters of the hash that its
// path is as long as the store path (package relocate). It is "" where base is no store path's, or the view's path too long.
func viewPath(view, base string) string {
	keep := len(storepath.Dir) + storepath.HashLen - len(view)
	if _, err := storepath.FromBase(base); err != nil || keep <= 0 || keep > storepath.HashLen {
		return ""
	}
	return filepath.Join(view, base[:keep]+base[storepath.HashLen:])
}
