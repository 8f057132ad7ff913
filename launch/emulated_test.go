package launch_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// TestEmulated is what of the engines userns and proot can be tested where QEMU runs the launcher. It refuses user
// namespaces and ptrace to the programs that it runs; within namespaces that are made for it, it has the system calls by
// which the closure is put at /nix/store.
func TestEmulated(t *testing.T) {
	if arch := os.Getenv("NIX_HYDRA_ARCH"); arch == "" || arch == runtime.GOARCH {
		t.Skip("this machine runs the launcher itself: TestEngines tests all of them")
	}
	RegisterTestingT(t)
	img := newImage(t, false)

	img.configure(func(c *launch.Config) { c.PRoot = proot(t) })
	for engine, why := range map[string]string{
		launch.EngineUserns: "userns: clone(CLONE_NEWUSER|CLONE_NEWNS): invalid argument",
		launch.EngineProot:  "ptrace(TRACEME): Function not implemented",
	} {
		img.env = []string{launch.EngineEnv + "=" + engine}
		r := run(img.command("app", "exit", "3"))
		Expect(r.code).To(Equal(126), "QEMU has learnt it: test %s in full", engine)
		Expect(r.err).To(ContainSubstring(why))
	}

	read, write, err := os.Pipe()
	Expect(err).NotTo(HaveOccurred())
	defer read.Close()
	call, err := json.Marshal(map[string]any{"Engine": launch.EngineUserns, "Report": 3, "Terminal": -1,
		"View": img.config.View, "Probe": appStore + "/bin", "Strict": true})
	Expect(err).NotTo(HaveOccurred())
	shim := exec.Command(img.bin(launch.ProcessProgramName), "--nix-hydra-shim", string(call), appStore+"/bin/app", "app", "show")
	shim.Env, shim.ExtraFiles = []string{"PATH=/usr/bin:/bin"}, []*os.File{write}
	inside := []syscall.SysProcIDMap{{ContainerID: 1001, HostID: os.Getuid(), Size: 1}}
	groups := []syscall.SysProcIDMap{{ContainerID: 1001, HostID: os.Getgid(), Size: 1}}
	shim.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: inside, GidMappings: groups,
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
	}
	s := show(shim)
	Expect(write.Close()).To(Succeed())
	Expect(s.Args).To(Equal([]string{"app", "show"}))
	Expect(s.Store).To(Equal([]string{appBase}))
	Expect(s.UID).To(Equal(1001))
	Expect(strings.Trim(s.Caps, "0")).To(BeEmpty(), "what the shim needed to mount")
	_, err = os.Lstat(filepath.Join("/nix/store", appBase))
	Expect(err).To(MatchError(os.ErrNotExist))
}
