package nixproot

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/buildpacks/libcnb/v2"
	. "github.com/onsi/gomega"
	"github.com/paketo-buildpacks/libpak/v2/log"
	"github.com/sclevine/spec"
	"golang.org/x/sys/unix"
)

func TestDetect(t *testing.T) { spec.Run(t, "detect", testDetect) }

func testDetect(t *testing.T, _ spec.G, it spec.S) {
	var dir string
	var output *bytes.Buffer

	it.Before(func() {
		RegisterTestingT(t)
		dir = t.TempDir()
		output = &bytes.Buffer{}
	})

	var bindings libcnb.Bindings
	detect := func() (bool, error) {
		var buildpack libcnb.Buildpack
		_, err := toml.DecodeFile("../buildpack.toml", &buildpack)
		Expect(err).NotTo(HaveOccurred())
		result, err := Detect{Logger: log.NewPaketoLogger(output)}.Detect(libcnb.DetectContext{
			ApplicationPath: dir, Buildpack: buildpack, Platform: libcnb.Platform{Bindings: bindings},
		})
		return result.Pass, err
	}
	file := func(name string) {
		Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o644)).To(Succeed())
	}

	it("fails for what a build would find wrong in the Procfile, the service bindings and the revision", func() {
		write := func(name, text string) {
			Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
		}
		wrong := func(says string) {
			t.Helper()
			_, err := detect()
			Expect(err).To(MatchError(ContainSubstring(says)))
		}
		write("Procfile", "web\n-x: y\n")
		Expect(detect()).To(BeFalse(), "it is not ours")
		file("default.nix")
		wrong("no colon")
		write("Procfile", "web: app")
		Expect(detect()).To(BeTrue())

		bindings = libcnb.Bindings{{Name: "cache", Type: "nix-binary-cache", Secret: map[string]string{"url": "https://cache.example.org",
			"foo": "x"}}}
		wrong(`has "foo"; it may have url`)
		delete(bindings[0].Secret, "foo")
		bindings[0].Secret["public-key"] = "x"
		wrong(`reading public-key of the service binding "cache"`)
		delete(bindings[0].Secret, "public-key")
		Expect(detect()).To(BeTrue())

		for revision, says := range map[string]string{"main": "it is the name of a branch or tag", "a b": "it is the name of a branch or tag",
			"12ab": "it is too short"} {
			t.Setenv("BP_NIX_GIT_REV", revision)
			wrong("BP_NIX_GIT_REV: reading revision")
			wrong(says)
		}
		t.Setenv("BP_NIX_GIT_REV", "latest")
		Expect(detect()).To(BeTrue())
		t.Setenv("BP_NIX_GIT_URL", "not an address")
		wrong("it takes the address of a git repository")
	})

	it("takes no expression that a link leads to out of the source", func() {
		outside := filepath.Join(t.TempDir(), "x.nix")
		Expect(os.WriteFile(outside, []byte("{}"), 0o644)).To(Succeed())
		Expect(os.Symlink(outside, filepath.Join(dir, "default.nix"))).To(Succeed())
		_, err := detect()
		Expect(err).To(MatchError(ContainSubstring("reading default.nix: it is a link to what is not in the source")))
		file("shell.nix")
		Expect(detect()).To(BeTrue(), "another comes before it")
	})

	it("does not pass on a source without Nix, and says what it looked for", func() {
		file("index.html")
		Expect(detect()).To(BeFalse())
		Expect(output.String()).To(ContainSubstring("SKIPPED: no deploy.nix, flake.nix, shell.nix, default.nix in the source"))
		Expect(output.String()).To(ContainSubstring("BP_NIX_STORE_PATH"))
	})

	it("fails before anything is downloaded where the flake that is named is not there, and finds it where Nix does", func() {
		for reference, says := range map[string]string{
			".#x": `the source has no flake.nix (is it`, ".?dir=nix#x": `the source has no nix/flake.nix`,
			"./other#x": `the source has no other/flake.nix`, "path:other": "the source has no other/flake.nix",
			"github:a/b": "want a directory of the source",
		} {
			t.Setenv("BP_NIX_FLAKE", reference)
			_, err := detect()
			Expect(err).To(MatchError(ContainSubstring(says)), reference)
		}
		file("sub/flake.nix")
		Expect(os.Mkdir(filepath.Join(dir, "sub/deeper"), 0o755)).To(Succeed())
		for _, reference := range []string{"./sub#x", ".?dir=sub#x^out", "path:sub", "./sub/deeper"} {
			t.Setenv("BP_NIX_FLAKE", reference)
			Expect(detect()).To(BeTrue(), reference)
		}
	})

	it("fails where a variable is no setting and looks like one, and says which is meant", func() {
		t.Setenv("BP_NIX_STORE_PATHS", "/nix/store/0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c-app")
		_, err := detect()
		Expect(err).To(MatchError(HavePrefix("BP_NIX_STORE_PATHS is no setting of this buildpack; did you mean BP_NIX_STORE_PATH?\n\n" +
			"What to do:\n  - write BP_NIX_STORE_PATH, or leave BP_NIX_STORE_PATHS out")))
	})

	it("takes the first file there is, and says how to choose another", func() {
		for _, name := range []string{"default.nix", "shell.nix", "flake.nix", "deploy.nix"} {
			file(name)
			output.Reset()
			Expect(detect()).To(BeTrue(), name)
			Expect(output.String()).To(ContainSubstring("PASSED: " + name + " found; set BP_NIX_FILE to evaluate another"))
		}
	})

	it("takes the file that is named", func() {
		t.Setenv("BP_NIX_FILE", "nix/app.nix")
		file("nix/app.nix")
		file("default.nix")
		Expect(detect()).To(BeTrue())
		Expect(output.String()).To(ContainSubstring("BP_NIX_FILE is nix/app.nix"))
	})

	it("takes a flake.nix that is named for the flake in its directory", func() {
		file("flake.nix")
		file("nix/deep/flake.nix")
		for named, flake := range map[string]string{"flake.nix": ".", "./flake.nix": ".", "nix/deep/flake.nix": "./nix/deep"} {
			chosen, err := findEntry(dir, Config{File: named})
			Expect(err).NotTo(HaveOccurred())
			Expect(chosen.Flake).To(Equal(flake), named)
			Expect(chosen.File).To(BeEmpty(), named)
		}
	})

	it("takes the default.nix of a directory that is named, and no directory for a file", func() {
		file("nix/app/default.nix")
		chosen, err := findEntry(dir, Config{File: "nix/app/"})
		Expect(err).NotTo(HaveOccurred())
		Expect(chosen.File).To(Equal("nix/app/default.nix"))
		Expect(os.Mkdir(filepath.Join(dir, "shell.nix"), 0o755)).To(Succeed())
		file("default.nix")
		chosen, err = findEntry(dir, Config{})
		Expect(err).NotTo(HaveOccurred())
		Expect(chosen.File).To(Equal("default.nix"))
	})

	it("refuses a named file that is not there or not inside the source", func() {
		t.Setenv("BP_NIX_FILE", "app.nix")
		_, err := detect()
		Expect(err).To(MatchError(ContainSubstring(`BP_NIX_FILE is "app.nix", and the source has no such file`)))
		file("app/README")
		Expect(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644)).To(Succeed())
		Expect(os.Symlink("/etc/hostname", filepath.Join(dir, "out"))).To(Succeed())
		for named, says := range map[string]string{
			"../app.nix": "inside the source", "app": "and the source has no app/default.nix", "fifo": "it is no regular file",
			"out": "it is a link to what is not in the source",
		} {
			t.Setenv("BP_NIX_FILE", named)
			_, err = detect()
			Expect(err).To(MatchError(ContainSubstring(says)))
		}
	})

	it("refuses settings of nixpkgs that the source does not have, where they are read", func() {
		file("default.nix")
		file("nix/config.nix")
		for _, name := range []string{"nix/config.nix", "./nix", "/etc/nix/nixpkgs-config.nix"} {
			t.Setenv("NIXPKGS_CONFIG", name)
			Expect(detect()).To(BeTrue(), name)
		}
		for _, name := range []string{"config.nix", "../" + filepath.Base(dir) + "/nix/config.nix", "~/config.nix"} {
			t.Setenv("NIXPKGS_CONFIG", name)
			_, err := detect()
			Expect(err).To(MatchError(ContainSubstring(`and the source has no such file`)), name)
		}
		t.Setenv("BP_NIX_STORE_PATH", "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")
		Expect(detect()).To(BeTrue(), "nothing is evaluated")
	})

	it("passes without any file when store paths are given", func() {
		t.Setenv("BP_NIX_STORE_PATH", "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")
		Expect(detect()).To(BeTrue())
		Expect(output.String()).To(ContainSubstring("nothing is evaluated"))
	})
}
