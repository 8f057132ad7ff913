package launch_test

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// hostile stands for a platform such as Heroku: a seccomp profile by which every engine but relocation is denied.
const hostile = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["ptrace","unshare","setns","mount",
"pivot_root","process_vm_readv"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`

// caged is what kpack and hardened clusters do to a container.
func caged() []string {
	return []string{"--user", "1001:1001", "--cap-drop=ALL", "--security-opt", "no-new-privileges"}
}

func TestDocker(t *testing.T) {
	if out, err := exec.Command("docker", "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		untested.Skip(t, "the launcher in containers, as no Docker engine answers: %v: %s", err, out)
	}
	RegisterTestingT(t)
	profile := filepath.Join(t.TempDir(), "hostile.json")
	Expect(os.WriteFile(profile, []byte(hostile), 0o600)).To(Succeed())
	c := containers{
		hostile:     []string{"--security-opt", "seccomp=" + profile},
		open:        []string{"--security-opt", "seccomp=unconfined"},
		relocated:   importImage(t, true, ""),
		shells:      importImage(t, true, "", "bash", "sleep"),
		unrelocated: importImage(t, false, ""),
		traced:      importImage(t, false, proot(t)),
	}
	spec.Run(t, "in a container", c.test, spec.Report(report.Terminal{}))
}

type containers struct {
	hostile, open                          []string // options of docker run
	relocated, shells, unrelocated, traced string   // images
}

func (c containers) test(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	context("an empty image with a relocated closure, on a hostile platform, read-only, without any privilege", func() {
		options := append(append(caged(), c.hostile...), "--read-only", "--network=none")

		it("stays as process 1, the app's parent", func() {
			r := docker(options, c.relocated, "run_proot.sh app show", "a b")
			Expect(r.code).To(Equal(0), r.err)
			Expect(r.out).To(And(ContainSubstring(`"Parent":1,`), ContainSubstring(`"UID":1001,`), ContainSubstring(`"a b"`)))
		})

		it("leaves its place to the app under an init of Docker's", func() {
			r := docker(append(options, "--init"), c.relocated, "run_proot.sh app show")
			Expect(r.out).To(ContainSubstring(`"Parent":1,`), r.err)
		})

		it("lets docker stop end what has no handler of its own, with 143", func() {
			for _, s := range []struct{ line, code string }{
				{"app echo ready; exec sleep 1000", "143"}, {"bash -c 'echo ready; while :; do sleep 1; done'", "143"},
				{"app echo ready; sleep 1000; app echo never", "143"}, {"bash -c 'echo ready; sleep 1000 & sleep 1000'", "143"},
				{"bash -c 'trap \"exit 7\" TERM; echo ready; while :; do sleep 0.05; done'", "7"},
			} {
				code, took := stopped(t, options, c.shells, s.line)
				Expect(code).To(Equal(s.code), s.line) // 137 is what docker stop comes to after its nine seconds
				t.Logf("%s: %v", s.line, took)
			}
		})

		it("runs shell lines without a shell", func() {
			r := docker(append(options, "-e", "PORT=80"), c.relocated,
				`cd /layers && test -n "$PORT" && for i in 1 2; do app echo $i:$PORT | app upper; done; sh -c 'exec app echo $PWD'`)
			Expect(r.out).To(Equal("1:80\n2:80\n/layers\n"), r.err)
		})

		it("finds store paths of a line, an argument and a variable in the relocated closure", func() {
			own := append(options, "-e", "SETTINGS=/usr/x:"+appStore+"/settings:/nix/store/none")
			const place = "/layers/closure-01/" + appBase
			for line, want := range map[string]string{
				"app echo " + appStore + "/bin $SETTINGS":                place + "/bin /usr/x:" + place + "/settings:/nix/store/none",
				"app upper < " + appStore + "/settings":                  "SETTING=SET",
				"A=" + appStore + "/bin; $A/app echo ${SETTINGS#/usr/x}": ":" + place + "/settings:/nix/store/none",
				"run_proot.sh " + appStore + "/bin/app echo":             "",
			} {
				r := docker(own, c.relocated, line)
				Expect(strings.TrimSpace(r.out)).To(Equal(want), "%s: %s", line, r.err)
			}
			r := docker(own, c.relocated, "app echo", appStore+"/bin")
			Expect(r.out).To(Equal(place+"/bin\n"), r.err)
		})

		it("has true exit statuses", func() {
			for line, want := range map[string]int{
				"app exit 7": 7, "app exit 7; true": 0, "app die 15; true; app exit 6": 6, "nosuch": 127, "app die 9; exit $?": 137,
				"true | app exit 9": 9, "app exit 3 | true": 0,
			} {
				Expect(docker(options, c.relocated, line).code).To(Equal(want), line)
			}
		})

		it("stops by SIGTERM with the app's own status", func() {
			for line, want := range map[string]string{"app serve 5": "5", "app serve 5; true": "143", "app sleep 60 & app serve 5": "143"} {
				code, took := stopped(t, options, c.relocated, line)
				Expect(code).To(Equal(want), line)                                   // a shell has no handler of its own
				Expect(took).To(BeNumerically("<", busy.Limit(5*time.Second)), line) // the engine's own share is most of it
			}
		})

		it("stops by a signal that a terminal has a key for, on a terminal too", func() {
			for _, sig := range []string{"INT", "QUIT"} {
				code, _ := stopped(t, append(options, "--tty", "--stop-signal", sig), c.relocated, "app serve 5")
				Expect(code).To(Equal("5"), sig)
			}
		})

		it("reaps what others leave behind", func() {
			Expect(docker(options, c.relocated, "app orphans 20; true").out).To(HaveSuffix("zombies 0\n"))
		})

		it("says what is missing when a program is", func() {
			r := docker(options, c.relocated, "bash -x")
			Expect(r.code).To(Equal(127))
			Expect(r.err).To(ContainSubstring("bash: no such program: searched /layers/closure-01/"))
		})
	})

	context("an unrelocated closure", func() {
		it("runs in a user namespace where the platform allows it, also where / has no /nix and is read-only", func() {
			for _, extra := range [][]string{nil, {"--read-only"}} {
				options := append(append(append(caged(), c.open...), "-e", launch.DebugEnv+"=1"), extra...)
				r := docker(options, c.unrelocated, "run_proot.sh app show", "a")
				Expect(r.code).To(Equal(0), r.err)
				Expect(r.err).To(ContainSubstring("engine userns"))
				Expect(r.out).To(And(ContainSubstring(`"Store":["`+appBase+`"]`), ContainSubstring(`"UID":1001`),
					ContainSubstring(`"Caps":"0000000000000000"`)))
				code, took := stopped(t, options, c.unrelocated, "run_proot.sh app serve 5")
				Expect(code).To(Equal("5"))
				Expect(took).To(BeNumerically("<", busy.Limit(5*time.Second)))
				Expect(docker(options, c.unrelocated, "app orphans 20").out).To(HaveSuffix("zombies 0\n"))
				Expect(docker(options, c.unrelocated, "app die 9").code).To(Equal(137))
			}
		})

		it("runs by PRoot under Docker's own profile, where / has no /nix", func() {
			for _, extra := range [][]string{nil, {"--read-only", "--tmpfs", "/tmp:exec,mode=1777"}} {
				options := append(append(caged(), "-e", launch.DebugEnv+"=1"), extra...)
				r := docker(options, c.traced, "run_proot.sh app show", "a")
				Expect(r.code).To(Equal(0), r.err)
				Expect(r.err).To(And(ContainSubstring("engine userns does not work here"), ContainSubstring("engine proot")))
				Expect(r.out).To(And(ContainSubstring(`"Store":["`+appBase+`"]`), ContainSubstring(`"UID":1001`)))
				code, took := stopped(t, options, c.traced, "run_proot.sh app serve 5")
				Expect(code).To(Equal("5"))
				Expect(took).To(BeNumerically("<", busy.Limit(5*time.Second)))
				Expect(docker(options, c.traced, "app orphans 5").out).To(HaveSuffix("zombies 0\n"))
				for line, want := range map[string]int{"app die 9": 137, "app die 15": 143, "app exit 4": 4} {
					Expect(docker(options, c.traced, line).code).To(Equal(want), line)
				}
			}
		})

		it("loses no program of a line by PRoot, in an image without a shell", func() {
			for range 5 {
				r := docker(caged(), c.traced, `true && app show | app upper | app upper; x=$(app echo a | app upper); app echo $x $(app echo b)`)
				Expect(r.out).To(And(ContainSubstring(`"HOME":"/TMP"`), HaveSuffix("A b\n")), r.err)
			}
		})

		it("says that PRoot has no place for its loader", func() {
			r := docker(append(caged(), "--read-only"), c.traced, "run_proot.sh app show")
			Expect(r.code).To(Equal(126))
			Expect(r.err).To(ContainSubstring("no directory is both writable and executable for PRoot's loader: tried /tmp, "))
			Expect(r.err).To(ContainSubstring("--tmpfs /tmp:exec"))
		})

		it("names what a hostile platform denies and what helps, and still runs what is not of the closure", func() {
			options := append(caged(), c.hostile...)
			r := docker(options, c.traced, "run_proot.sh app show")
			Expect(r.code).To(Equal(126))
			for _, want := range []string{
				"no engine can give /nix/store to the app on this platform", "userns: mount(/, MS_SLAVE): operation not permitted",
				"proot: proot ended with status 1 (ptrace(TRACEME): Operation not permitted",
				"ptrace is denied, and a seccomp filter is in force", "build the image with BP_NIX_ENGINE=relocate",
				"--security-opt seccomp=unconfined",
			} {
				Expect(r.err).To(ContainSubstring(want))
			}
			Expect(docker(options, c.traced, "/layers/plain echo hi").out).To(Equal("hi\n"))
		})
	})
}

// docker runs a Procfile line in a container.
func docker(options []string, image, line string, args ...string) result {
	return run(exec.Command("docker", dockerArgs([]string{"run", "--rm"}, options, image, line, args...)...))
}

func dockerArgs(head, options []string, image, line string, args ...string) []string {
	head = append(append(head, options...), image, "/layers/launch/bin/"+launch.ProcessProgramName, "--process", line)
	return append(head, args...)
}

// stopped starts a line that says "ready", stops its container, and returns its status and how long the stop took.
func stopped(t *testing.T, options []string, image, line string) (code string, took time.Duration) {
	t.Helper()
	start := exec.Command("docker", dockerArgs([]string{"run", "--detach"}, options, image, line)...)
	id := strings.TrimSpace(run(start).out)
	Expect(id).NotTo(BeEmpty())
	defer run(exec.Command("docker", "rm", "--force", id))
	logs := func() string { return run(exec.Command("docker", "logs", id)).out }
	Eventually(logs, "20s").Should(ContainSubstring("ready"))
	begin := time.Now()
	Expect(run(exec.Command("docker", "stop", "--time", "9", id)).code).To(Equal(0))
	took = time.Since(begin)
	return strings.TrimSpace(run(exec.Command("docker", "inspect", "--format", "{{.State.ExitCode}}", id)).out), took
}

// importImage makes an image that holds the layers, an empty /tmp, the directories that a container needs, PRoot where a
// path of it is given, this machine's programs of the given names, and the libraries of both; no other shell, no libc,
// no /nix.
func importImage(t *testing.T, relocated bool, prootPath string, programs ...string) string {
	t.Helper()
	root := t.TempDir()
	img := &image{dir: filepath.Join(root, "layers")}
	img.lay(img.dir, "/layers", relocated)
	for _, dir := range []string{"tmp", "proc", "dev", "sys", "etc"} {
		Expect(os.Mkdir(filepath.Join(root, dir), 0o755)).To(Succeed())
	}
	copyFile(filepath.Join(built, "app"), filepath.Join(img.dir, "plain"))
	passwd := []byte("app:x:1001:1001::/tmp:/none\n")
	Expect(os.WriteFile(filepath.Join(root, "etc", "passwd"), passwd, 0o644)).To(Succeed())
	if prootPath != "" {
		img.configure(func(c *launch.Config) { c.PRoot = "/layers/proot/bin/proot" })
		Expect(os.MkdirAll(filepath.Join(img.dir, "proot", "bin"), 0o755)).To(Succeed())
		copyFile(prootPath, filepath.Join(img.dir, "proot", "bin", "proot"))
		addLibraries(root, prootPath)
	}
	for _, program := range programs {
		path, err := exec.LookPath(program)
		Expect(err).NotTo(HaveOccurred())
		copyFile(path, filepath.Join(img.dir, "closure-01", appBase, "bin", program))
		addLibraries(root, path)
	}
	name := fmt.Sprintf("nix-hydra-launch-test:%d-%t-%t-%s", os.Getpid(), relocated, prootPath != "",
		strings.Join(programs, "-"))
	cmd := exec.Command("docker", "import", "--change", "ENV PATH=/layers/launch/bin", "-", name)
	cmd.Stdin = archive(root)
	r := run(cmd)
	Expect(r.code).To(Equal(0), r.err)
	t.Cleanup(func() { run(exec.Command("docker", "rmi", "--force", name)) })
	return name
}

// addLibraries puts the loader and the libraries of a program where the program looks for them.
func addLibraries(root, program string) {
	for _, lib := range libraries(program) {
		Expect(os.MkdirAll(filepath.Join(root, filepath.Dir(lib)), 0o755)).To(Succeed())
		copyFile(lib, filepath.Join(root, lib))
	}
}

// libraries lists the loader and the libraries of a program, by the program's own loader.
func libraries(path string) []string {
	program, err := elf.Open(path)
	Expect(err).NotTo(HaveOccurred(), "a PRoot that is a program, not a script, is needed")
	defer func() { _ = program.Close() }()
	for _, p := range program.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(p.Open())
		Expect(err).NotTo(HaveOccurred())
		loader := string(bytes.TrimRight(name, "\x00"))
		out, err := exec.Command(loader, "--list", path).Output()
		Expect(err).NotTo(HaveOccurred())
		libs := []string{loader}
		for _, found := range regexp.MustCompile(`=> (/\S+)`).FindAllStringSubmatch(string(out), -1) {
			libs = append(libs, found[1])
		}
		return libs
	}
	return nil
}

// archive is a directory as a tar, its directory tmp open to everybody.
func archive(root string) io.Reader {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	Expect(filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == root {
			return err
		}
		link := ""
		if info.Mode()&os.ModeSymlink != 0 {
			link, _ = os.Readlink(path)
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		header.Name, _ = filepath.Rel(root, path)
		if header.Name == "tmp" {
			header.Mode = 0o1777
		}
		if err := w.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})).To(Succeed())
	Expect(w.Close()).To(Succeed())
	return &out
}
