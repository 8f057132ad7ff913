package nixproot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
	"github.com/sclevine/spec"
)

func TestVerify(t *testing.T) {
	suite := spec.New("verify")
	suite("Command", testVerifyCommand)
	suite("Directory", testVerifyDirectory)
	suite("BuildTime", testVerifyBuildTime)
	suite("Interrupted", testInterrupted)
	suite.Run(t)
}

func testVerifyCommand(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("takes what is trusted, wanted and accepted from its command line, and the rest from beside itself", func() {
		f := imagetest.New(t, launch.EngineRelocate)
		name := filepath.Join(t.TempDir(), "image.tar")
		f.Write(name, func(f *imagetest.Image) { f.Config.Env = append(f.Config.Env, "FOO=bar") })
		run := func(args ...string) (int, string) {
			var out bytes.Buffer
			return Verify(append([]string{args[0], args[1], name}, args[2:]...), &out, &out), out.String()
		}
		code, out := run("--key", f.Key, "--launcher", "sha256:"+f.LauncherSHA256, "--root", f.App.String(), "--accept", "FOO")
		Expect(code).To(Equal(0), out)
		Expect(out).To(And(ContainSubstring("3 store paths: 3 intact and signed"), ContainSubstring("not FOO (--accept)"), ContainSubstring("accepted  FOO: "),
			Not(ContainSubstring("--root"))))
		code, out = run("--key", f.Key) // these tests have no launcher beside them
		Expect(code).To(Equal(1))
		Expect(out).To(ContainSubstring("there is no launcher beside this program"))
		code, out = run("--launcher", f.LauncherSHA256)
		Expect(code).To(Equal(1))
		Expect(out).To(ContainSubstring("3 signed by no trusted key"))
		t.Setenv("BP_NIX_TRUSTED_PUBLIC_KEYS", f.Key)
		code, out = run("--launcher", f.LauncherSHA256, "--accept", "FOO")
		Expect(code).To(Equal(0), out)
		code, out = run("--lifecycle", f.LauncherSHA256)
		Expect(code).To(Equal(1))
		Expect(out).To(ContainSubstring("--lifecycle says"))
	})

	it("shows its usage where it is asked otherwise, and says what it cannot read", func() {
		for _, args := range [][]string{{}, {"a", "b"}, {"--key", "x", "a"}} {
			var out bytes.Buffer
			Expect(Verify(args, &out, &out)).To(Equal(2))
			Expect(out.String()).To(ContainSubstring("usage: verify"))
		}
		var out bytes.Buffer
		Expect(Verify([]string{t.TempDir()}, &out, &out)).To(Equal(2))
		Expect(out.String()).To(HavePrefix("verify: "))
	})

	it("knows the PRoot programs that buildpack.toml pins, and the launcher of each architecture in a package of several", func() {
		top := t.TempDir()
		Expect(os.MkdirAll(filepath.Join(top, "linux/amd64/bin"), 0o755)).To(Succeed())
		Expect(os.MkdirAll(filepath.Join(top, "linux/arm64/bin"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(top, "buildpack.toml"), []byte("[[metadata.dependencies]]\nid = \"proot\"\nchecksum = \"sha256:ab\"\n"+
			"[[metadata.dependencies]]\nid = \"nix\"\nchecksum = \"sha256:cd\"\n"), 0o644)).To(Succeed())
		for _, architecture := range []string{"amd64", "arm64"} {
			Expect(os.WriteFile(filepath.Join(top, "linux", architecture, "bin/launch"), []byte(architecture), 0o755)).To(Succeed())
		}
		bin := filepath.Join(top, "linux", runtime.GOARCH, "bin")
		Expect(ownPRoots(bin)).To(Equal([]string{"ab"}))
		for _, architecture := range []string{"amd64", "arm64"} {
			sum := sha256.Sum256([]byte(architecture))
			Expect(ownLauncher(bin, architecture)).To(Equal(hex.EncodeToString(sum[:])))
		}
		Expect(ownLauncher(top, runtime.GOARCH)).To(BeEmpty())
	})
}

// endless writes an image whose one layer goes on for hours.
func endless(name string) {
	var head, zeros bytes.Buffer
	w := gzip.NewWriter(&head)
	Expect(tar.NewWriter(w).WriteHeader(&tar.Header{
		Name: "layers/nixproot_nix-hydra/x", Typeflag: tar.TypeReg, Size: 1 << 44,
	})).To(Succeed())
	Expect(w.Close()).To(Succeed())
	w.Reset(&zeros)
	_, err := w.Write(make([]byte, 16<<20))
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Close()).To(Succeed())
	layer := head.String() + strings.Repeat(zeros.String(), 2000)
	config := `{"config":{"Labels":{"` + lifecycle.MetadataLabel + `":"{}"}},"rootfs":{"diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`
	archive := imagetest.Layer{Entries: []imagetest.Entry{
		imagetest.Regular("manifest.json", `[{"Config":"c","Layers":["l"]}]`, 0o644), imagetest.Regular("c", config, 0o644), imagetest.Regular("l", layer, 0o644),
	}}.Archive()
	Expect(os.WriteFile(name, archive, 0o644)).To(Succeed())
}

func testVerifyDirectory(t *testing.T, _ spec.G, it spec.S) {
	it("refuses links to devices and to the operator's files, and lists none of them", func() {
		RegisterTestingT(t)
		dir := t.TempDir()
		Expect(os.MkdirAll(filepath.Join(dir, "closure-01"), 0o755)).To(Succeed())
		Expect(os.Mkdir(filepath.Join(dir, launchlayer.View), 0o755)).To(Succeed())
		Expect(os.Symlink("/etc", filepath.Join(dir, "closure-00"))).To(Succeed())
		Expect(os.Symlink("/dev/zero", filepath.Join(dir, "closure-01", closure.PathsName))).To(Succeed())
		Expect(syscall.Mkfifo(filepath.Join(dir, "closure-02"), 0o644)).To(Succeed())
		var out bytes.Buffer
		Expect(Verify([]string{dir}, &out, &out)).To(Equal(1), out.String())
		Expect(out.String()).To(And(ContainSubstring("closure-00: it is a symlink"), Not(ContainSubstring("passwd")),
			ContainSubstring("closure-01/paths.json"), ContainSubstring("closure-02: it is a special file")))
	})
}

func testVerifyBuildTime(t *testing.T, _ spec.G, it spec.S) {
	it("takes for layers of the build alone those that this buildpack makes, and none that reach the app", func() {
		RegisterTestingT(t)
		dir := t.TempDir()
		Expect(os.Mkdir(filepath.Join(dir, "closure-00"), 0o755)).To(Succeed())
		for name, table := range map[string]string{
			"evil": "", recordLayer: "[types]\ncache = true\n", toolchainLayer: "[types]\nlaunch = true\n",
		} {
			Expect(os.MkdirAll(filepath.Join(dir, name, "exec.d"), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name+".toml"), []byte(table), 0o644)).To(Succeed())
		}
		var out bytes.Buffer
		Expect(Verify([]string{dir}, &out, &out)).To(Equal(1), out.String())
		Expect(out.String()).To(And(ContainSubstring("evil: this buildpack makes no such layer"),
			ContainSubstring(toolchainLayer+": this buildpack makes no such layer"),
			Not(ContainSubstring(recordLayer+": this buildpack makes no such layer"))))
	})
}

func testInterrupted(t *testing.T, _ spec.G, it spec.S) {
	it("ends within a second of a signal, whatever it is reading", func() {
		RegisterTestingT(t)
		name := filepath.Join(t.TempDir(), "image.tar")
		endless(name)
		safe := make(chan os.Signal, 4) // so that the signal never ends the test itself
		signal.Notify(safe, syscall.SIGTERM)
		defer signal.Stop(safe)
		var out bytes.Buffer
		code := make(chan int, 1)
		go func() { code <- Verify([]string{name}, &out, &out) }()
		Consistently(code, "300ms").ShouldNot(Receive())
		Expect(syscall.Kill(os.Getpid(), syscall.SIGTERM)).To(Succeed())
		Eventually(code, "20s").Should(Receive(Equal(2)))
		Expect(out.String()).To(ContainSubstring("verify: "))
	})
}
