package closure_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// killedBuild is set in the process that is to be killed: cache directory, key, layers directory and root.
const killedBuild = "CLOSURE_TEST_KILLED_BUILD"

func testKill(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	// endless builds over and over until somebody ends it.
	endless := func(dir, key, layers, root string) {
		keys, err := narinfo.ParseKeys(key)
		Expect(err).NotTo(HaveOccurred())
		for {
			set, err := cache.Open(context.Background(), cache.Options{
				URLs: []string{"file://" + dir}, Keys: keys, RequireSigs: true,
			})
			Expect(err).NotTo(HaveOccurred())
			staging := filepath.Join(layers, ".staging")
			result, err := closure.Substitute(context.Background(), closure.Options{
				Caches: set, Roots: []storepath.Path{storepath.Path(root)}, Staging: staging,
				View: viewAt(filepath.Join(layers, "store")),
			})
			Expect(err).NotTo(HaveOccurred())
			Expect(closure.Install(context.Background(), result, staging, layers)).To(Succeed())
			Expect(set.Close()).To(Succeed())
		}
	}

	it("is right after being killed at any moment", func() {
		if build := os.Getenv(killedBuild); build != "" {
			fields := strings.Split(build, "\n")
			endless(fields[0], fields[1], fields[2], fields[3])
		}
		c, img := newBinaryCache(t), newImage(t)
		g := c.stock(newWorld(1, 60))
		key := narinfo.PublicKey{Name: keyName, Key: c.key.Public().(ed25519.PublicKey)}
		began := time.Now()
		img.build(c, g, nil)
		took := time.Since(began)
		want := dump(img.layers)
		random := rand.New(rand.NewPCG(1, uint64(began.UnixNano())))
		for range 12 {
			cmd := exec.Command("/proc/self/exe", "-test.run", "TestClosure/closure/Kill")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s\n%s\n%s\n%s", killedBuild, c.dir, key, img.layers, g.Roots[0]))
			Expect(cmd.Start()).To(Succeed())
			time.Sleep(20*time.Millisecond + time.Duration(random.Int64N(int64(2*took))))
			Expect(cmd.Process.Kill()).To(Succeed())
			Expect(cmd.Wait()).NotTo(Succeed())
			img.build(c, g, nil)
			Expect(string(dump(img.layers)) == string(want)).To(BeTrue(), "the layers differ after a kill")
		}
	})
}
