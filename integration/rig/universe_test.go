package rig

import (
	"testing"

	"github.com/onsi/gomega"
)

func TestUpstreamVersions(t *testing.T) {
	for version, want := range map[string]string{
		"2.34.8+dfsg-1+b1":           "2.34.8",
		"1:1.38.0-3+b1":              "1.38.0",
		"24.21.0+dfsg+~cs24.13.4-1":  "24.21.0",
		"5.3-4":                      "5.3",
		"18+293":                     "18",
		"6.6+20260608-2":             "6.6",
		"2:2.5.0+samba4.25.1+dfsg-1": "2.5.0",
		"1:29.1.1+dfsg-1":            "29.1.1",
		"25.0.5+8-1":                 "25.0.5",
		"1:1.3.dfsg+really1.3.2-3":   "1.3",
		"2.20.0+dfsg-2":              "2.20.0",
		"1.0.8-6+b2":                 "1.0.8",
		"7:9.0.2-1":                  "9.0.2",
		"1.52~really1-1":             "1.52",
		"20240203":                   "20240203",
		"0.8.2+repack1-0.1":          "0.8.2",
		"9.4.3+~cs12.11.9-2":         "9.4.3",
		"3.14.8-1":                   "3.14.8",
		"2026b-1":                    "2026b",
	} {
		gomega.NewWithT(t).Expect(upstream(version)).To(gomega.Equal(want), version)
	}
}

func TestCirclesAreFound(t *testing.T) {
	graph := map[string][]string{
		"libc": {"libgcc"}, "libgcc": {"base", "libc"}, "base": nil,
		"bash": {"libc", "tinfo"}, "tinfo": {"libc"},
		"a": {"b"}, "b": {"c"}, "c": {"a", "libc"},
	}
	gomega.NewWithT(t).Expect(circles(graph)).To(gomega.ConsistOf([]string{"libc", "libgcc"}, []string{"a", "b", "c"}))
}

func TestStanzasOfAPackageIndexAreRead(t *testing.T) {
	stanza := `Package: nginx
Version: 1.30.6-2
Architecture: amd64
Depends: nginx-common (= 1.30.6-2), libc6 (>= 2.34) | libc6-udeb:any
Pre-Depends: init
Provides: httpd, nginx-abi-1.30.6-1 (= 1)
Description: small
 and long
Filename: pool/main/n/nginx/nginx_1.30.6-2_amd64.deb
Size: 12
SHA256: 00ff`
	deb, ok := parseStanza(stanza)
	expect := gomega.NewWithT(t).Expect
	expect(ok).To(gomega.BeTrue())
	expect(deb.Depends).To(gomega.Equal([]string{"init", "nginx-common (= 1.30.6-2)", "libc6 (>= 2.34) | libc6-udeb:any"}))
	expect(deb.Provides).To(gomega.Equal([]string{"httpd", "nginx-abi-1.30.6-1"}))
	expect(deb.Size).To(gomega.BeEquivalentTo(12))
	expect(bareName(" libc6-udeb:any (>= 1)")).To(gomega.Equal("libc6-udeb"))
	_, ok = parseStanza("Package: x")
	expect(ok).To(gomega.BeFalse())
}

func TestTheMachinesOwnMirrorIsFound(t *testing.T) {
	for line, want := range map[string]string{
		"deb http://deb.debian.org/debian bookworm main":                     "http://deb.debian.org/debian",
		"deb [signed-by=/x] https://mirror.example.org/pub/debian/ sid main": "https://mirror.example.org/pub/debian",
		"URIs: http://deb.debian.org/debian":                                 "http://deb.debian.org/debian",
		"URIs: http://deb.debian.org/debian-security":                        "",
		"deb http://archive.ubuntu.com/ubuntu noble main":                    "",
		"# deb http://old.example.org/debian sid main":                       "",
	} {
		found := ""
		if match := debianMirror.FindStringSubmatch(line); match != nil {
			found = match[1]
		}
		gomega.NewWithT(t).Expect(found).To(gomega.Equal(want), line)
	}
}
