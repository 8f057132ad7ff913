package nixproot

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// resource is something that programs look for at a fixed place of an operating system, that a bare run image lacks, and
// that a variable can point to where the closure has it.
type resource struct {
	// files are where a store path may have it.
	files []string
	// standard says how the launcher points to it, but for the value.
	standard launch.EnvDefault
	// before goes before the path in the value.
	before string
}

// shells are where a store path may have a shell, best first.
func shells() []string { return []string{"bin/bash", "bin/sh"} }

// resources are those that can be pointed to, as nixpkgs lays them out.
func resources() []resource {
	return []resource{
		{
			files: []string{"etc/ssl/certs/ca-bundle.crt", "etc/ssl/certs/ca-certificates.crt"},
			standard: launch.EnvDefault{
				// OpenSSL and Go; nixpkgs' OpenSSL, curl and others, before the first.
				Variables: []string{"SSL_CERT_FILE", "NIX_SSL_CERT_FILE"}, Others: []string{"SSL_CERT_DIR"},
				// Where programs look by themselves: Debian, Fedora, Alpine, SUSE, as crypto/x509 lists them.
				Files: []string{
					"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
					"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
					"/etc/ssl/certs/ca-bundle.crt",
				},
			},
		},
		{
			files: []string{"share/zoneinfo"},
			// The C library; Go; Python. nixpkgs' C library does not look into a run image's /usr/share/zoneinfo.
			standard: launch.EnvDefault{Variables: []string{"TZDIR", "ZONEINFO", "PYTHONTZPATH"}},
		},
		{
			files: []string{"lib/locale/locale-archive"},
			// Only nixpkgs' C library knows it, and it does not look for a run image's.
			standard: launch.EnvDefault{Variables: []string{"LOCALE_ARCHIVE"}},
		},
		{
			files:    []string{"share/terminfo", "lib/terminfo"},
			standard: launch.EnvDefault{Variables: []string{"TERMINFO_DIRS"}, Others: []string{"TERMINFO"}},
			before:   "/etc/terminfo:/lib/terminfo:/usr/share/terminfo:", // the run image's first
		},
		{
			files:    shells(),
			standard: launch.EnvDefault{Variables: []string{"SHELL"}, Files: []string{"/bin/sh"}},
		},
	}
}

// findResources looks which of the closure's paths have which files that resources are, or remembers it of paths whose
// layers are not here.
func (c *contents) findResources(before buildRecord) map[storepath.Path][]string {
	found := map[storepath.Path][]string{}
	for _, group := range c.Groups {
		for _, p := range group.Paths {
			dir := filepath.Join(c.layersDir, group.Layer, p.Base())
			here := exists(dir)
			for _, r := range resources() {
				for _, file := range r.files {
					has := slices.Contains(before.Resources[p], file)
					if here {
						_, err := os.Lstat(filepath.Join(dir, file))
						has = err == nil
					}
					if has {
						found[p] = append(found[p], file)
					}
				}
			}
		}
	}
	return found
}

// resource is the place in an ordinary store of the first of some files that the closure has, "" for none. Roots come
// first, then the greatest name: of two versions mostly the newer one.
func (c *contents) resource(files []string) string {
	for _, file := range files {
		var paths []storepath.Path
		for p, has := range c.Resources {
			if slices.Contains(has, file) {
				paths = append(paths, p)
			}
		}
		if len(paths) == 0 {
			continue
		}
		rank := func(p storepath.Path) int {
			if i := slices.Index(c.Roots.Paths, p); i >= 0 {
				return i
			}
			return len(c.Roots.Paths)
		}
		best := slices.MinFunc(paths, func(a, b storepath.Path) int {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(b.Name(), a.Name()), strings.Compare(a.String(), b.String()))
		})
		return best.String() + "/" + file
	}
	return ""
}

// shell is the closure's shell, "" where it has none.
func (c *contents) shell() string { return c.resource(shells()) }

// defaults are the variables by which the launcher points to what the closure has.
func (c *contents) defaults() []launch.EnvDefault {
	var list []launch.EnvDefault
	for _, r := range resources() {
		if path := c.resource(r.files); path != "" {
			d := r.standard
			d.Value = r.before + path
			list = append(list, d)
		}
	}
	return list
}
