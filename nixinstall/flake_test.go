package nixinstall_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testEvaluateFlakes(t *testing.T, _ spec.G, it spec.S) {
	// What `nix eval git+file:…` gave for testdata/flake committed as rev.
	const (
		rev          = "060a61ce2fb1aaf1de0fc227595226dcf44bb70b"
		lastModified = 1709618828
		app          = "/nix/store/aqllsymms7ihs32fnia4hgz0y8kfkdxz-app"
		server       = "/nix/store/4rl985li7i8wmygg9ksb0yif28c4z5vm-server"
	)
	it.Before(func() { RegisterTestingT(t) })

	it("gives the paths that Nix gives for the git repository", func() {
		for _, c := range []struct {
			flake string
			attrs []string
			attr  string
			want  []string
		}{
			{".", nil, "packages.x86_64-linux.default", []string{app}},
			{".#server", nil, "packages.x86_64-linux.server", []string{server}},
			{".", []string{"server", "default"}, "packages.x86_64-linux.server", []string{server, app}},
			{".#hydraJobs.app.x86_64-linux", nil, "hydraJobs.app.x86_64-linux", []string{app}},
			{".#hydraJobs", nil, "hydraJobs.app.x86_64-linux", []string{app}},
			{".#.packages.x86_64-linux.server", nil, "packages.x86_64-linux.server", []string{server}},
		} {
			r, err := evaluate(t, nix(t), "flake",
				nixinstall.Request{Flake: c.flake, Attrs: c.attrs, Rev: rev, LastModified: lastModified})
			Expect(err).NotTo(HaveOccurred(), c.flake)
			Expect(r.Derivations[0].Attr).To(Equal(c.attr), c.flake)
			var got []string
			for _, o := range r.Outputs {
				got = append(got, o.Path.String())
			}
			Expect(got).To(Equal(c.want), c.flake)
		}
	})

	it("says what a flake has instead of an attribute that it lacks", func() {
		_, err := evaluate(t, nix(t), "flake", nixinstall.Request{Flake: ".#sever"})
		var missing *nixinstall.MissingAttrError
		Expect(errors.As(err, &missing)).To(BeTrue(), "%v", err)
		Expect(missing.Have).To(Equal([]string{"default", "server"}))
	})

	it("follows the lock file and writes none", func() {
		toolchain := nix(t)
		dir := filepath.Join(t.TempDir(), "flake")
		Expect(os.CopyFS(dir, os.DirFS(testdata(t, "flake")))).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "flake.nix"),
			[]byte(`{ inputs.other.url = "https://127.0.0.1:1/other.tar.gz"; outputs = { self, other }: { }; }`),
			0o644)).To(Succeed())
		source, err := toolchain.AddSource(context.Background(), dir, nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		_, err = toolchain.Evaluate(context.Background(), nixinstall.Request{Source: source, Flake: "."})
		var evalErr *nixinstall.EvalError
		Expect(errors.As(err, &evalErr)).To(BeTrue(), "%v", err)
		Expect(evalErr.Message).To(ContainSubstring("lock file"))
	})

	it("wants a folder of the source", func() {
		for _, bad := range []string{"github:NixOS/nixpkgs#hello", "../x#y", "/etc#x", "nixpkgs?dir=x"} {
			_, err := evaluate(t, nix(t), "flake", nixinstall.Request{Flake: bad})
			Expect(err).To(HaveOccurred(), bad)
		}
	})
}
