package nixinstall_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// stateChildEnv names the directory of a toolchain in a process that evaluates, as another user, on a state from a pack.
const stateChildEnv = "NIX_HYDRA_TEST_STATE_CHILD"

func testState(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	var state, pack, sum string

	it.Before(func() {
		RegisterTestingT(t)
		toolchain := nix(t, withNixpkgs(t), func(s *nixinstall.Settings) { state = s.State })
		r, err := evaluate(t, toolchain, "app", nixinstall.Request{File: "shell.nix"})
		Expect(err).NotTo(HaveOccurred())
		_, err = toolchain.Collect(ctx, r.Used, 1<<30)
		Expect(err).NotTo(HaveOccurred())
		pack = filepath.Join(t.TempDir(), "state.nar.zst")
		sum, err = toolchain.PackState(ctx, pack)
		Expect(err).NotTo(HaveOccurred())
		Expect(nar.RemoveAll(state)).To(Succeed())
	})

	it("gives what evaluations left to the next one, which fetches nothing again, whoever runs it", func() {
		shared, err := os.MkdirTemp("", "nxt-")
		Expect(err).NotTo(HaveOccurred())
		defer func() { Expect(nar.RemoveAll(shared)).To(Succeed()) }()
		Expect(os.Chmod(shared, 0o777)).To(Succeed())
		Expect(os.CopyFS(filepath.Join(shared, "app"), os.DirFS("testdata/app"))).To(Succeed())
		Expect(os.Rename(pack, filepath.Join(shared, "pack"))).To(Succeed())
		Expect(os.Chmod(filepath.Join(shared, "pack"), 0o644)).To(Succeed())
		copyProgram(filepath.Join(shared, "test"))

		cmd := exec.Command(filepath.Join(shared, "test"), "-test.run=^TestStateChild$", "-test.v")
		cmd.Dir = shared
		cmd.Env = []string{stateChildEnv + "=" + nix(t).Dir, "PATH=" + os.Getenv("PATH"), "SUM=" + sum}
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		said, err := cmd.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", said)
		Expect(string(said)).To(ContainSubstring("PASS: TestStateChild"))
	})

	it("gives nothing of what was altered, cut short or is not there", func() {
		whole, err := os.ReadFile(pack)
		Expect(err).NotTo(HaveOccurred())
		for i := range 20 {
			altered := append([]byte(nil), whole...)
			altered[len(whole)*(i+1)/21] ^= 1
			Expect(os.WriteFile(pack, altered, 0o644)).To(Succeed())
			Expect(nixinstall.UnpackState(ctx, pack, state, sum)).NotTo(Succeed(), "byte %d", len(whole)*(i+1)/21)
			Expect(state).NotTo(BeAnExistingFile())
		}
		Expect(os.WriteFile(pack, whole[:len(whole)/2], 0o644)).To(Succeed())
		Expect(nixinstall.UnpackState(ctx, pack, state, sum)).NotTo(Succeed())
		Expect(os.WriteFile(pack, whole, 0o644)).To(Succeed())
		Expect(nixinstall.UnpackState(ctx, pack, state, "00")).To(MatchError(ContainSubstring("want 00")))
		Expect(state).NotTo(BeAnExistingFile())
		Expect(os.MkdirAll(filepath.Join(state, "left/by/a/killed/build"), 0o755)).To(Succeed())
		Expect(nixinstall.UnpackState(ctx, pack, state, sum)).To(Succeed())
		Expect(names(state)).To(ConsistOf("root", "home"))
		Expect(os.Remove(pack)).To(Succeed())
		Expect(nixinstall.UnpackState(ctx, pack, state, sum)).To(MatchError(os.ErrNotExist))
	})
}

// TestStateChild is the part of testState that another user runs. No cache is there that could serve anything.
func TestStateChild(t *testing.T) {
	dir := os.Getenv(stateChildEnv)
	if dir == "" {
		return
	}
	RegisterTestingT(t)
	ctx := context.Background()
	state, err := filepath.Abs("state")
	Expect(err).NotTo(HaveOccurred())
	Expect(nixinstall.UnpackState(ctx, "pack", state, os.Getenv("SUM"))).To(Succeed())
	toolchain, err := nixinstall.Restore(ctx, dir)
	Expect(err).NotTo(HaveOccurred())
	toolchain = toolchain.With(nixinstall.Settings{State: state, RequireSigs: true, System: system})
	source, err := toolchain.AddSource(ctx, "app", nixinstall.SourceOptions{Name: "git-export"})
	Expect(err).NotTo(HaveOccurred())
	r, err := toolchain.Evaluate(ctx, nixinstall.Request{Source: source, File: "shell.nix"})
	Expect(err).NotTo(HaveOccurred())
	isApp(r)
	_, err = toolchain.Collect(ctx, r.Used, 1<<30)
	Expect(err).NotTo(HaveOccurred())
	_, err = toolchain.PackState(ctx, "again")
	Expect(err).NotTo(HaveOccurred())
}
