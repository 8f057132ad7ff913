package nixproot

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
)

func TestALongExportIsSpokenOfBeforeWhereItMayStandStill(t *testing.T) {
	g := NewWithT(t)
	socket := filepath.Join(t.TempDir(), "docker.sock")
	g.Expect(exportHint(1<<30-1, socket)).To(BeEmpty())
	g.Expect(exportHint(1_700_000_000, socket)).To(And(ContainSubstring("1.7 GB"), ContainSubstring("into a Docker engine"),
		ContainSubstring("pack build --publish")))
	listener, err := net.Listen("unix", socket)
	g.Expect(err).NotTo(HaveOccurred())
	defer listener.Close()
	if os.Geteuid() != 0 { // whose socket the lifecycle connects to as often as it likes
		g.Expect(exportHint(1<<30, socket)).To(BeEmpty())
		return
	}
	g.Expect(exportHint(1<<30, socket)).To(ContainSubstring("into this Docker engine"))
	g.Expect(os.Chown(socket, 1001, 1000)).To(Succeed())
	g.Expect(exportHint(1<<30, socket)).To(BeEmpty())
}
