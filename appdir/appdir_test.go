package appdir_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/appdir"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

func TestAppDir(t *testing.T) {
	spec.Run(t, "appdir", testAppDir, spec.Report(report.Terminal{}))
}

func testAppDir(t *testing.T, context spec.G, it spec.S) {
	var dir string

	it.Before(func() {
		RegisterTestingT(t)
		if dir = os.Getenv(strangerDir); dir != "" {
			return
		}
		dir = t.TempDir()
		for _, name := range []string{"Procfile", "default.nix", "src/main.c", "public/a.css", "public/deep/b.css", "secrets/key"} {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), nil, 0o644)).To(Succeed())
		}
		Expect(os.Symlink("/etc", filepath.Join(dir, "src", "link"))).To(Succeed())
		Expect(os.Chmod(filepath.Join(dir, "src"), 0o555)).To(Succeed())
	})

	it.After(func() { _ = os.Chmod(filepath.Join(dir, "src"), 0o755) })

	trimmed := func(include, exclude []string) []string {
		source, err := appdir.Open(dir, include, exclude)
		Expect(err).NotTo(HaveOccurred())
		Expect(source.Check(t.Context(), filepath.Join(filepath.Dir(dir), "layers"), false)).To(Succeed())
		done, err := source.Trim(t.Context())
		Expect(err).NotTo(HaveOccurred())
		kept := done.Kept
		var files []string
		Expect(filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				name, _ := filepath.Rel(dir, p)
				files = append(files, name)
			}
			return err
		})).To(Succeed())
		Expect(files).To(HaveLen(kept))
		return files
	}

	it("keeps the Procfile and nothing else", func() {
		Expect(trimmed(nil, nil)).To(ConsistOf("Procfile"))
		Expect(filepath.Join(dir, "src")).NotTo(BeADirectory())
		Expect("/etc/passwd").To(BeARegularFile())
	})

	it("keeps a directory that a pattern names, with all that is in it", func() {
		Expect(trimmed([]string{"public"}, nil)).To(ConsistOf("Procfile", "public/a.css", "public/deep/b.css"))
	})

	it("keeps what matches across directories, less what is excluded", func() {
		Expect(trimmed([]string{"**"}, []string{"secrets", "**/*.nix", "src/link"})).To(
			ConsistOf("Procfile", "src/main.c", "public/a.css", "public/deep/b.css"))
	})

	it("says which files it removes, before it does", func() {
		source, err := appdir.Open(dir, []string{"public"}, []string{"public/a.css"})
		Expect(err).NotTo(HaveOccurred())
		for _, name := range []string{"default.nix", "./src/main.c", "public/a.css", "public/../default.nix"} {
			Expect(source.Removes(name)).To(BeTrue(), name)
		}
		for _, name := range []string{"Procfile", "public/deep/b.css", "src", "none", "../" + filepath.Base(dir) + "/default.nix", "/etc/passwd",
			"src/link", "", "."} {
			Expect(source.Removes(name)).To(BeFalse(), name)
		}
	})

	it("names the patterns that no file matches", func() {
		source, err := appdir.Open(dir, []string{"public/*.css", "static/**", "a.css b.css", "secrets"}, []string{"secrets", "nothing"})
		Expect(err).NotTo(HaveOccurred())
		done, err := source.Trim(t.Context())
		Expect(err).NotTo(HaveOccurred())
		Expect(done.Unmatched).To(Equal([]string{"static/**", "a.css b.css"}))
	})

	it("lets * stay within a directory", func() {
		Expect(trimmed([]string{"public/*.css"}, nil)).To(ConsistOf("Procfile", "public/a.css"))
	})

	it("never keeps what is named .git, whatever the patterns say", func() {
		for _, name := range []string{".git/config", "vendored/.git", "vendored/code.c", ".gitignore", "public/x.git"} {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), nil, 0o644)).To(Succeed())
		}
		Expect(trimmed([]string{"**", "*", "**/*", ".git", ".git/config"}, []string{"src", "secrets", "default.nix"})).To(
			ConsistOf("Procfile", ".gitignore", "vendored/code.c", "public/x.git", "public/a.css", "public/deep/b.css"))
		Expect(filepath.Join(dir, ".git")).NotTo(BeADirectory())
	})

	it("removes directories of another user that anybody may write to, and its own that nobody may, without privileges", func() {
		if os.Geteuid() == 0 {
			asStranger(t, dir, "TestAppDir/appdir/removes_directories")
			return
		}
		Expect(os.MkdirAll(filepath.Join(dir, "own"), 0o755)).To(Succeed())
		for _, name := range []string{"own/a", "own/b"} {
			Expect(os.WriteFile(filepath.Join(dir, name), nil, 0o644)).To(Succeed())
		}
		Expect(os.Chmod(filepath.Join(dir, "own"), 0o555)).To(Succeed())
		Expect(os.MkdirAll(filepath.Join(dir, "listed/deep"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "listed/deep/file"), nil, 0o644)).To(Succeed())
		Expect(os.Chmod(filepath.Join(dir, "listed"), 0o444)).To(Succeed())
		source, err := appdir.Open(dir, nil, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(source.Check(t.Context(), filepath.Join(filepath.Dir(dir), "layers"), false)).To(Succeed())
		for name, mode := range map[string]fs.FileMode{"own": 0o555, "listed": 0o444} { // nothing has changed yet
			info, err := os.Stat(filepath.Join(dir, name))
			Expect(err).NotTo(HaveOccurred())
			Expect(info.Mode().Perm()).To(Equal(mode), name)
		}
		Expect(trimmed([]string{"public/*.css", "own/b"}, nil)).To(ConsistOf("Procfile", "public/a.css", "own/b"))
		info, err := os.Stat(filepath.Join(dir, "own"))
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Mode().Perm()).To(Equal(fs.FileMode(0o755)), "others may still read what stays")
	})

	it("names the first file that can be neither removed nor emptied, and counts the others", func() {
		Expect((&appdir.UnremovableError{Files: []string{"a"}}).Error()).To(ContainSubstring(`"a" must not get into the image`))
		Expect((&appdir.UnremovableError{Files: []string{"a", "b", "c"}}).Error()).To(ContainSubstring(`"a" and 2 more must not`))
	})

	it("refuses a pattern that does not parse", func() {
		_, err := appdir.Open(dir, []string{"a[", "b"}, nil)
		Expect(err).To(MatchError(ContainSubstring(`"a["`)))
	})

	it("removes nothing where the source is not a copy for this build, unless nothing is to be removed or it is told to", func() {
		elsewhere := filepath.Join(t.TempDir(), "layers")
		source, err := appdir.Open(dir, nil, nil)
		Expect(err).NotTo(HaveOccurred())
		var foreign *appdir.ForeignError
		Expect(errors.As(source.Check(t.Context(), elsewhere, false), &foreign)).To(BeTrue())
		Expect(source.Check(t.Context(), elsewhere, true)).To(Succeed())
		Expect(filepath.Join(dir, "src/main.c")).To(BeARegularFile())
		source, err = appdir.Open(dir, []string{"**"}, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(source.Check(t.Context(), elsewhere, false)).To(Succeed())
	})

	it("never goes into a mount, also of the same file system, nor removes one or the directories above it", func() {
		if os.Geteuid() != 0 {
			untested.Skip(t, "only root mounts")
		}
		outside := t.TempDir()
		Expect(os.MkdirAll(filepath.Join(outside, "deep"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(outside, "deep/precious"), []byte("p"), 0o644)).To(Succeed())
		for _, at := range []string{"data", "src2/a b", "src2/file"} {
			from := outside
			if at == "src2/file" {
				from = filepath.Join(outside, "deep/precious")
				Expect(os.WriteFile(filepath.Join(dir, at), nil, 0o644)).To(Succeed())
			} else {
				Expect(os.MkdirAll(filepath.Join(dir, at), 0o755)).To(Succeed())
			}
			Expect(unix.Mount(from, filepath.Join(dir, at), "", unix.MS_BIND, "")).To(Succeed())
			defer func() { Expect(unix.Unmount(filepath.Join(dir, at), unix.MNT_DETACH)).To(Succeed()) }()
		}
		Expect(os.WriteFile(filepath.Join(dir, "src2/code.c"), nil, 0o644)).To(Succeed())
		source, err := appdir.Open(dir, nil, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(source.Mounts()).To(Equal([]string{"data", "src2/a b", "src2/file"}))
		Expect([]bool{source.Removes("data/deep/precious"), source.Removes("src2/file"), source.Removes("src2/code.c")}).To(
			Equal([]bool{false, false, true}))
		Expect(source.Check(t.Context(), filepath.Join(filepath.Dir(dir), "layers"), false)).To(Succeed())
		done, err := source.Trim(t.Context())
		Expect(err).NotTo(HaveOccurred())
		Expect(done).To(Equal(appdir.Trimmed{Kept: 1}))
		for _, name := range []string{"data/deep/precious", "src2/a b/deep/precious"} {
			Expect(filepath.Join(dir, name)).To(BeARegularFile())
		}
		Expect(os.ReadFile(filepath.Join(dir, "src2/file"))).To(Equal([]byte("p")))
		Expect(filepath.Join(dir, "src2/code.c")).NotTo(BeAnExistingFile())
		Expect(filepath.Join(dir, "src")).NotTo(BeADirectory())
	})

	it("does not go into what is mounted while the build runs", func() {
		if os.Geteuid() != 0 {
			untested.Skip(t, "only root mounts")
		}
		outside := t.TempDir()
		Expect(os.WriteFile(filepath.Join(outside, "precious"), []byte("p"), 0o644)).To(Succeed())
		source, err := appdir.Open(dir, nil, nil)
		Expect(err).NotTo(HaveOccurred())
		for at, from := range map[string]string{"public/deep": outside, "secrets/key": filepath.Join(outside, "precious")} {
			Expect(unix.Mount(from, filepath.Join(dir, at), "", unix.MS_BIND, "")).To(Succeed())
			defer func() { Expect(unix.Unmount(filepath.Join(dir, at), unix.MNT_DETACH)).To(Succeed()) }()
		}
		_, err = source.Trim(t.Context())
		Expect(err).NotTo(HaveOccurred())
		Expect(os.ReadFile(filepath.Join(dir, "public/deep/precious"))).To(Equal([]byte("p")))
		Expect(os.ReadFile(filepath.Join(dir, "secrets/key"))).To(Equal([]byte("p")))
		Expect(filepath.Join(dir, "public/a.css")).NotTo(BeAnExistingFile())
	})

	it("says first what nobody may change, and changes nothing else", func() {
		if os.Geteuid() != 0 {
			untested.Skip(t, "only root mounts")
		}
		check := func() error {
			source, err := appdir.Open(dir, nil, nil)
			Expect(err).NotTo(HaveOccurred())
			return source.Check(t.Context(), filepath.Join(filepath.Dir(dir), "layers"), true)
		}
		Expect(check()).To(Succeed())
		Expect(unix.Mount(dir, dir, "", unix.MS_BIND, "")).To(Succeed())
		defer func() { Expect(unix.Unmount(dir, unix.MNT_DETACH)).To(Succeed()) }()
		Expect(unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")).To(Succeed())
		var unremovable *appdir.UnremovableError
		Expect(errors.As(check(), &unremovable)).To(BeTrue())
		Expect(unremovable.Files).To(ConsistOf("default.nix", "src/main.c", "public/a.css", "public/deep/b.css", "secrets/key"))
		source, err := appdir.Open(dir, []string{"**"}, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(source.Check(t.Context(), filepath.Join(filepath.Dir(dir), "layers"), true)).To(Succeed())
	})

	it("says first what has an attribute that forbids to change it", func() {
		const immutable, appendOnly = 0x10, 0x20 // of linux/fs.h
		fixed := map[string]int{"secrets": immutable, "public/a.css": immutable, "src/main.c": appendOnly}
		attribute := func(name string, flags int) error {
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
		}
		defer func() {
			for name := range fixed {
				_ = attribute(name, 0)
			}
		}()
		for name, flag := range fixed {
			if err := attribute(name, flag); err != nil {
				untested.Skip(t, "setting attributes of files: %v", err)
			}
		}
		source, err := appdir.Open(dir, nil, nil)
		Expect(err).NotTo(HaveOccurred())
		var unremovable *appdir.UnremovableError
		Expect(errors.As(source.Check(t.Context(), filepath.Join(filepath.Dir(dir), "layers"), true), &unremovable)).To(BeTrue())
		Expect(unremovable.Files).To(ConsistOf("public/a.css", "src/main.c")) // what is in secrets can be emptied
	})

	it("says first where a path is longer than Linux takes", func() {
		deep, err := os.Open(dir)
		Expect(err).NotTo(HaveOccurred())
		for range 20 {
			name := strings.Repeat("d", 250)
			Expect(unix.Mkdirat(int(deep.Fd()), name, 0o755)).To(Succeed())
			fd, err := unix.Openat(int(deep.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			Expect(err).NotTo(HaveOccurred())
			Expect(deep.Close()).To(Succeed())
			deep = os.NewFile(uintptr(fd), name)
		}
		Expect(deep.Close()).To(Succeed())
		source, err := appdir.Open(dir, nil, nil)
		Expect(err).NotTo(HaveOccurred())
		err = source.Check(t.Context(), filepath.Join(filepath.Dir(dir), "layers"), false)
		var long *appdir.LongPathError
		Expect(errors.As(err, &long)).To(BeTrue(), "%v", err)
		Expect(len(err.Error())).To(BeNumerically("<", 400))
		Expect(filepath.Join(dir, "secrets/key")).To(BeARegularFile())
	})

	it("empties what is its own in a directory of another user, and says first what it can neither remove nor empty", func() {
		if os.Geteuid() == 0 {
			Expect(os.RemoveAll(filepath.Join(dir, "src"))).To(Succeed())
			asStranger(t, dir, "TestAppDir/appdir/empties_what", func(source string) {
				Expect(os.Chmod(filepath.Join(source, "public"), 0o755)).To(Succeed())
				Expect(os.Chmod(filepath.Join(source, "public/deep"), 0o755)).To(Succeed())
				Expect(os.WriteFile(filepath.Join(source, "public/a.css"), []byte("text"), 0o444)).To(Succeed())
				Expect(os.Lchown(filepath.Join(source, "public/a.css"), 65534, 65534)).To(Succeed())
			})
			return
		}
		open := func(include ...string) *appdir.Dir {
			source, err := appdir.Open(dir, include, nil)
			Expect(err).NotTo(HaveOccurred())
			return source
		}
		layers := filepath.Join(filepath.Dir(dir), "layers")
		var unremovable *appdir.UnremovableError
		Expect(errors.As(open().Check(t.Context(), layers, false), &unremovable)).To(BeTrue())
		Expect(unremovable.Files).To(Equal([]string{"public/deep/b.css"}))
		Expect(filepath.Join(dir, "secrets/key")).To(BeARegularFile())
		Expect(open("public/deep").Check(t.Context(), layers, false)).To(Succeed())
		done, err := open("public/deep").Trim(t.Context())
		Expect(err).NotTo(HaveOccurred())
		Expect(done).To(Equal(appdir.Trimmed{Kept: 2, Emptied: []string{"public/a.css"}}))
		Expect(os.ReadFile(filepath.Join(dir, "public/a.css"))).To(BeEmpty())
		Expect(filepath.Join(dir, "secrets")).NotTo(BeADirectory())
	})
}

// strangerDir tells a test that is run as another user which directory it is about.
const strangerDir = "APPDIR_TEST_DIR"

// asStranger runs a test of this program again, as a user without privileges, on a copy of dir that stays another's
// and that anybody may write to, but for what change changes.
func asStranger(t *testing.T, dir, test string, change ...func(source string)) {
	t.Helper()
	place, err := os.MkdirTemp("", "stranger-")
	Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { Expect(os.RemoveAll(place)).To(Succeed()) })
	source, program := filepath.Join(place, "source"), filepath.Join(place, "test")
	Expect(os.CopyFS(source, os.DirFS(dir))).To(Succeed())
	Expect(filepath.WalkDir(place, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(p, 0o777)
		}
		return err
	})).To(Succeed())
	for _, c := range change {
		c(source)
	}
	self, err := os.ReadFile("/proc/self/exe")
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(program, self, 0o755)).To(Succeed())
	command := exec.Command(program, "-test.run", test, "-test.v")
	command.Dir = place
	command.Env = append(os.Environ(), "HOME="+place, "TMPDIR="+place, strangerDir+"="+source)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := command.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
	Expect(string(out)).To(ContainSubstring("Passed: 1"), string(out))
}
