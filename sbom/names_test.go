package sbom_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

// storeNames are names of store paths as nixpkgs has them, with name, version, output and the product by which advisories know
// it: from narinfos of cache.nixos.org, and of packages by the outputs that their expressions have.
const storeNames = `
acl-2.3.2                                      acl                       2.3.2                    -          acl_project:acl
bash-5.1-p8                                    bash                      5.1-p8                   -          gnu:bash
bash-interactive-5.1-p16-man                   bash-interactive          5.1-p16                  man        gnu:bash
bash-interactive-5.3p3-info                    bash-interactive          5.3p3                    info       gnu:bash
bind-9.20.18-dnsutils                          bind                      9.20.18                  dnsutils   isc:bind
bind-9.20.18-host                              bind                      9.20.18                  host       isc:bind
bzip2-1.0.6.0.2-bin                            bzip2                     1.0.6.0.2                bin        bzip:bzip2
busybox-static-x86_64-unknown-linux-musl-1.35.0 busybox-static-x86_64-unknown-linux-musl 1.35.0   -          -
curl-7.82.0-bin                                curl                      7.82.0                   bin        haxx:curl
ffmpeg-headless-7.1.1-data                     ffmpeg-headless           7.1.1                    data       ffmpeg:ffmpeg
fontconfig-2.13.94-bin                         fontconfig                2.13.94                  bin        fontconfig_project:fontconfig
gcc-14.3.0-lib                                 gcc                       14.3.0                   lib        gnu:gcc
gcc-14.3.0-libgcc                              gcc                       14.3.0                   libgcc     gnu:gcc
glib-2.70.2-dev                                glib                      2.70.2                   dev        gnome:glib
glibc-2.34-210-bin                             glibc                     2.34-210                 bin        gnu:glibc
glibc-2.40-66-getent                           glibc                     2.40-66                  getent     gnu:glibc
gnugrep-3.12-info                              gnugrep                   3.12                     info       gnu:grep
gnumake-4.4.1                                  gnumake                   4.4.1                    -          gnu:make
gnused-4.9                                     gnused                    4.9                      -          gnu:sed
harfbuzz-icu-11.2.1                            harfbuzz-icu              11.2.1                   -          harfbuzz_project:harfbuzz
hello-2.12.1                                   hello                     2.12.1                   -          -
icu4c-76.1                                     icu4c                     76.1                     -          unicode:international_components_for_unicode
krb5-1.22.1-lib                                krb5                      1.22.1                   lib        mit:kerberos_5
libcap-2.73-pam                                libcap                    2.73                     pam        libcap_project:libcap
liblqr-1-0.4.1                                 liblqr                    1-0.4.1                  -          -
libpng-apng-1.6.37-dev                         libpng-apng               1.6.37                   dev        libpng:libpng
libssh-0.11.2                                  libssh                    0.11.2                   -          libssh:libssh
lighttpd-1.4.82                                lighttpd                  1.4.82                   -          lighttpd:lighttpd
linux-pam-1.7.1                                linux-pam                 1.7.1                    -          linux-pam:linux-pam
mariadb-client-10.2.16-bin                     mariadb-client            10.2.16                  bin        mariadb:mariadb
mariadb-server-11.4.8-man                      mariadb-server            11.4.8                   man        mariadb:mariadb
net-tools-1.60_p20170221182432                 net-tools                 1.60_p20170221182432     -          -
nodejs-slim-22.21.1-libv8                      nodejs-slim               22.21.1                  libv8      nodejs:node.js
openjdk-17.0.5+8-jre                           openjdk                   17.0.5+8                 jre        oracle:openjdk
openjdk-minimal-jre-21.0.9+10                  openjdk-minimal-jre       21.0.9+10                -          oracle:openjdk
openldap-2.6.9-devdoc                          openldap                  2.6.9                    devdoc     openldap:openldap
openssl-1.1.1n                                 openssl                   1.1.1n                   -          openssl:openssl
perl5.34.0-latexindent-3.9.2                   perl5.34.0-latexindent    3.9.2                    -          -
postgresql-17.7-lib                            postgresql                17.7                     lib        postgresql:postgresql
postgresql-17.7-plpython3                      postgresql                17.7                     plpython3  postgresql:postgresql
postgresql-jit-17.7-doc                        postgresql-jit            17.7                     doc        postgresql:postgresql
postgresql-jit-and-plugins-17.7                postgresql-jit-and-plugins 17.7                    -          postgresql:postgresql
python3-3.9.9                                  python3                   3.9.9                    -          python:python
python3-3.14.8-env                             python3                   3.14.8-env               -          -
python3.9-cryptography-36.0.0-dev              python3.9-cryptography    36.0.0                   dev        -
python3.9-mt-940-4.23.0                        python3.9-mt              940-4.23.0               -          -
shadow-4.19.3-su                               shadow                    4.19.3                   su         debian:shadow
source                                         source                    -                        -          -
systemd-minimal-libs-258.2                     systemd-minimal-libs      258.2                    -          systemd_project:systemd
systemd-258.2-man                              systemd                   258.2                    man        systemd_project:systemd
texlive-bin-2021-doc                           texlive-bin               2021                     doc        -
texlive-armtex-3.0-beta3                       texlive-armtex            3.0-beta3                -          -
texlive-concepts-0.0.5-r1                      texlive-concepts          0.0.5-r1                 -          -
texlive-core-big.bin-2021-luajittex            texlive-core-big.bin      2021                     luajittex  -
texlive-electrum-1.005-b                       texlive-electrum          1.005-b                  -          -
texlive-guitlogo-1.0.0-alpha.4                 texlive-guitlogo          1.0.0-alpha.4            -          -
texlive-latex-base-dev-2021-05-01_pre-release_2 texlive-latex-base-dev   2021-05-01_pre-release_2 -          -
tzdata-2022a                                   tzdata                    2022a                    -          -
util-linux-minimal-2.41.2-lastlog              util-linux-minimal        2.41.2                   lastlog    kernel:util-linux
util-linux-minimal-2.41.2-lib                  util-linux-minimal        2.41.2                   lib        kernel:util-linux
util-linux-minimal-2.41.2-login                util-linux-minimal        2.41.2                   login      kernel:util-linux
util-linux-minimal-2.41.2-mount                util-linux-minimal        2.41.2                   mount      kernel:util-linux
util-linux-minimal-2.41.2-swap                 util-linux-minimal        2.41.2                   swap       kernel:util-linux
webdav-server-rs-unstable-2021-08-16           webdav-server-rs-unstable 2021-08-16               -          -
`

func TestStorePathsAsNixpkgsNamesThem(t *testing.T) {
	g := NewWithT(t)
	for line := range strings.Lines(strings.TrimSpace(storeNames)) {
		fields := strings.Fields(strings.ReplaceAll(line, " -", " \x00"))
		g.Expect(fields).To(HaveLen(5), line)
		for i := range fields {
			fields[i] = strings.ReplaceAll(fields[i], "\x00", "")
		}
		name, version, output := sbom.ParseName(fields[0])
		g.Expect([]string{name, version, output}).To(Equal(fields[1:4]), fields[0])
		product := ""
		if cpes := sbom.CPEs(name, version); len(cpes) > 0 {
			product = strings.Join(strings.Split(cpes[0], ":")[3:5], ":")
		}
		g.Expect(product).To(Equal(fields[4]), fields[0])
	}
}

// TestWordsThatAreNoOutputs has versions that end in a word, and what is made of a package and has its version.
func TestWordsThatAreNoOutputs(t *testing.T) {
	g := NewWithT(t)
	for name, want := range map[string]string{
		"a-1.0-beta": "1.0-beta", "a-1.0-rc": "1.0-rc", "a-1.0-git": "1.0-git", "a-0-unstable": "0-unstable", "a-1.0-r": "1.0-r",
		"a-1.0-wrapped": "1.0-wrapped", "a-1.0-env": "1.0-env", "a-1.0-Lib": "1.0-Lib", "a-1.0-lib64": "1.0-lib64", "a-1.0-": "1.0-",
		"a--lib": "-lib",
	} {
		_, version, output := sbom.ParseName(name)
		g.Expect(version).To(Equal(want), name)
		g.Expect(output).To(BeEmpty(), name)
	}
}
