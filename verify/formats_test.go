package verify_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"path"
	"runtime"
	"strings"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
)

// formatAlterations are ways to write the same, or almost the same, in other bytes: no two tools have to take them in one way.
// They are the same for every engine.
func formatAlterations() map[string]map[string]func(*imagetest.Image) {
	env := func(variable string) func(*imagetest.Image) {
		return func(f *imagetest.Image) { f.Config.Env = append(f.Config.Env, variable) }
	}
	user := func(names ...string) map[string]func(*imagetest.Image) {
		all := map[string]func(*imagetest.Image){}
		for _, name := range names {
			all[fmt.Sprintf("the user %q", name)] = func(f *imagetest.Image) { f.Config.User = name }
		}
		return all
	}
	label := func(name, value string) func(*imagetest.Image) {
		return func(f *imagetest.Image) { f.Config.Labels[name] = value }
	}
	volume := func(name string) func(*imagetest.Image) {
		return func(f *imagetest.Image) { f.Config.Volumes = map[string]struct{}{name: {}} }
	}
	entrypoint := func(words ...string) func(*imagetest.Image) {
		return func(f *imagetest.Image) { f.Config.Entrypoint = words }
	}
	document := func(old, new string) func(*imagetest.Image) {
		return func(f *imagetest.Image) {
			f.Document = func(text string) string {
				Expect(text).To(ContainSubstring(old))
				return strings.Replace(text, old, new, 1)
			}
		}
	}
	app := func(e imagetest.Entry, mode int64, records map[string]string) func(*imagetest.Image) {
		e.Mode, e.PAXRecords = mode, records
		return func(f *imagetest.Image) { f.Append("app", e) }
	}
	added := func(entries ...imagetest.Entry) func(*imagetest.Image) {
		return func(f *imagetest.Image) { f.AddLayer("forged", entries...) }
	}
	return map[string]map[string]func(*imagetest.Image){
		"no lifecycle writes such an entry":                     tarHeaders(),
		"it does not end as one that a lifecycle has written":   tarEnds(),
		"its compression has a name, a comment or a field more": packings("name", "comment", "field"),
		"its compression has several parts":                     packings("parts", "empty part"),
		"nor as who some runtime takes for root": user("4294967296:1000", "4294968296", "1000:4294967296", "00", "01000", " 0", "0x0", "1000:",
			":1000", "-1", "2147483648", "1000:+0", "root", "root:1000", "0:0", "", "app\x00", "1000:1000:0", "１"),
		"which is \"User\" to some tools only": {
			"the user in small letters": document(`"User":"1000:1000"`, `"user":"1000:1000"`),
			"the user with a long s":    document(`"User":"1000:1000"`, `"Uſer":"1000:1000"`),
		},
		"which is \"config\" to some tools only": {
			"another configuration in capitals": document(`"config":`, `"Config":`),
		},
		"twice in one object": {
			"two configurations":            document(`"config":{`, `"config":{"User":"0"},"config":{`),
			"two users, one in capitals":    document(`"User":"1000:1000"`, `"User":"1000:1000","USER":"0:0"`),
			"two entrypoints":               document(`"Entrypoint":`, `"Entrypoint":["/bin/sh"],"Entrypoint":`),
			"a label twice":                 document(`"Labels":{`, `"Labels":{"x":"1","x":"2",`),
			"a label twice, once by escape": document(`"Labels":{`, `"Labels":{"x":"1","\u0078":"2",`),
		},
		"goes on after its end": {
			"a second configuration in the file": func(f *imagetest.Image) { f.Document = func(text string) string { return text + `{"config":{}}` } },
		},
		"which this program does not know and some engine may": {
			"a time to stop in":                  document(`"User":`, `"StopTimeout":0,"User":`),
			"the configuration of older engines": document(`"config":`, `"container_config":{"User":"0"},"config":`),
			"a volume's driver":                  document(`"config":{`, `"config":{"Volumes":{"/data":{"driver":"evil"}},`),
			"memory":                             document(`"config":{`, `"config":{"Memory":1,`),
			"base layers":                        document(`"rootfs":{`, `"rootfs":{"base_layer":"x",`),
		},
		"want amd64 or arm64": {
			"a machine that nobody has": document(`"architecture":"`, `"architecture":"x`),
			"a machine without a name":  document(`"architecture":"`+runtime.GOARCH+`"`, `"architecture":""`),
		},
		"want layers": {
			"a root file system of another kind": document(`"type":"layers"`, `"type":"layers+base"`),
			"a root file system of no kind":      document(`"type":"layers",`, ``),
		},
		"which some engines obey": {
			"capabilities for Podman":     label("io.containers.capabilities", "ALL"),
			"updates by Podman":           label("io.containers.autoupdate", "registry"),
			"mounts of nerdctl":           label("nerdctl/mounts", "[]"),
			"a snapshot of containerd's":  label("containerd.io/snapshot/remote", "x"),
			"a runtime's handler":         label("run.oci.handler", "wasm"),
			"a command of Watchtower's":   label("com.centurylinklabs.watchtower.lifecycle.pre-update", "/workspace/evil"),
			"a command of Ofelia's":       label("ofelia.job-exec.evil.command", "/workspace/evil"),
			"a command of Dev Containers": label("devcontainer.metadata", `[{"postCreateCommand": "evil"}]`),
			"a command before a backup":   label("docker-volume-backup.archive-pre", "evil"),
			"a command line of Podman's":  label("run", "podman run --privileged IMAGE"),
			"rights of balena's":          label("io.balena.features.dbus", "1"),
		},
		"among the app's files": {
			"a home that the app fills":    env("HOME=/workspace"),
			"a home in what the app fills": env("HOME=/workspace/home"),
		},
		"and the Procfile has no such type": {
			"a process type that the Procfile lacks": func(f *imagetest.Image) {
				f.AddProcess(lifecycle.Process{Type: "sh", Command: []any{launcherDir + "/bin/nix-hydra-launch", "--process", "evil"}, Direct: true,
					BuildpackID: launchlayer.BuildpackID})
			},
		},
		"of the Procfile is missing": {
			"a process type that only the Procfile has": func(f *imagetest.Image) {
				f.Replace("/workspace/Procfile", f.Must("/workspace/Procfile").Body+"worker: run_proot.sh app --work\n", "")
			},
		},
		"want a process type's": {
			"an entrypoint with an argument":    entrypoint("/cnb/process/web", "--"),
			"an entrypoint with a slash":        entrypoint("/cnb/process/web/"),
			"an entrypoint that PATH finds":     entrypoint("web"),
			"an entrypoint up and down":         entrypoint("/cnb/process/../process/web"),
			"an entrypoint of another type":     entrypoint("/cnb/process/worker"),
			"the launcher of this buildpack":    entrypoint(launcherDir + "/bin/nix-hydra-launch"),
			"an entrypoint of an empty program": entrypoint(""),
		},
		"which no lifecycle does": {
			"an empty argument": func(f *imagetest.Image) { f.Config.Cmd = []string{""} },
			"two dashes":        func(f *imagetest.Image) { f.Config.Cmd = []string{"--"} },
		},
		"over what was proven": {
			"a volume over the process types": volume("/layers/config"),
			"a volume over the processes":     volume("/cnb/process"),
			"a volume over the launcher":      volume("cnb/lifecycle/launcher"),
			"a volume over the root":          volume("/"),
			"a volume over the layers, up":    volume("/workspace/../layers/"),
		},
		"which the lifecycle does not and may change what runs": {
			"a variable with a NUL":               env("LANG=C\x00LD_PRELOAD=/workspace/x"),
			"the user's variables for Python":     env("PYTHONUSERBASE=/workspace"),
			"where Nix's libraries look":          env("NIX_LD_LIBRARY_PATH=/workspace"),
			"a variable that begins with a space": env(" LANG=C"),
			"where the platform's variables are":  env("CNB_PLATFORM_DIR=/workspace"),
		},
		"which the lifecycle does not write": {
			"a process types' list with a long s": func(f *imagetest.Image) {
				e := f.Must(processTypes)
				f.Replace(processTypes, e.Body+"\n[[\"proceſſes\"]]\ntype = \"web\"\ncommand = [\"/bin/sh\"]\n", "")
			},
			"arguments with a long s": inProcessTypes("direct = true", "direct = true\n\"argſ\" = [\"evil\"]"),
			"a buildpack list of another spelling": func(f *imagetest.Image) {
				e := f.Must(processTypes)
				f.Replace(processTypes, e.Body+"\n[[\"buildpackſ\"]]\nid = \"sbom\"\n", "")
			},
			"a command in capitals": inProcessTypes("direct = true", "direct = true\nCOMMAND = [\"evil\"]"),
		},
		"of the API": {
			"the buildpack of an older API": inProcessTypes(`api = "0.10"`, `api = "0.4"`),
			"the buildpack of no API":       inProcessTypes(`api = "0.10"`, `api = ""`),
		},
		"with the rights of its owner or group": {
			"a program of root's among the app's":      app(evilFile("/workspace/su"), 0o4755, nil),
			"a program of a group's among the app's":   app(evilFile("/workspace/su"), 0o2755, nil),
			"a program of root's deep among the app's": app(evilFile("/workspace/a/b/su"), 0o6755, nil),
		},
		"it is a special file": {
			"a device among the app's": app(imagetest.Special("/workspace/mem", tar.TypeChar), 0o666, nil),
			"a disk among the app's":   app(imagetest.Special("/workspace/sda", tar.TypeBlock), 0o666, nil),
		},
		"it has the extended attribute": {
			"capabilities among the app's": app(evilFile("/workspace/ping"), 0o755, map[string]string{"SCHILY.xattr.security.capability": "x"}),
			"an access list of the app's":  app(imagetest.Directory("/workspace/d"), 0o755, map[string]string{"SCHILY.xattr.system.posix_acl_default": "x"}),
		},
		"the lifecycle puts nothing but": {
			"a second description of process types": added(imagetest.Regular("/layers/config/Metadata.toml", "", 0o644)),
			"a launcher beside the launcher":        added(evilFile("/cnb/lifecycle/Launcher")),
		},
		"its environment and programs reach the app": {
			"a description of this buildpack":  added(imagetest.Regular("/layers/nixproot_nix-hydra.toml", "[types]\nlaunch = true\n", 0o644)),
			"this buildpack in capitals":       added(evilFile("/layers/NIXPROOT_nix-hydra/run/exec.d/x")),
			"this buildpack with a blank":      added(evilFile("/layers/nixproot_nix-hydra /run/exec.d/x")),
			"this buildpack in full-width":     added(evilFile("/layers/nixproot_nix－hydra/run/exec.d/x")),
			"a store of the lifecycle's":       added(imagetest.Regular("/layers/store.toml", "", 0o644)),
			"another buildpack's profile":      added(imagetest.Directory("/layers/a_b"), imagetest.Directory("/layers/a_b/c"), imagetest.Regular("/layers/a_b/c/profile.d/x.sh", "evil", 0o644)),
			"another buildpack that is a link": added(imagetest.Symlink("/layers/a_b", "/workspace/a")),
		},
		"no build puts anything there": {
			"the platform's variables": added(imagetest.Regular("/platform/env/LD_PRELOAD", "/workspace/x", 0o644)),
			"a home's profile":         added(imagetest.Regular("/home/app/.profile", "evil", 0o644)),
			"what Go's resolver reads": added(imagetest.Regular("/etc/resolv.conf", "nameserver 10.0.0.1", 0o644)),
			"a lifecycle in capitals":  added(evilFile("/CNB/process/web")),
			"a link beside the layers": added(imagetest.Symlink("/layers2", "/layers")),
		},
		"makes no such": {
			"exec.d of a type":      inLayers("run/exec.d/web/evil"),
			"a layer's environment": inLayers("launcher/env/PATH.prepend"),
			"a build's environment": inLayers("run/env.build/PATH.prepend"),
			"a delimiter":           inLayers("run/env.launch/NIX_HYDRA_LAUNCH.delim"),
			"a library's directory": inLayers("run/lib/libc.so.6"),
			"the toolchain's layer": inLayers("nix/bin/nix"),
			"evaluation's layer":    inLayers("eval/lib/libc.so.6"),
			"a layer's description": inLayers("run.toml"),
		},
		"it belongs to no store path": {
			"the view with programs": inLayers("view/bin/env"),
			"the view with exec.d":   inLayers("view/exec.d/evil"),
			"a closure's layer with variables": func(f *imagetest.Image) {
				f.Append(f.LayerOf(f.App), evilFile(path.Join(imagetest.Dir, f.LayerOf(f.App), "env.launch/PATH.prepend")))
			},
			"a closure's layer with programs": func(f *imagetest.Image) {
				f.Append(f.LayerOf(f.App), evilFile(path.Join(imagetest.Dir, f.LayerOf(f.App), "bin/sh")))
			},
		},
		"verifying /nix/store/": {
			"a program in capitals beside it":  inApp("APP"),
			"a program with a combined letter": inApp("a\u0301pp"),
			"a program with a blank":           inApp("app "),
			"a program with a line's end":      inApp("app\n"),
			"a program of no text":             inApp("\xff\xfe"),
			"a program without its contents":   func(f *imagetest.Image) { f.Replace(f.AppFile, "", "") },
		},
	}
}

// inApp adds a file to a store path.
func inApp(name string) func(*imagetest.Image) {
	return func(f *imagetest.Image) { f.Append(f.LayerOf(f.App), evilFile(path.Join(path.Dir(f.AppFile), name))) }
}

// rewritten changes the archive of the layer that starts the app.
func rewritten(change func(archive []byte, e *imagetest.Entry) []byte) func(*imagetest.Image) {
	return func(f *imagetest.Image) {
		e := f.Must(runDir + "/nix-hydra.json")
		_, layer := f.Find(e.Name)
		layer.Rewrite = func(archive []byte) []byte { return change(archive, e) }
	}
}

// block is the header of an entry in an archive, and where it begins.
func block(archive []byte, name string) (header []byte, at int) {
	for at = 0; at+512 <= len(archive); at += 512 {
		if bytes.HasPrefix(archive[at:], append([]byte(name), 0)) && string(archive[at+257:at+262]) == "ustar" {
			return archive[at : at+512], at
		}
	}
	panic("the archive has no " + name)
}

// sum writes a header's checksum.
func sum(header []byte) {
	copy(header[148:156], "        ")
	total := 0
	for _, b := range header {
		total += int(b)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", total))
}

// field writes one of a header's.
func field(at int, value string) func(*imagetest.Image) {
	return rewritten(func(archive []byte, e *imagetest.Entry) []byte {
		header, _ := block(archive, e.Name)
		copy(header[at:], value)
		sum(header)
		return archive
	})
}

// special is a header of its own kind, with text as its contents, before an entry.
func special(kind byte, text string) func(*imagetest.Image) {
	return rewritten(func(archive []byte, e *imagetest.Entry) []byte {
		header, at := block(archive, e.Name)
		more := bytes.Clone(header)
		more[156] = kind
		copy(more[124:136], fmt.Sprintf("%011o\x00", len(text)))
		sum(more)
		more = append(more, text...)
		more = append(more, make([]byte, -len(more)&511)...)
		return append(bytes.Clone(archive[:at]), append(more, archive[at:]...)...)
	})
}

// record is one of PAX's.
func record(key, value string) string {
	for n := len(key) + len(value) + 3; ; n++ {
		if text := fmt.Sprintf("%d %s=%s\n", n, key, value); len(text) == n {
			return text
		}
	}
}

// tarHeaders are other ways to write an entry's header, all of which Go's archive/tar reads as the same.
func tarHeaders() map[string]func(*imagetest.Image) {
	const name = runDir + "/nix-hydra.json"
	format := func(change func(*tar.Header)) func(*imagetest.Image) {
		return func(f *imagetest.Image) { change(&f.Must(name).Header) }
	}
	all := map[string]func(*imagetest.Image){
		"a user's name":               field(265, "root"),
		"a group's name":              field(297, "root"),
		"a device's number of a file": field(329, "0000001\x00"),
		"more of a mode":              field(100, "0100644\x00"),
		"a mode with blanks":          field(100, "   644 \x00"),
		"a size with blanks": rewritten(func(a []byte, e *imagetest.Entry) []byte {
			h, _ := block(a, e.Name)
			copy(h[124:136], fmt.Sprintf("%11o ", e.Size))
			sum(h)
			return a
		}),
		"a size as GNU writes large ones": rewritten(func(a []byte, e *imagetest.Entry) []byte {
			h, _ := block(a, e.Name)
			copy(h[124:136], append([]byte{0x80, 0, 0, 0}, binary.BigEndian.AppendUint64(nil, uint64(e.Size))...))
			sum(h)
			return a
		}),
		"an owner as GNU writes large ones": field(108, "\x80\x00\x00\x00\x00\x00\x03\xe8"),
		"a checksum of another form": rewritten(func(a []byte, e *imagetest.Entry) []byte {
			h, _ := block(a, e.Name)
			copy(h[148:], fmt.Sprintf(" %s\x00", h[148:154]))
			return a
		}),
		"another name after the name":         field(len(name)+1, "evil"),
		"a link's target of a file":           field(157, "/workspace/evil"),
		"something after the header's fields": field(500, "evil"),
		"a header of 1979":                    field(257, strings.Repeat("\x00", 255)),
		"a header as GNU tar has it":          field(257, "ustar  \x00"),
		"a header as star has it":             field(508, "tar\x00"),
		"a file of the old kind":              field(156, "\x00"),
		"a comment":                           special(tar.TypeXHeader, record("comment", "evil")),
		"a name in a record":                  special(tar.TypeXHeader, record("path", name)),
		"a name in a record and another beside it": rewritten(func(a []byte, e *imagetest.Entry) []byte {
			h, at := block(a, e.Name)
			more := bytes.Clone(h)
			text := record("path", e.Name)
			more[156] = tar.TypeXHeader
			copy(more[124:136], fmt.Sprintf("%011o\x00", len(text)))
			sum(more)
			more = append(append(more, text...), make([]byte, 512-len(text))...)
			copy(h, append([]byte("/etc/ld.so.preload"), make([]byte, 82)...))
			sum(h)
			return append(bytes.Clone(a[:at]), append(more, a[at:]...)...)
		}),
		"a size in a record":               format(func(h *tar.Header) { h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{"comment": "x"} }),
		"a user's name in a record":        special(tar.TypeXHeader, record("uname", "root")),
		"a record twice":                   special(tar.TypeXHeader, record("path", "/etc/evil")+record("path", name)),
		"a record that is removed":         special(tar.TypeXHeader, record("path", "")),
		"a name as GNU writes long ones":   special(tar.TypeGNULongName, name+"\x00"),
		"a name as GNU writes them, cut":   special(tar.TypeGNULongName, name+"\x00evil"),
		"a target as GNU writes long ones": special(tar.TypeGNULongLink, "/workspace/evil\x00"),
		"another time":                     format(func(h *tar.Header) { h.ModTime = time.Unix(1, 0) }),
		"a time of its own":                format(func(h *tar.Header) { h.ModTime = h.ModTime.Add(time.Second) }),
		"a part of a second":               special(tar.TypeXHeader, record("mtime", "315532801.5")),
		"times as GNU writes them":         format(func(h *tar.Header) { h.Format = tar.FormatGNU }),
		"a directory with contents": func(f *imagetest.Image) {
			_, layer := f.Find(runDir)
			layer.Rewrite = func(a []byte) []byte {
				h, _ := block(a, runDir)
				copy(h[124:136], "00000000001\x00")
				sum(h)
				return a
			}
		},
		"something after a file's end": rewritten(func(a []byte, e *imagetest.Entry) []byte {
			_, at := block(a, e.Name)
			a[at+512+int(e.Size)] = 'x'
			return a
		}),
		"a hard link to itself, as it were": func(f *imagetest.Image) {
			from, to := f.Must(path.Join(imagetest.Dir, f.Tree(f.App), "empty")), imagetest.HardLink("", "")
			to.Name, to.Linkname, to.Mode, to.Uid, to.Gid = from.Name, path.Join(imagetest.Dir, f.Tree(f.Lib), "empty"), from.Mode, from.Uid, from.Gid
			*from = to
		},
	}
	for what, change := range map[string]func(string) string{
		"a relative name":         func(s string) string { return s[1:] },
		"a name with a dot":       func(s string) string { return "." + s },
		"a name with two slashes": func(s string) string { return "/" + s },
		"a name with dots in it":  func(s string) string { return "/layers/../" + s[1:] },
		"a name with a slash":     func(s string) string { return s + "/" },
	} {
		all[what+" for a directory"] = func(f *imagetest.Image) { f.Must(runDir).Name = change(runDir) }
	}
	return all
}

// tarEnds are other ways to end an archive.
func tarEnds() map[string]func(*imagetest.Image) {
	end := func(change func([]byte) []byte) func(*imagetest.Image) {
		return rewritten(func(archive []byte, _ *imagetest.Entry) []byte { return change(archive) })
	}
	return map[string]func(*imagetest.Image){
		"an archive without its end":    end(func(a []byte) []byte { return a[:len(a)-1024] }),
		"an archive with half its end":  end(func(a []byte) []byte { return a[:len(a)-512] }),
		"an archive with a longer end":  end(func(a []byte) []byte { return append(a, make([]byte, 512)...) }),
		"an archive in tape's records":  end(func(a []byte) []byte { return append(a, make([]byte, 10240-len(a)%10240)...) }),
		"an archive with one zero more": end(func(a []byte) []byte { return append(a, 0) }),
		"something behind a longer end": end(func(a []byte) []byte { return append(append(a, make([]byte, 10240)...), 'x') }),
		"a layer of no bytes":           end(func([]byte) []byte { return nil }),
	}
}

// packings are other ways to compress a layer.
func packings(kinds ...string) map[string]func(*imagetest.Image) {
	pack := func(header gzip.Header, parts ...[]byte) []byte {
		var all bytes.Buffer
		for _, part := range parts {
			w := gzip.NewWriter(&all)
			w.Header = header
			_, err := w.Write(part)
			Expect(err).NotTo(HaveOccurred())
			Expect(w.Close()).To(Succeed())
		}
		return all.Bytes()
	}
	known := map[string]func([]byte) []byte{
		"name":       func(a []byte) []byte { return pack(gzip.Header{Name: "evil"}, a) },
		"comment":    func(a []byte) []byte { return pack(gzip.Header{Comment: "evil"}, a) },
		"field":      func(a []byte) []byte { return pack(gzip.Header{Extra: []byte("SG\x16\x000000000000000000STARGZ")}, a) },
		"parts":      func(a []byte) []byte { return pack(gzip.Header{}, a[:512], a[512:]) },
		"empty part": func(a []byte) []byte { return pack(gzip.Header{}, a, nil) },
	}
	all := map[string]func(*imagetest.Image){}
	for _, kind := range kinds {
		all["a layer's compression with another "+kind] = func(f *imagetest.Image) {
			_, layer := f.Find(runDir + "/nix-hydra.json")
			layer.Pack = known[kind]
		}
	}
	return all
}
