package nixproot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

func TestVerify(t *testing.T) {
	suite := spec.New("verify")
	suite("Intact", testIntact)
	made := map[string]*forged{} // by engine; a spec's function is called once more for each of its cases
	suite("Altered", func(t *testing.T, _ spec.G, it spec.S) { testAltered(t, it, made) })
	suite("Directory", testVerifyDirectory)
	suite("BuildTime", testVerifyBuildTime)
	suite("Interrupted", testInterrupted)
	suite.Run(t)
}

func testIntact(t *testing.T, _ spec.G, it spec.S) {
	var g *WithT
	it.Before(func() { RegisterTestingT(t); g = NewWithT(t) })

	for _, engine := range []string{launch.EngineRelocate, launch.Unrelocated} {
		it("calls an image intact that nobody altered, "+engine, func() {
			code, out := forge(t, engine).verify(nil)
			g.Expect(code).To(Equal(verifyIntact), out)
			g.Expect(out).To(And(ContainSubstring("3 store paths: 3 intact and signed, 0 altered"),
				ContainSubstring("process   web: "), ContainSubstring("not the run image (up to layer sha256:")))
		})
	}

	it("takes the user's word for what no build makes", func() {
		f := forge(t, launch.EngineRelocate)
		other := func(f *forged) {
			f.run("forged", dir("/layers/acme_ca"), dir("/layers/acme_ca/env"), file("/layers/acme_ca/env/SSL_CERT_DIR", "/x", 0o644))
			f.config.Env = append(f.config.Env, "FOO=bar")
			f.relabel = true
		}
		code, out := f.verify(other, "--accept", "/layers/acme_ca", "--accept", "FOO")
		g.Expect(code).To(Equal(verifyIntact), out)
		g.Expect(out).To(ContainSubstring("not /layers/acme_ca (--accept)"))
	})

	it("compares roots and launchers with those that the user names", func() {
		for _, option := range []string{"--launcher", "--lifecycle"} {
			code, out := forge(t, launch.EngineRelocate).verify(nil, option, strings.Repeat("0", 64))
			g.Expect(code).To(Equal(verifyAltered), out)
			g.Expect(out).To(ContainSubstring(option + " says"))
		}
		f := forge(t, launch.EngineRelocate)
		code, out := f.verify(nil, "--root", f.app.String())
		g.Expect(code).To(Equal(verifyIntact), out)
		code, out = forge(t, launch.EngineRelocate).verify(nil, "--root", f.lib.String())
		g.Expect(code).To(Equal(verifyAltered), out)
	})

	it("cannot tell about a launcher of another version, and says so", func() {
		f := forge(t, launch.EngineRelocate)
		g.Expect(os.WriteFile(filepath.Join(f.bin, "launch"), []byte("another version's"), 0o755)).To(Succeed())
		code, out := f.verify(nil)
		g.Expect(code).To(Equal(verifyAltered), out)
		g.Expect(out).To(MatchRegexp(`(?m)^UNKNOWN .*nix-hydra-launch: its digest is `))
	})
}

// alterations are ways to change an image so that it does not run what was signed, or runs it otherwise.
func alterations() map[string]func(*forged) {
	evil := func(name string) entry { return file(name, "#!/bin/sh\nevil\n", 0o555) }
	// in alters the layer itself, as whoever can push one does.
	alter := func(f *forged) { f.must(f.appFile).body = strings.Replace(f.must(f.appFile).body, "\n", "!", 1) }
	copied := func(f *forged, from, to string) []entry {
		var all []entry
		for _, layer := range f.layers {
			for _, e := range layer.entries {
				if below(e.Name, from) {
					e.Name = to + strings.TrimPrefix(e.Name, from)
					all = append(all, e)
				}
			}
		}
		return all
	}
	last := func(entries ...entry) func(*forged) { return func(f *forged) { f.run("forged", entries...) } }
	records := func(change func(map[string]any)) func(*forged) {
		return func(f *forged) {
			for _, name := range f.withName("/" + closure.RecordsName) {
				e := f.must(name)
				var all map[string]any
				Expect(json.Unmarshal([]byte(e.body), &all)).To(Succeed())
				for _, r := range all["paths"].([]any) {
					change(r.(map[string]any))
				}
				raw, err := json.Marshal(all)
				Expect(err).NotTo(HaveOccurred())
				f.replace(name, string(raw), "")
			}
		}
	}
	env := func(variables ...string) func(*forged) {
		return func(f *forged) { f.config.Env = append(f.config.Env, variables...) }
	}
	viewLink := func(f *forged, p string) string {
		for _, name := range f.withName(forgedView + "/") {
			if strings.HasSuffix(f.must(name).Linkname, p) {
				return name
			}
		}
		f.t.Fatal("no link to ", p)
		return ""
	}
	return map[string]func(*forged){
		"a byte": alter,
		"a decoy folder in a later layer": func(f *forged) {
			decoy := copied(f, forgedDir, "/layers/decoy")
			alter(f)
			f.run("forged", decoy...)
		},
		"the parent replaced by a link": func(f *forged) {
			elsewhere := copied(f, forgedDir, "/elsewhere")
			for i, e := range elsewhere {
				if strings.HasSuffix(e.Name, "bin/app") {
					elsewhere[i].body = strings.Replace(e.body, "\n", "!", 1)
				}
			}
			f.run("forged", append(elsewhere, link(forgedDir, "/elsewhere"))...)
		},
		"all layers replaced by a link to an intact copy": func(f *forged) {
			f.run("forged", append(copied(f, "/layers", "/elsewhere"), link("/layers", "/elsewhere"))...)
		},
		"CNB_LAYERS_DIR with an intact copy": func(f *forged) {
			decoy := copied(f, "/layers", "/decoy")
			alter(f)
			f.run("forged", decoy...)
			f.config.Env = append(f.config.Env[:1], "CNB_LAYERS_DIR=/decoy", "CNB_APP_DIR=/workspace")
		},
		"CNB_LAYERS_DIR twice":       env("CNB_LAYERS_DIR=/layers"),
		"CNB_APP_DIR over the image": func(f *forged) { f.config.Env[2] = "CNB_APP_DIR=/"; f.config.WorkingDir = "/" },
		"a file removed by a whiteout": func(f *forged) {
			f.run("forged", file(path.Join(path.Dir(f.appFile), ".wh.app"), "", 0o644))
		},
		"a path removed by a whiteout": func(f *forged) {
			place := path.Dir(path.Dir(f.appFile))
			f.run("forged", file(path.Join(path.Dir(place), ".wh."+path.Base(place)), "", 0o644))
		},
		"an opaque folder": func(f *forged) {
			f.run("forged", dir(path.Dir(f.appFile)), file(path.Join(path.Dir(f.appFile), ".wh..wh..opq"), "", 0o644))
		},
		"an opaque layers folder": last(dir(forgedDir), file(forgedDir+"/.wh..wh..opq", "", 0o644)),
		"a hard link to another file": func(f *forged) {
			f.run("forged", evil("/tmp/evil"), hardLink(f.appFile, "/tmp/evil"))
		},
		"a hard link to a file through a link": func(f *forged) {
			f.run("forged", link("/tmp/out", "/layers/nixproot_nix-hydra/launcher/bin"),
				hardLink(f.appFile, "/tmp/out/nix-hydra-launch"))
		},
		"a file replaced by a folder": func(f *forged) { f.run("forged", dir(f.appFile)) },
		"a file replaced by a link":   func(f *forged) { f.run("forged", link(f.appFile, "/usr/bin/env")) },
		"a folder replaced by a file": func(f *forged) { f.run("forged", evil(path.Dir(f.appFile))) },
		"a path replaced by a link": func(f *forged) {
			place := path.Dir(path.Dir(f.appFile))
			f.run("forged", append(copied(f, place, "/copy"), link(place, "/copy"))...)
		},
		"a layer replaced by a link": func(f *forged) {
			place := path.Dir(path.Dir(path.Dir(f.appFile)))
			f.run("forged", append(copied(f, place, "/copy"), link(place, "/copy"))...)
		},
		"a file written through a link": func(f *forged) {
			f.run("forged", link("/door", path.Dir(f.appFile)), evil("/door/app"))
		},
		"a file written through links in the run image": func(f *forged) {
			f.first(link("/a", "b/../b"), link("/b", "/layers"))
			f.run("forged", evil("/a/"+strings.TrimPrefix(f.appFile, "/layers/")))
		},
		"a file below a link that a runtime may take for a directory": func(f *forged) {
			good := *f.must(f.appFile)
			f.run("forged", evil(path.Join(viewLink(f, f.app.Base()), "bin/app")), good)
		},
		"an attribute that merges another directory": func(f *forged) {
			f.first(dir("/decoy"), evil("/decoy/more"))
			e := dir(path.Dir(f.appFile))
			e.Mode = 0o555
			e.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/decoy"}
			f.run("forged", e)
		},
		"an attribute that merges another directory into the layers": func(f *forged) {
			f.first(dir("/decoy"), evil("/decoy/evil/exec.d/evil"))
			e := dir(forgedDir)
			e.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/decoy"}
			f.run("forged", e)
		},
		"an attribute that hides the run image's files": func(f *forged) {
			e := dir("/etc")
			e.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}
			f.run("forged", e)
		},
		"a folder of the run image that anybody may fill": func(f *forged) {
			e := dir("/usr/bin")
			e.Mode = 0o777
			f.run("forged", e)
		},
		"a removal after a thousand harmless ones": func(f *forged) {
			var many []entry
			for i := range 1200 {
				many = append(many, file(fmt.Sprintf("/tmp/.wh.%d", i), "", 0o644))
			}
			f.first(many...)
			good := *f.must(f.appFile)
			f.run("forged", file(path.Join(path.Dir(f.appFile), ".wh.app"), "", 0o644), good)
		},
		"a hard link that gives a program more rights": func(f *forged) {
			e := hardLink("/workspace/harmless", f.appFile)
			e.Mode, e.Uid = 0o4555, 0
			for i := range f.layers {
				if slices.ContainsFunc(f.layers[i].entries, func(e entry) bool { return e.Name == f.appFile }) {
					f.layers[i].entries = append(f.layers[i].entries, e)
				}
			}
		},
		"setuid":                    func(f *forged) { f.must(f.appFile).Mode = 0o4555 },
		"writable by others":        func(f *forged) { f.must(f.appFile).Mode = 0o777 },
		"the exec bit lost":         func(f *forged) { f.must(f.appFile).Mode = 0o444 },
		"unreadable":                func(f *forged) { f.must(f.appFile).Mode = 0o500 },
		"a folder nobody may enter": func(f *forged) { f.must(path.Dir(f.appFile)).Mode = 0o444 },
		"a program to its owner":    func(f *forged) { f.must(f.appFile).Mode = 0o544 },
		"a folder anybody may fill": func(f *forged) { f.must(path.Dir(f.appFile)).Mode = 0o777 },
		"capabilities": func(f *forged) {
			f.must(f.appFile).PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
		},
		"a file more in a path": func(f *forged) { f.run("forged", evil(path.Join(path.Dir(f.appFile), "more"))) },
		"a file beside the paths": func(f *forged) {
			f.run("forged", evil(path.Join(path.Dir(path.Dir(path.Dir(f.appFile))), "lib", "libc.so")))
		},
		"a link of the view to elsewhere": func(f *forged) { f.must(viewLink(f, f.app.Base())).Linkname = "/tmp" },
		"a link of the view to another path": func(f *forged) {
			f.must(viewLink(f, f.lib.Base())).Linkname = f.must(viewLink(f, f.app.Base())).Linkname
		},
		"a link of the view up and out": func(f *forged) {
			e := f.must(viewLink(f, f.app.Base()))
			e.Linkname = "../../../" + strings.TrimPrefix(path.Join(forgedView, e.Linkname), "/")
		},
		"a link of the view more":  func(f *forged) { f.append(viewLayer, link(forgedView+"/more", "../run")) },
		"a link of the view less":  func(f *forged) { f.remove(viewLink(f, f.lib.Base())) },
		"the view a link":          func(f *forged) { f.run("forged", append(copied(f, forgedView, "/v"), link(forgedView, "/v"))...) },
		"an absolute link in":      func(f *forged) { f.must(path.Join(path.Dir(f.appFile), "zz")).Linkname = "/usr/bin/env" },
		"a name with dots":         func(f *forged) { f.run("forged", evil("/workspace/../"+strings.TrimPrefix(f.appFile, "/"))) },
		"a relative name":          func(f *forged) { f.run("forged", evil("./"+strings.TrimPrefix(f.appFile, "/"))) },
		"a name with more slashes": func(f *forged) { f.run("forged", evil("/"+f.appFile)) },
		"a second entry of a name": func(f *forged) {
			_, layer := f.find(f.appFile)
			layer.entries = append(layer.entries, evil(f.appFile))
		},
		"a name that PAX overrides": func(f *forged) {
			e := evil("/workspace/harmless")
			e.PAXRecords, e.Format = map[string]string{"comment": "x"}, tar.FormatPAX
			e.Name = f.appFile + strings.Repeat("", 200)
			f.run("forged", e)
		},
		"a long name as GNU writes it": func(f *forged) {
			e := evil("/layers/nixproot_nix-hydra/" + strings.Repeat("long/", 40) + "name")
			e.Format = tar.FormatGNU
			f.run("forged", e)
		},
		"a device":                 func(f *forged) { f.run("forged", special(f.appFile, tar.TypeChar)) },
		"a named pipe":             func(f *forged) { f.run("forged", special(f.appFile, tar.TypeFifo)) },
		"a device beside":          last(special(forgedDir+"/run/device", tar.TypeChar)),
		"records that are a link":  func(f *forged) { f.run("forged", link(f.withName(closure.RecordsName)[0], "/dev/zero")) },
		"records that are a pipe":  func(f *forged) { f.run("forged", special(f.withName(closure.RecordsName)[0], tar.TypeFifo)) },
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
		"records with a fixup that hides": func(f *forged) {
			alter(f)
			records(func(r map[string]any) {
				r["fixups"] = []any{map[string]any{"file": "bin/app", "offset": 0, "was": []byte("#")}}
				r["mends"] = r["fixups"]
			})(f)
		},
		"records of a path that is gone": func(f *forged) { f.remove(path.Dir(path.Dir(f.appFile))) },
		"a path without its record": func(f *forged) {
			for _, name := range f.withName("/" + closure.RecordsName) {
				f.replace(name, fmt.Sprintf(`{"format":%d,"prefix":%q,"paths":[]}`, closure.Format, forgedView), "")
			}
		},
		"a process type": func(f *forged) {
			f.processes(process{Type: "web", Command: []any{"/usr/bin/env"}, Args: []string{"evil"}, Direct: true,
				BuildpackID: buildpackID}, true)
		},
		"a process type's line": func(f *forged) {
			f.processes(process{Type: "web", Command: []any{
				forgedDir + "/launcher/bin/nix-hydra-launch", "--process", "run_proot.sh app; evil",
			}, Args: []string{}, Direct: true, BuildpackID: buildpackID}, true)
		},
		"a process type's arguments": func(f *forged) {
			f.processes(process{Type: "web", Command: []any{
				forgedDir + "/launcher/bin/nix-hydra-launch", "--process", "run_proot.sh app",
			}, Args: []string{"evil"}, Direct: true, BuildpackID: buildpackID}, true)
		},
		"a process type of another buildpack": func(f *forged) {
			f.processes(process{Type: "web", Command: []any{"/bin/sh"}, Direct: true, BuildpackID: "evil/evil"}, true)
		},
		"a process type in another folder": func(f *forged) {
			f.processes(process{Type: "web", Command: []any{
				forgedDir + "/launcher/bin/nix-hydra-launch", "--process", "run_proot.sh app",
			}, Direct: true, BuildpackID: buildpackID, WorkingDir: "/tmp"}, true)
		},
		"a process type that is spelled otherwise": func(f *forged) {
			e := f.must("/layers/config/metadata.toml")
			f.replace(e.Name, e.body+"\n[[Processes]]\ntype = \"web\"\ncommand = [\"/usr/bin/env\"]\n", "")
		},
		"a process type's command that is spelled otherwise": func(f *forged) {
			e := f.must("/layers/config/metadata.toml")
			f.replace(e.Name, strings.Replace(e.body, "  command", "  Command = [\"/usr/bin/env\"]\n  command", 1), "")
		},
		"a buildpack whose directory is the bill of materials'": func(f *forged) {
			e := f.must("/layers/config/metadata.toml")
			f.replace(e.Name, e.body+"\n[[buildpacks]]\nid = \"sbom\"\n", "")
			f.append("sbom", file("/layers/sbom/launch/env.launch/LD_PRELOAD.override", "/workspace/evil.so", 0o644))
		},
		"a buildpack whose directory is that of all layers": func(f *forged) {
			e := f.must("/layers/config/metadata.toml")
			f.replace(e.Name, e.body+"\n[[buildpacks]]\nid = \"\"\n", "")
			f.append("sbom", evil("/layers/sbom/exec.d/evil"))
		},
		"a process's link":         last(link("/cnb/process/web", "/usr/bin/env")),
		"a process's link more":    last(link("/cnb/process/env", "/usr/bin/env")),
		"a program on PATH":        last(evil("/cnb/lifecycle/env")),
		"the lifecycle's launcher": func(f *forged) { f.remove("/cnb/lifecycle/launcher") },
		"the lifecycle a link":     last(evil("/evil/launcher"), link("/cnb/lifecycle", "/evil")),
		"the process types":        last(file("/layers/config/metadata.toml", "[[processes]]\n", 0o644)),
		"the process types a link": last(link("/layers/config/metadata.toml", "/workspace/metadata.toml")),
		"the config folder a link": last(link("/layers/config", "/workspace")),
		"the entrypoint":           func(f *forged) { f.config.Entrypoint = []string{"/bin/sh", "-c", "evil"} },
		"no entrypoint":            func(f *forged) { f.config.Entrypoint, f.config.Cmd = nil, []string{"/bin/sh"} },
		"the command":              func(f *forged) { f.config.Cmd = []string{"--evil"} },
		"the user":                 func(f *forged) { f.config.User = "0:1000" },
		"the user with a sign":     func(f *forged) { f.config.User = "+0:1000" },
		"the working directory":    func(f *forged) { f.config.WorkingDir = "/tmp" },
		"a health check": func(f *forged) {
			f.config.Healthcheck = &v1.HealthConfig{Test: []string{"CMD-SHELL", "evil"}}
		},
		"a volume":          func(f *forged) { f.config.Volumes = map[string]struct{}{forgedDir + "/run": {}} },
		"LD_PRELOAD":        env("LD_PRELOAD=/workspace/evil.so"),
		"BPL_NIX_ENGINE":    env("BPL_NIX_ENGINE=native"),
		"NIX_HYDRA_LAUNCH":  env("NIX_HYDRA_LAUNCH=/workspace/config.json"),
		"BASH_ENV":          env("BASH_ENV=/workspace/evil"),
		"PYTHONPATH":        env("PYTHONPATH=/workspace"),
		"PATH":              func(f *forged) { f.config.Env[0] = "PATH=/workspace:/cnb/process:/cnb/lifecycle:/usr/bin" },
		"PATH's end":        func(f *forged) { f.config.Env[0] += ":/workspace" },
		"PATH's empty part": func(f *forged) { f.config.Env[0] += ":" },
		"the label": func(f *forged) {
			f.label = func(s string) string { return strings.Replace(s, "closure-", "closure-x", 1) }
		},
		"the label gone":      func(f *forged) { f.label = func(string) string { return "" } },
		"the label nonsense":  func(f *forged) { f.label = func(string) string { return "{" } },
		"the launcher":        func(f *forged) { f.replace(forgedDir+"/launcher/bin/nix-hydra-launch", "evil", "") },
		"the launcher's mode": func(f *forged) { f.must(forgedDir + "/launcher/bin/nix-hydra-launch").Mode = 0o6755 },
		"the launcher a link": last(evil("/evil"), link(forgedDir+"/launcher/bin/nix-hydra-launch", "/evil")),
		"run_proot.sh":        func(f *forged) { f.must(forgedDir + "/launcher/bin/run_proot.sh").Linkname = "/bin/sh" },
		"a program beside it": func(f *forged) { f.append(launcherLayer, evil(forgedDir+"/launcher/bin/app")) },
		"the launcher's configuration": func(f *forged) {
			e := f.must(forgedDir + "/run/nix-hydra.json")
			f.replace(e.Name, strings.NewReplacer(path.Dir(f.appFile), "/workspace/bin", f.app.String()+"/bin", "/workspace/bin").Replace(e.body), "")
		},
		"the launcher's view": func(f *forged) {
			e := f.must(forgedDir + "/run/nix-hydra.json")
			f.replace(e.Name, strings.Replace(e.body, forgedView, "/workspace", 1), "")
		},
		"the launcher's shell": func(f *forged) {
			e := f.must(forgedDir + "/run/nix-hydra.json")
			f.replace(e.Name, strings.Replace(e.body, "{", `{"shell": "/workspace/bin/sh",`, 1), "")
		},
		"the launcher's roots": func(f *forged) {
			e := f.must(forgedDir + "/run/nix-hydra.json")
			f.replace(e.Name, strings.Replace(e.body, f.app.String(), f.app.String()+"x", 1), "")
		},
		"the launcher's defaults": func(f *forged) {
			config := f.configuration()
			config.Defaults = []launch.EnvDefault{{Variables: []string{"LD_PRELOAD"}, Value: "/workspace/evil.so"}}
			f.configure(config)
		},
		"a default's value": func(f *forged) {
			config := f.configuration()
			shell := resources()[len(resources())-1].standard
			shell.Value = "/workspace/bin/sh"
			config.Defaults = []launch.EnvDefault{shell}
			f.configure(config)
		},
		"a PRoot that is gone": func(f *forged) {
			config := f.configuration()
			config.PRoot = forgedDir + "/proot/bin/proot"
			f.configure(config)
			f.append(runLayer, dir(forgedDir+"/proot"), dir(forgedDir+"/proot/bin"))
		},
		"where the launcher looks": func(f *forged) {
			f.replace(forgedDir+"/run/env.launch/NIX_HYDRA_LAUNCH.override", "/workspace/evil.json", "")
		},
		"a variable at launch": func(f *forged) {
			f.append(runLayer, file(forgedDir+"/run/env.launch/LD_PRELOAD.override", "/e", 0o644))
		},
		"a variable of a type":   func(f *forged) { f.append(runLayer, file(forgedDir+"/run/env.launch/web/X.override", "/e", 0o644)) },
		"exec.d":                 func(f *forged) { f.append(launcherLayer, evil(forgedDir+"/launcher/exec.d/evil")) },
		"exec.d of the closure":  func(f *forged) { f.run("forged", evil(path.Dir(path.Dir(path.Dir(f.appFile)))+"/exec.d/evil")) },
		"profile.d":              func(f *forged) { f.append(runLayer, evil(forgedDir+"/run/profile.d/evil.sh")) },
		"a layer of ours more":   last(dir(forgedDir+"/evil"), evil(forgedDir+"/evil/exec.d/evil")),
		"env of another":         last(dir("/layers/evil_evil"), file("/layers/evil_evil/x/env/LD_PRELOAD", "/e", 0o644)),
		"a closure of another":   last(dir("/layers/evil_evil"), evil("/layers/evil_evil/closure-00/paths.json")),
		"a layer missing":        func(f *forged) { f.layers = append(f.layers[:1], f.layers[2:]...) },
		"a layer more":           last(dir("/workspace"), file("/workspace/x", "", 0o644)),
		"a layer cut":            func(f *forged) { f.layers[1].cut = true },
		"a layer below the rest": func(f *forged) { f.layers[0], f.layers[1] = f.layers[1], f.layers[0] },
		"ld.so.preload":          last(file("/etc/ld.so.preload", "/workspace/evil.so\n", 0o644)),
		"a file of the run image": func(f *forged) {
			f.run("forged", evil("/usr/bin/env"))
		},
		"the run image's libraries": last(dir("/lib"), evil("/lib/ld-linux.so.2")),
		"a store of its own": func(f *forged) {
			f.run("forged", append(copied(f, path.Dir(path.Dir(f.appFile)), f.app.String()), dir("/nix"))...)
		},
	}
}

func testAltered(t *testing.T, it spec.S, made map[string]*forged) {
	var g *WithT
	it.Before(func() { RegisterTestingT(t); g = NewWithT(t) })

	all := alterations()
	for _, name := range slices.Sorted(maps.Keys(all)) { // a case is known by its place
		alter := all[name]
		it(fmt.Sprintf("does not call %s intact", name), func() {
			for _, engine := range []string{launch.EngineRelocate, launch.Unrelocated} {
				if made[engine] == nil {
					made[engine] = forge(t, engine)
				}
				// Whoever can write an image can write its label too.
				for _, relabel := range []bool{false, name != "a layer more"} {
					code, out := made[engine].clone(t).verify(func(f *forged) {
						alter(f)
						f.relabel = relabel
					})
					g.Expect(code).NotTo(Equal(verifyIntact), "%s %t: %s", engine, relabel, out)
				}
			}
		})
	}

	it("knows at least 33 ways", func() {
		g.Expect(len(alterations())).To(BeNumerically(">=", 33))
	})
}

// endless writes an image whose one layer goes on for hours.
func endless(name string) {
	var head, zeros bytes.Buffer
	w := gzip.NewWriter(&head)
	Expect(tar.NewWriter(w).WriteHeader(&tar.Header{
		Name: "layers/nixproot_nix-hydra/x", Typeflag: tar.TypeReg, Size: 1 << 44,
	})).To(Succeed())
	Expect(w.Close()).To(Succeed())
	w.Reset(&zeros)
	_, err := w.Write(make([]byte, 16<<20))
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Close()).To(Succeed())
	layer := head.String() + strings.Repeat(zeros.String(), 2000)
	config := `{"config":{"Labels":{"` + lifecycleLabel + `":"{}"}},"rootfs":{"diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`
	archive := forgedLayer{entries: []entry{
		file("manifest.json", `[{"Config":"c","Layers":["l"]}]`, 0o644), file("c", config, 0o644), file("l", layer, 0o644),
	}}.archive()
	Expect(os.WriteFile(name, archive, 0o644)).To(Succeed())
}

func testVerifyDirectory(t *testing.T, _ spec.G, it spec.S) {
	it("refuses links to devices and to the operator's files, and lists none of them", func() {
		RegisterTestingT(t)
		dir := t.TempDir()
		Expect(os.MkdirAll(filepath.Join(dir, "closure-01"), 0o755)).To(Succeed())
		Expect(os.Mkdir(filepath.Join(dir, viewLayer), 0o755)).To(Succeed())
		Expect(os.Symlink("/etc", filepath.Join(dir, "closure-00"))).To(Succeed())
		Expect(os.Symlink("/dev/zero", filepath.Join(dir, "closure-01", closure.RecordsName))).To(Succeed())
		Expect(syscall.Mkfifo(filepath.Join(dir, "closure-02"), 0o644)).To(Succeed())
		var out bytes.Buffer
		Expect(Verify([]string{dir}, &out)).To(Equal(verifyAltered), out.String())
		Expect(out.String()).To(And(ContainSubstring("closure-00: it is a symlink"), Not(ContainSubstring("passwd")),
			ContainSubstring("closure-01/paths.json"), ContainSubstring("closure-02: it is a special file")))
	})
}

func testVerifyBuildTime(t *testing.T, _ spec.G, it spec.S) {
	it("takes for layers of the build alone those that this buildpack makes, and none that reach the app", func() {
		RegisterTestingT(t)
		dir := t.TempDir()
		Expect(os.Mkdir(filepath.Join(dir, "closure-00"), 0o755)).To(Succeed())
		for name, table := range map[string]string{
			"evil": "", recordLayer: "[types]\ncache = true\n", toolchainLayer: "[types]\nlaunch = true\n",
		} {
			Expect(os.MkdirAll(filepath.Join(dir, name, "exec.d"), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name+".toml"), []byte(table), 0o644)).To(Succeed())
		}
		var out bytes.Buffer
		Expect(Verify([]string{dir}, &out)).To(Equal(verifyAltered), out.String())
		Expect(out.String()).To(And(ContainSubstring("evil: this buildpack makes no such layer"),
			ContainSubstring(toolchainLayer+": this buildpack makes no such layer"),
			Not(ContainSubstring(recordLayer+": this buildpack makes no such layer"))))
	})
}

func testInterrupted(t *testing.T, _ spec.G, it spec.S) {
	it("ends within a second of a signal, whatever it is reading", func() {
		RegisterTestingT(t)
		name := filepath.Join(t.TempDir(), "image.tar")
		endless(name)
		safe := make(chan os.Signal, 4) // so that the signal never ends the test itself
		signal.Notify(safe, syscall.SIGTERM)
		defer signal.Stop(safe)
		var out bytes.Buffer
		code := make(chan int, 1)
		go func() { code <- Verify([]string{name}, &out) }()
		Consistently(code, "300ms").ShouldNot(Receive())
		Expect(syscall.Kill(os.Getpid(), syscall.SIGTERM)).To(Succeed())
		Eventually(code, "1s").Should(Receive(Equal(verifyFailed)))
		Expect(out.String()).To(ContainSubstring("verify: "))
	})
}
