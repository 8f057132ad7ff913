package sbom

import "strings"

// cpeNames are vendor and product, as the National Vulnerability Database has them, of packages by their name in
// nixpkgs. It is by these that scanners find advisories about what no distribution's tracker knows.
func cpeNames() map[string][]string {
	return map[string][]string{
		"apr": {"apache:portable_runtime"}, "apache-httpd": {"apache:http_server"}, "avahi": {"avahi:avahi"},
		"bash": {"gnu:bash"}, "bash-interactive": {"gnu:bash"}, "bind": {"isc:bind"}, "binutils": {"gnu:binutils"}, "brotli": {"google:brotli"},
		"busybox": {"busybox:busybox"}, "bzip2": {"bzip:bzip2"}, "c-ares": {"c-ares:c-ares"}, "cmake": {"kitware:cmake"},
		"coreutils": {"gnu:coreutils"}, "cpio": {"gnu:cpio"}, "cups": {"openprinting:cups", "apple:cups"},
		"curl": {"haxx:curl"}, "dbus": {"freedesktop:dbus"}, "emacs": {"gnu:emacs"}, "erlang": {"erlang:erlang\\/otp"},
		"expat": {"libexpat_project:libexpat"}, "ffmpeg": {"ffmpeg:ffmpeg"}, "file": {"file_project:file"},
		"freetype": {"freetype:freetype"}, "gawk": {"gnu:gawk"}, "gcc": {"gnu:gcc"}, "gdk-pixbuf": {"gnome:gdk-pixbuf"},
		"ghostscript": {"artifex:ghostscript"}, "git": {"git-scm:git"}, "git-minimal": {"git-scm:git"}, "glib": {"gnome:glib"}, "glibc": {"gnu:glibc"},
		"gmp": {"gmplib:gmp"}, "gnupg": {"gnupg:gnupg"}, "gnutls": {"gnu:gnutls"}, "go": {"golang:go"}, "grep": {"gnu:grep"},
		"gzip": {"gnu:gzip"}, "haproxy": {"haproxy:haproxy"}, "harfbuzz": {"harfbuzz_project:harfbuzz"},
		"icu4c": {"icu-project:international_components_for_unicode"}, "imagemagick": {"imagemagick:imagemagick"},
		"jq": {"jqlang:jq", "stedolan:jq"}, "krb5": {"mit:kerberos_5"}, "less": {"gnu:less"},
		"libarchive": {"libarchive:libarchive"}, "libevent": {"libevent_project:libevent"}, "libgcrypt": {"gnupg:libgcrypt"},
		"libidn2": {"gnu:libidn2"}, "libjpeg-turbo": {"libjpeg-turbo:libjpeg-turbo"}, "libpng": {"libpng:libpng"},
		"libsndfile": {"libsndfile_project:libsndfile"}, "libssh2": {"libssh2:libssh2"}, "libtasn1": {"gnu:libtasn1"},
		"libtiff": {"libtiff:libtiff"}, "libuv": {"libuv:libuv"}, "libwebp": {"webmproject:libwebp"},
		"libxml2": {"xmlsoft:libxml2"}, "libxslt": {"xmlsoft:libxslt"}, "libyaml": {"pyyaml:libyaml"}, "lua": {"lua:lua"},
		"lz4": {"lz4_project:lz4"}, "mariadb-server": {"mariadb:mariadb"}, "memcached": {"memcached:memcached"},
		"mysql": {"oracle:mysql"}, "ncurses": {"gnu:ncurses"}, "nettle": {"nettle_project:nettle"},
		"nghttp2": {"nghttp2:nghttp2"}, "nginx": {"f5:nginx", "nginx:nginx"}, "nix": {"nixos:nix"},
		"nodejs": {"nodejs:node.js"}, "nodejs-slim": {"nodejs:node.js"}, "openjdk": {"oracle:openjdk"}, "openjdk-headless": {"oracle:openjdk"},
		"openldap": {"openldap:openldap"}, "openssh": {"openbsd:openssh"}, "openssl": {"openssl:openssl"},
		"p11-kit": {"p11-kit_project:p11-kit"}, "pcre": {"pcre:pcre"}, "pcre2": {"pcre:pcre2"}, "perl": {"perl:perl"},
		"php": {"php:php"}, "php-with-extensions": {"php:php"}, "postgresql": {"postgresql:postgresql"}, "postgresql-and-plugins": {"postgresql:postgresql"}, "procps": {"procps-ng_project:procps-ng"},
		"python": {"python:python"}, "python3": {"python:python"}, "python3-minimal": {"python:python"}, "readline": {"gnu:readline"}, "redis": {"redis:redis"},
		"rsync": {"samba:rsync"}, "ruby": {"ruby-lang:ruby"}, "rustc": {"rust-lang:rust"}, "sqlite": {"sqlite:sqlite"},
		"sudo": {"sudo_project:sudo"}, "systemd": {"systemd_project:systemd"}, "systemd-minimal": {"systemd_project:systemd"},
		"systemd-minimal-libs": {"systemd_project:systemd"}, "gnutar": {"gnu:tar"},
		"unbound": {"nlnetlabs:unbound"}, "unzip": {"unzip_project:unzip"}, "util-linux": {"kernel:util-linux"}, "util-linux-minimal": {"kernel:util-linux"},
		"vim": {"vim:vim"}, "wget": {"gnu:wget"}, "xz": {"tukaani:xz"}, "zlib": {"zlib:zlib"}, "zstd": {"facebook:zstandard"},
	}
}

// CPEs are the names by which the National Vulnerability Database knows a package of nixpkgs, where this package does.
func CPEs(name, version string) []string {
	if version == "" || strings.HasSuffix(version, "-env") { // links to what is in the closure by its own name: buildEnv
		return nil
	}
	var all []string
	for _, names := range cpeNames()[name] {
		all = append(all, "cpe:2.3:a:"+names+":"+escapeCPE(released(name, version))+":*:*:*:*:*:*:*")
	}
	return all
}

// released is the version that a package's authors gave it, which advisories speak of: nixpkgs adds to glibc's how many
// patches of the release's branch it has, and OpenJDK's has the number of a build.
func released(name, version string) string {
	switch name {
	case "glibc":
		version, _, _ = strings.Cut(version, "-")
	case "openjdk", "openjdk-headless":
		version, _, _ = strings.Cut(version, "+")
	}
	return version
}

// escapeCPE writes a value in a formatted string (NIST IR 7695, 6.2).
func escapeCPE(value string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(value) {
		plain := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
		if !plain {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}
