package nixproot

import (
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// oddLogLevel warns of a log level that does nothing. It is no error, as other buildpacks read the variable too and may
// know more. Levels are libpak's: log.NewPaketoLogger.
func oddLogLevel(level string) string {
	switch strings.ToLower(level) {
	case "", "info", "debug":
		return ""
	}
	return fmt.Sprintf("Warning: BP_LOG_LEVEL is %.40q and takes info or debug: the log is that of info", level)
}

// detailCaches says at debug level which caches are asked, and whose signatures count.
func (b Build) detailCaches(in *inputs) {
	if !b.Logger.IsDebugEnabled() {
		return
	}
	var keys []string
	for _, key := range in.settings.keys {
		keys = append(keys, key.Name)
	}
	whose := "signed by " + strings.Join(keys, " or ")
	if !in.settings.requireSigs {
		whose = "signed or not"
	} else if len(keys) == 0 {
		whose = "proven by their content address"
	}
	for _, url := range in.settings.urls {
		b.Logger.Bodyf("Asking %s for store paths %s", url, whose)
	}
}

// detailContents says at debug level which layer holds which store path, how each came into this build, and what makes
// it believed.
func (b Build) detailContents(c *contents) {
	if !b.Logger.IsDebugEnabled() {
		return
	}
	changed := map[string]bool{}
	for _, group := range c.Changed {
		changed[group.Layer] = true
	}
	for _, group := range c.Groups {
		state := "kept"
		if changed[group.Layer] {
			state = "new"
		}
		b.Logger.Bodyf("Layer %s, %s: %s", group.Layer, state, text.Count(len(group.Paths), "path"))
		for _, p := range group.Paths {
			b.Logger.Bodyf("  %s", describeNode(c.Graph.Nodes[p], p))
		}
	}
}

// describeNode is a store path with its size, where it is from, and whose word it is taken on.
func describeNode(n *closure.Node, p storepath.Path) string {
	from, proof := "known from the last build", "unsigned"
	if n.CacheURL != "" {
		from = "from " + n.CacheURL
	}
	if n.Signature.Name != "" {
		proof = "signed by " + n.Signature.Name
	} else if n.CA != "" {
		proof = "proven by its content address"
	}
	return p.String() + " " + text.Bytes(n.NarSize) + ", " + from + ", " + proof
}
