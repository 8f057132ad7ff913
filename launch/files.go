package launch

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// What built-ins, redirections and globs look at is what the line's programs see: files of the closure at /nix/store.

// stat looks at a file; a link that is itself asked for is not followed.
func (sh *shell) stat(_ context.Context, path string, follow bool) (fs.FileInfo, error) {
	if follow {
		return os.Stat(sh.l.inView(path))
	}
	dir, name := filepath.Split(path)
	return os.Lstat(filepath.Join(sh.l.inView(dir), name))
}

// readDir lists a folder for a glob, which asks for each folder on its way: /nix is one where only the engine has it.
func (sh *shell) readDir(_ context.Context, path string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(sh.l.inView(path))
	path = filepath.Clean(path)
	if !errors.Is(err, fs.ErrNotExist) || path != storepath.Dir && path != filepath.Dir(storepath.Dir) ||
		sh.l.engine.chosen() == EngineNative {
		return entries, err
	}
	store, err := os.Stat(sh.l.config.View)
	if err != nil || path == storepath.Dir {
		return nil, err
	}
	return []fs.DirEntry{fs.FileInfoToDirEntry(store)}, nil
}

// open opens a file for a redirection, or to be sourced.
func (sh *shell) open(ctx context.Context, path string, flag int, mode os.FileMode) (io.ReadWriteCloser, error) {
	hc := interp.HandlerCtx(ctx)
	if stream := ownStream(hc, path); stream != nil {
		return stream, nil
	}
	if path != "" && !filepath.IsAbs(path) {
		path = filepath.Join(hc.Dir, path)
	}
	return os.OpenFile(sh.l.inView(path), flag, mode)
}

// ownStream is the standard stream that a path names as the line has redirected it, which for a built-in is not this
// process's; nil for any other path.
func ownStream(hc interp.HandlerContext, path string) io.ReadWriteCloser {
	var stream any
	switch path {
	case "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0":
		stream = hc.Stdin
	case "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1":
		stream = hc.Stdout
	case "/dev/stderr", "/dev/fd/2", "/proc/self/fd/2":
		stream = hc.Stderr
	}
	file, ok := stream.(*os.File)
	if !ok {
		if w, ok := stream.(io.Writer); ok && stream != hc.Stdin {
			return struct {
				io.Reader
				io.WriteCloser
			}{nil, unclosed{w}}
		}
		return nil
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), path)
}

// unclosed is a writer that outlives a redirection to it.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// placed gives those built-ins that ask the kernel for a file themselves the place where it is.
func (sh *shell) placed(hc interp.HandlerContext, args []string) []string {
	place := func(i int) {
		path := absolute(hc.Dir, args[i])
		if real := sh.l.inView(path); real != path {
			args[i] = real
		}
	}
	switch args[0] {
	case "cd", "pushd":
		if len(args) == 2 && args[1] != "-" {
			place(1)
		}
	case "test", "[":
		for i := 2; i < len(args); i++ {
			if slices.Contains([]string{"-r", "-w", "-x"}, args[i-1]) {
				place(i)
			}
		}
	case "source", ".":
		if len(args) > 1 && !strings.Contains(args[1], "/") {
			args[1] = sh.onPath(hc, args[1])
		}
	}
	return args
}

// onPath looks for a file that need not be a program in the folders of PATH; the name itself stands for none.
func (sh *shell) onPath(hc interp.HandlerContext, name string) string {
	for _, dir := range filepath.SplitList(hc.Env.Get("PATH").String()) {
		path := absolute(hc.Dir, filepath.Join(dir, name))
		if info, err := os.Stat(sh.l.inView(path)); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return name
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// placeTests has the tests of "[[" that ask the kernel themselves ask for the place where a file is.
func (l *line) placeTests() {
	syntax.Walk(l.file, func(node syntax.Node) bool {
		test, ok := node.(*syntax.UnaryTest)
		if !ok || test.Op != syntax.TsRead && test.Op != syntax.TsWrite && test.Op != syntax.TsExec {
			return true
		}
		if file, ok := test.X.(*syntax.Word); ok {
			whole := &syntax.Word{Parts: []syntax.WordPart{&syntax.DblQuoted{Parts: file.Parts}}}
			if _, written := literal(file); written {
				whole = file
			}
			asked := &syntax.CmdSubst{Stmts: []*syntax.Stmt{callOf(ownPlace, whole)}}
			test.X = &syntax.Word{Parts: []syntax.WordPart{asked}}
		}
		return false
	})
}

// place is the built-in that says where a file is.
func (sh *shell) place(_ context.Context, hc interp.HandlerContext, args []string) error {
	_, err := io.WriteString(hc.Stdout, sh.l.inView(absolute(hc.Dir, args[1])))
	return err
}
