package nixinstall_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// binaryCache is a signed cache in a directory.
type binaryCache struct {
	t   *testing.T
	dir string
	key ed25519.PrivateKey
}

func newBinaryCache(t *testing.T) *binaryCache {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &binaryCache{t: t, dir: t.TempDir(), key: key}
	c.write("nix-cache-info", []byte("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n"))
	return c
}

// publicKey is as trusted-public-keys has it.
func (c *binaryCache) publicKey() string {
	return "test-1:" + base64.StdEncoding.EncodeToString(c.key.Public().(ed25519.PublicKey))
}

func (c *binaryCache) url() string { return "file://" + c.dir }

func (c *binaryCache) write(name string, data []byte) {
	c.t.Helper()
	file := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// add puts the tree at dir into the cache as the path p.
func (c *binaryCache) add(p storepath.Path, dir string) {
	c.t.Helper()
	var data bytes.Buffer
	if err := nar.Dump(context.Background(), &data, dir); err != nil {
		c.t.Fatal(err)
	}
	c.addNAR(p, data.Bytes())
}

func (c *binaryCache) addNAR(p storepath.Path, data []byte) {
	c.t.Helper()
	info := &narinfo.NarInfo{
		StorePath: p, URL: "nar/" + p.HashPart() + ".nar", Compression: "none",
		NarHash: sha256.Sum256(data), NarSize: int64(len(data)),
		FileHash: sha256.Sum256(data), FileSize: int64(len(data)),
	}
	signature := ed25519.Sign(c.key, []byte(info.Fingerprint()))
	info.Sigs = []narinfo.Signature{{Name: "test-1", Data: signature}}
	c.write(info.URL, data)
	c.write(p.HashPart()+".narinfo", []byte(info.String()))
}
