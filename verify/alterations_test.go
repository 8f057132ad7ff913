package verify_test

import (
	"archive/tar"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
)

const (
	runDir       = imagetest.Dir + "/run"
	launcherDir  = imagetest.Dir + "/launcher"
	processTypes = "/layers/config/metadata.toml"
)

// furtherAlterations are more ways, by what the report has to say of them.
func furtherAlterations() map[string]map[string]func(*imagetest.Image) {
	return map[string]map[string]func(*imagetest.Image){
		"the layer writes it twice":                             madeAnew(),
		"the layer removes it":                                  whiteouts(),
		"not everybody may":                                     unreadable(),
		"which the lifecycle does not and may change what runs": variables(),
		"the layer hides what layers below have in it": {
			"an opaque directory that is filled before it is": func(f *imagetest.Image) {
				f.AddLayer("forged", append(entriesOf(f, runDir), emptyFile(runDir+"/.wh..wh..opq"))...)
			},
			"an opaque directory that is filled after it is": func(f *imagetest.Image) {
				f.AddLayer("forged", append([]imagetest.Entry{imagetest.Directory(runDir), emptyFile(runDir + "/.wh..wh..opq")},
					entriesOf(f, runDir)...)...)
			},
		},
		"has no entry for the directory itself": {
			"a directory without the one above it": func(f *imagetest.Image) {
				f.Layers = append(f.Layers, imagetest.Layer{Name: "forged", Entries: []imagetest.Entry{*f.Must(processTypes)}})
			},
		},
		"has a global header of that name": globalHeaders(),
		"where shells and interpreters look": {
			"a home among the bills of materials": func(f *imagetest.Image) { f.Config.Env = append(f.Config.Env, "HOME=/layers/sbom/launch") },
			"a home among the lifecycle's files":  func(f *imagetest.Image) { f.Config.Env = append(f.Config.Env, "HOME=/cnb") },
		},
		"it is no bill of materials": {
			"a program among the bills of materials": func(f *imagetest.Image) { f.Append("sbom", evilFile("/layers/sbom/launch/evil.json")) },
			"what Python reads among the bills of materials": func(f *imagetest.Image) {
				f.Append("sbom", imagetest.Regular("/layers/sbom/launch/usercustomize.py", "evil", 0o644))
			},
			"a bill of materials with capabilities": withRecord("/layers/sbom/launch/sbom.json", "SCHILY.xattr.security.capability"),
		},
		"it goes on after its end": {
			"an archive after the archive": func(f *imagetest.Image) {
				more := imagetest.Layer{Entries: []imagetest.Entry{evilFile(runDir + "/exec.d/evil")}}
				f.Layers[len(f.Layers)-1].After = more.Archive()
			},
		},
		"more than -rwxr-xr-x": {
			"the process types writable": withMode(processTypes, 0o666),
		},
		"others may write to it": {
			"a directory of the lifecycle's that anybody may fill": withMode("/cnb/process", 0o777),
		},
		"has an entry for it": {
			"the root that anybody may fill":   root(0o777, nil),
			"the root that nobody may enter":   root(0o600, nil),
			"an attribute of the root":         root(0o755, map[string]string{"SCHILY.xattr.system.posix_acl_default": "x"}),
			"a later layer's plain root entry": root(0o755, nil),
		},
		"it has the extended attribute": {
			"the process types with capabilities": withRecord(processTypes, "SCHILY.xattr.security.capability"),
			"an attribute that bsdtar reads": func(f *imagetest.Image) {
				withRecord(f.AppFile, "LIBARCHIVE.xattr.security.capability")(f)
			},
			"an access list": func(f *imagetest.Image) {
				withRecord(path.Dir(f.AppFile), "SCHILY.xattr.system.posix_acl_access")(f)
			},
			"an access list, then an entry without": func(f *imagetest.Image) {
				e := *f.Must(runDir)
				e.PAXRecords = map[string]string{"SCHILY.xattr.system.posix_acl_access": "x"}
				f.AddLayer("forged", e, imagetest.Directory(runDir))
			},
		},
		"an attribute of overlay file systems": {
			"an attribute of fuse-overlayfs": withRecord("/workspace", "SCHILY.xattr.user.fuseoverlayfs.opaque"),
			"an attribute of containers":     withRecord("/layers/sbom", "SCHILY.xattr.user.containers.override_stat"),
		},
		"only\n": {
			"a process type of another environment": inProcessTypes("direct = true", "direct = true\nexec-env = [\"test\"]"),
		},
		"which the lifecycle does not write": {
			"a process type with a key more": inProcessTypes("direct = true", "direct = true\nuser = \"root\""),
		},
		"has a key of more than 32 parts": {
			"process types that take gigabytes to read": func(f *imagetest.Image) {
				e := f.Must(processTypes)
				f.Replace(processTypes, e.Body+"\n"+strings.Repeat("a.", 100_000)+"b = 1\n", "")
			},
		},
		"started through a shell": {
			"a process that a shell starts": inProcessTypes("direct = true", "direct = false"),
		},
		"it names this buildpack": {
			"no buildpack": func(f *imagetest.Image) {
				e := f.Must(processTypes)
				f.Replace(processTypes, e.Body[strings.Index(e.Body, "[[processes]]"):], "")
			},
			"the buildpack under another name": inProcessTypes("nixproot/nix-hydra", "nixproot/nix-hydra2"),
			"the buildpack twice":              inProcessTypes("[[processes]]", "[[buildpacks]]\nid = \"nixproot_nix-hydra\"\n[[processes]]"),
		},
		"over what was proven": {
			"a volume through a link": func(f *imagetest.Image) {
				f.AddBelow(imagetest.Symlink("/data", "/layers/nixproot_nix-hydra"))
				f.Config.Volumes = map[string]struct{}{"/data/new": {}}
			},
			"a volume over everything": func(f *imagetest.Image) { f.Config.Volumes = map[string]struct{}{"/layers/../layers/": {}} },
			"a volume at a loop": func(f *imagetest.Image) {
				f.AddBelow(imagetest.Symlink("/data", "/data"))
				f.Config.Volumes = map[string]struct{}{"/data/x": {}}
			},
		},
		"stop signal":          {"a signal that cannot be caught": func(f *imagetest.Image) { f.Config.StopSignal = "SIGKILL" }},
		"health check":         {"a health check of a shell": func(f *imagetest.Image) { f.Config.Healthcheck = &v1.HealthConfig{Test: []string{"CMD"}} }},
		"made from it":         {"a shell for builds on top": func(f *imagetest.Image) { f.Config.Shell = []string{"/workspace/evil"} }},
		"ONBUILD":              {"ONBUILD": func(f *imagetest.Image) { f.Config.OnBuild = []string{"RUN evil"} }},
		"operating system":     {"another operating system": func(f *imagetest.Image) { f.OS = "windows" }},
		"working directory":    {"the working directory by another name": func(f *imagetest.Image) { f.Config.WorkingDir = "/workspace/." }},
		"environment lacks it": {"PATH gone": func(f *imagetest.Image) { f.Config.Env = f.Config.Env[1:] }},
		"has it twice":         {"PATH twice": func(f *imagetest.Image) { f.Config.Env = append(f.Config.Env, f.Config.Env[0]) }},
		"first on PATH": {
			"another signed path on PATH": withConfig(func(f *imagetest.Image, c *launch.Config) { c.Bin = []string{libraryBin(f, c)} }),
			"another signed path first on PATH": withConfig(func(f *imagetest.Image, c *launch.Config) {
				c.Bin = append([]string{libraryBin(f, c)}, c.Bin...)
			}),
			"another signed path last on PATH": withConfig(func(f *imagetest.Image, c *launch.Config) {
				c.Bin = append(c.Bin, libraryBin(f, c))
			}),
			"nothing on PATH": withConfig(func(_ *imagetest.Image, c *launch.Config) { c.Bin = []string{} }),
			"twice on PATH":   withConfig(func(_ *imagetest.Image, c *launch.Config) { c.Bin = append(c.Bin, c.Bin...) }),
		},
		"no root needs it": {
			"no root": withConfig(func(_ *imagetest.Image, c *launch.Config) { c.StorePaths = nil }),
			"a root that needs less": withConfig(func(f *imagetest.Image, c *launch.Config) {
				c.StorePaths, c.Bin = []string{f.Lib.String()}, []string{libraryBin(f, c)}
			}),
		},
		"it has the shell": {
			"a shell that is no shell": withConfig(func(f *imagetest.Image, c *launch.Config) { c.Shell = f.Lib.String() + "/bin/lib" }),
			"a shell that is missing":  withConfig(func(f *imagetest.Image, c *launch.Config) { c.Shell = f.Lib.String() + "/bin/bash" }),
		},
		"where the environment does not": {
			"certificates that are missing": withConfig(func(f *imagetest.Image, c *launch.Config) {
				r := launchlayer.Resources()[0]
				c.Defaults = append(c.Defaults, r.Default(f.Lib.String()+"/"+r.Files[0]))
			}),
		},
		"of the engine": {
			"a reason that clears the screen": withConfig(func(_ *imagetest.Image, c *launch.Config) { c.Reason = "\x1b[2Jall is well" }),
		},
		"its engine is": {
			"another engine asked for": withConfig(func(_ *imagetest.Image, c *launch.Config) { c.Requested = launch.EngineProot }),
		},
		"while the closure was made for": {
			"the other engine": func(f *imagetest.Image) {
				config := f.LaunchConfig()
				other := map[string]string{launch.EngineRelocate: launch.Unrelocated, launch.Unrelocated: launch.EngineRelocate}
				config.Engine = other[config.Engine]
				f.SetLaunchConfig(config)
			},
		},
		"it has PRoot at": {
			"PRoot where nothing asks for it": withConfig(func(_ *imagetest.Image, c *launch.Config) {
				c.PRoot = imagetest.Dir + "/proot/bin/proot"
			}),
			"PRoot in another place": withConfig(func(_ *imagetest.Image, c *launch.Config) {
				c.Requested, c.PRoot = launch.EngineAuto, "/workspace/proot"
			}),
		},
		"not what this buildpack writes": {
			"the configuration with a key twice": func(f *imagetest.Image) {
				e := f.Must(runDir + "/nix-hydra.json")
				f.Replace(e.Name, strings.Replace(e.Body, "{", `{"bin": ["/workspace"],`, 1), "")
			},
		},
		"makes no such": {
			"a layer in capitals":                   inLayers("Run/exec.d/evil"),
			"a layer that looks like a description": inLayers("closure-0001-a.toml/exec.d/evil"),
			"a layer of the build":                  inLayers("record/exec.d/evil"),
			"a name with a line's end":              inLayers("run/nix-hydra.json\n"),
			"a blank after a name":                  inLayers("run/nix-hydra.json "),
		},
		"it does not say what the layer holds": {
			"a closure layer that is empty":  func(f *imagetest.Image) { f.AddLayer("forged", imagetest.Directory(imagetest.Dir+"/closure-0009-a")) },
			"a closure layer of exec.d only": inLayers("closure-0009-a/exec.d/evil"),
		},
		"no build puts anything there": {
			"links of AUFS":      func(f *imagetest.Image) { f.AddLayer("forged", evilFile("/.wh..wh.plnk/1.1")) },
			"layers in capitals": func(f *imagetest.Image) { f.AddLayer("forged", evilFile("/Layers/nixproot_nix-hydra/run/exec.d/evil")) },
		},
		"it is in two layers": {
			"a signed path in two layers": func(f *imagetest.Image) {
				from := path.Join(imagetest.Dir, f.LayerOf(f.Lib))
				f.AddLayer("forged", moved(entriesOf(f, from), from, imagetest.Dir+"/closure-9999-a")...)
			},
		},
		"verifying /nix/store/": {
			"one signed path in another's place": func(f *imagetest.Image) {
				from, to := path.Join(imagetest.Dir, f.Tree(f.Lib)), path.Dir(path.Dir(f.AppFile))
				copied := moved(entriesOf(f, from), from, to)
				f.Remove(to)
				f.AddLayer("forged", copied...)
			},
		},
		"want a directory": {
			"the app's directory a link": func(f *imagetest.Image) { f.AddLayer("forged", imagetest.Symlink("/workspace", "/tmp")) },
		},
	}
}

func evilFile(name string) imagetest.Entry {
	return imagetest.Regular(name, "#!/bin/sh\nevil\n", 0o555)
}

func emptyFile(name string) imagetest.Entry { return imagetest.Regular(name, "", 0o644) }

// entriesOf are those of a directory, in all layers.
func entriesOf(f *imagetest.Image, dir string) []imagetest.Entry {
	var all []imagetest.Entry
	for _, layer := range f.Layers {
		for _, e := range layer.Entries {
			if e.Name == dir || strings.HasPrefix(e.Name, dir+"/") {
				all = append(all, e)
			}
		}
	}
	return all
}

func moved(entries []imagetest.Entry, from, to string) []imagetest.Entry {
	all := slices.Clone(entries)
	for i := range all {
		all[i].Name = to + strings.TrimPrefix(all[i].Name, from)
	}
	return all
}

// madeAnew are directories that one layer makes once more, after something else in their place, above a layer that has more
// in them: unpacked in a directory of its own, the layer does not hide that.
func madeAnew() map[string]func(*imagetest.Image) {
	anew := func(dir func(*imagetest.Image) string, first func(string) imagetest.Entry, more string) func(*imagetest.Image) {
		return func(f *imagetest.Image) {
			name := dir(f)
			good := entriesOf(f, name)
			_, layer := f.Find(name)
			layer.Entries = append(layer.Entries, imagetest.Directory(path.Join(name, path.Dir(more))), evilFile(path.Join(name, more)))
			f.AddLayer("forged", append([]imagetest.Entry{first(name)}, good...)...)
		}
	}
	always := func(dir string) func(*imagetest.Image) string { return func(*imagetest.Image) string { return dir } }
	app := func(f *imagetest.Image) string { return path.Dir(path.Dir(f.AppFile)) }
	link := func(target string) func(string) imagetest.Entry {
		return func(name string) imagetest.Entry { return imagetest.Symlink(name, target) }
	}
	special := func(kind byte) func(string) imagetest.Entry {
		return func(name string) imagetest.Entry {
			e := imagetest.Special(name, kind)
			e.Devmajor, e.Devminor = 0, 0 // a device of that number is a whiteout to overlay file systems
			return e
		}
	}
	return map[string]func(*imagetest.Image){
		"a layer made anew after a file":      anew(always(runDir), emptyFile, "exec.d/evil"),
		"a layer made anew after a symlink":   anew(always(runDir), link("/usr"), "exec.d/evil"),
		"a layer made anew after a device":    anew(always(runDir), special(tar.TypeChar), "exec.d/evil"),
		"a layer made anew after a pipe":      anew(always(runDir), special(tar.TypeFifo), "profile.d/evil"),
		"a path made anew after a file":       anew(app, emptyFile, "bin/more"),
		"a path made anew after a symlink":    anew(app, link("bin"), "lib/more.so"),
		"the view made anew after a file":     anew(always(imagetest.View), emptyFile, "exec.d/evil"),
		"all layers made anew after a file":   anew(always(imagetest.Dir), emptyFile, "evil/exec.d/evil"),
		"a layer made anew after a hard link": anew(always(runDir), func(name string) imagetest.Entry { return imagetest.HardLink(name, "/etc/passwd") }, "env/LD_PRELOAD"),
	}
}

func whiteouts() map[string]func(*imagetest.Image) {
	last := func(entries ...imagetest.Entry) func(*imagetest.Image) {
		return func(f *imagetest.Image) { f.AddLayer("forged", entries...) }
	}
	return map[string]func(*imagetest.Image){
		"a whiteout without a name": last(emptyFile(runDir + "/.wh.")), // of the directory, to Docker
		"a whiteout of a dot":       last(emptyFile(runDir + "/.wh..")),
		"a whiteout of the parent":  last(emptyFile(runDir + "/.wh...")),
		"a whiteout after its file": func(f *imagetest.Image) {
			last(*f.Must(f.AppFile), emptyFile(path.Join(path.Dir(f.AppFile), ".wh.app")))(f)
		},
		"a whiteout before its file": func(f *imagetest.Image) {
			last(emptyFile(path.Join(path.Dir(f.AppFile), ".wh.app")), *f.Must(f.AppFile))(f)
		},
		"a layer made anew after a whiteout": func(f *imagetest.Image) {
			good := entriesOf(f, runDir)
			f.Append(launchlayer.Run, evilFile(runDir+"/exec.d/evil"))
			last(append([]imagetest.Entry{emptyFile(imagetest.Dir + "/.wh.run")}, good...)...)(f)
		},
	}
}

// globalHeaders are headers that describe no file. Runtimes that look at their names only afterwards remove what is there.
func globalHeaders() map[string]func(*imagetest.Image) {
	named := func(name string) imagetest.Entry {
		return imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", Format: tar.FormatPAX,
			PAXRecords: map[string]string{"path": name}}}
	}
	last := func(name string) func(*imagetest.Image) {
		return func(f *imagetest.Image) { f.AddLayer("forged", named(name)) }
	}
	return map[string]func(*imagetest.Image){
		"a file removed by a global header":              last(runDir + "/env.launch/NIX_HYDRA_LAUNCH.override"),
		"a directory removed by a global header":         last(imagetest.View),
		"a file of the run image removed so":             last("/etc/passwd"),
		"a whiteout as a global header":                  last(runDir + "/.wh.env.launch"),
		"a directory made opaque by a global header":     last(runDir + "/.wh..wh..opq"),
		"a path removed by a global header in its layer": func(f *imagetest.Image) { f.Append(f.LayerOf(f.Lib), named(path.Join(imagetest.Dir, f.Tree(f.Lib)))) },
	}
}

func withMode(name string, mode int64) func(*imagetest.Image) {
	return func(f *imagetest.Image) { f.Must(name).Mode = mode }
}

func unreadable() map[string]func(*imagetest.Image) {
	return map[string]func(*imagetest.Image){
		"the configuration unreadable":           withMode(runDir+"/nix-hydra.json", 0o600),
		"the configuration unreadable to all":    withMode(runDir+"/nix-hydra.json", 0),
		"a variable at launch unreadable":        withMode(runDir+"/env.launch/NIX_HYDRA_LAUNCH.override", 0o200),
		"the launcher unreadable":                withMode(launcherDir+"/bin/nix-hydra-launch", 0o711),
		"the launcher's directory unreadable":    withMode(launcherDir+"/bin", 0o311),
		"the process types unreadable":           withMode(processTypes, 0o600),
		"the directory of a layer unreadable":    withMode(runDir, 0o711),
		"the view unreadable":                    withMode(imagetest.View, 0o711),
		"the records unreadable":                 func(f *imagetest.Image) { f.Must(f.NamesWith(closure.PathsName)[0]).Mode = 0o600 },
		"the directory of all layers unreadable": withMode("/layers", 0o311),
	}
}

// root adds an entry for the root.
func root(mode int64, records map[string]string) func(*imagetest.Image) {
	return func(f *imagetest.Image) {
		e := imagetest.Directory("./")
		e.Mode, e.PAXRecords = mode, records
		f.AddLayer("forged", e)
	}
}

func withRecord(name, record string) func(*imagetest.Image) {
	return func(f *imagetest.Image) { f.Must(name).PAXRecords = map[string]string{record: "\x01\x00\x00\x02"} }
}

func inProcessTypes(old, new string) func(*imagetest.Image) {
	return func(f *imagetest.Image) {
		body := f.Must(processTypes).Body
		Expect(body).To(ContainSubstring(old))
		f.Replace(processTypes, strings.Replace(body, old, new, 1), "")
	}
}

// inLayers adds a file to this buildpack's layers.
func inLayers(name string) func(*imagetest.Image) {
	return func(f *imagetest.Image) { f.AddLayer("forged", evilFile(path.Join(imagetest.Dir, name))) }
}

// withConfig changes the launcher's configuration, and what its layer sets along with it.
func withConfig(change func(*imagetest.Image, *launch.Config)) func(*imagetest.Image) {
	return func(f *imagetest.Image) {
		config := f.LaunchConfig()
		change(f, &config)
		f.SetLaunchConfig(config)
		if config.Engine == launch.EngineRelocate {
			f.Replace(runDir+"/env.launch/PATH.append", strings.Join(config.Bin, ":"), "")
		}
	}
}

// libraryBin is the bin directory of a signed path that is no root.
func libraryBin(f *imagetest.Image, config *launch.Config) string {
	if config.Engine == launch.EngineRelocate {
		return path.Join(imagetest.Dir, f.Tree(f.Lib), "bin")
	}
	return f.Lib.String() + "/bin"
}

// variables are those by which some program reads another file or starts another program, and harmless ones whose value does.
func variables() map[string]func(*imagetest.Image) {
	all := map[string]func(*imagetest.Image){
		"the deprecation mode": func(f *imagetest.Image) {
			f.Config.Env[slices.Index(f.Config.Env, "CNB_DEPRECATION_MODE=quiet")] = "CNB_DEPRECATION_MODE=error"
		},
	}
	for _, variable := range []string{
		"LANG=/workspace/evil", "LANGUAGE=../../workspace/evil", "LC_ALL=../x", "LC_EVIL=() { evil; }", "TZ=/workspace/tz",
		"TZ=:/workspace/tz", "TZ=../../workspace/tz", "HOME=/workspace/../x", "HOME=workspace", "TERM=../../evil", "DEBIAN_FRONTEND=\x1b[2J",
		"STACK=()", "USER=root;x", "HOSTNAME=a\nb", "CNB_STACK_ID=../x", "CNB_TARGET_EVIL=1", "CNB_EXEC_ENV=test", "CNB_PROCESS_TYPE=worker",
		"CNB_NO_COLOR=1", "CNB_LOG_LEVEL=debug", "GCONV_PATH=/workspace", "GLIBC_TUNABLES=x", "LOCPATH=/workspace", "LD_AUDIT=/x",
		"LD_LIBRARY_PATH=/workspace", "NODE_OPTIONS=-r /workspace/x", "PERL5OPT=-M/x", "RUBYOPT=-r/x", "JAVA_TOOL_OPTIONS=-javaagent:x",
		"ENV=/workspace/x", "SSL_CERT_FILE=/workspace/ca", "NIX_HYDRA_X=1", "http_proxy=http://evil", "path=/workspace", "LD_PRELOAD", "=x",
	} {
		all["the variable "+variable] = func(f *imagetest.Image) { f.Config.Env = append(f.Config.Env, variable) }
	}
	return all
}
