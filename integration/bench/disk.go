package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// diskSize is what a file system of a run's own may hold, in bytes; its file has no more than what is written to it.
const diskSize = 16 << 30

// disk gives a new directory to write a closure into, and a function that ends it. Where this process may mount, it is an
// ext4 file system of its own, made a moment ago: how fast a file system makes files depends on what was removed from
// it before (see recently), and that is nothing here. Elsewhere it is a directory of the run's.
func (b *Bench) disk(ctx context.Context) (dir string, done func() error, err error) {
	if dir, err = b.newDir(); err != nil {
		return "", nil, err
	}
	keep := func() error { b.discard(dir); return nil }
	if !b.Disks {
		return dir, keep, nil
	}
	done, err = mountNew(ctx, dir)
	if err != nil {
		b.Disks = false
		b.Log("measuring in dirs, as no file system can be made and mounted: %v", err)
		return dir, keep, nil
	}
	return dir, done, nil
}

// mountNew makes a file system in a file beside dir and mounts it there.
func mountNew(ctx context.Context, dir string) (unmount func() error, err error) {
	if os.Getuid() != 0 {
		return nil, errors.New("only root can mount one")
	}
	for _, name := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, err
		}
	}
	image := dir + ".ext4"
	file, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(file.Truncate(diskSize), file.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(image))
	}
	// The kernel would go on initialising the tables of inodes while something is measured.
	err = run(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", image)
	if err == nil {
		err = run(ctx, "mount", "-o", "loop,noinit_itable", image, dir)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(image))
	}
	return func() error {
		// Whatever ended the run, the mount must not stay.
		if err := run(context.WithoutCancel(ctx), "umount", dir); err != nil {
			return fmt.Errorf("ending a file system of the run's own: %w", err)
		}
		return errors.Join(os.Remove(image), os.Remove(dir))
	}, nil
}

// readAnew has the kernel forget what it holds of files, so that all sides read theirs from disk as a container's are. A page
// cache filled by writing is laid out as the writes were: relocated files took up to 2 % longer to map than unchanged ones.
func (b *Bench) readAnew() {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		b.Log("files stay in memory as they were written: %v", err)
	}
}
