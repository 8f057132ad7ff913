package nixproot

import (
	"fmt"
	"os"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	// longExport is how many bytes of new layers may take the lifecycle more than the 30 seconds after which it loses its
	// connection to the Docker engine, on a slow disk (docs/standstill.md).
	longExport = 1 << 30
	// engineSocket is where pack shows the Docker engine's socket to a lifecycle that exports in the same container.
	engineSocket = "/var/run/docker.sock"
)

// exportHint says what may happen when the new layers are exported, "" where nothing will. Where this build's container
// has the engine's socket the lifecycle will export to it, and by one connection where the socket is root's. Without the
// socket the lifecycle may still do so from another container, or write to a registry, where all goes well: there is no
// telling, and the hint says so.
func exportHint(bytes int64, socket string) string {
	if bytes < longExport {
		return ""
	}
	where := "into a Docker engine"
	if info, err := os.Stat(socket); err == nil {
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || stat.Uid != 0 {
			return ""
		}
		where = "into this Docker engine"
	}
	return fmt.Sprintf("New layers: %s. Exporting them %s may stand still at \"Saving\" where it takes more than 30 s, which no "+
		"buildpack can help; pack build --publish to a registry does not (docs/limits.md)", text.Bytes(bytes), where)
}

// exported is how many bytes of store paths are in layers that the previous image does not have.
func (c *contents) exported() (sum int64) {
	for _, group := range c.Changed {
		for _, p := range group.Paths {
			sum += c.Graph.Nodes[p].NarSize
		}
	}
	return sum
}
