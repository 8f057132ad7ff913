package launchlayer

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// Resource is something that programs look for at a fixed path of an operating system, that a bare run image lacks, and that a
// variable can point to where the closure has it.
type Resource struct {
	// Files are the paths below a store path where it may be, best first.
	Files []string
	// standard says how the launcher points to it, but for the value.
	standard launch.EnvDefault
	// before goes before the path in the value.
	before string
}

// Shells are the paths below a store path where a shell may be, best first.
func Shells() []string { return []string{"bin/bash", "bin/sh"} }

// Resources are those that can be pointed to, as nixpkgs lays them out.
func Resources() []Resource {
	return []Resource{
		{
			Files: []string{"etc/ssl/certs/ca-bundle.crt", "etc/ssl/certs/ca-certificates.crt"},
			standard: launch.EnvDefault{
				// OpenSSL and Go; nixpkgs' OpenSSL, curl and others, before the first; Haskell.
				Variables: []string{"SSL_CERT_FILE", "NIX_SSL_CERT_FILE", "SYSTEM_CERTIFICATE_PATH"}, Others: []string{"SSL_CERT_DIR"},
				// Where programs look by themselves: Debian, Fedora, Alpine, SUSE, as crypto/x509 lists them.
				Files: []string{
					"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
					"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
					"/etc/ssl/certs/ca-bundle.crt",
				},
			},
		},
		{
			Files: []string{"share/zoneinfo"},
			// The C library; Go; Python. nixpkgs' C library does not look into a run image's /usr/share/zoneinfo.
			standard: launch.EnvDefault{Variables: []string{"TZDIR", "ZONEINFO", "PYTHONTZPATH"}},
		},
		{
			Files: []string{"lib/locale/locale-archive"},
			// Only nixpkgs' C library knows it, and it does not look for a run image's.
			standard: launch.EnvDefault{Variables: []string{"LOCALE_ARCHIVE"}},
		},
		{
			Files:    []string{"share/terminfo", "lib/terminfo"},
			standard: launch.EnvDefault{Variables: []string{"TERMINFO_DIRS"}, Others: []string{"TERMINFO"}},
			before:   "/etc/terminfo:/lib/terminfo:/usr/share/terminfo:", // the run image's first
		},
		{
			Files:    Shells(),
			standard: launch.EnvDefault{Variables: []string{"SHELL"}, Files: []string{"/bin/sh"}},
		},
	}
}

// Default says how the launcher points to a resource that is at path.
func (r Resource) Default(path string) launch.EnvDefault {
	d := r.standard
	d.Value = r.before + path
	return d
}

// Path is the path that a default points to, as Default was told; ok says that it is of this resource.
func (r Resource) Path(d launch.EnvDefault) (path string, ok bool) {
	path, ok = strings.CutPrefix(d.Value, r.before)
	return path, ok && reflect.DeepEqual(d, r.Default(path))
}

// find is the path in /nix/store of the first of some files that the closure has; "" for none. Of several store paths that have
// it, a root comes first, then the greatest name: of two versions mostly the newer one.
func (c Contents) find(files []string) string {
	rank := func(p storepath.Path) int {
		if i := slices.IndexFunc(c.Roots, func(r Root) bool { return r.Path == p }); i >= 0 {
			return i
		}
		return len(c.Roots)
	}
	for _, file := range files {
		var paths []storepath.Path
		for p, has := range c.Resources {
			if slices.Contains(has, file) {
				paths = append(paths, p)
			}
		}
		if len(paths) > 0 {
			best := slices.MinFunc(paths, func(a, b storepath.Path) int {
				return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(b.Name(), a.Name()), strings.Compare(a.String(), b.String()))
			})
			return best.String() + "/" + file
		}
	}
	return ""
}
