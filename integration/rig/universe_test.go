package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/BurntSushi/toml"
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

func TestEveryWayShowsAStoreAsNix(t *testing.T) {
	ctx, expect := context.Background(), gomega.NewWithT(t).Expect
	r, err := Open(Options{Log: t.Logf})
	expect(err).NotTo(gomega.HaveOccurred())
	s, err := r.StoreAt(ctx, t.TempDir())
	expect(err).NotTo(gomega.HaveOccurred())
	ways := []string{byNamespace, byDocker, byPRoot}
	for _, s.by = range ways[slices.Index(ways, s.by):] { // those before that one do not work here
		said, err := s.Run(ctx, "sh", "-c", "pwd; test -d /nix/store && dpkg-deb --version | head -n 1 && nix --version")
		if errors.Is(err, ErrNoDocker) {
			t.Logf("NOT TESTED: %v", err)
			continue
		}
		expect(err).NotTo(gomega.HaveOccurred(), s.by)
		expect(strings.Split(said, "\n")).To(gomega.HaveExactElements(gomega.HaveSuffix("integration/rig"),
			gomega.ContainSubstring("dpkg"), "nix (Nix) "+s.nix.Version, ""), s.by)
	}
}

// Who runs a store's program sets what they like of its process: they have once set all, and the store was put together
// outside, on this machine.
func TestAStoresCommandMountsNothingOutsideWhateverAttributesItIsGiven(t *testing.T) {
	expect := gomega.NewWithT(t).Expect
	r, err := Open(Options{Log: t.Logf})
	expect(err).NotTo(gomega.HaveOccurred())
	s, err := r.StoreAt(t.Context(), t.TempDir())
	expect(err).NotTo(gomega.HaveOccurred())
	if s.by != byNamespace {
		t.Skip("NOT TESTED: this machine shows a store by ", s.by)
	}
	done := make(chan struct{})
	var before, after []byte
	var said []byte
	go func() { // ends with its thread, whose mounts are nobody else's
		defer close(done)
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			if err = syscall.Unshare(syscall.CLONE_NEWNS); err == nil {
				err = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
			}
		}
		if err != nil {
			return
		}
		before, _ = os.ReadFile("/proc/thread-self/mountinfo")
		var command *exec.Cmd
		if command, err = s.Command(t.Context(), "true"); err != nil {
			return
		}
		command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		said, err = command.CombinedOutput()
		after, _ = os.ReadFile("/proc/thread-self/mountinfo")
	}()
	<-done
	expect(err).NotTo(gomega.HaveOccurred(), string(said))
	expect(before).NotTo(gomega.BeEmpty())
	// What others have mounted may go meanwhile, here too, as the directory under it is removed.
	expect(strings.Split(string(before), "\n")).To(gomega.ContainElements(strings.Split(string(after), "\n")))
}

func TestStandInsArePinnedForOneArchitectureAndThoseOfOthersStay(t *testing.T) {
	expect := gomega.NewWithT(t).Expect
	file := filepath.Join(t.TempDir(), "buildpack.toml")
	text := ""
	for _, id := range []string{"nix", "proot"} {
		for _, arch := range []string{"amd64", "arm64"} {
			text += fmt.Sprintf("[[metadata.dependencies]]\nid = %q\nversion = \"1\"\nuri = \"https://example.org/%s\"\npurls = [\"pkg:generic/%s@1?arch=%s\"]\n",
				id, arch, id, arch)
		}
	}
	expect(os.WriteFile(file, []byte(text), 0o644)).To(gomega.Succeed())
	standins := []standin{{"nix", "2", "/there/nix.tar.xz", "aa"}, {"proot", "3", "/there/proot", "bb"}}
	expect(repin(file, "http://here", "arm64", standins)).To(gomega.Succeed())
	var pinned struct {
		Metadata struct {
			Dependencies []struct{ ID, Version, URI, Checksum string }
		}
	}
	_, err := toml.DecodeFile(file, &pinned)
	expect(err).NotTo(gomega.HaveOccurred())
	expect(pinned.Metadata.Dependencies).To(gomega.HaveExactElements(
		gomega.And(gomega.HaveField("ID", "nix"), gomega.HaveField("URI", "https://example.org/amd64")),
		gomega.And(gomega.HaveField("Version", "2"), gomega.HaveField("URI", "http://here/nix.tar.xz"), gomega.HaveField("Checksum", "sha256:aa")),
		gomega.And(gomega.HaveField("ID", "proot"), gomega.HaveField("URI", "https://example.org/amd64")),
		gomega.And(gomega.HaveField("Version", "3"), gomega.HaveField("URI", "http://here/proot"), gomega.HaveField("Checksum", "sha256:bb"))))
	expect(repin(file, "http://here", "riscv64", standins)).To(gomega.MatchError(gomega.ContainSubstring("does not pin Nix and PRoot for riscv64")))
}
