package roots

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// maxDrv bounds a derivation that is fetched to be compared.
const maxDrv = 16 << 20

// fetchDrv gets a derivation from the first cache that has it.
func fetchDrv(ctx context.Context, sets []*cache.Set, p storepath.Path) (*nixinstall.Drv, error) {
	var text []byte
	err := fetchFrom(ctx, sets, p, func(r io.Reader) error {
		reader := nar.NewReader(r)
		entry, err := reader.Next()
		if err != nil {
			return err
		}
		if entry.Kind != nar.Regular || entry.Size > maxDrv {
			return errors.New("it is no derivation")
		}
		var out bytes.Buffer
		if _, err := io.Copy(&out, reader); err != nil {
			return err
		}
		text = out.Bytes()
		_, err = reader.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return nixinstall.ParseDrv(text)
}

func fetchFrom(ctx context.Context, sets []*cache.Set, p storepath.Path, unpack func(io.Reader) error) error {
	err := errors.New("no cache was asked")
	for _, set := range sets {
		var found *cache.Found
		if found, err = set.Lookup(ctx, p); err != nil {
			continue
		}
		if err = set.Fetch(ctx, found, unpack); err == nil {
			return nil
		}
	}
	return fmt.Errorf("fetching %s to compare it: %w", p.Base(), err)
}
