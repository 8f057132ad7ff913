package relocate

import (
	"crypto/md5"
	"path"
	"slices"
	"strings"
)

// harmlessPlace says why nothing in the file at name, relative to the store path, can be missed at run time, or "".
// java is the directory of a Java run-time environment's libraries that was seen last. docs/relocation.md has this table,
// and the places that are not in it with the reason why.
func harmlessPlace(name, java string) string {
	dirs := strings.Split(path.Dir(name), "/")
	if len(dirs) >= 2 && dirs[0] == "share" || len(dirs) >= 1 && dirs[0] == "man" {
		switch dirs[min(1, len(dirs)-1)] {
		case "man", "info":
			return "a manual, read by people"
		case "doc", "gtk-doc", "devhelp":
			return "documentation, read by people"
		}
		if dirs[0] == "man" {
			return "a manual, read by people"
		}
	}
	base := path.Base(name)
	switch {
	case strings.HasSuffix(base, ".debug") || slices.Index(dirs, "debug") == 1 && dirs[0] == "lib":
		return "debugging information, read by debuggers"
	case base == "src.zip" && path.Dir(name) == java,
		strings.HasSuffix(base, "-sources.jar"), strings.HasSuffix(base, "-javadoc.jar"):
		return "source text for development environments; it holds no class"
	case isOpcache(name):
		return "PHP's cache of compiled scripts, in which they are looked up by the paths that they have now"
	}
	return ""
}

// isOpcache reports whether the file at name is in PHP's cache, or is a directory of that: below the number of the system that
// it is for, scripts have the paths that they had (php-src ext/opcache/zend_file_cache.c).
func isOpcache(name string) bool {
	before, _, ok := strings.Cut(name, storePrefix)
	system := path.Base(before)
	return ok && len(system) == 2*md5.Size && strings.Trim(system, "0123456789abcdef") == ""
}

// texFormatUnused says why a format of TeX may go on naming store paths where undoing its rewriting would take too much:
// they are names of files that it was made from, which TeX keeps among its strings (TeX, parts 4 and 29) and opens by
// what they are called in its index.
const texFormatUnused = "the names of the files that a TeX format was made from, which nothing opens again"

// isTeXFormat reports whether the file at name is one: web2c/pdftex/pdflatex.fmt.
func isTeXFormat(name string) bool {
	return strings.HasSuffix(name, ".fmt") && slices.Contains(strings.Split(path.Dir(name), "/"), "web2c")
}

// jmods says of the modules of a full JDK, jmods/*.jmod beside lib/modules, that they are harmless: jlink and jmod read
// them, the virtual machine does not.
func (s *Rewriter) jmods() {
	left := s.report.pending[:0]
	for _, p := range s.report.pending {
		dir := path.Dir(p.file)
		if path.Base(dir) != "jmods" || !strings.HasSuffix(p.file, ".jmod") ||
			path.Join(path.Dir(dir), "lib") != s.java {
			left = append(left, p)
			continue
		}
		for i := range p.blockers {
			p.blockers[i].Harmless = "a module of the JDK that jlink and jmod read, and nothing that runs"
			s.blocker(p.blockers[i])
		}
		s.report.Harmless += p.count - len(p.blockers)
	}
	s.report.pending = left
}

// javaFolder is the directory of a Java run-time environment's libraries if the file at name shows that it is one, else
// the one before. Archives are sorted, and lib/jvm.cfg and lib/modules come before lib/src.zip.
func javaFolder(before, name string) string {
	dir, base := path.Split(name)
	if dir = path.Clean(dir); path.Base(dir) == "lib" && (base == "jvm.cfg" || base == "modules") {
		return dir
	}
	return before
}
