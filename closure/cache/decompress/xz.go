package decompress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os/exec"
	"strings"
	"sync"

	lola "github.com/mikelolasagasti/xz"

	"github.com/nixproot/nix-hydra-buildpack/closure/xz"
)

const (
	// minXZClass is the smallest dictionary that decoders are kept for, and maxXZClass the largest, that of xz's default
	// level, as logarithms to base 2.
	minXZClass = 18
	maxXZClass = 23
	// windowSlack is what a decoder has besides its dictionary.
	windowSlack = 64 << 10
)

// xzPool keeps decoders by the size of their dictionaries, a power of two, so that none is made anew because the one
// at hand has too small a dictionary, or holds more than was reserved.
type xzPool [maxXZClass - minXZClass + 1]sync.Pool // of *xz.Reader

// xzClass is the place in the pool for dictionaries of that size.
func xzClass(window int64) int {
	return min(max(bits.Len64(uint64(max(window, 1)-1)), minXZClass), maxXZClass) - minXZClass
}

// expectedClass is where in the pool the dictionaries are that a stream of size bytes, 0 for unknown, is likely to
// want: no larger than what it holds.
func expectedClass(size int64) int {
	if size <= 0 {
		return maxXZClass - minXZClass
	}
	return xzClass(size)
}

// chooseXZ is the xz program to use, "" for closure/xz. That decoder is the choice of auto everywhere: measured
// on amd64, where it has assembly, it needs nine tenths of liblzma 5.8's time and less than two thirds of liblzma
// 5.4's, and in plain Go no more than a tenth above liblzma 5.4's; the program costs a process and two copies through
// pipes besides.
func chooseXZ(setting string) (program string, err error) {
	switch setting {
	case "", "auto", "go":
		return "", nil
	case "program":
		if program, err = exec.LookPath("xz"); err != nil {
			return "", fmt.Errorf("choosing an xz decoder: no program named xz is installed: install it, or choose go")
		}
		return program, nil
	}
	return "", fmt.Errorf("choosing an xz decoder: %q is not auto, go or program", setting)
}

func (p *Pool) xz(r io.Reader, size int64, allowed bounds) (io.ReadCloser, error) {
	if p.program != "" {
		return startXZ(p.program, r)
	}
	// Only what may run takes a decoder out of the pool, and none with more memory than it has reserved.
	in := allowed.input(r)
	class := expectedClass(size)
	in.want(1 << (class + minXZClass))
	z, ok := p.xzs[class].Get().(*xz.Reader)
	if !ok {
		z = xz.NewReader(nil, xz.Options{})
	}
	z.Reset(in, xz.Options{
		MaxWindow: allowed.window, Size: size,
		SkipCheck: true, // Set.Fetch compares a SHA-256 of all of it
		Reserve:   in.want,
	})
	return &xzReader{pool: p, z: z, src: in}, nil
}

// xzReader is a pooled xz.Reader that hands streams with filters other than LZMA2 to a decoder that knows them.
type xzReader struct {
	pool  *Pool
	z     *xz.Reader
	src   *input
	other io.Reader
	began bool
}

func (x *xzReader) Read(p []byte) (int, error) {
	switch {
	case x.z == nil:
		return 0, errClosed
	case x.other != nil:
		return x.other.Read(p)
	}
	n, err := x.z.Read(p)
	if !x.began && errors.Is(err, xz.ErrFilter) {
		return x.change(p)
	}
	x.began = true
	return n, err
}

// change starts over with a decoder for all filters.
func (x *xzReader) change(p []byte) (int, error) {
	x.began = true
	x.src.want(maxWindow) // it does not tell how much it takes
	other, err := lola.NewReader(io.MultiReader(bytes.NewReader(x.z.Head()), x.src), maxWindow)
	if err != nil {
		return 0, noEOF(err)
	}
	x.other = other
	return other.Read(p)
}

func (x *xzReader) Close() error {
	if x.z == nil {
		return nil
	}
	if window := x.z.Window(); window <= 1<<maxXZClass+windowSlack {
		x.z.Reset(nil, xz.Options{})
		x.pool.xzs[xzClass(window-windowSlack)].Put(x.z)
	}
	x.z, x.other = nil, nil
	x.src.release()
	return nil
}

// startXZ decompresses in a process of the xz program.
func startXZ(program string, r io.Reader) (io.ReadCloser, error) {
	cmd := exec.Command(program, "--decompress", "--stdout", "--quiet", "--no-warn", "--threads=1",
		fmt.Sprintf("--memlimit-decompress=%d", maxWindow+1<<20))
	cmd.Stdin = r
	x := &process{cmd: cmd}
	cmd.Stderr = &x.stderr
	var err error
	if x.out, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting xz: %w", err)
	}
	return x, nil
}

// process is a running xz.
type process struct {
	cmd    *exec.Cmd
	out    io.Reader
	stderr bytes.Buffer
	ended  bool
	err    error
}

func (x *process) Read(p []byte) (int, error) {
	if x.ended {
		return 0, x.err
	}
	n, err := x.out.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	x.ended, x.err = true, io.EOF
	if err := x.cmd.Wait(); err != nil {
		x.err = fmt.Errorf("xz: %w: %s", err, strings.TrimSpace(x.stderr.String()))
	}
	return 0, x.err
}

func (x *process) Close() error {
	if !x.ended {
		x.ended, x.err = true, errClosed
		x.cmd.Process.Kill()
		x.cmd.Wait()
	}
	return nil
}
