package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/closure/xz"
)

// sampleSize is how many bytes of the closure each of these measurements takes, unpacked.
const sampleSize = 256 << 20

// liblzmaSuite is the Debian suite with liblzma 5.4, the last whose inner loop is plain C.
const liblzmaSuite = "bookworm"

// purego measures what there is assembly for on amd64, as it is and without: the xz decoder against liblzma, and the
// rewriter of references. The build tag purego leaves assembly out, so that is another program.
func (b *Bench) purego(ctx context.Context) error {
	if b.PureGo == "" {
		return errors.New("there is no program built with the tag purego: start scripts/bench")
	}
	f, err := b.open(ctx)
	if err != nil {
		return err
	}
	if err := b.unxz(ctx, f); err != nil {
		return err
	}
	return b.search(ctx, f)
}

// unxz compares the decoder with the xz program, which is liblzma, by their processor time. Neither checks contents.
func (b *Bench) unxz(ctx context.Context, f *fixture) error {
	dir, err := b.cache(ctx, f, "xz")
	if err != nil {
		return err
	}
	program, err := b.Rig.ProgramOf(ctx, liblzmaSuite, "xz-utils", "xz")
	if err != nil {
		return err
	}
	_, version, err := process(ctx, os.Environ(), program, "--version")
	if err != nil {
		return err
	}
	b.Log("%s", bytes.ReplaceAll(bytes.TrimSpace(version), []byte("\n"), []byte(", ")))
	files, size, err := packed(dir, sampleSize)
	if err != nil {
		return err
	}
	run := func(command ...string) func(context.Context) (Usage, error) {
		return func(ctx context.Context) (Usage, error) {
			// The xz program passes over links, and its output goes to nowhere by a shell, so that it is not copied.
			line := append([]string{"/bin/sh", "-c", `exec "$@" >/dev/null`, "sh"}, command...)
			u, _, err := process(ctx, os.Environ(), append(line, files...)...)
			return u, err
		}
	}
	all, err := b.alternate(ctx, "decoding xz: without assembly, with it, liblzma", run(b.PureGo, child, "unxz"),
		run(self("unxz")...), run(program, "-dcf", "-T1", "--ignore-check"))
	if err != nil {
		return err
	}
	plain, fast, liblzma := all[0].cpu, all[1].cpu, all[2].cpu
	b.row("purego.xz.against_liblzma", ratio(plain, liblzma), "ratio", "<=1.15")
	b.row("purego.xz.assembly_against_liblzma", ratio(fast, liblzma), "ratio", "<=1")
	b.row("purego.xz.speed", float64(size)/1e6/median(plain), "MB/s", "")
	b.row("purego.xz.speed_liblzma", float64(size)/1e6/median(liblzma), "MB/s", "")
	return nil
}

// packed are files of a cache that unpack to enough bytes.
func packed(dir string, enough int64) (files []string, size int64, _ error) {
	infos, err := readInfos(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, n := range sample(infos) {
		files = append(files, filepath.Join(dir, filepath.FromSlash(n.URL)))
		if size += n.NarSize; size >= enough {
			break
		}
	}
	return files, size, nil
}

// unxzChild decodes files to nowhere.
func unxzChild(_ context.Context, files []string, _ io.Writer) error {
	r := xz.NewReader(nil, xz.Options{})
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		r.Reset(file, xz.Options{SkipCheck: true})
		_, err = io.Copy(io.Discard, r)
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("decoding %s: %w", name, err)
		}
	}
	return nil
}

// sample gives a closure's paths in the order of their hashes, which is as good as chance.
func sample(infos map[storepath.Path]*narinfo.NarInfo) []*narinfo.NarInfo {
	var sorted []*narinfo.NarInfo
	for _, p := range slices.Sorted(maps.Keys(infos)) {
		sorted = append(sorted, infos[p])
	}
	return sorted
}

// kinds are what relocation's search is measured on.
var kinds = map[string]func(head []byte, size int64) bool{
	"programs": func(head []byte, _ int64) bool { return bytes.HasPrefix(head, []byte("\x7fELF")) },
	"small_text": func(head []byte, size int64) bool {
		return size <= 64<<10 && bytes.IndexByte(head, 0) < 0
	},
}

// search measures the rewriter of references on one core, on programs and on small texts.
func (b *Bench) search(ctx context.Context, f *fixture) error {
	dir, err := b.cache(ctx, f, "zstd")
	if err != nil {
		return err
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		for _, way := range []struct {
			name, bar string
			program   string
		}{
			{"purego.search.", ">=0.7", b.PureGo}, {"purego.search.assembly_", "", self("")[0]},
		} {
			_, out, err := process(ctx, append(os.Environ(), "GOMAXPROCS=1"),
				way.program, child, "search", dir, kind, strconv.Itoa(b.Pairs), strconv.Itoa(sampleSize))
			if err != nil {
				return err
			}
			var found searched
			if err := json.Unmarshal(out, &found); err != nil {
				return err
			}
			b.row(way.name+kind, found.Speed/1e9, "GB/s", way.bar)
		}
	}
	return nil
}

// searched is what searchChild gives.
type searched struct {
	Size  int64   // bytes of the files
	Speed float64 // bytes a second, the best of the turns
}

// searchChild measures the rewriter over files of a kind that are in memory.
func searchChild(_ context.Context, args []string, stdout io.Writer) error {
	dir, kind := args[0], kinds[args[1]]
	turns, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	enough, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return err
	}
	view, err := relocate.NewView("/layers/nixproot_nix-hydra/view")
	if err != nil {
		return err
	}
	picks, size, err := pick(dir, kind, enough)
	if err != nil {
		return err
	}
	best := math.Inf(1)
	for range turns {
		runtime.GC()
		took, err := cpu(func() error {
			for _, p := range picks {
				if err := p.play(view.Rewrite(p.path, p.references, nowhere{})); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		best = min(best, seconds(took))
	}
	return json.NewEncoder(stdout).Encode(searched{Size: size, Speed: float64(size) / best})
}

// picked are the files of one store path that are of a kind. It is a nar.Sink that picks them.
type picked struct {
	path       storepath.Path
	references []storepath.Path
	kind       func(head []byte, size int64) bool
	entries    []nar.Entry
	contents   [][]byte
}

// pick reads a cache's archives until it has enough.
func pick(dir string, kind func([]byte, int64) bool, enough int64) (picks []*picked, size int64, err error) {
	infos, err := readInfos(dir)
	if err != nil {
		return nil, 0, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, 0, err
	}
	defer decoder.Close()
	for _, n := range sample(infos) {
		file, err := os.Open(filepath.Join(dir, filepath.FromSlash(n.URL)))
		if err != nil {
			return nil, 0, err
		}
		p := &picked{path: n.StorePath, references: n.References, kind: kind}
		err = decoder.Reset(file)
		if err == nil {
			err = nar.Copy(p, nar.NewReader(decoder), nil)
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, 0, err
		}
		for _, contents := range p.contents {
			size += int64(len(contents))
		}
		if picks = append(picks, p); size >= enough {
			break
		}
	}
	if size == 0 {
		return nil, 0, fmt.Errorf("there are no such files in %s", dir)
	}
	return picks, size, nil
}

// Entry ends the file before it.
func (p *picked) Entry(e *nar.Entry) error {
	p.drop()
	if e.Kind == nar.Regular && e.Size > 0 {
		p.entries, p.contents = append(p.entries, *e), append(p.contents, nil)
	}
	return nil
}

// Write keeps contents.
func (p *picked) Write(b []byte) (int, error) {
	last := len(p.contents) - 1
	p.contents[last] = append(p.contents[last], b...)
	return len(b), nil
}

// Close ends the last file.
func (p *picked) Close() error {
	p.drop()
	return nil
}

// drop drops the last file if it is not of the kind. One that is of it is looked at again, which changes nothing.
func (p *picked) drop() {
	last := len(p.contents) - 1
	if last < 0 {
		return
	}
	contents := p.contents[last]
	if !p.kind(contents[:min(len(contents), 8<<10)], int64(len(contents))) {
		p.entries, p.contents = p.entries[:last], p.contents[:last]
	}
}

// play gives the files to a rewriter, in pieces such as a nar.Reader's.
func (p *picked) play(rewriter *relocate.Rewriter) error {
	defer rewriter.Discard()
	for i := range p.entries {
		if err := rewriter.Entry(&p.entries[i]); err != nil {
			return err
		}
		for piece := range slices.Chunk(p.contents[i], 64<<10) {
			if _, err := rewriter.Write(piece); err != nil {
				return err
			}
		}
	}
	return rewriter.Close()
}
