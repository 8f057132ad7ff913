package nixproot

import (
	"bytes"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/paketo-buildpacks/libpak/v2/log"
)

// TestSecretsInWhatAHookSays hides secrets that are several lines, that are in Nix's configuration, and that come in pieces.
func TestSecretsInWhatAHookSays(t *testing.T) {
	g := NewWithT(t)
	environment := map[string]string{
		"SSH_PRIVATE_KEY": "-----BEGIN OPENSSH PRIVATE KEY-----\n  b3BlbnNzaC1rZXkt\n\nZjEAAAAABG5vbmUA\r\nend",
		"NIX_CONFIG":      "experimental-features = flakes\nextra-access-tokens = github.com=ghp_16C7e42F292c gitlab.com=PAT:A123Bp_G54\n",
		"DB_PASS":         "in-one-piece",
		"MYSQL_PWD":       "of-the-database",
		"AUTHOR":          "somebody-else",
	}
	var out bytes.Buffer
	said := &wholeLines{to: log.NewPaketoLogger(newRedacting(&out, environment)).BodyWriter()}
	text := environment["SSH_PRIVATE_KEY"] + "\n" + environment["NIX_CONFIG"] + "by somebody-else\nof-the-database\nin-one-piece"
	for _, piece := range strings.SplitAfter(text, "e") {
		_, err := said.Write([]byte(piece))
		g.Expect(err).NotTo(HaveOccurred())
	}
	said.end()
	for _, secret := range []string{
		"b3BlbnNzaC1rZXkt", "ZjEAAAAABG5vbmUA", "ghp_16C7e42F292c", "A123Bp_G54", "in-one-piece", "of-the-database",
	} {
		g.Expect(out.String()).NotTo(ContainSubstring(secret))
	}
	g.Expect(out.String()).To(And(ContainSubstring("by somebody-else"), ContainSubstring("experimental-features = flakes"),
		ContainSubstring("github.com="+hidden)))

	// A line without an end is not waited for.
	out.Reset()
	long := bytes.Repeat([]byte("x"), 64<<10)
	_, err := said.Write(long)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(out.Len()).To(BeNumerically(">=", len(long)))
}
