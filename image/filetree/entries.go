package filetree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// attributePrefix begins the PAX records of extended attributes, as runtimes read them.
const attributePrefix = "SCHILY.xattr."

// plainRecords are the PAX records that say what a header says without them, or nothing of a file: all that Go's archive/tar
// writes by itself. Whatever else there is gives a file an attribute, to some tool at least.
var plainRecords = []string{
	"path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "atime", "ctime", "comment",
}

// describe gives a directory the rights of another entry for it. Attributes stay, as they do where a runtime sets those of
// the later entry on the directory that it has made.
func (o *Overlay) describe(dir, by *File) {
	for _, name := range dir.Attributes {
		if !slices.Contains(by.Attributes, name) {
			by.Attributes = append(by.Attributes, name)
		}
	}
	dir.Mode, dir.UID, dir.GID, dir.Attributes, dir.Layer = by.Mode, by.UID, by.GID, by.Attributes, by.Layer
	dir.Implied = false
	o.written[dir] = true
}

// unusual notes what runtimes take in different ways. Docker unpacks a layer apart from those below it: a symlink of
// theirs in a name's path becomes a directory there, and stays a link where the layers are unpacked over each other. An
// overlay file system takes its own attributes for removals and renames, and others (fuse-overlayfs) for owners and rights.
func (o *Overlay) unusual(header *tar.Header, place, real string, layer int) error {
	if place != real {
		for _, each := range []string{place, real} {
			if err := o.note(layer, each, "the layer writes it through a symlink, which is a directory to some runtimes"); err != nil {
				return err
			}
		}
	}
	for record := range header.PAXRecords {
		name, _ := strings.CutPrefix(record, attributePrefix)
		if strings.Contains(name, "overlay") || strings.HasPrefix(name, "user.containers.") {
			return o.note(layer, real, "the layer gives it an attribute of overlay file systems")
		}
	}
	return nil
}

// file makes the File that a header describes.
func (o *Overlay) file(header *tar.Header, layer int) (*File, error) {
	f := &File{Mode: modeOf(header), UID: header.Uid, GID: header.Gid, Layer: layer}
	var err error
	if f.Attributes, err = attributesOf(header); err != nil {
		return nil, err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		f.Kind, f.children = Directory, map[string]*File{}
	case tar.TypeReg:
		f.Kind, f.Size = Regular, header.Size
	case tar.TypeSymlink:
		if len(header.Linkname) > maxPath || header.Linkname == "" {
			return nil, errors.New("the symlink's target is empty or longer than Linux takes")
		}
		f.Kind, f.Target = Symlink, header.Linkname
	case tar.TypeLink:
		return o.hardLink(header, layer)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		f.Kind = Special
	default:
		return nil, fmt.Errorf("the entry has the unknown type %q", header.Typeflag)
	}
	size := len(header.Name) + len(f.Target)
	if f.Kind == Directory {
		size += dirMemory
	}
	for _, name := range f.Attributes {
		size += len(name)
	}
	return f, o.charge(size)
}

// modeOf are the bits of a header's mode that a File has.
func modeOf(header *tar.Header) fs.FileMode {
	return header.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

// attributesOf names a header's extended attributes.
func attributesOf(header *tar.Header) ([]string, error) {
	var names []string
	for record := range header.PAXRecords {
		if !slices.Contains(plainRecords, record) {
			name, _ := strings.CutPrefix(record, attributePrefix)
			names = append(names, name)
		}
		if strings.HasPrefix(record, "GNU.sparse.") {
			return nil, errors.New("the file is sparse, and may be endless")
		}
	}
	slices.Sort(names)
	return names, nil
}

// hardLink is another name of a file that is there.
func (o *Overlay) hardLink(header *tar.Header, layer int) (*File, error) {
	target := path.Clean("/" + header.Linkname)
	way, err := o.Root.steps(path.Dir(target), nil, &o.work)
	if err != nil {
		return nil, fmt.Errorf("a hard link to %.200q: %w", target, err)
	}
	old := way[len(way)-1].file.Child(path.Base(target))
	if old == nil || old.Kind == Directory {
		return nil, fmt.Errorf("a hard link to %.200q, which is no file", target)
	}
	link := *old
	link.Layer = layer
	// Runtimes give the file, under all its names, the rights of its last entry.
	own, err := attributesOf(header)
	if err != nil {
		return nil, err
	}
	if mode := modeOf(header); old.Kind == Regular && (mode != old.Mode || header.Uid != old.UID || header.Gid != old.GID) ||
		len(own) > 0 {
		for _, each := range []string{header.Name, target} {
			if err := o.note(layer, path.Clean("/"+each), "a hard link to it gives it other rights"); err != nil {
				return nil, err
			}
		}
	}
	return &link, o.charge(len(header.Name))
}
