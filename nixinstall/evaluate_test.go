package nixinstall_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// What an ordinary Nix 2.34.8, with /nix/store in its place, gave for testdata/app in a source called git-export.
const (
	appSource   = "/nix/store/m0krr6bq1b5mmdwbfgxv50qyhrdx8pdn-git-export"
	appDrv      = "/nix/store/m2wvjw2h7w6631q8zbim1cw3y5a52g8p-app-1.0.drv"
	appOut      = "/nix/store/52pqh1qsvqvhn629j4rqgi8jlp36n8k3-app-1.0"
	appDoc      = "/nix/store/2p55sg3nn9mxjfzjl5a95cg58bks1cry-app-1.0-doc"
	nixpkgsPath = "/nix/store/9na33lrksjwckp4ji4w0cws17h3n59yg-source"
)

// child names the directory of a toolchain in a process that evaluates as another user.
const childEnv = "NIX_HYDRA_TEST_CHILD"

// evaluate adds a directory of testdata to the store and evaluates a request in it.
func evaluate(
	t *testing.T, toolchain nixinstall.Toolchain, dir string, r nixinstall.Request,
) (nixinstall.Result, error) {
	t.Helper()
	source, err := toolchain.AddSource(context.Background(), testdata(t, dir),
		nixinstall.SourceOptions{Name: "git-export"})
	Expect(err).NotTo(HaveOccurred())
	r.Source = source
	return toolchain.Evaluate(context.Background(), r)
}

// withNixpkgs serves the few parts of nixpkgs from a signed cache.
func withNixpkgs(t *testing.T) func(*nixinstall.Settings) {
	t.Helper()
	c := newBinaryCache(t)
	c.add(nixpkgsPath, testdata(t, "nixpkgs"))
	return func(s *nixinstall.Settings) {
		s.Substituters, s.TrustedPublicKeys = []string{c.url()}, []string{c.publicKey()}
	}
}

func isApp(r nixinstall.Result) {
	Expect(r.Derivations).To(HaveLen(1))
	Expect(r.Derivations[0]).To(Equal(nixinstall.Derivation{
		Name: "app-1.0", Drv: appDrv,
		Outputs: map[string]storepath.Path{"out": appOut, "doc": appDoc}, Install: []string{"out", "doc"},
		MainProgram: "serve", Licenses: []string{"MIT"},
	}))
	Expect(r.Outputs).To(Equal([]nixinstall.Output{
		{Path: appOut, MainProgram: "serve", Licenses: []string{"MIT"}, Drv: appDrv},
		{Path: appDoc, MainProgram: "serve", Licenses: []string{"MIT"}, Drv: appDrv},
	}))
}

func testEvaluate(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("gives an ordinary Nix's paths for the seed's shell.nix, its nixpkgs served from a signed cache", func() {
		r, err := evaluate(t, nix(t, withNixpkgs(t)), "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		isApp(r)
		Expect(r.Used).To(ConsistOf(BeEquivalentTo(appSource), BeEquivalentTo(nixpkgsPath), BeEquivalentTo(appDrv)))
	})

	it("reads <nixpkgs> from the settings and gives arguments to who asks", func() {
		path := func(s *nixinstall.Settings) { s.NixPath = []string{"nixpkgs=" + testdata(t, "nixpkgs")} }
		r, err := evaluate(t, nix(t, path), "app", nixinstall.Request{File: "path.nix"})
		Expect(err).NotTo(HaveOccurred())
		isApp(r)

		toolchain := nix(t, path)
		source, err := toolchain.AddSource(context.Background(), testdata(t, "app"),
			nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		r, err = toolchain.Evaluate(context.Background(), nixinstall.Request{
			Source: source, File: "path.nix", Args: map[string]string{"greeting": "bonjour", "unused": "x"},
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Outputs[0].Path).To(BeEquivalentTo("/nix/store/gcrs33qxfa8klkfq706dikid51lrc0c4-app-1.0"))
	})

	it("works as another user, with nothing of the environment and with no /nix", func() {
		if _, err := os.Lstat("/nix"); err == nil {
			untested.Say("%s without /nix: this machine has one", t.Name())
		}
		shared, err := os.MkdirTemp("", "n")
		Expect(err).NotTo(HaveOccurred())
		defer os.RemoveAll(shared)
		Expect(os.Chmod(shared, 0o777)).To(Succeed())
		c := newBinaryCache(t)
		c.dir = filepath.Join(shared, "cache")
		c.write("nix-cache-info", []byte("StoreDir: /nix/store\n"))
		c.add(nixpkgsPath, testdata(t, "nixpkgs"))
		Expect(os.CopyFS(filepath.Join(shared, "app"), os.DirFS("testdata/app"))).To(Succeed())
		program := filepath.Join(shared, "test")
		copyProgram(program)

		cmd := exec.Command(program, "-test.run=^TestAnotherUsersEvaluation$", "-test.v")
		cmd.Dir = shared
		cmd.Env = []string{childEnv + "=" + nix(t).Dir, "PATH=" + os.Getenv("PATH"), "SECRET_TOKEN=abc",
			"CACHE=" + c.url(), "KEY=" + c.publicKey()}
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		said, err := cmd.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", said)
		Expect(string(said)).To(ContainSubstring(appOut))
	})

	it("lets no variable of the build into an expression but those of nixpkgs", func() {
		toolchain := nix(t, func(s *nixinstall.Settings) {
			s.Environment = append(s.Environment, "SECRET_TOKEN=abc", "NIXPKGS_ALLOW_UNFREE=1", "NIXPKGS_ALLOW_INSECURE=",
				"NIXPKGS_CONFIG=nix/config.nix", "NIX_CONFIG=max-jobs = 4")
		})
		dir := t.TempDir()
		Expect(os.Mkdir(filepath.Join(dir, "nix"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "nix/config.nix"), []byte(`{ text = "permitted"; }`), 0o644)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "default.nix"), []byte(`derivation {
			name = "env" + builtins.concatStringsSep "" (map builtins.getEnv [ "SECRET_TOKEN" "NIXPKGS_ALLOW_UNFREE" "USER"
				"NIXPKGS_ALLOW_INSECURE" ]) + (import (builtins.getEnv "NIXPKGS_CONFIG")).text;
			builder = "/bin/sh"; system = builtins.currentSystem;
		}`), 0o644)).To(Succeed())
		source, err := toolchain.AddSource(context.Background(), dir, nixinstall.SourceOptions{})
		Expect(err).NotTo(HaveOccurred())
		r, err := toolchain.Evaluate(context.Background(), nixinstall.Request{Source: source})
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Derivations[0].Name).To(Equal("env1permitted"))
	})

	it("says that it goes on while it takes long, and stops when it is told to", func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var told time.Time
		tell := sync.OnceFunc(func() { told = time.Now(); cancel() })
		goesOn := regexp.MustCompile("Evaluating default.nix: .* so far, at .*default.nix")
		toolchain := nix(t, func(s *nixinstall.Settings) {
			s.SetQuiet(50 * time.Millisecond)
			s.Log = func(format string, args ...any) {
				if goesOn.MatchString(fmt.Sprintf(format, args...)) {
					tell()
				}
			}
		})
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "default.nix"),
			[]byte(`let loop = n: if n == 0 then 0 else builtins.seq (builtins.genList (x: x) 1000) (loop (n - 1)); in
				builtins.foldl' (a: b: builtins.seq (loop 1000) a) 0 (builtins.genList (x: x) 1000000)`),
			0o644)).To(Succeed())
		source, err := toolchain.AddSource(context.Background(), dir, nixinstall.SourceOptions{})
		Expect(err).NotTo(HaveOccurred())
		_, err = toolchain.Evaluate(ctx, nixinstall.Request{Source: source})
		Expect(err).To(MatchError(context.Canceled), "it has said so, and was told to stop")
		Expect(time.Since(told)).To(BeNumerically("<", busy.Limit(20*time.Second)))
	})

	it("stops while Nix is in what it does not interrupt", func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		toolchain, dir := nix(t), t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "default.nix"),
			[]byte(`builtins.match "(a|a)*b" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`), 0o644)).To(Succeed())
		source, err := toolchain.AddSource(context.Background(), dir, nixinstall.SourceOptions{})
		Expect(err).NotTo(HaveOccurred())
		var told time.Time
		time.AfterFunc(2*time.Second, func() { told = time.Now(); cancel() })
		_, err = toolchain.Evaluate(ctx, nixinstall.Request{Source: source})
		Expect(err).To(MatchError(context.Canceled))
		Expect(time.Since(told)).To(BeNumerically("<", busy.Limit(4*time.Second)))
	})
}

// TestAnotherUsersEvaluation is the part of testEvaluate that another user runs.
func TestAnotherUsersEvaluation(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		return
	}
	RegisterTestingT(t)
	toolchain, err := nixinstall.Restore(context.Background(), dir)
	Expect(err).NotTo(HaveOccurred())
	toolchain = toolchain.With(nixinstall.Settings{
		State: stateDir(t), RequireSigs: true, System: system,
		Substituters: []string{os.Getenv("CACHE")}, TrustedPublicKeys: []string{os.Getenv("KEY")},
	})
	source, err := toolchain.AddSource(context.Background(), "app", nixinstall.SourceOptions{Name: "git-export"})
	Expect(err).NotTo(HaveOccurred())
	r, err := toolchain.Evaluate(context.Background(), nixinstall.Request{Source: source, File: "shell.nix"})
	Expect(err).NotTo(HaveOccurred())
	fmt.Println(os.Getuid(), r.Outputs[0].Path)
}

// copyProgram copies this test program to where another user can run it.
func copyProgram(to string) {
	self, err := os.Executable()
	Expect(err).NotTo(HaveOccurred())
	in, err := os.Open(self)
	Expect(err).NotTo(HaveOccurred())
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	Expect(err).NotTo(HaveOccurred())
	_, err = io.Copy(out, in)
	Expect(err).NotTo(HaveOccurred())
	Expect(out.Close()).To(Succeed())
}
