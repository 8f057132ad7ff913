package roots

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
)

func TestReadSettings(t *testing.T) {
	g := NewWithT(t)
	for text, want := range map[string]*ConfiguredCaches{
		"": nil,
		"# extra-substituters = https://comment.example\nmax-jobs = 4\n": nil,
		"extra-substituters = https://a.example  https://b.example # both\nextra-trusted-public-keys = a-1:x= b-1:y=\n": {
			Substituters: []string{"https://a.example", "https://b.example"}, TrustedPublicKeys: []string{"a-1:x=", "b-1:y="}},
		"export NIX_CONFIG='substituters = https://a.example'\n": {Substituters: []string{"https://a.example"}},
		`NIX_CONFIG="extra-substituters = https://a.example\nextra-trusted-public-keys = a-1:x="`: {
			Substituters: []string{"https://a.example"}, TrustedPublicKeys: []string{"a-1:x="}},
		"NIX_CONFIG=$'trusted-substituters = https://a.example'": {Substituters: []string{"https://a.example"}},
		"  trusted-public-keys=a-1:x=\r\n":                       {TrustedPublicKeys: []string{"a-1:x="}},
	} {
		file := filepath.Join(t.TempDir(), "nix.conf")
		g.Expect(os.WriteFile(file, []byte(text), 0o644)).To(Succeed())
		g.Expect(readSettings(t.Context(), file)).To(Equal(want), "%q", text)
	}
	g.Expect(readSettings(t.Context(), t.TempDir())).To(BeNil())
}
