package nixproot

// row is a line of the page for a message that says itself what to do, or is not of a build.
type row struct{ message, meaning string }

// warnings are what a build says and goes on after, in the order in which it does.
func warnings() []row {
	return []row{
		{"Service binding not used:", "the binding is for another buildpack, or its type is misspelt; the line says which"},
		{"and takes info or debug", "the value of `BP_LOG_LEVEL` does nothing here: [a log that tells more](#a-log-that-tells-more)"},
		{"these settings do nothing:", "another setting decides already where the store paths come from, or they are not for flakes. " +
			"Leave out the one that is not meant"},
		{"source's .git cannot be read, and so its revision is not known", "the build goes on; only Hydra is asked by revision. " +
			"`BP_NIX_GIT_REV` says it"},
		{"Mounted in the source, and no part of it", "a volume of the platform's lies in the source: what it holds is neither evaluated nor removed"},
		{"is unknown and ignored", "a setting in a cache's URL is not one of Nix's (`?priority=`, `?region=` and their like): it is misspelt"},
		{"requests are not signed", "of a cache in S3: nothing gives AWS credentials, so only a public bucket answers. `AWS_ACCESS_KEY_ID` and " +
			"`AWS_SECRET_ACCESS_KEY` in the build's environment do"},
		{"no answer yet; it is used as soon as there is one", "a cache is slow to answer, and the build does not wait for it"},
		{"Every build evaluates this source anew", "the expression reads the clock, or fetches what no hash pins, at the place that follows: pin it, and builds " +
			"without a change take seconds less"},
		{"The cached Nix cannot be used", "the build's cache was altered: Nix is installed anew, which costs time once"},
		{"hat was kept of earlier evaluations is", "the same, of what evaluation keeps"},
		{"Hydra has renamed jobset", "the name in `BP_NIX_HYDRA_JOB` works as long as Hydra keeps the old one: write the new one"},
		{"left running, and this build ended", "`heroku-compile-hook` has started what did not end with it: have it wait, or end it"},
		{"Emptied, as their directories belong to another user", "files that could not be removed are empty in the image: [the source](source.md)"},
		{"the proxy in … is not a URL: it is ignored", "write the proxy of that variable as a URL, in which an IPv6 address stands in brackets and its zone " +
			"behind %25: `http://[fe80::1%25eth0]:8080`"},
		{"not used:", "of a binary cache: it does not answer as one, for the reason that follows. If no cache can be used, that is an error"},
		{"disabled for … s:", "of a binary cache, mostly `disabled for 60 s`: it failed, answers what it should not, or is later than another one, as what follows says. For a minute it is " +
			"asked only where no other cache has a path"},
		{"is not read: the file's name has to be", "to a build, `Procfile.txt` or `procfile` is another file than `Procfile`. Rename it"},
		{"the process type … becomes", "a Procfile's process types have small letters, digits and `-`. Write it as the line says"},
		{"was given in line … too; this line counts", "the Procfile has the process type twice. Remove one"},
		{"and the outputs have several programs or none: the image has no process type",
			"nothing says what to start. Add a Procfile, or give the derivation `meta.mainProgram`"},
		{"has shell syntax and the closure has no shell", "see [command lines](engines.md#command-lines); an empty run image has no shell either"},
		{"of the source, which the image does not keep", "the source is removed from the image, but for the Procfile and what `BP_INCLUDE_FILES` names: " +
			"where the app needs the file, add it there. Where the word is no file's name, nothing is wrong"},
		{"which no output has in its bin directory", "the Procfile's program is misspelt, or belongs to a path that is no output: add that " +
			"to the expression's outputs. What the run image or another buildpack has is found, too"},
		{"comes after this buildpack in the order", "its process types will count: see [a procfile buildpack](composition.md#a-procfile-buildpack)"},
		{"which no file of the source matches", "a pattern of `BP_INCLUDE_FILES` is misspelt, or the file was left out of the upload. " +
			"Patterns are separated by colons"},
		{": a full build", "the build's cache has no record of the previous image, or not a good one: it is new, emptied, or was not given (`pack build --cache-image` " +
			"in CI, kpack's `spec.cache`). All is fetched once more"},
		{"made anew, as the previous image does not have what the last build made of them", "the cache is of another build than the image, as after a failed export: the layers are exported once more"},
		{"may stand still at", "[what it is, and what helps](limits.md#what-helps)"},
	}
}

// selfExplaining are errors that say what to do.
func selfExplaining() []row {
	return []row{
		{"Procfile line …, column …:", "the line could not be run; the mark below it stands where"},
		{"the service binding … of type …", "a key is unknown, missing, empty, given twice, or does not go with another; the message has the keys that there are " +
			"([private caches](../README.md#private-caches))"},
		{"a link that leads nowhere; correct the link or remove it", "a file of a service binding cannot be read, be it for this buildpack or another"},
		{"which is no regular file; remove it", "the same, of a pipe or device"},
		{"it is a link to what is not in the source …; put the file itself there", "the expression that was found is a link that leads out of the source"},
		{"; it takes …", "the setting has another value than it may have"},
		{"and the source has no such file", "`BP_NIX_FILE`, `BP_NIX_FLAKE` or `NIXPKGS_CONFIG` names what is not in the upload: misspelt, not committed, or excluded"},
		{"and BP_NIX_HYDRA_URL does not say which Hydra has it", "the two go together"},
		{"reading BP_NIX_TRUSTED_PUBLIC_KEYS:", "a key is the line that `nix-store --generate-binary-cache-key` wrote: `name:base64`"},
		{"its paths live in", "the cache is for a Nix whose store is not `/nix/store`, and of no use here"},
		{"the file is not the one that this buildpack pins", "what came for Nix or PRoot has another checksum: a mirror or proxy serves another version, or a page"},
		{"give a service binding of type dependency-mapping", "Nix or PRoot cannot be downloaded; [offline and mirrors](../README.md#offline-and-mirrors)"},
		{"it runs in the source directory at build time, and its own output is above", "`heroku-compile-hook` failed"},
		{"there is nothing to put into the image but", "the expression has a `heroku-compile-hook` and no app: name it in `BP_NIX_ATTRS`, too"},
	}
}

// atStart are messages of the launcher.
func atStart() []row {
	return []row{
		{": no such program:", "no directory of `PATH` has the program: it is misspelt, or of a path that is no output. What the closure offers is listed"},
		{": no such file", "the same, of a program that is named with its directory. A file of the source is in the image only where `BP_INCLUDE_FILES` names it"},
		{"its interpreter … is not in the image", "the script's first line, or the program, names one of an operating system (`/bin/sh`, `/usr/bin/env`): have Nix " +
			"put its own there (`patchShebangs`, `autoPatchelfHook`), or take [a run image that has it](engines.md#what-a-bare-run-image-lacks)"},
		{"is not executable", "for the image's user. A file of the source needs its bit before it is committed (`git update-index --chmod=+x`), or is given to its interpreter"},
		{"neither a program for this machine nor a script with a #! line", "write the interpreter into the first line, or before the program in the Procfile"},
		{"a program for …, and this machine is …", "the image, or this program in it, is for another architecture"},
		{"no engine can give … to the app on this platform", "the closure could not be relocated, and the platform denies what the other engines need. The message has " +
			"what denies it and numbers what helps; see [engines](engines.md)"},
		{"this image's closure is not relocated", "`BPL_NIX_ENGINE=relocate` asks for what the image does not have: unset it, or build with `BP_NIX_ENGINE=relocate`"},
		{"want one of auto, relocate, native, userns, proot", "correct `BPL_NIX_ENGINE`"},
		{"arguments were given, but the line does not end in a plain command", "say in the Procfile's line where they belong: `\"$@\"`"},
		{"finding launch configuration, parsing launch configuration", "the launcher was taken out of its place in the image, or is another version's: build the image again"},
	}
}

// ofOthers are messages that are not of this buildpack, with the reasons that have to do with it.
func ofOthers() []row {
	return []row{
		{"refusing to evaluate", "nixpkgs does not evaluate what has an unfree licence, a known vulnerability or a mark as broken. Give the build " +
			"`NIXPKGS_ALLOW_UNFREE=1` or its like ([settings](../README.md#settings)), which flakes do not see, or say so where nixpkgs is imported: " +
			"`import nixpkgs { config.allowUnfree = true; }`"},
		{"signal: killed, exit status 137", "there was no more memory: give the build's container more, or have fewer paths fetched at once (`BP_NIX_CONCURRENCY`)"},
		{"No buildpack groups passed detection", "this buildpack says `SKIPPED` or an error in the lines before: the source has none of the files that it looks for, or " +
			"they did not get into the upload (`project.toml`'s exclude, `.gitignore`, another directory). Without a line of its own it is not in the order: name it with `--buildpack` or in `project.toml`"},
		{"failed to fetch base layers: … EOF", "after minutes at `Saving`: [what helps](limits.md#what-helps)"},
		{"failed to launch: bash exec", "a later buildpack has replaced the process type: [a procfile buildpack](composition.md#a-procfile-buildpack)"},
	}
}
