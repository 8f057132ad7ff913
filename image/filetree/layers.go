package filetree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"
)

// The names by which a layer removes what is below it (opencontainers/image-spec, layer.md, "Whiteouts"), and the prefix
// of AUFS' own files, which runtimes skip.
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh."
)

const (
	// maxEntries and maxMemory bound a tree: how many entries layers may have, and what they take, in bytes.
	maxEntries = 4 << 20
	maxMemory  = 150 << 20
	// fileMemory is what a File takes beside its strings, and dirMemory what a directory takes beside that.
	fileMemory, dirMemory = 260, 300
	// maxPath and maxName are the longest path and name that Linux takes.
	maxPath, maxName = 4095, 255
	// maxWork bounds what following links and hiding directories cost together.
	maxWork = 64 << 20
	// hideWork is what hiding one file costs, where following a part of a link costs 1.
	hideWork = 8
)

// ErrTooLarge is the error of a tree that goes beyond a limit.
var ErrTooLarge = errors.New("the image is larger than the limit")

// Note is something about a layer that no tool which copies directories writes.
type Note struct {
	Layer int
	Path  string
	Text  string
}

// Overlay lays layers over each other as container runtimes do (containerd's archive.Apply, Docker's UnpackLayer): a
// later entry replaces an earlier one unless both are directories; links in the directories of a name are followed
// inside the tree; whiteouts remove what is there.
type Overlay struct {
	Root *File
	// Keep says of which files the contents are kept, by their path without links. Others cannot be opened.
	Keep func(path string) bool
	// Limit is how many bytes the layers may have, unpacked; they all count.
	Limit int64
	// Room is how many bytes the contents may still take in the temporary file; NewOverlay sets no bound.
	Room int64
	// Memory bounds what the tree takes, in bytes.
	Memory int
	// Notes are what is unusual about the layers. They count as memory.
	Notes []Note
	// WrittenByOthers are the layers whose archives no lifecycle has written, each with the first place that shows it. Many run
	// images' are.
	WrittenByOthers []Note

	spool   *os.File // of the contents, without a name; its holes are zeros
	buffer  []byte   // for one file after the other
	end     int64
	read    int64
	entries int
	memory  int
	work    int            // that is left
	written map[*File]bool // by the layer at hand
	implied map[*File]bool // directories in which the layer at hand has something
}

// NewOverlay starts with an empty root. Contents go to a file in the directory temp, "" for the system's; the file has
// no name and goes when the Overlay is closed, or the program ends.
func NewOverlay(temp string, limit int64, keep func(path string) bool) (*Overlay, error) {
	spool, err := os.CreateTemp(temp, "layers-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	if err := os.Remove(spool.Name()); err != nil {
		spool.Close()
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	return &Overlay{Root: newDirectory(), Keep: keep, Limit: limit, Room: math.MaxInt64, Memory: maxMemory, spool: spool, work: maxWork}, nil
}

// Close drops the contents.
func (o *Overlay) Close() error { return o.spool.Close() }

// Apply lays the layer of that number, an uncompressed tar archive, over what is there, and reads r to its end. An
// error means that no runtime would unpack the layer, or that it is beyond the limits.
func (o *Overlay) Apply(ctx context.Context, r io.Reader, layer int) error {
	o.written, o.implied = map[*File]bool{}, map[*File]bool{}
	defer o.imply()
	counted := &counter{ctx: ctx, r: r, overlay: o}
	headers := &recorder{from: counted}
	archive := tar.NewReader(headers)
	var before int64
	for {
		headers.start()
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			if !headers.is(append(padding(before), archiveEnd()...)) {
				o.NoteForeign(layer, "the archive", "it does not end as one that a lifecycle has written")
			}
			return o.rest(counted, layer)
		}
		if err != nil {
			return err
		}
		if want := canonical(header); want == nil || !headers.is(append(padding(before), want...)) {
			o.NoteForeign(layer, path.Clean("/"+header.Name), "no lifecycle writes such an entry")
		}
		headers.on, before = false, header.Size
		if o.entries++; o.entries > maxEntries {
			return fmt.Errorf("%w: it has more than %d files", ErrTooLarge, maxEntries)
		}
		if err := o.apply(header, archive, layer); err != nil {
			return fmt.Errorf("%.200q: %w", header.Name, err)
		}
		if _, err := io.Copy(io.Discard, archive); err != nil {
			return fmt.Errorf("%.200q: %w", header.Name, err)
		}
	}
}

// NoteForeign notes of a layer, once, that no lifecycle has written it.
func (o *Overlay) NoteForeign(layer int, place, text string) {
	if n := len(o.WrittenByOthers); n == 0 || o.WrittenByOthers[n-1].Layer != layer {
		o.WrittenByOthers = append(o.WrittenByOthers, Note{Layer: layer, Path: place, Text: text})
	}
}

// imply marks the directories for which the layer at hand has no entry, while it has something in them.
func (o *Overlay) imply() {
	for dir := range o.implied {
		dir.Implied = !o.written[dir] || dir.Layer == NoLayer
	}
}

// rest reads what comes after an archive's end, where some tools look for another archive.
func (o *Overlay) rest(r io.Reader, layer int) error {
	buf := make([]byte, 64<<10)
	noted := false
	for {
		n, err := r.Read(buf)
		if n > 0 {
			o.NoteForeign(layer, "the archive", "it does not end as one that a lifecycle has written")
		}
		if !noted && len(bytes.TrimLeft(buf[:n], "\x00")) > 0 {
			noted = true
			if err := o.note(layer, "the archive", "it goes on after its end"); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// counter bounds what is read, and ends with its context.
type counter struct {
	ctx     context.Context
	r       io.Reader
	overlay *Overlay
}

// Read reads a piece.
func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	if c.overlay.read += int64(n); c.overlay.read > c.overlay.Limit {
		return n, fmt.Errorf("%w of %d bytes", ErrTooLarge, c.overlay.Limit)
	}
	return n, err
}

// charge counts a file's memory.
func (o *Overlay) charge(strings int) error {
	if o.memory += fileMemory + strings; o.memory > o.Memory {
		return fmt.Errorf("%w: it has too many files", ErrTooLarge)
	}
	return nil
}

// note keeps what is unusual. None is dropped, as the one that counts could come last: too many are a layer too large.
func (o *Overlay) note(layer int, place, text string) error {
	o.Notes = append(o.Notes, Note{Layer: layer, Path: place, Text: text})
	return o.charge(2 * (len(place) + len(text)))
}

// apply lays one entry over the tree.
func (o *Overlay) apply(header *tar.Header, contents io.Reader, layer int) error {
	place := path.Clean("/" + header.Name)
	if header.Typeflag == tar.TypeXGlobalHeader { // it describes no file, and may give itself any name
		return o.note(layer, place, "the layer has a global header of that name: to some runtimes it removes what is there, or what "+
			"its name hides")
	}
	if len(place) > maxPath || len(path.Base(place)) > maxName {
		return errors.New("the name is longer than Linux takes")
	}
	if slices.Contains(strings.Split(header.Name, "/"), "..") {
		if err := o.note(layer, place, "its name in the layer has \"..\""); err != nil {
			return err
		}
	}
	if place == "/" {
		return o.root(header, layer)
	}
	dir, err := o.directory(path.Dir(place))
	if err != nil {
		return err
	}
	parent := dir[len(dir)-1].file
	name := path.Base(place)
	if err := o.unusual(header, place, path.Join(pathOf(dir), name), layer); err != nil {
		return err
	}
	if parent != o.Root && parent.Layer != layer {
		o.NoteForeign(layer, place, "no lifecycle writes a file before its directory")
	}
	if strings.HasPrefix(name, whiteoutPrefix) {
		return o.whiteout(parent, place, layer)
	}
	file, err := o.file(header, layer)
	if err != nil {
		return err
	}
	old := parent.children[name]
	if old != nil && old.Kind == Directory && file.Kind == Directory {
		o.describe(old, file)
		return nil
	}
	if old != nil && o.written[old] {
		if err := o.note(layer, path.Join(pathOf(dir), name), "the layer writes it twice: to some runtimes what layers below have "+
			"in such a directory is gone, to others it is back"); err != nil {
			return err
		}
	}
	if file.Kind == Regular && header.Typeflag != tar.TypeLink && o.Keep(path.Join(pathOf(dir), name)) {
		if err := o.keep(file, contents); err != nil {
			return err
		}
	}
	parent.children[name] = file
	o.written[file] = true
	return nil
}

// root takes a layer's entry for the root, which not every runtime does.
func (o *Overlay) root(header *tar.Header, layer int) error {
	if header.Typeflag != tar.TypeDir {
		return errors.New("the root is not a directory")
	}
	if err := o.unusual(header, "/", "/", layer); err != nil {
		return err
	}
	file, err := o.file(header, layer)
	if err != nil {
		return err
	}
	o.describe(o.Root, file)
	return nil
}

// directory is the way to a directory, which is made where it is missing.
func (o *Overlay) directory(place string) ([]step, error) {
	way, err := o.Root.steps(place, func() (*File, error) {
		dir := newDirectory()
		o.written[dir] = true
		return dir, o.charge(dirMemory + len(place))
	}, &o.work)
	if err == nil && way[len(way)-1].file.Kind != Directory {
		err = errNotDirectory
	}
	if err == nil {
		for _, each := range way[1:] {
			o.implied[each.file] = true
		}
	}
	return way, err
}

// whiteout removes what a layer says is gone.
func (o *Overlay) whiteout(parent *File, place string, layer int) error {
	name := path.Base(place)
	switch {
	case name == opaqueName:
		if _, err := o.hide(parent); err != nil {
			return err
		}
		return o.note(layer, path.Dir(place), "the layer hides what layers below have in it")
	case strings.HasPrefix(name, aufsPrefix):
		return o.note(layer, place, "the layer has a file of AUFS")
	}
	hidden := strings.TrimPrefix(name, whiteoutPrefix)
	delete(parent.children, hidden)
	return o.note(layer, path.Join(path.Dir(place), hidden), "the layer removes it")
}

// hide removes from a directory what the layer at hand did not write, and reports whether anything stays.
func (o *Overlay) hide(dir *File) (stays bool, err error) {
	if o.work -= hideWork * len(dir.children); o.work < 0 {
		return true, fmt.Errorf("%w: its layers hide directories too often", ErrTooLarge)
	}
	for name, child := range dir.children {
		stays, err := o.hide(child)
		if err != nil {
			return true, err
		}
		if !stays && !o.written[child] {
			delete(dir.children, name)
		}
	}
	return len(dir.children) > 0, nil
}
