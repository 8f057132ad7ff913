package nixproot_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/nixproot"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
)

// programEnv makes this test program the buildpack's program of that name.
const programEnv = "NIXPROOT_TEST_PROGRAM"

// TestMain makes this test program the buildpack's where programEnv says so.
func TestMain(m *testing.M) {
	if program := os.Getenv(programEnv); program != "" {
		nixproot.Main(append([]string{program}, os.Args[1:]...), os.Stdout, os.Stderr)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func testMain(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("is verify, inspect and survey under these names, whose exit status is its own", func() {
		for _, name := range []string{"verify", "inspect", "survey"} {
			command := exec.Command(os.Args[0])
			command.Env = append(os.Environ(), programEnv+"=/x/bin/"+name)
			out, err := command.CombinedOutput()
			var exit *exec.ExitError
			Expect(errors.As(err, &exit)).To(BeTrue(), name)
			Expect(exit.ExitCode()).To(Equal(2), name)
			Expect(string(out)).To(HavePrefix("usage: "+name), name)
		}
	})

	it("takes no directory env where somebody looks into an image for the platform's", func() {
		f := imagetest.New(t, launch.EngineRelocate)
		dir := t.TempDir()
		f.Write(filepath.Join(dir, "image.tar"), nil)
		Expect(os.Mkdir(filepath.Join(dir, "env"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "env", "my_token"), []byte("/nix/store"), 0o644)).To(Succeed())
		Expect(syscall.Mkfifo(filepath.Join(dir, "env", "fifo"), 0o644)).To(Succeed())
		for _, name := range []string{"verify", "inspect"} {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			command := exec.CommandContext(ctx, os.Args[0], "image.tar")
			command.Dir, command.Env = dir, []string{programEnv + "=" + name}
			out, _ := command.CombinedOutput()
			cancel()
			Expect(string(out)).To(ContainSubstring(f.App.String()), name)
		}
	})

	it("hides in an error what is hidden in the log, and shows a terminal's commands as text", func() {
		buildpack, err := filepath.Abs("..")
		Expect(err).NotTo(HaveOccurred())
		for _, setting := range []string{
			"BP_NIX_FLAKE=git+https://me:sesame@git.example.org/x", "BP_NIX_FILE=https://me:sesame@git.example.org/x",
			"BP_NIX_STORE_PATH=https://cache.example.org/?token=sesame", "BP_NIX_FLAKE=github:opensesame", "BP_NIX_FLAKE=me:sesame@git.example.org/x", "BP_NIX_FILE=me:sesame@git.example.org/x",
			"BP_NIX_STORE_PATH=me:ses/sesame@cache.example.org/x", "BP_NIX_HYDRA_JOB=https:/me:sesame@hydra.example.org/job",
			"NIX_EXTRA_BINARY_CACHE=me:sesame@cache.example.org", "BP_NIX_HYDRA_URL=me:sesame@hydra.example.org", "BP_NIX_ARGS=word=open sesame",
			"BP_NIX_HYDRA_JOB=https://me:sesame@hydra.example.org/job/a/b/\x1b]0;c\a\u202e",
		} {
			dir := t.TempDir()
			command := exec.Command(os.Args[0])
			command.Dir = dir
			command.Env = []string{programEnv + "=detect", "NO_COLOR=1", "CNB_BUILDPACK_DIR=" + buildpack, "CNB_PLATFORM_DIR=" + dir,
				"CNB_BUILD_PLAN_PATH=" + dir + "/plan", "CNB_TARGET_ARCH=amd64", "APP_PASSWORD=opensesame", setting}
			out, err := command.CombinedOutput()
			Expect(err).To(HaveOccurred(), "%s: %s", setting, out)
			Expect(string(out)).To(ContainSubstring("NIX_"))
			Expect(string(out)).NotTo(Or(ContainSubstring("sesame"), MatchRegexp("[\x1b\a\u202e]")), setting)
		}
	})

	it("repeats nothing of what a server says unasked", func() {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		defer listener.Close()
		var said atomic.Int64
		go func() {
			for c, err := listener.Accept(); err == nil; c, err = listener.Accept() {
				go func() {
					defer c.Close()
					for {
						r, err := http.ReadRequest(bufio.NewReader(c))
						if err != nil {
							return
						}
						if strings.HasSuffix(r.URL.Path, ".narinfo") {
							time.Sleep(400 * time.Millisecond)
						}
						fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\nStoreDir: /nix/store\nEVIL WORDS")
						said.Add(1)
					}
				}()
			}
		}()
		command := exec.Command(os.Args[0], "http://"+listener.Addr().String(), "-")
		command.Env = append(os.Environ(), programEnv+"=survey")
		command.Stdin = strings.NewReader("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app\n")
		out, err := command.CombinedOutput()
		Expect(err).To(HaveOccurred(), "%s", out)
		Expect(said.Load()).NotTo(BeZero(), "%s", out)
		Expect(string(out)).NotTo(ContainSubstring("Unsolicited"))
	})

	it("has colours in log and error, and none where NO_COLOR is set, by the environment or by the platform", func() {
		buildpack, err := filepath.Abs("..")
		Expect(err).NotTo(HaveOccurred())
		run := func(ofPlatform string, environ ...string) string {
			platform, app := t.TempDir(), t.TempDir()
			Expect(os.Mkdir(filepath.Join(platform, "env"), 0o755)).To(Succeed())
			if ofPlatform != "" {
				Expect(os.WriteFile(filepath.Join(platform, "env", "NO_COLOR"), []byte(ofPlatform), 0o644)).To(Succeed())
			}
			layers, plan := t.TempDir(), filepath.Join(t.TempDir(), "plan.toml")
			Expect(os.WriteFile(plan, nil, 0o644)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(app, "Procfile"), []byte("web\n"), 0o644)).To(Succeed())
			command := exec.Command(os.Args[0])
			command.Dir = app
			command.Env = append(append(os.Environ(), programEnv+"="+buildpack+"/bin/build", "CNB_BUILDPACK_DIR="+buildpack,
				"CNB_PLATFORM_DIR="+platform, "CNB_LAYERS_DIR="+layers, "CNB_BP_PLAN_PATH="+plan, "CNB_TARGET_OS=linux",
				"CNB_TARGET_ARCH=amd64", "BP_NIX_STORE_PATH=/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app"), environ...)
			out, err := command.CombinedOutput()
			Expect(err).To(HaveOccurred())
			Expect(string(out)).To(And(ContainSubstring("Nix Hydra Buildpack"), ContainSubstring("no colon")))
			return string(out)
		}
		Expect(run("")).To(ContainSubstring("\x1b[34m"))
		Expect(run("", "NO_COLOR=")).To(ContainSubstring("\x1b[34m"))
		Expect(run("", "NO_COLOR=1")).NotTo(ContainSubstring("\x1b"))
		Expect(run("1")).NotTo(ContainSubstring("\x1b"))
	})

	it("ends at a binding's file that cannot be read, whoever's it is, and names it", func() {
		buildpack, err := filepath.Abs("..")
		Expect(err).NotTo(HaveOccurred())
		for _, c := range []struct {
			put  func(file string) error
			says string
			root bool // by SERVICE_BINDING_ROOT
		}{
			{func(file string) error { return os.Symlink("nowhere", file) }, `has "url", a link that leads nowhere`, false},
			{func(file string) error { return syscall.Mkfifo(file, 0o644) }, `has "url", which is no regular file`, true},
			{func(file string) error { return os.Symlink("/dev/zero", file) }, `has "url", which is no regular file`, false},
			{func(file string) error {
				return cmp.Or(os.WriteFile(file, nil, 0o644), os.Truncate(file, 1<<40))
			}, `has "url", with which all bindings have more than 67108864 bytes`, false},
			{func(file string) error {
				return os.Rename(filepath.Dir(file), strings.Replace(filepath.Dir(file), "mine", "mine[1]", 1))
			}, `has one of *, ?, [ and \ in its name`, false},
			{func(file string) error { return os.Mkdir(file, 0o755) }, "SKIPPED: ", true},
			{func(file string) error { return os.Symlink("nowhere", filepath.Dir(file)+"/..data") }, "SKIPPED: ", true},
		} {
			platform := t.TempDir()
			Expect(os.MkdirAll(filepath.Join(platform, "bindings/mine"), 0o755)).To(Succeed())
			Expect(c.put(filepath.Join(platform, "bindings/mine/url"))).To(Succeed())
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			command := exec.CommandContext(ctx, os.Args[0])
			command.Dir = t.TempDir()
			command.Env = []string{programEnv + "=detect", "NO_COLOR=1", "CNB_BUILDPACK_DIR=" + buildpack, "CNB_PLATFORM_DIR=" + platform,
				"CNB_BUILD_PLAN_PATH=" + filepath.Join(platform, "plan.toml"), "CNB_TARGET_ARCH=amd64"}
			if c.root {
				command.Env = append(command.Env, "CNB_PLATFORM_DIR=/none", "SERVICE_BINDING_ROOT="+platform+"/bindings")
			}
			out, err := command.CombinedOutput()
			cancel()
			Expect(err).To(HaveOccurred())
			Expect(string(out)).To(ContainSubstring(c.says))
			if !strings.HasPrefix(c.says, "SKIPPED") {
				Expect(string(out)).To(HavePrefix(`the service binding "mine`))
			}
		}
	})

	it("shows no secret in a debug log, and what this buildpack is told", func() {
		platform, app := t.TempDir(), t.TempDir()
		buildpack, err := filepath.Abs("..")
		Expect(err).NotTo(HaveOccurred())
		Expect(os.Mkdir(filepath.Join(platform, "env"), 0o755)).To(Succeed())
		for name, value := range map[string]string{
			"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG", "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEBYa\n",
			"BP_NIX_ARGS": "apiToken=hunter2hunter2 mode=fast", "DATABASE_URL": "postgres://me:sesame@db.example.org/x",
			"BP_NIX_ARG_EXPRS": `config='{ apiToken = "hunter3hunter3"; n = 471104711047110; }'`, "LICENCE": "ABC-DEF", "BP_NIX_FILE": "release.nix",
			"NIX_EXTRA_BINARY_CACHE": "https://me:opensesame@cache.example.org",
		} {
			Expect(os.WriteFile(filepath.Join(platform, "env", name), []byte(value), 0o644)).To(Succeed())
		}
		self, err := os.Executable()
		Expect(err).NotTo(HaveOccurred())
		command := exec.Command(self)
		command.Dir = app
		command.Env = []string{
			programEnv + "=detect", "BP_LOG_LEVEL=debug", "CNB_BUILDPACK_DIR=" + buildpack, "CNB_PLATFORM_DIR=" + platform,
			"CNB_BUILD_PLAN_PATH=" + filepath.Join(platform, "plan.toml"), "CNB_STACK_ID=wJalrXUtnFEMI/K7MDENG hunter2hunter2 hunter3hunter3",
		}
		out, err := command.CombinedOutput()
		Expect(err).To(HaveOccurred(), "there is nothing to detect: %s", out)
		Expect(command.ProcessState.ExitCode()).To(Equal(100), string(out))
		Expect(string(out)).To(ContainSubstring("Platform Environment: "))
		for _, secret := range []string{
			"wJalrXUtnFEMI", "FwoGZXIvYXdzEBYa", "hunter2", "hunter3", "471104711047110", "mode=fast", "sesame", "ABC-DEF",
		} {
			Expect(string(out)).NotTo(ContainSubstring(secret))
		}
		for _, plain := range []string{
			"AWS_SESSION_TOKEN:(hidden)", "BP_NIX_FILE:release.nix", "NIX_EXTRA_BINARY_CACHE:https://cache.example.org",
			"Stack: (hidden) (hidden) (hidden)",
		} {
			Expect(string(out)).To(ContainSubstring(plain))
		}
	})
}
