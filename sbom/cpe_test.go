package sbom_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

func TestCPEsOfStorePathsAsNixpkgsNamesThem(t *testing.T) {
	g := NewWithT(t)
	for name, want := range map[string]string{
		"openssl-3.0.6-bin":               "openssl:openssl:3.0.6",
		"bash-5.3p3":                      "gnu:bash:5.3p3",
		"bash-interactive-5.3p3":          "gnu:bash:5.3p3",
		"glibc-2.40-66":                   "gnu:glibc:2.40",
		"glibc-2.40-66-getent":            "gnu:glibc:2.40",
		"openjdk-headless-21.0.9+10":      "oracle:openjdk:21.0.9",
		"systemd-minimal-libs-258.2":      "systemd_project:systemd:258.2",
		"util-linux-minimal-2.41.2-lib":   "kernel:util-linux:2.41.2",
		"python3-3.14.8":                  "python:python:3.14.8",
		"python3-3.14.8-env":              "",
		"nodejs-slim-22.21.1":             "nodejs:node.js:22.21.1",
		"postgresql-and-plugins-17.7":     "postgresql:postgresql:17.7",
		"sqlite-3.50.4+x":                 "sqlite:sqlite:3.50.4\\+x",
		"openssl":                         "",
		"python3.13-requests-2.32.5":      "",
		"something-that-nobody-knows-1.0": "",
	} {
		n, v, _ := sbom.ParseName(name)
		cpes := sbom.CPEs(n, v)
		if want == "" {
			g.Expect(cpes).To(BeEmpty(), name)
			continue
		}
		g.Expect(cpes).NotTo(BeEmpty(), name)
		g.Expect(cpes[0]).To(Equal("cpe:2.3:a:"+want+":*:*:*:*:*:*:*"), name)
	}
}
