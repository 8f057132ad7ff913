package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/image"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
)

// A random change of an archive hardly gets past its checksums. Here the input is a program that writes one: a byte for what is
// written next, and some for its name and rights.

// program is an input that is being read; at its end there are zeros.
type program []byte

func (p *program) next() (b byte) {
	if len(*p) > 0 {
		b, *p = (*p)[0], (*p)[1:]
	}
	return b
}

// parts are what names are made of.
var parts = []string{
	"a", "b", "c", "A", "d\u00e9", "de\u0301", ".wh.a", ".wh..wh..opq", ".wh.", "..", ".", "", "a\n", "\xff",
	strings.Repeat("long", 30), "layers",
}

// name is a path: how many parts, and which.
func (p *program) name() string {
	form := p.next()
	words := make([]string, 1+form%4)
	for i := range words {
		words[i] = parts[p.next()%byte(len(parts))]
	}
	name := strings.Join(words, "/")
	if form&4 == 0 {
		name = "/" + name
	}
	if form&8 != 0 {
		name += "/"
	}
	return name
}

// kinds are those of entries; the first are what layers mostly have.
var kinds = []byte{
	tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeReg, tar.TypeDir, tar.TypeLink, tar.TypeFifo, tar.TypeChar, tar.TypeBlock,
	tar.TypeXGlobalHeader, tar.TypeCont,
}

// archive is what the program writes. Its last steps change bytes of that, with the checksums that belong to them.
func (p *program) archive() []byte {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for p.next()%16 != 15 && len(*p) > 0 {
		h := tar.Header{Name: p.name(), Typeflag: kinds[p.next()%byte(len(kinds))], Mode: 0o755, ModTime: time.Unix(315532801, 0)}
		rights := p.next()
		h.Mode ^= int64(rights&7) << (rights >> 3 & 7)
		var body []byte
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeCont:
			body = bytes.Repeat([]byte{p.next()}, int(p.next())*3)
			h.Size = int64(len(body))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = p.name()
		case tar.TypeChar, tar.TypeBlock:
			h.Devmajor = int64(p.next())
		case tar.TypeXGlobalHeader:
			h = tar.Header{Typeflag: h.Typeflag, PAXRecords: map[string]string{"path": h.Name}}
		}
		if rights&128 != 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "1"}
		}
		if rights&64 != 0 {
			h.Uid = 1 << 22
		}
		if w.WriteHeader(&h) == nil {
			_, _ = w.Write(body)
		}
	}
	_ = w.Close()
	raw := text.Bytes()
	for len(*p) > 3 {
		at := (int(p.next())<<8 | int(p.next())) % len(raw)
		raw[at] = p.next()
		if header := raw[at&^511:]; len(header) >= 512 && string(header[257:262]) == "ustar" {
			copy(header[148:156], "        ")
			sum := 0
			for _, b := range header[:512] {
				sum += int(b)
			}
			copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
		}
	}
	return raw
}

// entriesOf are those of an archive, and its bytes as Go's archive/tar writes them.
func entriesOf(raw []byte) (all []*tar.Header, again []byte) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			_ = w.Close()
			return all, text.Bytes()
		}
		if err != nil {
			return all, nil
		}
		all = append(all, h)
		plain := *h
		plain.Format, plain.PAXRecords, plain.Uname, plain.Gname = tar.FormatUnknown, nil, "", ""
		if w.WriteHeader(&plain) != nil {
			return all, nil
		}
		if _, err := io.Copy(w, r); err != nil {
			return all, nil
		}
	}
}

// FuzzLayers lays valid layers over each other. What is not noted of a layer has one reading: it is written as Go writes it, and
// each of its entries is there.
func FuzzLayers(f *testing.F) {
	file, dir, link, hard := byte(0), byte(1), byte(2), byte(5)
	f.Add([]byte{0, 0, 0, dir, 0, 0, 1, 0, 1, file, 0, 'x', 5, 0, 0, 2, link, 0, 0, 0}, []byte{0, 0, 0, dir, 0, 0, 1, 0, 1, file, 0, 'y', 200})
	f.Add([]byte{0, 1, 0, 1, file, 0, 'x', 9, 0, 0, 1, hard, 0, 1, 0, 1}, []byte{0, 1, 0, 6, file, 0, 0, 0, 0, 1, 0, 7, file, 0, 0, 0})
	f.Add([]byte{0, 4, 1, 9, 0, 0, 15}, []byte{0, 0, 14, file, 64, 'x', 100, 15, 0, 2, 'x', 0})
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		o, err := filetree.NewOverlay("", 1<<20, func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		for i, each := range [][]byte{lower, upper} {
			p := program(each)
			raw := p.archive()
			notes, foreign := len(o.Notes), len(o.WrittenByOthers)
			if err := o.Apply(context.Background(), bytes.NewReader(raw), i); err != nil {
				return
			}
			if len(o.WrittenByOthers) > foreign {
				continue
			}
			all, again := entriesOf(raw)
			if !bytes.Equal(raw, again) {
				t.Fatalf("layer %d has other bytes than Go writes for it, and nothing says so", i)
			}
			for _, h := range all {
				if found := o.Root.Find(h.Name); len(o.Notes) == notes && (found == nil || found.Layer != i) {
					t.Fatalf("layer %d has %q, which is not there, and nothing says so", i, h.Name)
				}
			}
		}
		o.Root.Walk("/", func(place string, file *filetree.File) bool {
			if file.Kind == filetree.Regular {
				if raw, err := file.ReadAll(1 << 20); err != nil || int64(len(raw)) != file.Size {
					t.Fatalf("%q: %d bytes, %v", place, len(raw), err)
				}
			}
			return true
		})
	})
}

// words are what an image's documents are made of, with what some reader takes for another.
var words = []string{
	`"User":"1"`, `"user":"0"`, `"Uſer":"0"`, `"User":"0"`, `"Env":["A=1"]`, `"Labels":{"a":"1","A":"2"}`, `"Labels":{"a":"1","a":"2"}`,
	`"StopTimeout":1`, `"Volumes":{"/a":{}}`, `"Volumes":{"/a":{"x":1}}`, `"Cmd":null`, `"Entrypoint":["/x"]`, `"x":[{"y":1,"y":2}]`, `"":""`,
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// image is an archive of an image: documents that fit each other, layers, and whatever else the program writes.
func (p *program) image() (archive, config []byte) {
	var some []string
	for n := p.next() % 4; n > 0; n-- {
		some = append(some, words[p.next()%byte(len(words))])
	}
	form := p.next()
	size := min(int(p.next()), len(*p))
	layer := program((*p)[:size])
	*p = (*p)[size:]
	files := [][2]string{{"l", string(layer.archive())}}
	diffID := "sha256:" + digestOf([]byte(files[0][1]))
	text := fmt.Sprintf(`{"config":{%s},"rootfs":{"type":"layers","diff_ids":[%q]}}`, strings.Join(some, ","), diffID)
	if form&1 == 0 {
		files = append(files, [2]string{"c", text}, [2]string{"manifest.json", `[{"Config":"c","Layers":["l"]}]`})
	}
	if form&2 != 0 {
		const oci = "application/vnd.oci.image."
		manifest, err := json.Marshal(map[string]any{"config": map[string]string{"mediaType": oci + "config.v1+json", "digest": "sha256:" + digestOf([]byte(text))},
			"layers": []any{map[string]string{"mediaType": oci + "layer.v1.tar", "digest": diffID}}})
		if err != nil {
			panic(err)
		}
		index, err := json.Marshal(map[string]any{"manifests": []any{map[string]string{"mediaType": oci + "manifest.v1+json", "digest": "sha256:" + digestOf(manifest)}}})
		if err != nil {
			panic(err)
		}
		files = append(files, [2]string{"index.json", string(index)})
		for _, each := range []string{string(manifest), text, files[0][1]} {
			files = append(files, [2]string{"blobs/sha256/" + digestOf([]byte(each)), each})
		}
	}
	var all bytes.Buffer
	w := tar.NewWriter(&all)
	for i, each := range files {
		h := &tar.Header{Name: each[0], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(each[1]))}
		switch p.next() % 32 {
		case 1:
			h.Name = "./" + h.Name
		case 2:
			h.Name = "x/../" + h.Name
		case 3: // it is elsewhere, and a link leads there
			h.Name = "moved"
			_ = w.WriteHeader(&tar.Header{Name: each[0], Typeflag: tar.TypeSymlink, Linkname: "moved", Mode: 0o777})
		case 4:
			h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{"comment": "x"}
		case 5:
			_ = w.WriteHeader(&tar.Header{Name: files[(i+1)%len(files)][0], Typeflag: tar.TypeReg, Mode: 0o644})
		case 6:
			_ = w.WriteHeader(&tar.Header{Name: path.Dir(each[0] + "/x"), Typeflag: tar.TypeSymlink, Linkname: "."})
		}
		if w.WriteHeader(h) == nil {
			_, _ = w.Write([]byte(each[1]))
		}
	}
	_ = w.Close()
	return all.Bytes(), []byte(text)
}

// FuzzImages opens archives of images. What is opened is the image that its documents say.
func FuzzImages(f *testing.F) {
	f.Add([]byte{1, 0, 0, 13, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 'x', 5})
	f.Add([]byte{2, 0, 4, 2, 0, 1, 2, 3, 4, 5, 6})
	f.Add([]byte{3, 5, 8, 13, 3, 7, 0, 0, 0, 0, 0, 'x', 9, 3, 1, 2})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := program(raw)
		archive, config := p.image()
		assemble(t, archive, func(img *image.Image) {
			if img.ID != "sha256:"+digestOf(config) {
				t.Fatalf("it opens %s, and its documents say %s", img.ID, digestOf(config))
			}
			var strict map[string]any
			if err := json.Unmarshal(config, &strict); err != nil {
				t.Fatal(err)
			}
			if user, _ := strict["config"].(map[string]any)["User"].(string); user != img.Config.Config.User {
				t.Fatalf("it has the user %q, and its configuration %q", img.Config.Config.User, user)
			}
		})
	})
}
