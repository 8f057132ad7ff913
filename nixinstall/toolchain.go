// Package nixinstall holds the Nix toolchain and the questions that a build puts to it: which store path is this
// source, and which store paths do these expressions name?
//
// Install turns an official Nix release tarball into programs that run from an ordinary directory: their store paths
// are rewritten to it, so that neither /nix nor root, ptrace or a namespace is needed. The store that evaluation
// works on is a "chroot store" (store = local?root=…), so that everything keeps its logical place below /nix/store
// and nothing of the machine that evaluates leaks into a derivation. Nothing is ever built: max-jobs is 0, there is
// no remote builder, and what would have to be compiled comes back as a *WouldBuildError.
package nixinstall

import (
	"net/http"
	"path/filepath"
	"time"
)

// Toolchain is a Nix that is ready to run. Install and Restore make it; With gives it the settings that questions
// need. The value may be copied.
type Toolchain struct {
	// Dir is the directory that Install was given.
	Dir string
	// Metadata says what was installed.
	Metadata Metadata

	settings Settings
	renames  *unaffected
	// since is when the settings were given; what was fetched before without a hash is looked at anew.
	since time.Time
}

// Metadata describes an installed toolchain: everything that its contents depend on.
type Metadata struct {
	// Format is the version of this description and of the pack beside it.
	Format int `json:"format" toml:"format"`
	// Version is Nix's own, for example "2.35.2".
	Version string `json:"version" toml:"version"`
	// System is the Nix system that the programs run on, for example "x86_64-linux".
	System string `json:"system" toml:"system"`
	// Prefix is the directory that store paths were rewritten to. The programs run nowhere else.
	Prefix string `json:"prefix" toml:"prefix"`
	// Program is the base name, inside Prefix, of the path that holds bin/nix.
	Program string `json:"program" toml:"program"`
	// Certificates is the base name of the path that holds etc/ssl/certs/ca-bundle.crt, "" where there is none.
	Certificates string `json:"certificates,omitempty" toml:"certificates,omitempty"`
	// Release is the SHA-256 (hex) of the release tarball.
	Release string `json:"release" toml:"release"`
	// Paths are the base names of the rewritten paths inside Prefix.
	Paths []string `json:"paths" toml:"paths"`
	// PackHash is the SHA-256 (hex) of the pack's decompressed contents.
	PackHash string `json:"packHash" toml:"pack-hash"`
}

// Settings are what nix.conf is written from; Nix reads no other.
type Settings struct {
	// State is the directory that Nix keeps its store, its caches and its HOME in. It may be kept between builds.
	// It must be absolute and belong to the user who evaluates.
	State string
	// Substituters are cache URLs, asked for paths that evaluation imports from derivations. They may hold
	// credentials: they are written to a file that only the user can read, for the time of one command.
	Substituters []string
	// Authorization are the headers of that name for some of the Substituters, by what is written there, where a netrc has
	// no field for them, such as a token. They go to these and nobody else.
	Authorization map[string]string
	// Wrap are what puts itself between some of the Substituters and the network, by what is written there: for servers that
	// want more of a login than Nix can send.
	Wrap map[string]func(next http.RoundTripper) http.RoundTripper
	// TrustedPublicKeys are "name:base64" keys.
	TrustedPublicKeys []string
	// RequireSigs is false only where a setting says so.
	RequireSigs bool
	// NetrcFile is a netrc for the substituters and for fetchers; "" for none.
	NetrcFile string
	// Authorities are certificate authorities in PEM, trusted beside those that the environment's NIX_SSL_CERT_FILE and
	// SSL_CERT_FILE name and the system's, in place of which the toolchain has its own.
	Authorities []string
	// NixPath are the entries of NIX_PATH, "name=path-or-URL" or "path"; there are no others. "." and what begins with
	// "./" lie in the source.
	NixPath []string
	// System overrides builtins.currentSystem; "" is the toolchain's.
	System string
	// Environment is the environment of the build, as os.Environ gives it. Only what is on a short list (proxies,
	// certificates, locale, temporary directory, AWS credentials, PATH for git and ssh) reaches Nix, and of NIX_CONFIG the
	// Features.
	Environment []string
	// Log, if set, receives a line when there is something to say: a long evaluation, a download.
	Log func(format string, args ...any)
	// registry has Nix ask the global registry of flakes, which it downloads, for flakes without an address.
	registry bool
	// quiet is how long an evaluation runs before Log hears of it, and between two such lines; 0 is 5 seconds, tests have less.
	quiet time.Duration
}

// With gives a toolchain that asks its questions under s. What expressions fetch without a hash is the same for all of
// them, and is looked for anew for the first.
func (t Toolchain) With(s Settings) Toolchain {
	t.settings, t.renames, t.since = s, &unaffected{}, time.Now()
	return t
}

// For gives a toolchain that asks the same for another system.
func (t Toolchain) For(system string) Toolchain {
	t.settings.System = system
	return t
}

// program is the path of one of the toolchain's programs.
func (t Toolchain) program(name string) string {
	return filepath.Join(t.Metadata.Prefix, t.Metadata.Program, "bin", name)
}

func (t Toolchain) logf(format string, args ...any) {
	if t.settings.Log != nil {
		t.settings.Log(format, args...)
	}
}
