package nixinstall_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testEvaluateSets(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	type found struct{ attr, drv, installs string }
	list := func(r nixinstall.Result) []found {
		var all []found
		for _, d := range r.Derivations {
			all = append(all, found{d.Attr, d.Drv.String(), d.Install[0]})
		}
		return all
	}

	it("finds in a set what nix-build finds, and selects what nix-build -A selects", func() {
		server := found{"server", "/nix/store/3bhy6q20dhk5bhgzi6hd9i0w9j2g82fq-server.drv", "bin"}
		migrate := found{"tools.migrate", "/nix/store/zng84l3aiyc6flfjb2jsvmv9v8w7nrlf-migrate.drv", "out"}
		second := found{"list.1", "/nix/store/mxycw3qd39vlrgk287bprsjb5lbqfs4w-second.drv", "out"}
		for _, c := range []struct {
			attrs []string
			want  []found
		}{
			{nil, []found{server, migrate}},
			{[]string{"tools"}, []found{migrate}},
			{[]string{"list.1", "server"}, []found{second, server}},
			{[]string{"server.dev"}, []found{{"server.dev", server.drv, "dev"}}},
			{[]string{`"quoted.name"`}, []found{
				{"quoted.name", "/nix/store/0hxm4bpm2acrxhq4gjzfi8wdf4938ias-quoted.drv", "out"},
			}},
		} {
			r, err := evaluate(t, nix(t), "jobs", nixinstall.Request{Attrs: c.attrs})
			Expect(err).NotTo(HaveOccurred())
			Expect(list(r)).To(Equal(c.want), "%q", c.attrs)
		}
	})

	it("gives the source to search paths that name it", func() {
		toolchain := nix(t, func(s *nixinstall.Settings) { s.NixPath = []string{"my-project=.", "sub=./sub/folder"} })
		dir := t.TempDir()
		Expect(os.MkdirAll(filepath.Join(dir, "sub", "folder"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "sub", "folder", "x"), []byte("x"), 0o644)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "release.nix"), []byte(`
			derivation {
				name = "app"; system = "x86_64-linux"; builder = "/bin/sh";
				again = <my-project>; x = builtins.readFile <sub/x>;
			}`), 0o644)).To(Succeed())
		source, err := toolchain.AddSource(context.Background(), dir, nixinstall.SourceOptions{})
		Expect(err).NotTo(HaveOccurred())
		r, err := toolchain.Evaluate(context.Background(), nixinstall.Request{
			Source: source, File: "release.nix",
		})
		Expect(err).NotTo(HaveOccurred())
		drv, err := toolchain.ReadDrv(r.Derivations[0].Drv)
		Expect(err).NotTo(HaveOccurred())
		Expect(drv.Env["again"]).To(HaveSuffix("-" + source.Base()))
		Expect(drv.Env["x"]).To(Equal("x"))
	})

	it("finds the jobs of a job set as Hydra does, and keeps those of this system", func() {
		server := found{"server.x86_64-linux", "/nix/store/s20msa6ja110lcn6crjv59rn0m75dswf-server.drv", "out"}
		worker := found{"worker", "/nix/store/yia8l4rqk85nxms7pm6mgrsg71vcvv0k-worker-4.drv", "out"}
		request := nixinstall.Request{File: "release.nix"}
		r, err := evaluate(t, nix(t), "jobs", request)
		Expect(err).NotTo(HaveOccurred())
		Expect(list(r)).To(Equal([]found{server, worker}))
		Expect(r.Notes).To(ConsistOf(
			"server.aarch64-linux is for aarch64-linux, not for x86_64-linux: left out",
			"broken does not evaluate: left out (release.nix:12:12: this job does not evaluate)",
		))
		request.Attrs = []string{"worker", "server"}
		r, err = evaluate(t, nix(t), "jobs", request)
		Expect(err).NotTo(HaveOccurred())
		Expect(list(r)).To(Equal([]found{worker, server}))

		request.Attrs, request.Args = []string{"server.x86_64-linux"}, map[string]string{"suffix": "x"}
		r, err = evaluate(t, nix(t), "jobs", request)
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Derivations[0].Drv).To(BeEquivalentTo("/nix/store/l9mr2svywa3zavdkr251kjv1y57ahkkk-server.drv"))
	})
}
