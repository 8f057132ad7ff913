package cache_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// A path is looked up, and its NAR fetched: whoever reads it sees the end only of what the signature is of.
func Example() {
	dir, keys, err := signedCache("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-greeting", "hello\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	ctx := context.Background()
	set, err := cache.Open(ctx, cache.Options{URLs: []string{"file://" + dir}, Keys: keys, RequireSigs: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer set.Close()
	found, err := set.Lookup(ctx, "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-greeting")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(found.StorePath.Name(), found.NarSize, found.Signature.Name)
	err = set.Fetch(ctx, found, func(archive io.Reader) error {
		r := nar.NewReader(archive)
		if _, err := r.Next(); err != nil {
			return err
		}
		if _, err := io.Copy(os.Stdout, r); err != nil {
			return err
		}
		if _, err := r.Next(); err != io.EOF { // there is one entry
			return errors.Join(err, errors.New("more than a file"))
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// greeting 120 example-1
	// hello
	// <nil>
}

// signedCache makes the directory of a binary cache with one path in it, a file.
func signedCache(p storepath.Path, text string) (dir string, keys narinfo.Keys, err error) {
	var archive bytes.Buffer
	w := nar.NewWriter(&archive)
	if err := w.Entry(&nar.Entry{Kind: nar.Regular, Size: int64(len(text))}); err != nil {
		return "", nil, err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return "", nil, err
	}
	if err := w.Close(); err != nil {
		return "", nil, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, err
	}
	info := &narinfo.NarInfo{StorePath: p, URL: "greeting.nar", Compression: "none", NarSize: int64(archive.Len()),
		NarHash: sha256.Sum256(archive.Bytes())}
	info.Sigs = []narinfo.Signature{{Name: "example-1", Data: ed25519.Sign(private, []byte(info.Fingerprint()))}}
	if dir, err = os.MkdirTemp("", "cache"); err != nil {
		return "", nil, err
	}
	for name, contents := range map[string]string{
		"nix-cache-info": "StoreDir: /nix/store\n", p.HashPart() + ".narinfo": info.String(), "greeting.nar": archive.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(contents), 0o644); err != nil {
			return "", nil, err
		}
	}
	return dir, narinfo.Keys{{Name: "example-1", Key: public}}, nil
}
