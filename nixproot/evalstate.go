package nixproot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

const (
	// maxEvaluationState bounds what evaluation keeps for the next push, in bytes, unpacked.
	maxEvaluationState = 512 << 20
	// stateFormat is the version of what the layer holds. Another version's is not used.
	stateFormat = 1
	// statePack is what is kept; stateDir is there while something is evaluated.
	statePack = "state.nar.zst"
	stateDir  = "state"
)

// stateConditions are what the evaluation's state was made under. It holds what was imported from caches on the word
// of trusted keys, in a database of that Nix: under other conditions it is not used.
func (t *toolchainLayers) stateConditions() (map[string]any, error) {
	toolchain, err := t.identity()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(strings.Join(t.caches.trust(), "\n")))
	return map[string]any{
		"format": strconv.Itoa(stateFormat), "toolchain": toolchain, "trust": hex.EncodeToString(sum[:]),
	}, nil
}

// trust is whom the settings trust, in words that are the same for the same keys.
func (s cacheSettings) trust() []string {
	return append(slices.Sorted(slices.Values(s.keyStrings())), strconv.FormatBool(s.requireSigs))
}

// identity is which caches are asked and whom the settings trust, without logins.
func (s cacheSettings) identity() []string {
	var all []string
	for _, given := range s.urls {
		if u, err := url.Parse(given); err == nil {
			u.User = nil
			given = u.String()
		}
		all = append(all, given)
	}
	return append(all, s.trust()...)
}

// openState makes the state directory as the last build left it. Where it cannot be used, the directory is new and one line
// says why.
func (t *toolchainLayers) openState(ctx context.Context) (string, error) {
	dir := filepath.Join(t.state.Path, stateDir)
	conditions, err := t.stateConditions()
	if err != nil {
		return "", err
	}
	if len(t.state.Metadata) > 0 {
		why := changedCondition(t.state.Metadata, conditions)
		if why == "" {
			sum, _ := t.state.Metadata["sum"].(string)
			err := nixinstall.UnpackState(ctx, filepath.Join(t.state.Path, statePack), dir, sum)
			if err == nil || ctx.Err() != nil {
				return dir, err
			}
			why = oneLine(err)
		}
		t.logger.Bodyf("What was kept of earlier evaluations is not used: %s", why)
	}
	if err := t.dropState(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the evaluation layer: %w", err)
	}
	return dir, nil
}

// changedCondition says what is not as it was when the state was made; "" where nothing is.
func changedCondition(have, want map[string]any) string {
	for _, condition := range []struct{ name, why string }{
		{"format", "it is another version's of this buildpack"},
		{"toolchain", "it was made by another Nix"},
		{"trust", "other keys were trusted, or signatures were not required"},
	} {
		if have[condition.name] != want[condition.name] {
			return condition.why
		}
	}
	return ""
}

// keepState packs what the evaluations of this build used. Nothing of it is needed, so where that fails it is dropped
// and the build goes on.
func (t *toolchainLayers) keepState(ctx context.Context) error {
	table, err := t.stateConditions()
	if err != nil {
		return err
	}
	if _, err = t.opened.Collect(ctx, t.used, maxEvaluationState); err == nil {
		table["sum"], err = t.opened.PackState(ctx, filepath.Join(t.state.Path, statePack))
	}
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		t.logger.Bodyf("What this evaluation left is not kept: %s", oneLine(err))
		return t.dropState()
	}
	t.state.Metadata = table
	return removeLayer(filepath.Join(t.state.Path, stateDir))
}

// dropState forgets all of it.
func (t *toolchainLayers) dropState() error {
	t.state.Metadata = nil
	return removeLayer(t.state.Path)
}

func removeLayer(path string) error {
	if err := nar.RemoveAll(path); err != nil {
		return fmt.Errorf("clearing what evaluation needs: %w", err)
	}
	return nil
}

// evaluates reports whether the settings have anything evaluated, now and on the next push.
func (c Config) evaluates() bool { return len(c.StorePaths) == 0 && c.HydraJob == "" }
