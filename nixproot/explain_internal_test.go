package nixproot

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
)

func TestExplain(t *testing.T) { spec.Run(t, "explain", testExplain) }

func testExplain(t *testing.T, _ spec.G, it spec.S) {
	explained := func(e error) string { return explain(e).Error() }
	it.Before(func() { RegisterTestingT(t) })

	it("says of an expression without a derivation what it would have to give", func() {
		NewWithT(t).Expect(explain(&nixinstall.MissingAttrError{}).Error()).To(And(
			HavePrefix("evaluating the expression: it gives no derivation; it has no attributes at all\n"),
			ContainSubstring("callPackage"), Not(ContainSubstring("one of the attributes that there are"))))
		NewWithT(t).Expect(explain(&nixinstall.MissingAttrError{Attr: "lib", Have: []string{"id"}}).Error()).To(And(
			HavePrefix(`evaluating attribute "lib": it gives no derivation; it has id`), ContainSubstring("set BP_NIX_ATTRS to one")))
	})

	it("says which disk it is that is full", func() {
		NewWithT(t).Expect(explain(fmt.Errorf("writing file: %w", syscall.ENOSPC)).Error()).To(
			HavePrefix("writing file: no space left on device\n\nWhat to do:\n  - make room there: with pack it is the Docker engine's disk"))
	})

	it("says what to do where a cache serves what is no narinfo", func() {
		g := NewWithT(t)
		g.Expect(askedSteps([]cache.Answer{{Reason: cache.Invalid, Err: errors.New("narinfo: field NarHash: missing")}})).
			To(ConsistOf(ContainSubstring("upload the path to it again")))
	})

	it("says what to do where Nix cannot reach what the expression fetches from, as where there is IPv6 alone", func() {
		for address, host := range map[string]string{"http://192.0.2.1/n.tar.gz": "192.0.2.1", "https://u:secret@git.example.org:8443/n": "git.example.org"} {
			for _, why := range []string{"Could not connect to server (7) Failed to connect to it", "Couldn't connect to server (7)",
				"Could not resolve hostname (6)", "Couldn't resolve host name (6)"} {
				text := explained(&nixinstall.EvalError{Summary: "Failed to open archive (Source threw exception: error: unable to download '" +
					address + "': " + why + ")"})
				_, advice, _ := strings.Cut(text, "What to do:")
				Expect(advice).To(And(ContainSubstring("upload what is fetched from "+host+" to a cache"),
					ContainSubstring("a proxy that reaches "+host+", HTTPS_PROXY"), ContainSubstring("BP_NIX_HYDRA_JOB=")), why)
				Expect(advice).NotTo(ContainSubstring("secret"))
			}
		}
	})

	it("says what to do about a Procfile that cannot be read as a whole", func() {
		g, dir := NewWithT(t), t.TempDir()
		file := filepath.Join(dir, procfile.Name)
		for _, c := range []struct {
			make func() error
			want string
		}{
			{func() error { return os.Symlink("nowhere", file) }, "reading Procfile: it is a link that leads nowhere\n\nWhat to do:\n  - have the link lead"},
			{func() error { return os.Symlink("/etc/hostname", file) }, "not in the source\n\nWhat to do:\n  - have the link lead"},
			{func() error { return os.Mkdir(file, 0o755) }, "no regular file\n\nWhat to do:\n  - make it a file with a line for each process type"},
			{func() error { return os.WriteFile(file, []byte("\xff\xfew\x00"), 0o644) }, "writes it\n\nWhat to do:\n  - save it as UTF-8"},
			{func() error { return os.WriteFile(file, []byte("web: \xff"), 0o644) }, "it is not UTF-8\n\nWhat to do:\n  - save it as UTF-8"},
		} {
			g.Expect(os.RemoveAll(file)).To(Succeed())
			g.Expect(c.make()).To(Succeed())
			_, err := procfile.Read(t.Context(), dir)
			g.Expect(explained(err)).To(ContainSubstring(c.want))
		}
	})

	it("says what to do about a source with a pipe in it", func() {
		g, dir := NewWithT(t), t.TempDir()
		g.Expect(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644)).To(Succeed())
		_, err := nixinstall.SourcePath(t.Context(), dir, nixinstall.SourceOptions{})
		g.Expect(explained(err)).To(ContainSubstring("entry \"pipe\": a named pipe cannot be archived\n\nWhat to do:\n  - remove it from the source, or\n" +
			"  - leave it out of the upload"))
	})

	it("says what to do with a secret key", func() {
		key := "mine-1:" + base64.StdEncoding.EncodeToString(make([]byte, ed25519.PrivateKeySize))
		settings := map[string]string{"BP_NIX_TRUSTED_PUBLIC_KEYS": key}
		_, err := ReadConfig(func(name string) (string, bool) { return settings[name], settings[name] != "" }, "amd64")
		NewWithT(t).Expect(explained(err)).To(And(HaveSuffix("What to do:\n  - give the public key (nix key convert-secret-to-public), "+
			"and replace the pair if somebody may have seen the secret one"), Not(ContainSubstring("AAAA"))))
	})

	it("says how a function gets its arguments, be they texts or packages", func() {
		NewWithT(t).Expect(explained(&nixinstall.EvalError{
			Summary: "arguments are missing", File: "app.nix", Unset: []string{"fetchurl", "stdenv"},
		})).To(Equal(`evaluating app.nix: arguments are missing

What to do:
  - if it is a text, give it: BP_NIX_ARGS=fetchurl=…, or
  - if it is a package, write a file that calls this one with it and name it, BP_NIX_FILE=shell.nix:
    let pkgs = import (builtins.fetchTarball { url = …; sha256 = …; }) { }; in pkgs.callPackage ./app.nix { }`))
		NewWithT(t).Expect(explained(&nixinstall.EvalError{File: "shell.nix", Unset: []string{"stdenv"}})).
			To(ContainSubstring("BP_NIX_FILE=deploy.nix"))
	})
}
