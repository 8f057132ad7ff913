package nixproot

import (
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

func notCachedAdvice() []advice {
	return []advice{
		{finding: roots.Configured, message: "lists what is not obeyed here",
			cause: "`nixConfig` of a flake, a `nix.conf` of the source or `NIX_CONFIG` names caches and keys. They are not obeyed: " +
				"whoever can write to the source could say with them whom to trust.",
			steps: []string{"if you trust them:\nNIX_EXTRA_BINARY_CACHE=\"{caches}\"\nBP_NIX_TRUSTED_PUBLIC_KEYS=\"{keys}\""}},
		{finding: roots.ExtraFiles, message: "in the upload, not in git",
			cause: "An expression that copies `./.` copies these, too, and the output's hash is another one.",
			steps: []string{"remove them before the upload (git clean -xd --dry-run lists them), or name them in " +
				"project.toml's [io.buildpacks] exclude; or commit them, so that Hydra has them, too"}},
		{finding: roots.MissingFiles, message: "in git, not in the upload",
			cause: "The upload leaves out what Hydra has.",
			steps: []string{"upload them: look into project.toml's [io.buildpacks] exclude, and on Heroku into .slugignore"}},
		{finding: roots.ChangedFiles, message: "different, different in line endings",
			cause: "The upload has other contents than the commit.",
			steps: []string{"commit and push the changes and let Hydra build them, or git stash them before the upload; of what git LFS keeps, Hydra " +
				"has the pointers only"}},
		{finding: roots.LostModes, message: "different in the executable bit, or no symbolic link any more",
			cause: "The way of uploading loses modes or links.",
			steps: []string{"upload in a way that keeps modes and links: from a checkout, not from an archive"}},
		{finding: roots.Clock, message: "evaluating it again a second later gives another path",
			cause: "The expression reads the clock.",
			steps: []string{"take builtins.currentTime out: nobody can have built what is different every second"}},
		{finding: roots.Environment, message: "variables of the environment are read",
			cause: "`builtins.getEnv` gives the empty string here, and may give something else on Hydra.",
			steps: []string{"make it an argument with a default, and give its value in BP_NIX_ARGS=name=value"}},
		{finding: roots.SearchPath, message: "the search path is used",
			cause: "On Hydra `<nixpkgs>` is the jobset's input of this name, here what `BP_NIX_PATH` says.",
			steps: []string{"pin it in the expression, or set BP_NIX_PATH to the very revision of the jobset's input, for example\n" +
				"BP_NIX_PATH=nixpkgs=https://github.com/NixOS/nixpkgs/archive/<revision>.tar.gz"}},
		{finding: roots.Unpinned, message: "something is fetched whose content is not pinned",
			cause: "It may be another one today than when Hydra fetched it.",
			steps: []string{"give it a revision and a sha256"}},
		{err: with(func(e *hydra.SystemError) facts {
			return facts{"system": e.System, "platform": platformOf(e.Have, e.System)}.when(twinJob(e) == "")
		}), message: "for x86_64-linux, not for aarch64-linux",
			cause: "The jobset builds for another system than the image is for.",
			steps: []string{"add {system} to the jobset: to supportedSystems in release.nix, or as hydraJobs.<job>.{system} in flake.nix, " +
				"and a build machine for it to Hydra",
				"build the image for {platform}"}, or: "; or"},
		{finding: roots.HydraUnknown, message: "no binary cache has …, and nothing is compiled here: Hydra may not build this at all",
			cause: "Hydra may not build this at all, may not have finished building this revision, or does not upload to the caches " +
				"that were asked.",
			steps: []string{"set BP_NIX_HYDRA_URL=https://your.hydra to have it asked, and BP_NIX_HYDRA_JOB=project/jobset/job and " +
				"BP_NIX_HYDRA_WAIT=30m to take its build without evaluating"}},
	}
}

func hydraAdvice() []advice {
	return []advice{
		{finding: roots.HydraServes, message: "Hydra has built it, but no cache that was asked has it; Hydra serves it itself, signed",
			cause: "Hydra is a binary cache, and is not listed as one.",
			steps: []string{"add Hydra itself as a cache: NIX_EXTRA_BINARY_CACHE={hydra}\nand the public key {key} to " +
				"BP_NIX_TRUSTED_PUBLIC_KEYS"}},
		{finding: roots.HydraUnsigned, message: "Hydra serves it itself, without a signature",
			cause: "Hydra is a binary cache without a key, so that nothing proves that what comes from it is what it built.",
			steps: []string{"have it signed: `nix-store --generate-binary-cache-key` makes a key, binary_cache_secret_key_file in hydra.conf " +
				"names it; then NIX_EXTRA_BINARY_CACHE={hydra}\nand its public key in BP_NIX_TRUSTED_PUBLIC_KEYS",
				"have Hydra upload to a cache that signs, and name that one; " + onlyWay}, or: "; or"},
		{err: with(func(e *roots.UnsignedRootError) facts { return facts{"path": e.Path.String()} }),
			message: "that it is content-addressed says nothing of who made it",
			cause:   "Hydra chose this path. Its content address proves what is in it, and no trusted key says that it is meant to run here.",
			steps: []string{"have it signed: `nix store sign -k KEY -r {path}`, and upload it again; or a cache whose " +
				"secret-key-files sign what Hydra builds", "name it yourself, without Hydra: BP_NIX_STORE_PATH={path}"}, or: "; or"},
		{finding: roots.Collected, message: "it has been garbage-collected from Hydra's own store",
			cause: "The build's outputs are gone; its page still says that it succeeded.",
			steps: []string{"restart the build on its page, and keep it (Keep), or have the jobset keep more evaluations"}},
		{finding: roots.Uploaded, message: "Hydra has built it, but no cache that was asked has it",
			cause: "Hydra uploads to another cache, or has not finished uploading.",
			steps: []string{"name the cache that this Hydra uploads to in NIX_EXTRA_BINARY_CACHE, and its key in " +
				"BP_NIX_TRUSTED_PUBLIC_KEYS;\nif it is named, the upload may still be under way"}},
		{finding: roots.NeverBuilt, message: "no job gives it",
			cause: "No build of this Hydra ever had an output of this name.",
			steps: []string{"add it to the jobset, for example to release.nix: {name} = import ./{file} { };"}},
		{finding: roots.OtherRevision, message: "Hydra has built …, last from …, not from …",
			cause: "Hydra has not built this commit, or it changed nothing for Hydra.",
			steps: []string{"push this commit to the branch that Hydra follows and have it waited for:\nBP_NIX_HYDRA_JOB={job}\n" +
				"BP_NIX_HYDRA_WAIT=30m"}},
		{finding: roots.Unfinished, message: "Hydra has not finished building it",
			cause: "Hydra has this very build in its queue, or builds it.",
			steps: []string{"deploy again when it is done, or have it waited for:\nBP_NIX_HYDRA_JOB={job}\nBP_NIX_HYDRA_WAIT=30m"}},
		{finding: roots.OtherDerivation, message: "Hydra has built this revision, and the two differ",
			cause: "What Hydra evaluated is not what was evaluated here: other arguments, inputs or files.",
			steps: []string{takeJob}},
		{finding: roots.DeepClone, message: "of the jobset is a deep clone",
			cause: "A git input with a third word keeps its `.git`.",
			steps: []string{takeJob + "\nor take the third word out of the jobset's input"}},
		{finding: roots.Submodules, message: "Hydra checks submodules out one level deep",
			cause: "An expression that copies `./.` copies these, too, and the output's hash is another one.",
			steps: []string{"check submodules out as Hydra does, without --recursive, or make the nested ones the repository's own"}},
		{err: where(func(e *hydra.LoginError) bool { return e.Refused == hydra.RefusedOtherwise }), message: "it wants a log-in",
			cause: "The Hydra is private, or a proxy before it wants a login.",
			steps: []string{"add a service binding of type nix-binary-cache with Hydra's address as url, username and password"}},
		{err: where(func(e *hydra.LoginError) bool { return e.Refused == hydra.RefusedPassword }),
			message: "user name or password is wrong: Bad username or password.",
			cause:   "Hydra does not accept the login of the service binding.",
			steps:   []string{"correct username and password of the service binding for Hydra's host"}},
		{err: with(func(e *hydra.LoginError) facts { return facts{"hydra": e.HydraURL} }), message: "POST requests should come from …",
			cause: "Hydra takes another address for its own than the one it is asked at, and refuses the log-in; mostly a proxy before " +
				"it does not pass the host's name on.",
			steps: []string{"ask it at the address that it names: BP_NIX_HYDRA_URL={hydra}",
				"have the proxy before Hydra pass its own address on (nginx: proxy_set_header Host $host, X-Forwarded-Proto " +
					"$scheme, X-Request-Base), with using_frontend_proxy 1 in hydra.conf"}, or: ", or"},
		{err: is[*hydra.NotHydraError], message: "the server there is not a Hydra",
			cause: "The address is a cache's, a web site's, or nobody's.",
			steps: []string{"set BP_NIX_HYDRA_URL to Hydra's front page, the page that lists its projects"}},
		{err: with(func(e *hydra.NotFrontPageError) facts { return facts{"hydra": e.Front} }), message: "is not Hydra's front page",
			cause: "The address leads to a page of Hydra, or to none.",
			steps: []string{"set BP_NIX_HYDRA_URL={hydra}"}},
		{err: is[*hydra.JobsetNotFoundError], message: "Hydra has no such project, Hydra has no such jobset",
			cause: "It is misspelt, or hidden from who is not logged in.",
			steps: []string{"correct BP_NIX_HYDRA_JOB, which is project/jobset/job, by what there is"}},
		{err: is[*hydra.JobNotFoundError], message: "has no such job",
			cause: "It is misspelt, was removed, or does not evaluate; the message has Hydra's error where there is one.",
			steps: []string{"correct BP_NIX_HYDRA_JOB by the jobs there are, or fix the error that is quoted"}},
		{err: with(func(e *hydra.SystemError) facts { return facts{"system": e.System, "job": twinJob(e)} }),
			message: "finding job … for …: Hydra builds it … (for the system that is in its name)",
			cause:   "The setting comes from an image for the other architecture.",
			steps: []string{"where Hydra has a job of that name for {system}, name it: BP_NIX_HYDRA_JOB=<project>/<jobset>/{job}",
				"add {system} to the jobset, and a build machine for it to Hydra"}, or: "; or"},
		{err: sentinel(roots.ErrNoRevision), message: "the revision of this source is not known",
			cause: "Hydra is asked by commit, and neither `.git` nor the platform tells it.",
			steps: []string{"set BP_NIX_GIT_REV to the commit, or to latest or latest-finished"}},
		{err: where(func(e *hydra.RevisionNotFoundError) bool { return !e.Disabled }), message: "none of its … evaluations has it",
			cause: "Hydra lists an evaluation only where it changed a build. The commit is not pushed, not evaluated yet, changed " +
				"nothing, or is of another repository.",
			steps: []string{"wait for it: BP_NIX_HYDRA_WAIT=30m, or",
				"where one of the revisions listed builds the same, set BP_NIX_GIT_REV to it, or to latest",
				"where another repository is named, set BP_NIX_GIT_URL to the address that the jobset's input has"}},
		{err: anyOf(is[*hydra.RevisionError], is[*hydra.AmbiguousRevisionError]),
			message: "it is the name of a branch or tag, not a commit; it is short for several",
			cause:   "Hydra is asked by commit.",
			steps:   []string{"set BP_NIX_GIT_REV to what git rev-parse HEAD prints"}},
		{err: where(func(e *hydra.RevisionNotFoundError) bool { return e.Disabled }),
			message: "is disabled, so Hydra does not evaluate it",
			cause:   "An administrator has switched the jobset or its project off: no evaluation will come.",
			steps: []string{"have it enabled in Hydra",
				"take what was built before: BP_NIX_GIT_REV=latest"}, or: ", or"},
		{err: anyOf(is[*hydra.NotFinishedError], is[*hydra.NoBuildError]), message: "is not finished, no wait is allowed, waited …",
			cause: "The build is queued or running.",
			steps: []string{"deploy again when it is done, or have it waited for: BP_NIX_HYDRA_WAIT=30m"}},
		{err: is[*hydra.BuildFailedError], message: "build … of … failed",
			cause: "Hydra could not build it; the message names the steps and their logs.",
			steps: []string{"look at the log, fix the build, push again"}},
		{err: is[*hydra.BuildDeletedError], message: "it has been deleted",
			cause: "The build was there a moment ago.",
			steps: []string{"deploy again: Hydra may have evaluated the jobset anew"}},
		{err: is[*hydra.SearchTimeoutError], message: "searching Hydra for …: it took too long",
			cause: "Of what a search looks through only derivations have an index in Hydra's database, and the rest has 20 seconds.",
			steps: []string{"name the job, so that nothing has to be searched for: BP_NIX_HYDRA_JOB=project/jobset/job"}},
		{err: where(func(e *hydra.AnswerError) bool { return e.Page }),
			message: "it answers a question for JSON with one of its pages",
			cause: "Hydra has a page and JSON at the same address, by what is accepted. A proxy before it has kept the one and gives it in place " +
				"of the other.",
			steps: []string{"have the proxy before Hydra heed what Hydra says of its answers, Vary: Accept, or keep none of them"}},
		{err: is[*hydra.AnswerError], message: "Hydra could not be asked, no answer came in time",
			cause: "Hydra is overloaded, being restarted, or not reachable from here.",
			steps: []string{"try again, or check BP_NIX_HYDRA_URL; 60 seconds are allowed per answer"}},
	}
}
