package verify_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/verify"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
)

func TestVerify(t *testing.T) {
	suite := spec.New("verify")
	suite("Intact", testIntact)
	made := map[string]*imagetest.Image{} // by engine; a spec's function is called once more for each of its cases
	suite("Altered", func(t *testing.T, _ spec.G, it spec.S) { testAltered(t, it, made) })
	suite("Exports", testExports)
	suite("Closure", testClosure)
	suite.Run(t)
}

func ExampleReport_Text() {
	r := verify.Report{
		Paths: []verify.Path{{
			Path: "/nix/store/00000000000000000000000000000000-app", Layer: "closure-0001-a", Signed: "example-1",
		}},
		Problems:   []verify.Problem{{Kind: verify.Unknown, Where: "LD_PRELOAD", Why: "the image's environment sets it"}},
		NotCovered: []string{"the run image"},
	}
	fmt.Println("intact:", r.Intact())
	_ = r.Text(os.Stdout)
	// Output:
	// intact: false
	// intact    /nix/store/00000000000000000000000000000000-app (closure-0001-a) example-1
	// UNKNOWN   LD_PRELOAD: the image's environment sets it
	// 1 store path: 1 intact and signed, 0 altered, 0 signed by no trusted key, 0 files belonging to none, 1 that this program cannot tell about
	// verified covers every file in the layers directory, the launcher with its configuration, process types, entrypoint and environment; not the run image, not what the app itself does
}

// verifyImage writes an image, after it was altered, and verifies it.
func verifyImage(f *imagetest.Image, alter func(*imagetest.Image), change ...func(*verify.Options)) (*verify.Report, string) {
	name := filepath.Join(f.T.TempDir(), "image.tar")
	f.Write(name, alter)
	keys, err := narinfo.ParseKeys(f.Key)
	Expect(err).NotTo(HaveOccurred())
	options := verify.Options{Keys: keys, OwnLauncher: func(string) string { return f.LauncherSHA256 }}
	for _, each := range change {
		each(&options)
	}
	report, err := verify.Image(context.Background(), name, options)
	if err != nil {
		return nil, err.Error()
	}
	var out bytes.Buffer
	Expect(report.Text(&out)).To(Succeed())
	return report, out.String()
}

// intact reports whether there is a report, and it says so.
func intact(report *verify.Report) bool { return report != nil && report.Intact() }

func testIntact(t *testing.T, _ spec.G, it spec.S) {
	var g *WithT
	it.Before(func() { RegisterTestingT(t); g = NewWithT(t) })

	for _, engine := range []string{launch.EngineRelocate, launch.Unrelocated} {
		it("calls an image intact that nobody altered, "+engine, func() {
			report, out := verifyImage(imagetest.New(t, engine), nil)
			g.Expect(intact(report)).To(BeTrue(), out)
			g.Expect(out).To(And(ContainSubstring("3 store paths: 3 intact and signed, 0 altered"),
				ContainSubstring("process   web: "), ContainSubstring("not the run image (up to layer sha256:")))
		})
	}

	it("calls an image intact whose layers kpack had on a volume of the pod's group", func() {
		report, out := verifyImage(imagetest.NewOnVolume(t, launch.EngineRelocate), nil)
		g.Expect(intact(report)).To(BeTrue(), out)
	})

	it("takes the user's word for what no build makes", func() {
		f := imagetest.New(t, launch.EngineRelocate)
		other := func(f *imagetest.Image) {
			f.AddLayer("forged", imagetest.Directory("/layers/acme_ca"), imagetest.Directory("/layers/acme_ca/env"), imagetest.Regular("/layers/acme_ca/env/SSL_CERT_DIR", "/x", 0o644))
			f.Config.Env = append(f.Config.Env, "FOO=bar")
			f.Relabel = true
		}
		report, out := verifyImage(f, other, func(o *verify.Options) { o.Accept = []string{"/layers/acme_ca", "FOO"} })
		g.Expect(intact(report)).To(BeTrue(), out)
		g.Expect(out).To(And(ContainSubstring("not /layers/acme_ca (--accept)"),
			MatchRegexp(`(?m)^accepted  FOO: the image's environment sets it to "bar", .* \(UNKNOWN, --accept FOO\)$`),
			MatchRegexp(`(?m)^accepted  /layers/acme_ca: it is another buildpack's.* \(EXTRA, --accept /layers/acme_ca\)$`)))
		report, out = verifyImage(f, nil, func(o *verify.Options) { o.Accept = []string{"/layers/acme_ca", "FOO", "BAR", "/layers/acme"} })
		g.Expect(intact(report)).To(BeTrue(), out)
		g.Expect(out).To(And(ContainSubstring("unused    --accept BAR"), ContainSubstring("unused    --accept /layers/acme is"),
			Not(ContainSubstring("not BAR"))))
	})

	it("does not take a content address for a signature, but where something signed needs the path, or the user names it", func() {
		for _, engine := range []string{launch.EngineRelocate, launch.Unrelocated} {
			f := imagetest.NewAddressed(t, engine, "app")
			report, out := verifyImage(f, nil)
			g.Expect(intact(report)).To(BeFalse(), out)
			g.Expect(report.Problems).To(ConsistOf(And(HaveField("Kind", verify.Unknown), HaveField("Where", f.App.String()))))
			g.Expect(out).To(ContainSubstring("anybody could have made it"))
			report, out = verifyImage(f, nil, func(o *verify.Options) { o.Roots = []storepath.Path{f.App} })
			g.Expect(intact(report)).To(BeTrue(), out)
			report, out = verifyImage(f, nil, func(o *verify.Options) { o.Accept = []string{f.App.String()} })
			g.Expect(intact(report)).To(BeTrue(), out)
			report, out = verifyImage(imagetest.NewAddressed(t, engine, "other"), nil)
			g.Expect(intact(report)).To(BeTrue(), out)
			g.Expect(out).To(MatchRegexp(`(?m)^intact .*-other \(.*\) content address$`))
		}
	})

	it("finds a store of the run image's where a link leads to it, as the launcher would", func() {
		for what, below := range map[string][]imagetest.Entry{
			"a directory":     {imagetest.Directory("/nix"), imagetest.Directory("/nix/store")},
			"a link":          {imagetest.Symlink("/nix", "usr/nix"), imagetest.Directory("/usr/nix"), imagetest.Directory("/usr/nix/store")},
			"a link to it":    {imagetest.Directory("/nix"), imagetest.Symlink("/nix/store", "/usr/bin")},
			"the app's":       {imagetest.Symlink("/nix", "/workspace")},
			"links in a loop": {imagetest.Symlink("/nix", "/nix")},
		} {
			f := imagetest.New(t, launch.Unrelocated)
			report, out := verifyImage(f, func(f *imagetest.Image) {
				f.AddBelow(below...)
				f.Append("app", imagetest.Directory("/workspace/store"))
				f.Relabel = true
			})
			g.Expect(intact(report)).To(BeFalse(), "%s: %s", what, out)
			g.Expect(out).To(ContainSubstring("the run image has a store of its own"), what)
		}
	})

	it("names annotations: of a layer, by which some runtimes make its files of something else, and of the image", func() {
		f := imagetest.New(t, launch.EngineRelocate)
		name := filepath.Join(t.TempDir(), "image.tar")
		f.Write(name, nil)
		plain, err := tarball.ImageFromPath(name, nil)
		g.Expect(err).NotTo(HaveOccurred())
		layers, err := plain.Layers()
		g.Expect(err).NotTo(HaveOccurred())
		config, err := plain.ConfigFile()
		g.Expect(err).NotTo(HaveOccurred())
		keys, err := narinfo.ParseKeys(f.Key)
		g.Expect(err).NotTo(HaveOccurred())
		const none = -1
		for _, c := range []struct {
			layer  int
			image  string
			intact bool
		}{
			{none, "", true}, {none, "org.opencontainers.image.created", true}, {none, "run.oci.handler", false},
			{0, "", false}, // the run image's
			{len(layers) - 1, "", false},
		} {
			img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
			for n, layer := range layers {
				add := mutate.Addendum{Layer: layer}
				if n == c.layer {
					add.Annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": "sha256:0"}
				}
				img, err = mutate.Append(img, add)
				g.Expect(err).NotTo(HaveOccurred())
			}
			img, err = mutate.ConfigFile(img, config)
			g.Expect(err).NotTo(HaveOccurred())
			if c.image != "" {
				img = mutate.Annotations(img, map[string]string{c.image: "wasm"}).(v1.Image)
			}
			dir := t.TempDir()
			index, err := layout.Write(dir, empty.Index)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(index.AppendImage(img)).To(Succeed())
			report, err := verify.Image(context.Background(), dir, verify.Options{
				Keys: keys, OwnLauncher: func(string) string { return f.LauncherSHA256 },
			})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(intact(report)).To(Equal(c.intact), "%v: %v", c, report.Problems)
		}
	})

	it("takes what the launcher is told for right where it follows from the closure", func() {
		f := imagetest.New(t, launch.EngineRelocate)
		report, out := verifyImage(f, func(f *imagetest.Image) {
			f.Relabel = true
			withConfig(func(f *imagetest.Image, c *launch.Config) {
				c.Requested = launch.EngineAuto
				c.StorePaths, c.Bin = append(c.StorePaths, f.Lib.String()), append(c.Bin, libraryBin(f, c))
			})(f)
		})
		g.Expect(intact(report)).To(BeTrue(), out)
		g.Expect(out).To(ContainSubstring("engine    relocate, asked for auto"))
	})

	it("compares roots and launchers with those that the user names", func() {
		for option, set := range map[string]func(*verify.Options){
			"--launcher":  func(o *verify.Options) { o.Launcher = strings.Repeat("0", 64) },
			"--lifecycle": func(o *verify.Options) { o.Lifecycle = strings.Repeat("0", 64) },
		} {
			report, out := verifyImage(imagetest.New(t, launch.EngineRelocate), nil, set)
			g.Expect(intact(report)).To(BeFalse())
			g.Expect(out).To(ContainSubstring(option + " says"))
		}
		f := imagetest.New(t, launch.EngineRelocate)
		report, out := verifyImage(f, nil, func(o *verify.Options) { o.Roots = []storepath.Path{f.App} })
		g.Expect(intact(report)).To(BeTrue(), out)
		report, out = verifyImage(imagetest.New(t, launch.EngineRelocate), nil, func(o *verify.Options) { o.Roots = []storepath.Path{f.Lib} })
		g.Expect(intact(report)).To(BeFalse(), out)
	})

	it("cannot tell about a launcher of another version, and says so", func() {
		f := imagetest.New(t, launch.EngineRelocate)
		f.LauncherSHA256 = strings.Repeat("1", 64)
		report, out := verifyImage(f, nil)
		g.Expect(intact(report)).To(BeFalse(), out)
		g.Expect(out).To(MatchRegexp(`(?m)^UNKNOWN .*nix-hydra-launch: its digest is `))
	})
}

// alterations are ways to change an image so that it does not run what was signed, or runs it otherwise.
func alterations() map[string]func(*imagetest.Image) {
	evil := func(name string) imagetest.Entry { return imagetest.Regular(name, "#!/bin/sh\nevil\n", 0o555) }
	// in alters the layer itself, as whoever can push one does.
	alter := func(f *imagetest.Image) {
		f.Must(f.AppFile).Body = strings.Replace(f.Must(f.AppFile).Body, "\n", "!", 1)
	}
	copied := func(f *imagetest.Image, from, to string) []imagetest.Entry {
		var all []imagetest.Entry
		for _, layer := range f.Layers {
			for _, e := range layer.Entries {
				if e.Name == from || strings.HasPrefix(e.Name, from+"/") {
					e.Name = to + strings.TrimPrefix(e.Name, from)
					all = append(all, e)
				}
			}
		}
		return all
	}
	last := func(entries ...imagetest.Entry) func(*imagetest.Image) {
		return func(f *imagetest.Image) { f.AddLayer("forged", entries...) }
	}
	records := func(change func(map[string]any)) func(*imagetest.Image) {
		return func(f *imagetest.Image) {
			for _, name := range f.NamesWith("/" + closure.PathsName) {
				e := f.Must(name)
				var all map[string]any
				Expect(json.Unmarshal([]byte(e.Body), &all)).To(Succeed())
				for _, r := range all["paths"].([]any) {
					change(r.(map[string]any))
				}
				raw, err := json.Marshal(all)
				Expect(err).NotTo(HaveOccurred())
				f.Replace(name, string(raw), "")
			}
		}
	}
	env := func(variables ...string) func(*imagetest.Image) {
		return func(f *imagetest.Image) { f.Config.Env = append(f.Config.Env, variables...) }
	}
	viewLink := func(f *imagetest.Image, p storepath.Path) string {
		return path.Join(imagetest.View, path.Base(f.Tree(p)))
	}
	return map[string]func(*imagetest.Image){
		"a byte": alter,
		"a decoy directory in a later layer": func(f *imagetest.Image) {
			decoy := copied(f, imagetest.Dir, "/layers/decoy")
			alter(f)
			f.AddLayer("forged", decoy...)
		},
		"the parent replaced by a link": func(f *imagetest.Image) {
			elsewhere := copied(f, imagetest.Dir, "/elsewhere")
			for i, e := range elsewhere {
				if strings.HasSuffix(e.Name, "bin/app") {
					elsewhere[i].Body = strings.Replace(e.Body, "\n", "!", 1)
				}
			}
			f.AddLayer("forged", append(elsewhere, imagetest.Symlink(imagetest.Dir, "/elsewhere"))...)
		},
		"all layers replaced by a link to an intact copy": func(f *imagetest.Image) {
			f.AddLayer("forged", append(copied(f, "/layers", "/elsewhere"), imagetest.Symlink("/layers", "/elsewhere"))...)
		},
		"CNB_LAYERS_DIR with an intact copy": func(f *imagetest.Image) {
			decoy := copied(f, "/layers", "/decoy")
			alter(f)
			f.AddLayer("forged", decoy...)
			f.Config.Env = append(f.Config.Env[:1], "CNB_LAYERS_DIR=/decoy", "CNB_APP_DIR=/workspace")
		},
		"CNB_LAYERS_DIR twice":       env("CNB_LAYERS_DIR=/layers"),
		"CNB_APP_DIR over the image": func(f *imagetest.Image) { f.Config.Env[2] = "CNB_APP_DIR=/"; f.Config.WorkingDir = "/" },
		"a file removed by a whiteout": func(f *imagetest.Image) {
			f.AddLayer("forged", imagetest.Regular(path.Join(path.Dir(f.AppFile), ".wh.app"), "", 0o644))
		},
		"a path removed by a whiteout": func(f *imagetest.Image) {
			place := path.Dir(path.Dir(f.AppFile))
			f.AddLayer("forged", imagetest.Regular(path.Join(path.Dir(place), ".wh."+path.Base(place)), "", 0o644))
		},
		"an opaque directory": func(f *imagetest.Image) {
			f.AddLayer("forged", imagetest.Directory(path.Dir(f.AppFile)), imagetest.Regular(path.Join(path.Dir(f.AppFile), ".wh..wh..opq"), "", 0o644))
		},
		"an opaque layers directory": last(imagetest.Directory(imagetest.Dir), imagetest.Regular(imagetest.Dir+"/.wh..wh..opq", "", 0o644)),
		"a hard link to another file": func(f *imagetest.Image) {
			f.AddLayer("forged", evil("/tmp/evil"), imagetest.HardLink(f.AppFile, "/tmp/evil"))
		},
		"a hard link to a file through a link": func(f *imagetest.Image) {
			f.AddLayer("forged", imagetest.Symlink("/tmp/out", "/layers/nixproot_nix-hydra/launcher/bin"),
				imagetest.HardLink(f.AppFile, "/tmp/out/nix-hydra-launch"))
		},
		"a file replaced by a directory": func(f *imagetest.Image) { f.AddLayer("forged", imagetest.Directory(f.AppFile)) },
		"a file replaced by a link":      func(f *imagetest.Image) { f.AddLayer("forged", imagetest.Symlink(f.AppFile, "/usr/bin/env")) },
		"a directory replaced by a file": func(f *imagetest.Image) { f.AddLayer("forged", evil(path.Dir(f.AppFile))) },
		"a path replaced by a link": func(f *imagetest.Image) {
			place := path.Dir(path.Dir(f.AppFile))
			f.AddLayer("forged", append(copied(f, place, "/copy"), imagetest.Symlink(place, "/copy"))...)
		},
		"a layer replaced by a link": func(f *imagetest.Image) {
			place := path.Dir(path.Dir(path.Dir(f.AppFile)))
			f.AddLayer("forged", append(copied(f, place, "/copy"), imagetest.Symlink(place, "/copy"))...)
		},
		"a file written through a link": func(f *imagetest.Image) {
			f.AddLayer("forged", imagetest.Symlink("/door", path.Dir(f.AppFile)), evil("/door/app"))
		},
		"a file written through links in the run image": func(f *imagetest.Image) {
			f.AddBelow(imagetest.Symlink("/a", "b/../b"), imagetest.Symlink("/b", "/layers"))
			f.AddLayer("forged", evil("/a/"+strings.TrimPrefix(f.AppFile, "/layers/")))
		},
		"a file below a link that a runtime may take for a directory": func(f *imagetest.Image) {
			good := *f.Must(f.AppFile)
			f.AddLayer("forged", evil(path.Join(viewLink(f, f.App), "bin/app")), good)
		},
		"an attribute that merges another directory": func(f *imagetest.Image) {
			f.AddBelow(imagetest.Directory("/decoy"), evil("/decoy/more"))
			e := imagetest.Directory(path.Dir(f.AppFile))
			e.Mode = 0o555
			e.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/decoy"}
			f.AddLayer("forged", e)
		},
		"an attribute that merges another directory into the layers": func(f *imagetest.Image) {
			f.AddBelow(imagetest.Directory("/decoy"), evil("/decoy/evil/exec.d/evil"))
			e := imagetest.Directory(imagetest.Dir)
			e.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/decoy"}
			f.AddLayer("forged", e)
		},
		"an attribute that hides the run image's files": func(f *imagetest.Image) {
			e := imagetest.Directory("/etc")
			e.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}
			f.AddLayer("forged", e)
		},
		"a directory of the run image that anybody may fill": func(f *imagetest.Image) {
			e := imagetest.Directory("/usr/bin")
			e.Mode = 0o777
			f.AddLayer("forged", e)
		},
		"a removal after a thousand harmless ones": func(f *imagetest.Image) {
			var many []imagetest.Entry
			for i := range 1200 {
				many = append(many, imagetest.Regular(fmt.Sprintf("/tmp/.wh.%d", i), "", 0o644))
			}
			f.AddBelow(many...)
			good := *f.Must(f.AppFile)
			f.AddLayer("forged", imagetest.Regular(path.Join(path.Dir(f.AppFile), ".wh.app"), "", 0o644), good)
		},
		"a hard link that gives a program more rights": func(f *imagetest.Image) {
			e := imagetest.HardLink("/workspace/harmless", f.AppFile)
			e.Mode, e.Uid = 0o4555, 0
			for i := range f.Layers {
				if slices.ContainsFunc(f.Layers[i].Entries, func(e imagetest.Entry) bool { return e.Name == f.AppFile }) {
					f.Layers[i].Entries = append(f.Layers[i].Entries, e)
				}
			}
		},
		"setuid":                       func(f *imagetest.Image) { f.Must(f.AppFile).Mode = 0o4555 },
		"writable by others":           func(f *imagetest.Image) { f.Must(f.AppFile).Mode = 0o777 },
		"the exec bit lost":            func(f *imagetest.Image) { f.Must(f.AppFile).Mode = 0o444 },
		"unreadable":                   func(f *imagetest.Image) { f.Must(f.AppFile).Mode = 0o500 },
		"a directory nobody may enter": func(f *imagetest.Image) { f.Must(path.Dir(f.AppFile)).Mode = 0o444 },
		"a program to its owner":       func(f *imagetest.Image) { f.Must(f.AppFile).Mode = 0o544 },
		"a directory anybody may fill": func(f *imagetest.Image) { f.Must(path.Dir(f.AppFile)).Mode = 0o777 },
		"capabilities": func(f *imagetest.Image) {
			f.Must(f.AppFile).PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
		},
		"a file more in a path": func(f *imagetest.Image) { f.AddLayer("forged", evil(path.Join(path.Dir(f.AppFile), "more"))) },
		"a file beside the paths": func(f *imagetest.Image) {
			f.AddLayer("forged", evil(path.Join(path.Dir(path.Dir(path.Dir(f.AppFile))), "lib", "libc.so")))
		},
		"a link of the view to elsewhere": func(f *imagetest.Image) { f.Must(viewLink(f, f.App)).Linkname = "/tmp" },
		"a link of the view to another path": func(f *imagetest.Image) {
			f.Must(viewLink(f, f.Lib)).Linkname = f.Must(viewLink(f, f.App)).Linkname
		},
		"a link of the view up and out": func(f *imagetest.Image) {
			e := f.Must(viewLink(f, f.App))
			e.Linkname = "../../../" + strings.TrimPrefix(path.Join(imagetest.View, e.Linkname), "/")
		},
		"a link of the view more": func(f *imagetest.Image) {
			f.Append(launchlayer.View, imagetest.Symlink(imagetest.View+"/more", "../run"))
		},
		"a link of the view less": func(f *imagetest.Image) { f.Remove(viewLink(f, f.Lib)) },
		"the view a link": func(f *imagetest.Image) {
			f.AddLayer("forged", append(copied(f, imagetest.View, "/v"), imagetest.Symlink(imagetest.View, "/v"))...)
		},
		"an absolute link in": func(f *imagetest.Image) { f.Must(path.Join(path.Dir(f.AppFile), "zz")).Linkname = "/usr/bin/env" },
		"a name with dots": func(f *imagetest.Image) {
			f.AddLayer("forged", evil("/workspace/../"+strings.TrimPrefix(f.AppFile, "/")))
		},
		"a relative name":          func(f *imagetest.Image) { f.AddLayer("forged", evil("./"+strings.TrimPrefix(f.AppFile, "/"))) },
		"a name with more slashes": func(f *imagetest.Image) { f.AddLayer("forged", evil("/"+f.AppFile)) },
		"a second entry of a name": func(f *imagetest.Image) {
			_, layer := f.Find(f.AppFile)
			layer.Entries = append(layer.Entries, evil(f.AppFile))
		},
		"a name that PAX overrides": func(f *imagetest.Image) {
			e := evil("/workspace/harmless")
			e.PAXRecords, e.Format = map[string]string{"comment": "x"}, tar.FormatPAX
			e.Name = f.AppFile + strings.Repeat("", 200)
			f.AddLayer("forged", e)
		},
		"a long name as GNU writes it": func(f *imagetest.Image) {
			e := evil("/layers/nixproot_nix-hydra/" + strings.Repeat("long/", 40) + "name")
			e.Format = tar.FormatGNU
			f.AddLayer("forged", e)
		},
		"a device":        func(f *imagetest.Image) { f.AddLayer("forged", imagetest.Special(f.AppFile, tar.TypeChar)) },
		"a named pipe":    func(f *imagetest.Image) { f.AddLayer("forged", imagetest.Special(f.AppFile, tar.TypeFifo)) },
		"a device beside": last(imagetest.Special(imagetest.Dir+"/run/device", tar.TypeChar)),
		"records that are a link": func(f *imagetest.Image) {
			f.AddLayer("forged", imagetest.Symlink(f.NamesWith(closure.PathsName)[0], "/dev/zero"))
		},
		"records that are a pipe": func(f *imagetest.Image) {
			f.AddLayer("forged", imagetest.Special(f.NamesWith(closure.PathsName)[0], tar.TypeFifo))
		},
		"records with other bytes": records(func(r map[string]any) { r["narHash"] = "sha256:" + strings.Repeat("0", 52) }),
		"records of another size":  records(func(r map[string]any) { r["narSize"] = 7 }),
		"records without signatures": records(func(r map[string]any) {
			delete(r, "signatures")
		}),
		"records with a key nobody knows": records(func(r map[string]any) {
			r["signatures"] = []string{strings.Replace(r["signatures"].([]any)[0].(string), "forged-1", "forged-2", 1)}
		}),
		"records with a made-up address": records(func(r map[string]any) {
			delete(r, "signatures")
			r["ca"] = "fixed:r:sha256:" + strings.Repeat("0", 52)
		}),
		"records with other references": records(func(r map[string]any) { r["references"] = []string{} }),
		"records with a fixup that hides": func(f *imagetest.Image) {
			alter(f)
			records(func(r map[string]any) {
				r["fixups"] = []any{map[string]any{"file": "bin/app", "offset": 0, "was": []byte("#")}}
			})(f)
		},
		"records of a path that is gone": func(f *imagetest.Image) { f.Remove(path.Dir(path.Dir(f.AppFile))) },
		"a path without its record": func(f *imagetest.Image) {
			for _, name := range f.NamesWith("/" + closure.PathsName) {
				f.Replace(name, fmt.Sprintf(`{"format":%d,"prefix":%q,"paths":[]}`, closure.Format, imagetest.View), "")
			}
		},
		"a process type": func(f *imagetest.Image) {
			f.SetProcess(lifecycle.Process{Type: "web", Command: []any{"/usr/bin/env"}, Args: []string{"evil"}, Direct: true,
				BuildpackID: launchlayer.BuildpackID}, true)
		},
		"a process type's line": func(f *imagetest.Image) {
			f.SetProcess(lifecycle.Process{Type: "web", Command: []any{
				imagetest.Dir + "/launcher/bin/nix-hydra-launch", "--process", "run_proot.sh app; evil",
			}, Args: []string{}, Direct: true, BuildpackID: launchlayer.BuildpackID}, true)
		},
		"a process type's arguments": func(f *imagetest.Image) {
			f.SetProcess(lifecycle.Process{Type: "web", Command: []any{
				imagetest.Dir + "/launcher/bin/nix-hydra-launch", "--process", "run_proot.sh app",
			}, Args: []string{"evil"}, Direct: true, BuildpackID: launchlayer.BuildpackID}, true)
		},
		"a process type of another buildpack": func(f *imagetest.Image) {
			f.SetProcess(lifecycle.Process{Type: "web", Command: []any{"/bin/sh"}, Direct: true, BuildpackID: "evil/evil"}, true)
		},
		"a process type in another directory": func(f *imagetest.Image) {
			f.SetProcess(lifecycle.Process{Type: "web", Command: []any{
				imagetest.Dir + "/launcher/bin/nix-hydra-launch", "--process", "run_proot.sh app",
			}, Direct: true, BuildpackID: launchlayer.BuildpackID, WorkingDir: "/tmp"}, true)
		},
		"a process type that is spelled otherwise": func(f *imagetest.Image) {
			e := f.Must("/layers/config/metadata.toml")
			f.Replace(e.Name, e.Body+"\n[[Processes]]\ntype = \"web\"\ncommand = [\"/usr/bin/env\"]\n", "")
		},
		"a process type's command that is spelled otherwise": func(f *imagetest.Image) {
			e := f.Must("/layers/config/metadata.toml")
			f.Replace(e.Name, strings.Replace(e.Body, "  command", "  Command = [\"/usr/bin/env\"]\n  command", 1), "")
		},
		"a buildpack whose directory is the bill of materials'": func(f *imagetest.Image) {
			e := f.Must("/layers/config/metadata.toml")
			f.Replace(e.Name, e.Body+"\n[[buildpacks]]\nid = \"sbom\"\n", "")
			f.Append("sbom", imagetest.Regular("/layers/sbom/launch/env.launch/LD_PRELOAD.override", "/workspace/evil.so", 0o644))
		},
		"a buildpack whose directory is that of all layers": func(f *imagetest.Image) {
			e := f.Must("/layers/config/metadata.toml")
			f.Replace(e.Name, e.Body+"\n[[buildpacks]]\nid = \"\"\n", "")
			f.Append("sbom", evil("/layers/sbom/exec.d/evil"))
		},
		"a process's link":            last(imagetest.Symlink("/cnb/process/web", "/usr/bin/env")),
		"a process's link more":       last(imagetest.Symlink("/cnb/process/env", "/usr/bin/env")),
		"a program on PATH":           last(evil("/cnb/lifecycle/env")),
		"the lifecycle's launcher":    func(f *imagetest.Image) { f.Remove("/cnb/lifecycle/launcher") },
		"no lifecycle at all":         func(f *imagetest.Image) { f.Remove("/cnb") },
		"the lifecycle a link":        last(evil("/evil/launcher"), imagetest.Symlink("/cnb/lifecycle", "/evil")),
		"the process types":           last(imagetest.Regular("/layers/config/metadata.toml", "[[processes]]\n", 0o644)),
		"the process types a link":    last(imagetest.Symlink("/layers/config/metadata.toml", "/workspace/metadata.toml")),
		"the config directory a link": last(imagetest.Symlink("/layers/config", "/workspace")),
		"the imagetest.Entrypoint":    func(f *imagetest.Image) { f.Config.Entrypoint = []string{"/bin/sh", "-c", "evil"} },
		"no entrypoint":               func(f *imagetest.Image) { f.Config.Entrypoint, f.Config.Cmd = nil, []string{"/bin/sh"} },
		"the command":                 func(f *imagetest.Image) { f.Config.Cmd = []string{"--evil"} },
		"the user":                    func(f *imagetest.Image) { f.Config.User = "0:1000" },
		"the user with a sign":        func(f *imagetest.Image) { f.Config.User = "+0:1000" },
		"the working directory":       func(f *imagetest.Image) { f.Config.WorkingDir = "/tmp" },
		"a health check": func(f *imagetest.Image) {
			f.Config.Healthcheck = &v1.HealthConfig{Test: []string{"CMD-SHELL", "evil"}}
		},
		"a volume":          func(f *imagetest.Image) { f.Config.Volumes = map[string]struct{}{imagetest.Dir + "/run": {}} },
		"LD_PRELOAD":        env("LD_PRELOAD=/workspace/evil.so"),
		"BPL_NIX_ENGINE":    env("BPL_NIX_ENGINE=native"),
		"NIX_HYDRA_LAUNCH":  env("NIX_HYDRA_LAUNCH=/workspace/config.json"),
		"BASH_ENV":          env("BASH_ENV=/workspace/evil"),
		"PYTHONPATH":        env("PYTHONPATH=/workspace"),
		"PATH":              func(f *imagetest.Image) { f.Config.Env[0] = "PATH=/workspace:/cnb/process:/cnb/lifecycle:/usr/bin" },
		"PATH's end":        func(f *imagetest.Image) { f.Config.Env[0] += ":/workspace" },
		"PATH's empty part": func(f *imagetest.Image) { f.Config.Env[0] += ":" },
		"the label": func(f *imagetest.Image) {
			f.Label = func(s string) string { return strings.Replace(s, "closure-", "closure-x", 1) }
		},
		"the label gone":      func(f *imagetest.Image) { f.Label = func(string) string { return "" } },
		"the label nonsense":  func(f *imagetest.Image) { f.Label = func(string) string { return "{" } },
		"the launcher":        func(f *imagetest.Image) { f.Replace(imagetest.Dir+"/launcher/bin/nix-hydra-launch", "evil", "") },
		"the launcher's mode": func(f *imagetest.Image) { f.Must(imagetest.Dir + "/launcher/bin/nix-hydra-launch").Mode = 0o6755 },
		"the launcher a link": last(evil("/evil"), imagetest.Symlink(imagetest.Dir+"/launcher/bin/nix-hydra-launch", "/evil")),
		"run_proot.sh":        func(f *imagetest.Image) { f.Must(imagetest.Dir + "/launcher/bin/run_proot.sh").Linkname = "/bin/sh" },
		"a program beside it": func(f *imagetest.Image) { f.Append(launchlayer.Launcher, evil(imagetest.Dir+"/launcher/bin/app")) },
		"the launcher's configuration": func(f *imagetest.Image) {
			e := f.Must(imagetest.Dir + "/run/nix-hydra.json")
			f.Replace(e.Name, strings.NewReplacer(path.Dir(f.AppFile), "/workspace/bin", f.App.String()+"/bin", "/workspace/bin").Replace(e.Body), "")
		},
		"the launcher's view": func(f *imagetest.Image) {
			e := f.Must(imagetest.Dir + "/run/nix-hydra.json")
			f.Replace(e.Name, strings.Replace(e.Body, imagetest.View, "/workspace", 1), "")
		},
		"the launcher's shell": func(f *imagetest.Image) {
			e := f.Must(imagetest.Dir + "/run/nix-hydra.json")
			f.Replace(e.Name, strings.Replace(e.Body, "{", `{"shell": "/workspace/bin/sh",`, 1), "")
		},
		"the launcher's roots": func(f *imagetest.Image) {
			e := f.Must(imagetest.Dir + "/run/nix-hydra.json")
			f.Replace(e.Name, strings.Replace(e.Body, f.App.String(), f.App.String()+"x", 1), "")
		},
		"the launcher's defaults": func(f *imagetest.Image) {
			config := f.LaunchConfig()
			config.Defaults = []launch.EnvDefault{{Variables: []string{"LD_PRELOAD"}, Value: "/workspace/evil.so"}}
			f.SetLaunchConfig(config)
		},
		"a default's value": func(f *imagetest.Image) {
			config := f.LaunchConfig()
			shell := launchlayer.Resources()[len(launchlayer.Resources())-1].Default("/workspace/bin/sh")
			config.Defaults = []launch.EnvDefault{shell}
			f.SetLaunchConfig(config)
		},
		"a PRoot that is gone": func(f *imagetest.Image) {
			config := f.LaunchConfig()
			config.PRoot = imagetest.Dir + "/proot/bin/proot"
			f.SetLaunchConfig(config)
			f.Append(launchlayer.Run, imagetest.Directory(imagetest.Dir+"/proot"), imagetest.Directory(imagetest.Dir+"/proot/bin"))
		},
		"where the launcher looks": func(f *imagetest.Image) {
			f.Replace(imagetest.Dir+"/run/env.launch/NIX_HYDRA_LAUNCH.override", "/workspace/evil.json", "")
		},
		"a variable at launch": func(f *imagetest.Image) {
			f.Append(launchlayer.Run, imagetest.Regular(imagetest.Dir+"/run/env.launch/LD_PRELOAD.override", "/e", 0o644))
		},
		"a variable of a type": func(f *imagetest.Image) {
			f.Append(launchlayer.Run, imagetest.Regular(imagetest.Dir+"/run/env.launch/web/X.override", "/e", 0o644))
		},
		"exec.d": func(f *imagetest.Image) { f.Append(launchlayer.Launcher, evil(imagetest.Dir+"/launcher/exec.d/evil")) },
		"exec.d of the closure": func(f *imagetest.Image) {
			f.AddLayer("forged", evil(path.Dir(path.Dir(path.Dir(f.AppFile)))+"/exec.d/evil"))
		},
		"profile.d":              func(f *imagetest.Image) { f.Append(launchlayer.Run, evil(imagetest.Dir+"/run/profile.d/evil.sh")) },
		"a layer of ours more":   last(imagetest.Directory(imagetest.Dir+"/evil"), evil(imagetest.Dir+"/evil/exec.d/evil")),
		"env of another":         last(imagetest.Directory("/layers/evil_evil"), imagetest.Regular("/layers/evil_evil/x/env/LD_PRELOAD", "/e", 0o644)),
		"a closure of another":   last(imagetest.Directory("/layers/evil_evil"), evil("/layers/evil_evil/closure-00/paths.json")),
		"a layer missing":        func(f *imagetest.Image) { f.Layers = append(f.Layers[:1], f.Layers[2:]...) },
		"a layer more":           last(imagetest.Directory("/workspace"), imagetest.Regular("/workspace/x", "", 0o644)),
		"a layer cut":            func(f *imagetest.Image) { f.Layers[1].Cut = true },
		"a layer below the rest": func(f *imagetest.Image) { f.Layers[0], f.Layers[1] = f.Layers[1], f.Layers[0] },
		"ld.so.preload":          last(imagetest.Regular("/etc/ld.so.preload", "/workspace/evil.so\n", 0o644)),
		"a file of the run image": func(f *imagetest.Image) {
			f.AddLayer("forged", evil("/usr/bin/env"))
		},
		"the run image's libraries": last(imagetest.Directory("/lib"), evil("/lib/ld-linux.so.2")),
		"a store of its own": func(f *imagetest.Image) {
			f.AddLayer("forged", append(copied(f, path.Dir(path.Dir(f.AppFile)), f.App.String()), imagetest.Directory("/nix"))...)
		},
	}
}

func testAltered(t *testing.T, it spec.S, made map[string]*imagetest.Image) {
	var g *WithT
	it.Before(func() { RegisterTestingT(t); g = NewWithT(t) })

	all := alterations()
	for _, name := range slices.Sorted(maps.Keys(all)) { // a case is known by its place
		alter := all[name]
		it(fmt.Sprintf("does not call %s intact", name), func() {
			for _, engine := range []string{launch.EngineRelocate, launch.Unrelocated} {
				if made[engine] == nil {
					made[engine] = imagetest.New(t, engine)
				}
				// Whoever can write an image can write its label too.
				for _, relabel := range []bool{false, name != "a layer more"} {
					report, out := verifyImage(made[engine].Clone(t), func(f *imagetest.Image) {
						alter(f)
						f.Relabel = relabel
					})
					g.Expect(intact(report)).To(BeFalse(), "%s %t: %s", engine, relabel, out)
				}
			}
		})
	}

	further := furtherAlterations()
	for _, says := range slices.Sorted(maps.Keys(further)) {
		group := further[says]
		for _, name := range slices.Sorted(maps.Keys(group)) {
			it(fmt.Sprintf("does not call %q intact, but says %q", name, says), func() {
				for _, engine := range []string{launch.EngineRelocate, launch.Unrelocated} {
					if made[engine] == nil {
						made[engine] = imagetest.New(t, engine)
					}
					report, out := verifyImage(made[engine].Clone(t), func(f *imagetest.Image) {
						group[name](f)
						f.Relabel = true
					})
					g.Expect(intact(report)).To(BeFalse(), "%s: %s", engine, out)
					g.Expect(out).To(ContainSubstring(says), engine)
				}
			})
		}
	}

	formats := formatAlterations()
	for _, says := range slices.Sorted(maps.Keys(formats)) {
		group := formats[says]
		for _, name := range slices.Sorted(maps.Keys(group)) {
			it(fmt.Sprintf("does not call %q intact, but says %q", name, says), func() {
				if made[launch.EngineRelocate] == nil {
					made[launch.EngineRelocate] = imagetest.New(t, launch.EngineRelocate)
				}
				report, out := verifyImage(made[launch.EngineRelocate].Clone(t), func(f *imagetest.Image) {
					group[name](f)
					f.Relabel = true
				})
				g.Expect(intact(report)).To(BeFalse(), out)
				g.Expect(out).To(ContainSubstring(says))
			})
		}
	}

	it("knows at least 350 ways", func() {
		n := len(alterations())
		for _, groups := range []map[string]map[string]func(*imagetest.Image){furtherAlterations(), formats} {
			for _, group := range groups {
				n += len(group)
			}
		}
		g.Expect(n).To(BeNumerically(">=", 350))
	})
}
