package launch_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

func TestConfig(t *testing.T) {
	spec.Run(t, "launch.Config", testConfig, spec.Report(report.Terminal{}))
}

func testConfig(t *testing.T, context spec.G, it spec.S) {
	var dir string
	it.Before(func() { RegisterTestingT(t); dir = t.TempDir() })

	it("reads back what it wrote, with the format set", func() {
		want := launch.Config{
			Engine: launch.Unrelocated, Requested: launch.EngineProot, View: "/layers/x/store",
			Bin: []string{"/nix/store/a/bin"}, StorePaths: []string{"/nix/store/a"}, PRoot: "/layers/x/proot/bin/proot",
			Reason: "lib/a.jar: reference inside a zip member",
		}
		path := filepath.Join(dir, launch.ConfigName)
		Expect(want.Write(path)).To(Succeed())
		got, err := launch.ReadConfig(path)
		Expect(err).NotTo(HaveOccurred())
		want.Format = launch.FormatVersion
		Expect(got).To(Equal(want))
		Expect(os.ReadDir(dir)).To(HaveLen(1))
	})

	refused := map[string]struct{ data, want string }{
		"another format":         {`{"format":2,"engine":"relocate","view":"/v"}`, "format is 2, this launcher reads 1"},
		"no format":              {`{"engine":"relocate","view":"/v","bin":[]}`, "format is missing"},
		"another format's field": {`{"format":2,"engine":"x","new":1}`, "format is 2"},
		"an unknown field":       {`{"format":1,"engine":"relocate","view":"/v","bin":[],"x":1}`, `unknown field "x"`},
		"an unknown engine":      {`{"format":1,"engine":"magic","view":"/v","bin":[]}`, `engine is "magic"`},
		"an unknown request":     {`{"format":1,"engine":"relocate","requested":"x","view":"/v"}`, `requested engine is "x"`},
		"a relative view":        {`{"format":1,"engine":"relocate","view":"v","bin":[]}`, `view is "v"`},
		"a relative bin":         {`{"format":1,"engine":"relocate","view":"/v","bin":["b"]}`, `bin has "b"`},
		"a relative proot":       {`{"format":1,"engine":"relocate","view":"/v","proot":"p"}`, `proot is "p"`},
		"no JSON":                {`{`, "unexpected end of JSON input"},
	}
	for _, name := range slices.Sorted(maps.Keys(refused)) { // a case is known by its place
		c := refused[name]
		it("refuses "+name+" and says where", func() {
			path := filepath.Join(dir, "c.json")
			Expect(os.WriteFile(path, []byte(c.data), 0o600)).To(Succeed())
			_, err := launch.ReadConfig(path)
			Expect(err).To(MatchError(And(ContainSubstring(c.want), ContainSubstring(path))))
		})
	}

	it("refuses to write what it would refuse to read", func() {
		Expect(launch.Config{Engine: "x", View: "/v"}.Write(filepath.Join(dir, "c"))).NotTo(Succeed())
		Expect(os.ReadDir(dir)).To(BeEmpty())
	})

	it("fails where the file cannot be read or written, and leaves no half of it", func() {
		_, err := launch.ReadConfig(filepath.Join(dir, "none"))
		Expect(err).To(MatchError(os.ErrNotExist))
		good := launch.Config{Engine: launch.EngineRelocate, View: "/v"}
		Expect(good.Write(filepath.Join(dir, "no", "c"))).To(MatchError(os.ErrNotExist))
		Expect(os.Mkdir(filepath.Join(dir, "c"), 0o755)).To(Succeed())
		Expect(good.Write(filepath.Join(dir, "c"))).NotTo(Succeed())
		Expect(os.ReadDir(dir)).To(HaveLen(1))
	})

	it("is found beside the launcher, through links, and by its variable first", func() {
		bin := filepath.Join(dir, "launch", "bin")
		Expect(os.MkdirAll(bin, 0o755)).To(Succeed())
		self, link := filepath.Join(bin, launch.ProgramName), filepath.Join(dir, "elsewhere")
		Expect(os.WriteFile(self, nil, 0o755)).To(Succeed())
		Expect(os.Symlink(self, link)).To(Succeed())
		none := func(string) string { return "" }
		_, err := launch.FindConfig(none, link)
		Expect(err).To(MatchError(ContainSubstring("NIX_HYDRA_LAUNCH is not set")))
		want := filepath.Join(dir, "launch", launch.ConfigName)
		Expect(launch.Config{Engine: launch.EngineRelocate, View: "/v"}.Write(want)).To(Succeed())
		Expect(launch.FindConfig(none, link)).To(Equal(want))
		Expect(launch.FindConfig(func(string) string { return "/other" }, link)).To(Equal("/other"))
	})
}
