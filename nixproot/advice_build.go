package nixproot

import (
	"cmp"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/appdir"
	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

func settingsAdvice() []advice {
	return []advice{
		{err: with(func(e *misspeltError) facts { return facts{"setting": e.Meant, "name": e.Name}.when(e.Meant != "") }),
			message: "is no setting of this buildpack; did you mean …",
			cause:   "A variable begins as this buildpack's settings do, or differs from one by an S at its end, and is none: it would do nothing.",
			steps:   []string{"write {setting}, or leave {name} out"}},
		{err: with(func(e *misspeltError) facts { return facts{"name": e.Name} }),
			message: "is no setting of this version of the buildpack",
			cause:   "The same, with no setting that is written nearly so: one of another version, perhaps, or of something else.",
			steps:   []string{"leave {name} out, or look up its name in the README of this version, which its image has"}},
		{err: is[*narinfo.SecretKeyError], message: "this is a secret key",
			cause: "A setting or a service binding has the key that signs in the place of the one that signatures are checked with. Secret keys " +
				"belong nowhere but with whoever signs.",
			steps: []string{"give the public key (nix key convert-secret-to-public), and replace the pair if somebody may have seen the secret one"}},
	}
}

func procfileAdvice() []advice {
	return []advice{
		{err: where(func(e *procfile.FileError) bool { return e.Kind == procfile.BadLink }),
			message: "reading Procfile: it is a link that leads nowhere, it is a link to what is not in the source",
			cause: "The Procfile is a symbolic link, and the upload has no file that it leads to: it leads out of the source, say, or into a " +
				"submodule that was not checked out.",
			steps: []string{"have the link lead to a file of the source, or put the file itself there, or remove the link"}},
		{err: where(func(e *procfile.FileError) bool { return e.Kind == procfile.BadFile }),
			message: "reading Procfile: … it is no regular file, it has more than … bytes",
			cause:   "The Procfile is a directory, a pipe or the like, or is too large to be one.",
			steps:   []string{"make it a file with a line for each process type, for example web: run_proot.sh myapp"}},
		{err: where(func(e *procfile.FileError) bool { return e.Kind == procfile.BadEncoding }),
			message: "reading Procfile: it is UTF-16, it is not UTF-8",
			cause:   "The Procfile was saved in another encoding, as Windows' tools do.",
			steps:   []string{"save it as UTF-8; in PowerShell, Set-Content -Encoding utf8 does in place of >"}},
	}
}

func evaluationAdvice() []advice {
	return []advice{
		{err: where(func(e *nixinstall.MissingAttrError) bool {
			return !e.Derivation && foreignSystem(e) == "" && len(e.Have) > 0
		}), message: "evaluating attribute …: there is no …",
			cause: "The expression does not have what `BP_NIX_ATTRS` (or `NIX_ATTRIBUTES`) or `BP_NIX_FLAKE` names; the message lists what it has.",
			steps: []string{"set BP_NIX_ATTRS to one of the attributes that there are, or what follows # in BP_NIX_FLAKE"}},
		{err: with(func(e *nixinstall.MissingAttrError) facts {
			system := foreignSystem(e)
			return facts{"attribute": e.Attr, "system": system, "platform": platformOf(e.Have, system)}.when(!e.Derivation && system != "")
		}), message: "evaluating attribute …: there is no … (a system, and it has others)",
			cause: "The expression or the flake is for other systems than the image's.",
			steps: []string{"have it give {attribute}: add {system} to the systems of `packages` in flake.nix, or to supportedSystems in " +
				"release.nix,\nand a build of it to the jobset, with a build machine for it", "build the image for {platform}"}, or: "; or"},
		{err: where(func(e *nixinstall.MissingAttrError) bool { return e.Derivation }),
			message: "what it is looked for in is a derivation itself",
			cause:   "The expression is one derivation and not a set of them.",
			steps:   []string{"leave BP_NIX_ATTRS unset: the expression is the derivation itself"}},
		{err: evaluationSays(`^path '(?P<file>[^/'][^']*)' does not exist$`), message: "path … does not exist",
			cause: "The expression reads a file that the source of this build does not have.",
			steps: []string{"see whether {file} is committed, and whether .gitignore or project.toml's [io.buildpacks] exclude " +
				"leaves it out of the upload"}},
		{err: anyOf(is[*roots.NoDerivationError], evaluationSays("not a derivation or a set of them"),
			where(func(e *nixinstall.MissingAttrError) bool { return len(e.Have) == 0 })),
			message: "it gives no derivation; not a derivation or a set of them",
			cause:   "What was evaluated is no derivation, or a set without one in it.",
			steps: []string{"have it give a derivation, as pkgs.callPackage ./package.nix { } does, or a set of them",
				"where one lies deeper, name it with BP_NIX_ATTRS"}, or: ", or"},
		{err: with(func(e *nixinstall.EvalError) facts {
			if len(e.Unset) == 0 {
				return nil
			}
			return facts{"argument": e.Unset[0], "file": cmp.Or(e.File, "default.nix"), "caller": callerOf(e.File)}
		}), message: "an argument that has no default, arguments that have no default",
			cause: "The expression is a function that wants an argument for which it has no default.",
			steps: []string{"if it is a text, give it: BP_NIX_ARGS={argument}=…",
				"if it is a package, write a file that calls this one with it and name it, BP_NIX_FILE={caller}:\n" +
					"    let pkgs = import (builtins.fetchTarball { url = …; sha256 = …; }) { }; in pkgs.callPackage ./{file} { }"}, or: ", or"},
		{err: evaluationSays("was not found in the Nix search path"), message: "was not found in the Nix search path",
			cause: "`<nixpkgs>` or the like is used, and there is no search path here but `BP_NIX_PATH`.",
			steps: []string{"pin nixpkgs inside the expression, so that every machine evaluates the same",
				"set BP_NIX_PATH, for example BP_NIX_PATH=nixpkgs=https://example.org/nixpkgs.tar.gz"}, or: ", or"},
		{err: where(func(e *nixinstall.EvalError) bool { return e.Unlocked }), message: "flake.lock does not hold the input …",
			cause: "A flake's inputs are those of its lock file. One that is not in there, or another one there, would be whatever its address has today.",
			steps: []string{"run nix flake lock and commit flake.lock"}},
		{err: where(func(e *nixinstall.EvalError) bool { return e.Pure }), message: "a flake is evaluated purely",
			cause: "So does Hydra: there is no clock, no current system and no variable, and nothing is read outside of the flake and its " +
				"locked inputs.",
			steps: []string{"take the system from the output's name (packages.<system>), give every fetch its hash, and make what differs an " +
				"input of the flake", "have an expression evaluated in place of the flake: BP_NIX_FILE=default.nix"}, or: ", or"},
		{err: with(func(e *nixinstall.EvalError) facts { return facts{"directory": e.Unfetched}.when(e.Unfetched != "") }),
			message: "… does not exist, of a path below /nix/store that a flake fetches",
			cause: "`fetchTree`, `getFlake` and `file://` addresses look for /nix/store in the file system, where it is not during a " +
				"build. What a flake's outputs fetch is found all the same, but not what it fetches before it has any, as in " +
				"`outputs = inputs: import (fetchTree …)`.",
			steps: []string{"have the flake take {directory} by builtins.path, which reads it through the store, or as an input of its own " +
				"(inputs.NAME.url = \"path:./DIRECTORY\")"}},
		{err: with[*nixinstall.EvalError](unreachedHost),
			message: "unable to download '…': Could not connect to server",
			cause: "What the expression fetches is on a host that cannot be reached from here: it is down, behind a proxy, or has IPv4 " +
				"alone where the build has IPv6 alone, or the other way round.",
			steps: []string{"upload what is fetched from {host} to a cache that is asked (nix copy --to …): a flake's locked inputs, and what " +
				"fetchTarball has a hash for, come from there",
				"let the build go through a proxy that reaches {host}, HTTPS_PROXY (HTTP_PROXY for http://)",
				"name the job, with which nothing is evaluated: BP_NIX_HYDRA_URL=https://your.hydra and " +
					"BP_NIX_HYDRA_JOB=project/jobset/job"}, or: "; or"},
		{err: evaluationSays(`experimental Nix feature '(?P<feature>[a-z0-9-]+)' is disabled`),
			message: "experimental Nix feature … is disabled",
			cause: "The expression uses what Nix has only where somebody asks for it. Features of the language are taken from `NIX_CONFIG` " +
				"of the build, and from nowhere else: not from the `nixConfig` of a flake.",
			steps: []string{`set NIX_CONFIG="extra-experimental-features = {feature}"`}},
		{err: with(func(e *nixinstall.WouldBuildError) facts { return facts{"names": strings.Join(e.Names(), ", ")} }),
			message: "would have to be built, and no substituter has it",
			cause:   "Evaluation reads the output of a derivation (import from derivation), and nothing is compiled here.",
			steps:   []string{buildIt, nameIt}, or: ", or"},
		{finding: roots.Imported, message: "which has to be built or fetched by a builder first",
			cause: "The same, where the caches have been looked through.",
			steps: []string{buildIt + ", or " + nameIt}},
		{finding: roots.Fetched, message: "the expression imports what a builder has to fetch first",
			cause: "Mostly it is nixpkgs, fetched by `fetchFromGitHub` at a revision that Hydra has not built with yet.",
			steps: []string{"fetch it by what needs no builder and gives the same path: " +
				"builtins.fetchTarball { url = \"{url}\"; sha256 = \"{hash}\"; }\nor " + buildIt + ", or " + nameIt}},
	}
}

func imageAdvice() []advice {
	return []advice{
		{err: with(func(e *closure.BlockedError) facts { return facts{"globs": cmp.Or(harmlessSetting(e.Blockers), none)} }),
			message: "relocating closure",
			cause:   "A file holds a store path where it cannot be rewritten.",
			steps: []string{"leave BP_NIX_ENGINE at auto: the app then runs by userns or proot, where the platform allows it",
				"if the app does not read these files, or not the store paths in them, say so: BP_NIX_HARMLESS={globs}",
				"build the paths named above without the files named there"}, or: ", or"},
		{err: with(func(e *machineError) facts {
			if runsOn[e.Machine] == nil { // of images there are those for two
				return facts{"system": e.System, "machine": none}
			}
			return facts{"system": e.System, "machine": e.Machine}
		}), message: "checking programs: … is for …, and the image is for …",
			cause: "The closure was built for another machine than the image is for.",
			steps: []string{"name the store path that was built for {system}: have Hydra build it for that system too (add it to the systems " +
				"of the jobset)",
				"build the image for {machine}, with a builder and run image of that architecture"}, or: ", or"},
		{err: is[*relocate.TooLongError], message: "the directory has … characters and may have …",
			cause: "Store paths are rewritten at equal length, and the layers directory leaves too few characters for their hashes.",
			steps: []string{"use a shorter layers directory, or leave BP_NIX_ENGINE at auto"}},
		{err: with(func(e *appdir.ForeignError) facts {
			return facts{"source": e.Dir, "copy": filepath.Join(filepath.Dir(e.Layers), "workspace")}
		}), message: "seems to be somebody's checkout and not a copy",
			cause: "The source does not lie beside the layers, as a platform's copy does, and would be removed.",
			steps: []string{"run the lifecycle on a copy beside the layers directory, for example cp -a {source} {copy}",
				"where the source may be removed from {source}, say so: BP_NIX_REMOVE_SOURCE=true"}, or: ", or"},
		{err: with(func(e *appdir.UnremovableError) facts { return facts{"file": e.Files[0]} }),
			message: "must not get into the image and cannot be removed",
			cause: "The file and its directory belong to another user, or nobody may change them: they are mounted read-only, or have an " +
				"attribute that forbids it (chattr).",
			steps: []string{"let it stay in the image: BP_INCLUDE_FILES={file}",
				"leave it out of the upload: project.toml's [io.buildpacks] exclude",
				"upload it with its directories, so that they belong to the user who builds"}, or: ", or"},
		{err: is[*appdir.LongPathError], message: "a path … is longer than 4095 bytes, which Linux does not take",
			cause: "Directories lie so deep in each other that no program can name the last of them: often the leavings of a test, or " +
				"a directory that was copied into itself.",
			steps: []string{"remove it from the source",
				"leave it out of the upload: project.toml's [io.buildpacks] exclude"}, or: ", or"},
		{err: is[*nar.SpecialError], message: "a … cannot be archived (a named pipe, a socket, a device)",
			cause: "The expression copies a directory of the source that has a pipe, a socket or a device in it, of which there is none in Nix's " +
				"store.",
			steps: []string{"remove it from the source",
				"leave it out of the upload: project.toml's [io.buildpacks] exclude"}, or: ", or"},
		{err: sentinel(syscall.ENOSPC), message: "no space left on device",
			cause: "The disk is full that the build writes its layers to, or the volume that it has for them.",
			steps: []string{"make room there: with pack it is the Docker engine's disk (docker system df says what takes it), with kpack that of " +
				"the build's node, and of the volume in spec.cache.volume"}},
	}
}
