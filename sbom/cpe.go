package sbom

import "strings"

// cpeNames are vendor and product, as the National Vulnerability Database has them, of packages by their name in
// nixpkgs. It is by these that scanners find advisories about what no distribution's tracker knows. What Buildroot
// (CPE_ID), Yocto (CVE_PRODUCT) or Syft look up there, too, was compared with theirs.
func cpeNames() map[string][]string {
	return map[string][]string{
		"acl": {"acl_project:acl"}, "apache-httpd": {"apache:http_server"}, "apr": {"apache:portable_runtime"},
		"apr-util": {"apache:portable_runtime_utility"}, "attr": {"attr_project:attr"}, "audit": {"linux_audit_project:linux_audit"},
		"avahi": {"avahi:avahi"}, "bash": {"gnu:bash"}, "bc": {"gnu:bc"}, "bind": {"isc:bind"}, "binutils": {"gnu:binutils"},
		"boost": {"boost:boost"}, "brotli": {"google:brotli"}, "busybox": {"busybox:busybox"}, "bzip2": {"bzip:bzip2"},
		"c-ares": {"c-ares:c-ares"}, "cairo": {"cairographics:cairo"}, "cmake": {"kitware:cmake"}, "coreutils": {"gnu:coreutils"},
		"cpio": {"gnu:cpio"}, "cryptsetup": {"cryptsetup_project:cryptsetup"}, "cups": {"openprinting:cups", "apple:cups"},
		"curl": {"haxx:curl"}, "dash": {"dash:dash"}, "db": {"oracle:berkeley_db"}, "dbus": {"freedesktop:dbus"},
		"diffutils": {"gnu:diffutils"}, "dnsmasq": {"thekelleys:dnsmasq"}, "e2fsprogs": {"e2fsprogs_project:e2fsprogs"},
		"elfutils": {"elfutils_project:elfutils"}, "emacs": {"gnu:emacs"}, "erlang": {"erlang:erlang\\/otp"},
		"expat": {"libexpat_project:libexpat"}, "ffmpeg": {"ffmpeg:ffmpeg"}, "file": {"file_project:file"},
		"findutils": {"gnu:findutils"}, "flac": {"flac_project:flac"}, "fontconfig": {"fontconfig_project:fontconfig"},
		"freetype": {"freetype:freetype"}, "fribidi": {"gnu:fribidi"}, "gawk": {"gnu:gawk"}, "gcc": {"gnu:gcc"},
		"gdk-pixbuf": {"gnome:gdk-pixbuf"}, "gettext": {"gnu:gettext"}, "ghostscript": {"artifex:ghostscript"},
		"giflib": {"giflib_project:giflib"}, "git": {"git-scm:git"}, "glib": {"gnome:glib"}, "glibc": {"gnu:glibc"},
		"gmp": {"gmplib:gmp"}, "gnugrep": {"gnu:grep"}, "gnumake": {"gnu:make"}, "gnupg": {"gnupg:gnupg"}, "gnused": {"gnu:sed"},
		"gnutar": {"gnu:tar"}, "gnutls": {"gnu:gnutls"}, "go": {"golang:go"}, "graphite2": {"sil:graphite2"}, "grpc": {"grpc:grpc"},
		"gzip": {"gnu:gzip"}, "haproxy": {"haproxy:haproxy"}, "harfbuzz": {"harfbuzz_project:harfbuzz"},
		"harfbuzz-icu": {"harfbuzz_project:harfbuzz"}, "hiredis": {"redis:hiredis"},
		"icu4c":       {"unicode:international_components_for_unicode", "icu-project:international_components_for_unicode"},
		"imagemagick": {"imagemagick:imagemagick"}, "iproute2": {"iproute2_project:iproute2"}, "iptables": {"netfilter:iptables"},
		"jansson": {"jansson_project:jansson"}, "jasper": {"jasper_project:jasper"}, "jq": {"jqlang:jq", "stedolan:jq"},
		"json-c": {"json-c:json-c"}, "kmod": {"kernel:kmod"}, "krb5": {"mit:kerberos_5"}, "lcms2": {"littlecms:little_cms"},
		"less": {"gnu:less"}, "libarchive": {"libarchive:libarchive"}, "libcap": {"libcap_project:libcap"},
		"libevent": {"libevent_project:libevent"}, "libffi": {"libffi_project:libffi"}, "libgcrypt": {"gnupg:libgcrypt"},
		"libgit2": {"libgit2:libgit2"}, "libgpg-error": {"gnupg:libgpg-error"}, "libheif": {"struktur:libheif"},
		"libidn2": {"gnu:libidn2"}, "libjpeg-turbo": {"libjpeg-turbo:libjpeg-turbo"}, "libksba": {"gnupg:libksba"},
		"libmicrohttpd": {"gnu:libmicrohttpd"}, "libopus": {"opus-codec:opus"}, "libpcap": {"tcpdump:libpcap"},
		"libpng": {"libpng:libpng"}, "librsvg": {"gnome:librsvg"}, "libseccomp": {"libseccomp_project:libseccomp"},
		"libsndfile": {"libsndfile_project:libsndfile"}, "libssh": {"libssh:libssh"}, "libssh2": {"libssh2:libssh2"},
		"libtasn1": {"gnu:libtasn1"}, "libtiff": {"libtiff:libtiff"}, "libunistring": {"gnu:libunistring"}, "libuv": {"libuv:libuv"},
		"libvorbis": {"xiph.org:libvorbis"}, "libvpx": {"webmproject:libvpx"}, "libwebp": {"webmproject:libwebp"},
		"libxml2": {"xmlsoft:libxml2"}, "libxslt": {"xmlsoft:libxslt"}, "libyaml": {"pyyaml:libyaml"}, "libzip": {"libzip:libzip"},
		"lighttpd": {"lighttpd:lighttpd"}, "linux-pam": {"linux-pam:linux-pam"}, "lua": {"lua:lua"}, "lvm2": {"redhat:lvm2"},
		"lz4": {"lz4_project:lz4"}, "mariadb": {"mariadb:mariadb"}, "mariadb-client": {"mariadb:mariadb"},
		"mariadb-server": {"mariadb:mariadb"}, "mbedtls": {"trustedfirmware:mbed_tls"}, "memcached": {"memcached:memcached"},
		"mosquitto": {"eclipse:mosquitto"}, "musl": {"musl-libc:musl"}, "mysql": {"oracle:mysql"}, "ncurses": {"gnu:ncurses"},
		"nettle": {"nettle_project:nettle"}, "nghttp2": {"nghttp2:nghttp2"}, "nginx": {"f5:nginx", "nginx:nginx"},
		"nix": {"nixos:nix"}, "nodejs": {"nodejs:node.js"}, "nspr": {"mozilla:netscape_portable_runtime"}, "nss": {"mozilla:nss"},
		"openjdk": {"oracle:openjdk"}, "openjpeg": {"uclouvain:openjpeg"}, "openldap": {"openldap:openldap"},
		"openssh": {"openbsd:openssh"}, "openssl": {"openssl:openssl"}, "openvpn": {"openvpn:openvpn"},
		"p11-kit": {"p11-kit_project:p11-kit"}, "pango": {"gnome:pango"}, "patch": {"gnu:patch"}, "pcre": {"pcre:pcre"},
		"pcre2": {"pcre:pcre2"}, "perl": {"perl:perl"}, "php": {"php:php"}, "pixman": {"pixman:pixman"},
		"poppler": {"freedesktop:poppler"}, "postgresql": {"postgresql:postgresql"}, "procps": {"procps-ng_project:procps-ng"},
		"protobuf": {"google:protobuf"}, "python": {"python:python"}, "python3": {"python:python"}, "readline": {"gnu:readline"},
		"redis": {"redis:redis", "redislabs:redis"}, "rsync": {"samba:rsync"}, "ruby": {"ruby-lang:ruby"},
		"rustc": {"rust-lang:rust"}, "screen": {"gnu:screen"}, "shadow": {"debian:shadow", "shadow_project:shadow"},
		"sqlite": {"sqlite:sqlite"}, "squid": {"squid-cache:squid"}, "strace": {"strace_project:strace"},
		"strongswan": {"strongswan:strongswan"}, "sudo": {"sudo_project:sudo"}, "systemd": {"systemd_project:systemd"},
		"tcl": {"tcl:tcl"}, "tcpdump": {"tcpdump:tcpdump"}, "tmux": {"tmux_project:tmux"}, "unbound": {"nlnetlabs:unbound"},
		"unzip": {"unzip_project:unzip"}, "util-linux": {"kernel:util-linux"}, "valgrind": {"valgrind:valgrind"},
		"valkey": {"lfprojects:valkey", "linuxfoundation:valkey"}, "vim": {"vim:vim"}, "wget": {"gnu:wget"},
		"wolfssl": {"wolfssl:wolfssl"}, "xz": {"tukaani:xz"}, "zeromq": {"zeromq:libzmq"}, "zip": {"info-zip_project:zip"},
		"zlib": {"zlib:zlib"}, "zsh": {"zsh:zsh"}, "zstd": {"facebook:zstandard"},
	}
}

// variants are what nixpkgs adds to a package's name where it is built in another way or in part, or has more beside it.
func variants() []string {
	return []string{
		"-and-plugins", "-apng", "-full", "-headless", "-interactive", "-jit", "-jre", "-libs", "-minimal", "-nox", "-slim", "-unwrapped",
		"-with-extensions", "-with-X",
	}
}

// known is the name in cpeNames of a package or of what it is a variant of; "" where there is none.
func known(name string) string {
	for {
		if cpeNames()[name] != nil {
			return name
		}
		base := name
		for _, variant := range variants() {
			base = strings.TrimSuffix(base, variant)
		}
		if base == name {
			return ""
		}
		name = base
	}
}

// CPEs are the names by which the National Vulnerability Database knows a package of nixpkgs, where this package does.
func CPEs(name, version string) []string {
	if version == "" || isEnvironment(version) {
		return nil
	}
	name = known(name)
	var all []string
	for _, names := range cpeNames()[name] {
		all = append(all, "cpe:2.3:a:"+names+":"+escapeCPE(released(name, version))+":*:*:*:*:*:*:*")
	}
	return all
}

// released is the version that the authors of one of cpeNames gave it, which advisories speak of: nixpkgs adds to glibc's how many
// patches of the release's branch it has, and OpenJDK's has the number of a build.
func released(name, version string) string {
	switch name {
	case "glibc":
		version, _, _ = strings.Cut(version, "-")
	case "openjdk":
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
