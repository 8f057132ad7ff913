package builds_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// killSeeds is how many builds are killed: $BUILDS_TEST_KILLS, else these; from which seed on is
// $BUILDS_TEST_KILL_FIRST, else 1.
const killSeeds = 12

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestKilledBuilds kills builds at any moment, by SIGKILL, by SIGTERM, and by what stands for a power failure: after
// SIGKILL, any file that the build has written may have lost its end or all of its contents, as nothing is synced. The
// next build in the same place gives the image that it would have given without.
func TestKilledBuilds(t *testing.T) {
	RegisterTestingT(t)
	s := newShelf(t)
	before, after := s.app(1, 24, 150_000), s.app(2, 24, 150_000)
	p := newPlatform(t, s, "")
	p.build(before)
	saved := filepath.Join(t.TempDir(), "image")
	Expect(p.Save(saved)).To(Succeed())
	began := time.Now()
	want := p.build(after)
	took := time.Since(began)
	Expect(p.Restore(saved)).To(Succeed())

	var dying time.Duration
	var peak int64
	stopped, lost := map[string]int{}, 0
	first, count := setting("BUILDS_TEST_KILL_FIRST", 1), setting("BUILDS_TEST_KILLS", killSeeds)
	for seed := first; seed < first+count; seed++ {
		dice := rand.New(rand.NewPCG(uint64(seed), 1))
		kind := []string{"SIGKILL", "SIGTERM", "power failure"}[seed%3]
		if p.Signal = 0; kind == "SIGTERM" {
			p.Signal = syscall.SIGTERM
		}
		// Half of the builds are first ones, with everything to fetch; the others have a previous image. What ends before
		// its time is begun again, and has less.
		var o *integration.Outcome
		for limit := took; o == nil || o.Status == 0; limit = limit * 3 / 4 {
			if seed/3%2 == 0 {
				Expect(p.NewImage()).To(Succeed())
			} else {
				Expect(p.Restore(saved)).To(Succeed())
			}
			p.KillAfter = time.Duration(dice.Int64N(int64(limit))) + time.Millisecond
			if start := time.Now(); kind == "power failure" {
				p.Died = func() { lost += loseUnsynced(p.Layers(), start, dice) }
			}
			o = p.try(after)
			p.KillAfter, p.Died = 0, nil
		}
		stopped[kind]++
		if kind == "SIGTERM" {
			dying = max(dying, o.Dying)
		}
		peak = max(peak, o.Peak)
		Expect(p.build(after) == want).To(BeTrue(), "seed %d, %s: another image", seed, kind)
	}
	t.Logf("seeds %d to %d: %v were stopped, %d files lost; another image afterwards: 0; SIGTERM to the end at most %v, peak %d MiB",
		first, first+count-1, stopped, lost, dying.Round(time.Millisecond), peak>>20)
	Expect(len(stopped)).To(Equal(3), "each kind stops builds")
	Expect(dying).To(BeNumerically("<", busy.Limit(10*time.Second)))
	Expect(peak).To(BeNumerically("<", 256<<20))
}

// loseUnsynced is what a power failure does to files written since a time that nobody synced: names are there, contents
// are not, or not all of them.
func loseUnsynced(dir string, since time.Time, dice *rand.Rand) (lost int) {
	Expect(filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		changed := info.Sys().(*syscall.Stat_t).Ctim
		if time.Unix(changed.Unix()).Before(since) || info.Size() == 0 {
			return nil
		}
		size := info.Size()
		switch dice.IntN(4) {
		case 0: // it came through
			return nil
		case 1:
			size = 0
		case 2:
			size = dice.Int64N(size)
		}
		lost++
		mode := info.Mode().Perm()
		if err := os.Chmod(file, mode|0o200); err != nil {
			return err
		}
		if err := os.Truncate(file, size-min(size, 1)); err != nil {
			return err
		}
		if err := os.Truncate(file, size); err != nil { // its last byte is zero now
			return err
		}
		return os.Chmod(file, mode)
	})).To(Succeed())
	return lost
}

// TestStarvedBuilds has builds run out of disk, of descriptors and of memory, and find what they cannot write to: each
// succeeds, or ends with an error that says so, and the next one in the same place gives the right image.
func TestStarvedBuilds(t *testing.T) {
	RegisterTestingT(t)
	s := newShelf(t)
	root := s.app(1, 24, 150_000)
	p := newPlatform(t, s, "")
	want := p.build(root)

	t.Run("64 descriptors", func(t *testing.T) {
		RegisterTestingT(t)
		Expect(p.NewImage()).To(Succeed())
		p.Before = "ulimit -n 64"
		defer func() { p.Before = "" }()
		Expect(p.build(root) == want).To(BeTrue())
	})

	t.Run("a disk that is full", func(t *testing.T) {
		RegisterTestingT(t)
		dir, remount := tmpfs(t)
		q := newPlatform(t, s, dir)
		remount(roomy)
		want := q.build(root)
		for i, options := range []string{"size=300k", "size=1m", "size=2m", "size=3m", "nr_inodes=60", "nr_inodes=150", "nr_inodes=250"} {
			Expect(q.NewImage()).To(Succeed())
			Expect(os.RemoveAll(filepath.Join(dir, "app"))).To(Succeed())
			remount(roomy)
			q.Prepare = func(string) error { remount(options); return nil }
			o := q.try(root)
			q.Prepare = nil
			Expect(o.Status).NotTo(BeZero(), "%s: %s", options, o.Log)
			Expect(o.Log).To(ContainSubstring("no space left on device"), "%d %s", i, options)
			remount(roomy)
			Expect(q.build(root) == want).To(BeTrue(), options)
		}
	})

	t.Run("a disk that cannot be written to", func(t *testing.T) {
		RegisterTestingT(t)
		dir, remount := tmpfs(t)
		q := newPlatform(t, s, dir)
		want := q.build(root)
		Expect(q.NewImage()).To(Succeed())
		q.Prepare = func(string) error { remount("ro"); return nil }
		o := q.try(root)
		q.Prepare = nil
		remount("rw")
		Expect(o.Status).NotTo(BeZero())
		Expect(o.Log).To(ContainSubstring("read-only file system"))
		Expect(q.build(root) == want).To(BeTrue())
	})

	t.Run("300 MiB", func(t *testing.T) {
		RegisterTestingT(t)
		Expect(p.NewImage()).To(Succeed())
		p.Before = limitMemory(t, 300<<20)
		defer func() { p.Before = "" }()
		o := p.try(root)
		Expect(o.Status).To(BeZero(), o.Log)
		Expect(p.contents() == want).To(BeTrue())
		t.Logf("peak %d MiB", o.Peak>>20)
		Expect(o.Peak).To(BeNumerically("<", 256<<20))
	})
}

// roomy is a size that a build fits into.
const roomy = "size=64m,nr_inodes=100k"

// tmpfs mounts an empty file system, whose options remount changes.
func tmpfs(t *testing.T) (dir string, remount func(options string)) {
	dir = shortDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, roomy+",mode=755"); err != nil {
		untested.Skip(t, "mounting a file system of a small size: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir, func(options string) {
		var flags uintptr = syscall.MS_REMOUNT
		if options == "ro" {
			flags, options = flags|syscall.MS_RDONLY, ""
		}
		if options == "rw" {
			options = ""
		}
		Expect(syscall.Mount("tmpfs", dir, "tmpfs", flags, options)).To(Succeed(), options)
	}
}

// limitMemory is the line of shell that puts its process into a control group with so much memory.
func limitMemory(t *testing.T, bytes int64) string {
	for _, v := range []struct{ root, limit, procs string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "cgroup.procs"}, {"/sys/fs/cgroup", "memory.max", "cgroup.procs"},
	} {
		group := filepath.Join(v.root, fmt.Sprintf("builds-test-%d", os.Getpid()))
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(group) })
		if os.WriteFile(filepath.Join(group, v.limit), []byte(strconv.FormatInt(bytes, 10)), 0o644) == nil {
			return "echo $$ >" + strings.Join([]string{group, v.procs}, "/")
		}
	}
	untested.Skip(t, "no control group can be made")
	return ""
}
