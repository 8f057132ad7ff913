package closurelayer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
)

const (
	// maxPathInfo and maxPathInfos bound what is read of one path and of all of a layer's, in bytes.
	maxPathInfo  = 6 << 20
	maxPathInfos = 64 << 20
	// maxAllPathInfos bounds the same of all layers of an image.
	maxAllPathInfos = 4 * maxPathInfos
	// maxReferences bounds the references of a path: a narinfo of 1 MiB has fewer.
	maxReferences = 1 << 15
)

// Reader reads what the layers of one image say that they hold, which together is no more than a build resolves.
type Reader struct {
	paths int
	bytes int64
}

// Read reads what a layer says, one path at a time and none after the first that is wrong.
func (r *Reader) Read(ctx context.Context, dir *filetree.File) (prefix string, infos []closure.PathInfo, err error) {
	file := dir.Child(closure.PathsName)
	if file == nil {
		return "", nil, fs.ErrNotExist
	}
	if file.Size > maxPathInfos {
		return "", nil, fmt.Errorf("it has %d bytes, more than %d", file.Size, maxPathInfos)
	}
	if r.bytes += file.Size; r.bytes > maxAllPathInfos {
		return "", nil, fmt.Errorf("with those of the layers before it has more than %d bytes", maxAllPathInfos)
	}
	text, err := file.Open()
	if err != nil {
		return "", nil, err
	}
	defer text.Close()
	format := 0
	seen := map[storepath.Path]bool{}
	d := json.NewDecoder(text)
	err = jsonObject(d, map[string]func() error{
		"format": func() error { return d.Decode(&format) },
		"prefix": func() error { return d.Decode(&prefix) },
		"paths": func() error {
			return jsonArray(d, func() error {
				var raw json.RawMessage
				if err := cmp.Or(context.Cause(ctx), d.Decode(&raw)); err != nil {
					return err
				}
				if len(raw) > maxPathInfo {
					return fmt.Errorf("path %d has %d bytes, more than %d", len(infos), len(raw), maxPathInfo)
				}
				var info closure.PathInfo
				if err := json.Unmarshal(raw, &info); err != nil {
					return err
				}
				if err := wellFormed(info); err != nil {
					return err
				}
				if seen[info.Path] {
					return fmt.Errorf("it lists %s twice", info.Path)
				}
				if r.paths++; r.paths > closure.MaxPaths {
					return fmt.Errorf("the layers have more than %d paths", closure.MaxPaths)
				}
				seen[info.Path] = true
				infos = append(infos, info)
				return nil
			})
		},
	})
	if err == nil && format != closure.Format {
		err = fmt.Errorf("its format is %d, this program knows %d", format, closure.Format)
	}
	if err == nil {
		err = ownPlaces(prefix, infos)
	}
	return prefix, infos, err
}

// ownPlaces checks that each path of a layer has a place of its own: of a view's names the hash is not all.
func ownPlaces(prefix string, infos []closure.PathInfo) error {
	view, err := closure.ViewOf(prefix)
	if err != nil {
		return err
	}
	places := make(map[string]storepath.Path, len(infos))
	for _, info := range infos {
		place := closure.BaseName(info.Path, view)
		if other, taken := places[place]; taken {
			return fmt.Errorf("it lists %s and %s, which would be in one place", other, info.Path)
		}
		places[place] = info.Path
	}
	return nil
}

// jsonObject reads an object of which every field has a function that reads its value.
func jsonObject(d *json.Decoder, fields map[string]func() error) error {
	if err := jsonDelim(d, '{'); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		text, _ := name.(string)
		read := fields[text]
		if read == nil {
			return fmt.Errorf("it has the field %.80q, once more or unknown", text)
		}
		delete(fields, text)
		if err := read(); err != nil {
			return err
		}
	}
	if err := jsonDelim(d, '}'); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something comes after it")
	}
	return nil
}

// jsonArray reads an array, an element by each call of read.
func jsonArray(d *json.Decoder, read func() error) error {
	if err := jsonDelim(d, '['); err != nil {
		return err
	}
	for d.More() {
		if err := read(); err != nil {
			return err
		}
	}
	return jsonDelim(d, ']')
}

func jsonDelim(d *json.Decoder, want json.Delim) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("it has %.80q, want %v", fmt.Sprint(token), want)
	}
	return nil
}

// wellFormed checks that a path info, which anybody could have written, holds store paths where it should.
func wellFormed(info closure.PathInfo) error {
	if len(info.References) > maxReferences {
		return fmt.Errorf("%s has %d references, more than a narinfo has room for", info.Path, len(info.References))
	}
	for _, p := range append([]storepath.Path{info.Path}, info.References...) {
		if _, err := storepath.Parse(string(p)); err != nil {
			return err
		}
	}
	return nil
}

// IsAsWritten reports whether what a layer says that it holds has the bytes that closure.Install writes for these paths: of the
// same in other words another reader may take something else.
func IsAsWritten(dir *filetree.File, prefix string, infos []closure.PathInfo) (bool, error) {
	file, err := dir.Child(closure.PathsName).Open()
	if err != nil {
		return false, err
	}
	defer file.Close()
	have, want := sha256.New(), sha256.New()
	if _, err := io.Copy(have, file); err != nil {
		return false, err
	}
	head, err := json.Marshal(closure.PathInfos{Format: closure.Format, Prefix: prefix, Paths: []closure.PathInfo{}})
	if err != nil {
		return false, err
	}
	want.Write(bytes.TrimSuffix(head, []byte("]}")))
	for i, info := range infos { // one at a time, as they are read
		each, err := json.Marshal(info)
		if err != nil {
			return false, err
		}
		if i > 0 {
			want.Write([]byte(","))
		}
		want.Write(each)
	}
	want.Write([]byte("]}\n"))
	return bytes.Equal(have.Sum(nil), want.Sum(nil)), nil
}
