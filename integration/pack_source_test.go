package integration_test

import (
	"archive/zip"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// TestPackSource drives real pack with sources of which not everything may be removed, or can be.
func TestPackSource(t *testing.T) {
	p := realPlatform(t)
	spec.Run(t, "source", p.testSource(t), spec.Report(report.Terminal{}))
}

func (p *platform) testSource(outer *testing.T) func(*testing.T, spec.G, spec.S) {
	files := shop("1.0")
	files["site/index.html"] = "<html>source</html>\n"
	files["site/deep/style.css"] = "source {}\n"
	app := source(outer, files)
	settings := func(more ...string) map[string]string {
		return app.env(p.parts, append(more, "BP_NIX_ATTRS", "shop")...)
	}

	return func(t *testing.T, _ spec.G, it spec.S) {
		it.Before(func() { RegisterTestingT(t) })

		for _, phases := range []bool{false, true} {
			it(fmt.Sprintf("leaves a volume in the source as it is, each phase in a container of its own: %v", phases), func() {
				volume, image := t.TempDir(), p.image(fmt.Sprintf("volume-%v", phases))
				must(integration.WriteTree(volume, map[string]string{"precious": "p", "deep/precious": "p"}))
				must(os.Chmod(filepath.Join(volume, "deep"), 0o777))
				must(os.Chmod(volume, 0o777))
				log := p.build(image, app.source, settings(), func(o *rig.BuildOptions) {
					o.Phases = phases
					o.More = []string{"--volume", volume + ":/workspace/data:rw"}
				})
				Expect(log).To(ContainSubstring("Mounted in the source, and no part of it: data"))
				for _, name := range []string{"precious", "deep/precious"} {
					Expect(os.ReadFile(filepath.Join(volume, name))).To(Equal([]byte("p")))
				}
				Expect(p.says(image, "")).To(Equal("shop 1.0\n"))
				Expect(p.sourceOf(image)).To(HaveKey("Procfile"))
				Expect(p.sourceOf(image)).NotTo(HaveKey("site/index.html"))
			})
		}

		it("empties what an upload without directories has put into directories of root", func() {
			listed := t.TempDir()
			must(os.CopyFS(listed, os.DirFS(app.source)))
			must(os.WriteFile(filepath.Join(listed, "project.toml"), []byte("[_]\nschema-version = \"0.2\"\n\n"+
				"[io.buildpacks]\ninclude = [\"Procfile\", \"*.nix\", \"nixpkgs.json\", \"site/\"]\n"), 0o644))
			for name, upload := range map[string]string{"listed": listed, "zip": zipped(t, app.source)} {
				image := p.image(name)
				log := p.build(image, upload, settings())
				Expect(log).To(MatchRegexp(`Emptied, as their directories belong to another user.*: .*site/index.html`), name)
				Expect(p.says(image, "")).To(Equal("shop 1.0\n"))
				for file, size := range p.sourceOf(image) {
					if file != "Procfile" {
						Expect(size).To(BeZero(), file)
					}
				}
				log = p.build(image, upload, settings("BP_INCLUDE_FILES", "site"))
				Expect(log).NotTo(ContainSubstring("Emptied"))
				Expect(p.sourceOf(image)).To(HaveKeyWithValue("site/index.html", int64(len(files["site/index.html"]))))
			}
		})

		it("removes nothing of a checkout on which somebody runs the lifecycle itself, and fetches nothing", func() {
			checkout := t.TempDir()
			must(os.CopyFS(checkout, os.DirFS(app.source)))
			must(filepath.WalkDir(checkout, func(name string, _ fs.DirEntry, err error) error {
				must(err)
				return os.Chmod(name, 0o777)
			}))
			app.server.Reset()
			log, err := p.phases(t, checkout, settings())
			Expect(err).To(HaveOccurred(), log)
			Expect(log).To(ContainSubstring("seems to be somebody's checkout"))
			Expect(log).To(ContainSubstring("BP_NIX_REMOVE_SOURCE=true"))
			Expect(app.server.Requests()).To(BeEmpty())
			for name, text := range files {
				Expect(os.ReadFile(filepath.Join(checkout, name))).To(Equal([]byte(text)))
			}
			log, err = p.phases(t, checkout, settings("BP_NIX_REMOVE_SOURCE", "true"))
			Expect(err).NotTo(HaveOccurred(), log)
			Expect(filepath.Join(checkout, "site")).NotTo(BeADirectory())
			Expect(filepath.Join(checkout, "Procfile")).To(BeARegularFile())
		})
	}
}

// sourceOf are the files of an image's application directory, with their sizes.
func (p *platform) sourceOf(image string) map[string]int64 {
	p.t.Helper()
	all, err := p.parts.rig.ImageFiles(p.t.Context(), image)
	must(err)
	files := map[string]int64{}
	for name, header := range all {
		if rel, err := filepath.Rel("workspace", name); err == nil && filepath.IsLocal(rel) && header.Typeflag == '0' {
			files[rel] = header.Size
		}
	}
	return files
}

// zipped is a zip of a directory's files without entries for its directories.
func zipped(t *testing.T, dir string) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "app.zip"))
	must(err)
	defer file.Close()
	archive := zip.NewWriter(file)
	must(filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		must(err)
		rel, err := filepath.Rel(dir, name)
		must(err)
		header := &zip.FileHeader{Name: rel, Method: zip.Deflate}
		header.SetMode(0o644)
		w, err := archive.CreateHeader(header)
		must(err)
		_, err = w.Write(text)
		return err
	}))
	must(archive.Close())
	return file.Name()
}

// phases runs the lifecycle's detector and builder on a directory itself, which is the application directory, with further
// options of docker run.
func (p *platform) phases(t *testing.T, app string, env map[string]string, options ...string) (string, error) {
	t.Helper()
	return p.lifecycle(t, "phase detector -order /platform/order.toml; phase builder", app, env, options...)
}

// creates runs all of the lifecycle's phases in one container, as phases does, of which the last exports to a registry. Its
// cache is in the directory /cache. The last line is how much memory that took, in bytes, files that it wrote included.
func (p *platform) creates(t *testing.T, image, run, app string, env map[string]string, options ...string) (string, error) {
	t.Helper()
	return p.lifecycle(t, "phase creator -order /platform/order.toml -cache-dir /cache -run-image "+run+" "+image+"\ncd /sys/fs/cgroup\n"+
		"if [ -f memory.peak ]; then cat memory.peak; else cat memory/memory.max_usage_in_bytes; fi", app, env, options...)
}

// lifecycle runs phases of the lifecycle in a container of the builder.
func (p *platform) lifecycle(t *testing.T, script, app string, env map[string]string, options ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	order := map[string]string{"order.toml": "[[order]]\n[[order.group]]\nid = \"nixproot/nix-hydra\"\nversion = \"0.1.0\"\n"}
	for name, value := range env {
		order["env/"+name] = value
	}
	must(integration.WriteTree(dir, order))
	must(filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		must(err)
		return os.Chmod(name, 0o755)
	}))
	args := append([]string{"run", "--rm", "--network", "host", "--env", "CNB_PLATFORM_API=0.12"}, options...)
	out, err := exec.CommandContext(t.Context(), "docker", append(args,
		"--volume", app+":/workspace", "--volume", p.buildpack+":/bps/nixproot_nix-hydra/0.1.0:ro", "--volume", dir+":/platform:ro",
		"--entrypoint", "/bin/sh", p.pack.Builder, "-ec",
		"phase() { name=$1; shift; /cnb/lifecycle/$name -app /workspace -buildpacks /bps -platform /platform -layers /layers \"$@\"; }\n"+
			script)...).CombinedOutput()
	return string(out), err
}
