package launch

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// nameChars are what the name of a store path may hold.
const nameChars = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-._?="

// relocated is a text in which paths of a relocated closure are named by where they really lie, so that a store path in a
// command line or a variable means the same under every engine, also to a program that asks whether it is its own real
// name. Store paths that the closure does not have are left as they are.
func (l *launcher) relocated(text string) string {
	if l.engine.name != EngineRelocate {
		return text
	}
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
		if base, path := l.place(base); path != "" {
			out.WriteString(path)
			rest = rest[len(base):]
		} else {
			out.WriteString(store)
		}
		text = rest
	}
}

// beginsPath reports whether a path begins after a text, rather than goes on: "/mnt", ".." and "$ROOT" are parts of a
// longer path, "-L" is not.
func beginsPath(before string) bool {
	above := strings.TrimRight(before, nameChars[:len(nameChars)-2]+"~}")
	last := before[len(above):]
	return last == "" || last[0] == '-' && !strings.HasSuffix(above, "/")
}

func (l *launcher) relocatedAll(texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = l.relocated(text)
	}
	return all
}

// place is where a store path of the closure really lies, which its link in the view says, and how its name ends in a text
// where the name may go on with characters that belong to the text: "name=value", "name?query", a full stop.
func (l *launcher) place(base string) (name, path string) {
	for name = base; name != ""; name = name[:max(strings.LastIndexAny(name, "=?."), 0)] {
		link := viewPath(l.config.View, name)
		if target, err := os.Readlink(link); err == nil {
			if !filepath.IsAbs(target) {
				target = filepath.Join(l.config.View, target)
			}
			return name, target
		}
	}
	return "", ""
}

// viewPath names a store path in the view of a relocated closure: with as many characters of the hash as keep the whole
// path's length (package relocate). "" for what is no store path, and for a view whose length leaves none.
func viewPath(view, base string) string {
	keep := len(storepath.Dir) + storepath.HashLen - len(view)
	if _, err := storepath.FromBase(base); err != nil || keep <= 0 || keep > storepath.HashLen {
		return ""
	}
	return filepath.Join(view, base[:keep]+base[storepath.HashLen:])
}
