package nixproot

import (
	"regexp"

	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// advice is one entry of what can go wrong: what is said then, what it means, and what to do about it. The page
// docs/troubleshooting.md is made of these. Words in braces stand for what is known when it happens.
type advice struct {
	topic topic
	// message is the phrase of the error by which it is looked for.
	message string
	// cause is what it means, for the page.
	cause string
	// fixes are what to do, each with the line to add; the nearest first.
	fixes []string
}

// topic names an entry.
type topic string

// The entries, by where things go wrong. Those of findings are named by their kinds.
const (
	topicMisspelt       topic = "misspelt"
	topicUnknownSetting topic = "unknown-setting"
	topicSecretKey      topic = "secret-key"
	topicProcfileLink   topic = "procfile-link"
	topicProcfileFile   topic = "procfile-file"
	topicProcfileText   topic = "procfile-text"
	topicAttribute      topic = "attribute"
	topicAbsentSystem   topic = "absent-system"
	topicOwnDerivation  topic = "derivation"
	topicNoDerivation   topic = "no-derivation"
	topicAbsentFile     topic = "absent-file"
	topicArgument       topic = "argument"
	topicSearchPath     topic = "search-path"
	topicWouldBuild     topic = "would-build"
	topicUnfetched      topic = "fetched-path"
	topicUnreached      topic = "unreached"
	topicFeature        topic = "experimental-feature"
	topicUnlocked       topic = "unlocked"
	topicPure           topic = "pure"
	topicOtherSystem    topic = "other-system"
	topicUnsigned       topic = "unsigned"
	topicUntrusted      topic = "untrusted"
	topicAltered        topic = "altered"
	topicNoKeys         topic = "no-keys"
	topicLogin          topic = "login"
	topicDown           topic = "down"
	topicProxyLogin     topic = "proxy-login"
	topicProxy          topic = "proxy"
	topicProxyDown      topic = "proxy-down"
	topicHost           topic = "host"
	topicFamily         topic = "address-family"
	topicZone           topic = "zone"
	topicLoopback       topic = "loopback"
	topicRegion         topic = "bucket-region"
	topicS3             topic = "bucket-credentials"
	topicBucketDenied   topic = "bucket-denied"
	topicBucketName     topic = "bucket-name"
	topicAuthority      topic = "unknown-authority"
	topicAuthorities    topic = "authorities"
	topicHostName       topic = "host-name"
	topicExpired        topic = "expired"
	topicTLSPort        topic = "tls-port"
	topicPlainPort      topic = "plain-port"
	topicAbsent         topic = "absent"
	topicPrivate        topic = "private"
	topicInvalid        topic = "invalid"
	topicReference      topic = "reference"
	topicDefaultCache   topic = "default-cache"
	topicEndless        topic = "endless-closure"
	topicHydraLogin     topic = "hydra-login"
	topicHydraPassword  topic = "hydra-password"
	topicUnsignedRoot   topic = "unsigned-root"
	topicHydraReferer   topic = "hydra-referer"
	topicNotHydra       topic = "not-hydra"
	topicNotFront       topic = "not-front-page"
	topicJobset         topic = "jobset"
	topicJob            topic = "job"
	topicJobSystem      topic = "job-system"
	topicNoRevision     topic = "no-revision"
	topicRevision       topic = "revision"
	topicBranch         topic = "branch"
	topicDisabled       topic = "disabled"
	topicUnfinished     topic = "unfinished"
	topicFailed         topic = "failed"
	topicDeleted        topic = "deleted"
	topicSearch         topic = "search"
	topicPage           topic = "hydra-page"
	topicSilent         topic = "hydra-silent"
	topicBlocked        topic = "relocation"
	topicMachine        topic = "machine"
	topicTooLong        topic = "layers-directory"
	topicForeign        topic = "foreign-source"
	topicUnremovable    topic = "unremovable"
	topicLongPath       topic = "long-path"
	topicSpecialFile    topic = "special-file"
	topicDiskFull       topic = "disk-full"
)

// chapter is a part of the page.
type chapter struct {
	title   string
	entries []advice
}

// chapters are all entries, in the order of the page.
func chapters() []chapter {
	return []chapter{
		{"Settings", settingsAdvice()}, {"Procfile", procfileAdvice()}, {"Evaluation", evaluationAdvice()}, {"Binary caches", cachesAdvice()},
		{"No binary cache has it", notCachedAdvice()}, {"Hydra", hydraAdvice()}, {"The image", imageAdvice()},
	}
}

const (
	buildIt = "have Hydra build {names}, too, for example as a job of its own"
	nameIt  = "name a cache that has it: NIX_EXTRA_BINARY_CACHE=https://cache.example.org"
	onlyWay = "BP_NIX_REQUIRE_SIGS=false is the only way to do without"
	takeJob = "take Hydra's build without evaluating: BP_NIX_HYDRA_JOB={job}"
)

func settingsAdvice() []advice {
	return []advice{
		{topicMisspelt, "is no setting of this buildpack; did you mean …",
			"A variable begins as this buildpack's settings do, or differs from one by an S at its end, and is none: it would do nothing.",
			[]string{"write {setting}, or leave {name} out"}},
		{topicUnknownSetting, "is no setting of this version of the buildpack",
			"The same, with no setting that is written nearly so: one of another version, perhaps, or of something else.",
			[]string{"leave {name} out, or look up its name in the README of this version, which its image has"}},
		{topicSecretKey, "this is a secret key",
			"A setting or a service binding has the key that signs in the place of the one that signatures are checked with. Secret keys " +
				"belong nowhere but with whoever signs.",
			[]string{"give the public key (nix key convert-secret-to-public), and replace the pair if somebody may have seen the secret one"}},
	}
}

func procfileAdvice() []advice {
	return []advice{
		{topicProcfileLink, "reading Procfile: it is a link that leads nowhere, it is a link to what is not in the source",
			"The Procfile is a symbolic link, and the upload has no file that it leads to: it leads out of the source, say, or into a " +
				"submodule that was not checked out.",
			[]string{"have the link lead to a file of the source, or put the file itself there, or remove the link"}},
		{topicProcfileFile, "reading Procfile: … it is no regular file, it has more than … bytes",
			"The Procfile is a directory, a pipe or the like, or is too large to be one.",
			[]string{"make it a file with a line for each process type, for example web: run_proot.sh myapp"}},
		{topicProcfileText, "reading Procfile: it is UTF-16, it is not UTF-8",
			"The Procfile was saved in another encoding, as Windows' tools do.",
			[]string{"save it as UTF-8; in PowerShell, Set-Content -Encoding utf8 does in place of >"}},
	}
}

func evaluationAdvice() []advice {
	return []advice{
		{topicAttribute, "evaluating attribute …: there is no …",
			"The expression does not have what `BP_NIX_ATTRS` (or `NIX_ATTRIBUTES`) or `BP_NIX_FLAKE` names; the message lists what it has.",
			[]string{"set BP_NIX_ATTRS to one of the attributes that there are, or what follows # in BP_NIX_FLAKE"}},
		{topicAbsentSystem, "evaluating attribute …: there is no … (a system, and it has others)",
			"The expression or the flake is for other systems than the image's.",
			[]string{"have it give {attribute}: add {system} to the systems of `packages` in flake.nix, or to supportedSystems in " +
				"release.nix,\nand a build of it to the jobset, with a build machine for it; or", "build the image for {platform}"}},
		{topicOwnDerivation, "what it is looked for in is a derivation itself",
			"The expression is one derivation and not a set of them.",
			[]string{"leave BP_NIX_ATTRS unset: the expression is the derivation itself"}},
		{topicAbsentFile, "path … does not exist",
			"The expression reads a file that the source of this build does not have.",
			[]string{"see whether {file} is committed, and whether .gitignore or project.toml's [io.buildpacks] exclude " +
				"leaves it out of the upload"}},
		{topicNoDerivation, "it gives no derivation; not a derivation or a set of them",
			"What was evaluated is no derivation, or a set without one in it.",
			[]string{"have it give a derivation, as pkgs.callPackage ./package.nix { } does, or a set of them, or",
				"where one lies deeper, name it with BP_NIX_ATTRS"}},
		{topicArgument, "an argument that has no default, arguments that have no default",
			"The expression is a function that wants an argument for which it has no default.",
			[]string{"if it is a text, give it: BP_NIX_ARGS={argument}=…, or",
				"if it is a package, write a file that calls this one with it and name it, BP_NIX_FILE={caller}:\n" +
					"    let pkgs = import (builtins.fetchTarball { url = …; sha256 = …; }) { }; in pkgs.callPackage ./{file} { }"}},
		{topicSearchPath, "was not found in the Nix search path",
			"`<nixpkgs>` or the like is used, and there is no search path here but `BP_NIX_PATH`.",
			[]string{"pin nixpkgs inside the expression, so that every machine evaluates the same, or",
				"set BP_NIX_PATH, for example BP_NIX_PATH=nixpkgs=https://example.org/nixpkgs.tar.gz"}},
		{topicUnlocked, "flake.lock does not hold the input …",
			"A flake's inputs are those of its lock file. One that is not in there, or another one there, would be whatever its address has today.",
			[]string{"run nix flake lock and commit flake.lock"}},
		{topicPure, "a flake is evaluated purely",
			"So does Hydra: there is no clock, no current system and no variable, and nothing is read outside of the flake and its " +
				"locked inputs.",
			[]string{"take the system from the output's name (packages.<system>), give every fetch its hash, and make what differs an " +
				"input of the flake, or", "have an expression evaluated in place of the flake: BP_NIX_FILE=default.nix"}},
		{topicUnfetched, "… does not exist, of a path below /nix/store that a flake fetches",
			"`fetchTree`, `getFlake` and `file://` addresses look for /nix/store in the file system, where it is not during a " +
				"build. What a flake's outputs fetch is found all the same, but not what it fetches before it has any, as in " +
				"`outputs = inputs: import (fetchTree …)`.",
			[]string{"have the flake take {directory} by builtins.path, which reads it through the store, or as an input of its own " +
				"(inputs.NAME.url = \"path:./DIRECTORY\")"}},
		{topicUnreached, "unable to download '…': Could not connect to server",
			"What the expression fetches is on a host that cannot be reached from here: it is down, behind a proxy, or has IPv4 " +
				"alone where the build has IPv6 alone, or the other way round.",
			[]string{"upload what is fetched from {host} to a cache that is asked (nix copy --to …): a flake's locked inputs, and what " +
				"fetchTarball has a hash for, come from there; or",
				"let the build go through a proxy that reaches {host}, HTTPS_PROXY (HTTP_PROXY for http://); or",
				"name the job, with which nothing is evaluated: BP_NIX_HYDRA_URL=https://your.hydra and " +
					"BP_NIX_HYDRA_JOB=project/jobset/job"}},
		{topicFeature, "experimental Nix feature … is disabled",
			"The expression uses what Nix has only where somebody asks for it. Features of the language are taken from `NIX_CONFIG` " +
				"of the build, and from nowhere else: not from the `nixConfig` of a flake.",
			[]string{`set NIX_CONFIG="extra-experimental-features = {feature}"`}},
		{topicWouldBuild, "would have to be built, and no substituter has it",
			"Evaluation reads the output of a derivation (import from derivation), and nothing is compiled here.",
			[]string{buildIt + ", or", nameIt}},
		{topic(roots.Imported), "which has to be built or fetched by a builder first",
			"The same, where the caches have been looked through.",
			[]string{buildIt + ", or " + nameIt}},
		{topic(roots.Fetched), "the expression imports what a builder has to fetch first",
			"Mostly it is nixpkgs, fetched by `fetchFromGitHub` at a revision that Hydra has not built with yet.",
			[]string{"fetch it by what needs no builder and gives the same path: " +
				"builtins.fetchTarball { url = \"{url}\"; sha256 = \"{hash}\"; }\nor " + buildIt + ", or " + nameIt}},
	}
}

func cachesAdvice() []advice {
	return []advice{
		{topicUnsigned, "lacks a signature by a trusted key",
			"The cache has the path, and nobody signed it.",
			[]string{"have the path signed and uploaded again (nix store sign); " + onlyWay}},
		{topicUntrusted, "lacks a signature by a trusted key (another key's)",
			"The cache has the path, signed by a key that is not among the trusted ones.",
			[]string{`if you trust that key, set BP_NIX_TRUSTED_PUBLIC_KEYS="{keys}"; its public part stands in the cache's settings; ` +
				onlyWay}},
		{topicAltered, "lacks a signature by a trusted key (under a trusted key's name)",
			"A key of this name is trusted, and its signature is not of what the cache serves.",
			[]string{"compare the key with that of the cache, and ask who runs it whether the path was altered"}},
		{topicNoKeys, "no key is trusted",
			"Signatures are required, and there is no key to check them with.",
			[]string{`set BP_NIX_TRUSTED_PUBLIC_KEYS="<name>:<base64>" to the caches' public keys, or`,
				"accept what nobody signed: " + onlyWay}},
		{topicLogin, "401 Unauthorized, 403 Forbidden",
			"The cache wants a login.",
			[]string{"give the cache's login as a service binding of type nix-binary-cache with url, username and password, or in a " +
				"netrc file"}},
		{topicProxyLogin, "407 Proxy Authentication Required, the proxy … wants a login",
			"The proxy in `HTTPS_PROXY` or `HTTP_PROXY` wants a login.",
			[]string{"put the proxy's login into its address: HTTPS_PROXY=http://<user>:<password>@<proxy>:<port> (and HTTP_PROXY, for " +
				"caches without TLS), special letters written as %XX"}},
		{topicProxy, "the proxy … does not connect",
			"The proxy in `HTTPS_PROXY` refuses to connect to the cache.",
			[]string{"see what the proxy in HTTPS_PROXY allows, or leave it out for this cache: NO_PROXY=<the cache's host>"}},
		{topicProxyDown, "proxyconnect tcp",
			"The proxy in `HTTPS_PROXY` or `HTTP_PROXY` cannot be reached. In a build, localhost is the build's own container.",
			[]string{"correct the proxy's address in HTTPS_PROXY and HTTP_PROXY (of IPv6 in brackets: http://[2001:db8::1]:3128), or " +
				"leave it out for this host: NO_PROXY=<the cache's host, or Hydra's>"}},
		{topicHost, "no such host",
			"The name of the cache's host is unknown where the build runs.",
			[]string{"correct the host in the cache's URL; where only a proxy knows it, name that in HTTPS_PROXY (HTTP_PROXY for http://)"}},
		{topicFamily, "network is unreachable, cannot assign requested address (no IPv4, or no IPv6, where the build runs)",
			"The address that the host's name has (a cache's, Hydra's or a proxy's), or that stands in its URL, is an IPv4 or IPv6 " +
				"address, and there is no network for such where the build runs.",
			[]string{"the build has no {family}: give {host} an address of the other kind ({record} in DNS), or let the " +
				"build go through a proxy that has both, HTTPS_PROXY (HTTP_PROXY for http://), or run it where there is {family}"}},
		{topicZone, "invalid argument, of a link-local address (fe80::…) without its zone",
			"A link-local address says nothing without the interface that it is on, by its name where the build runs.",
			[]string{"write the interface of the build's machine behind %25 into the URL: http://[{address}%25eth0]:8080, or use an address that is valid beyond " +
				"the link"}},
		{topicLoopback, "connection refused, of a cache at localhost",
			"In a build, localhost is the build's own container, not the machine that runs pack.",
			[]string{"have the build use the machine's network, pack build --network host, or name the machine by an address that " +
				"containers reach"}},
		{topicRegion, "the bucket is in another region",
			"An `s3://` cache without `?region=` is looked for in us-east-1.",
			[]string{"add the bucket's region to its URL: s3://<bucket>?region={region}"}},
		{topicS3, "S3 says SignatureDoesNotMatch, S3 says InvalidToken and others",
			"S3 does not accept the AWS credentials that were found.",
			[]string{"see whether AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN belong together (a token left over " +
				"from elsewhere spoils the other two), and whether they are those of the bucket's account"}},
		{topicBucketDenied, "S3 says AccessDenied",
			"The bucket is private, or has no nix-cache-info.",
			[]string{"give the build AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of an account that may read the bucket, in its environment " +
				"(pack build --env), or",
				"have everybody read it, and see that it has the file nix-cache-info, which nix copy --to writes"}},
		{topicBucketName, "S3 says NoSuchBucket",
			"There is no bucket of this name where it was looked for.",
			[]string{"correct the bucket's name in the cache's URL, and where it is not Amazon's its ?endpoint="}},
		{topicAuthority, "certificate signed by unknown authority",
			"The cache's certificate is signed by an authority that this image does not know.",
			[]string{"name a file with the authority's certificate in SSL_CERT_FILE, or put it as ca-certificate into a service " +
				"binding of type nix-binary-cache"}},
		{topicAuthorities, "reading the certificate authorities of …",
			"A service binding or variable that should hold certificates holds none.",
			[]string{"have {source} hold certificates in PEM form (BEGIN CERTIFICATE), or leave it out"}},
		{topicHostName, "certificate is valid for …, not …",
			"The cache's certificate is for another name than its URL has.",
			[]string{"use the name in the cache's URL that its certificate is for"}},
		{topicExpired, "certificate has expired or is not yet valid",
			"The cache's certificate is not valid, or not now.",
			[]string{"have the cache's certificate renewed, and see whether the clock of this machine is right"}},
		{topicTLSPort, "the server speaks TLS at this port",
			"The cache's URL begins with http://, and its server wants https://.",
			[]string{"write https:// in the cache's URL instead of http://"}},
		{topicPlainPort, "the server does not speak TLS at this port",
			"The cache's URL begins with https://, and its server knows http:// only.",
			[]string{"write http:// in the cache's URL instead of https://, or the port at which it speaks TLS"}},
		{topicDown, "could not be asked, could not be reached, none can be used, no byte arrived in time, too little arrives",
			"The cache did not answer, answers that too much is asked of it (429, 503), or broke off.",
			[]string{"see whether the caches that could not be reached are up, and whether a proxy is needed (HTTPS_PROXY)"}},
		{topicAbsent, "not there",
			"None of the caches has the path.",
			[]string{"name the cache that has it in NIX_EXTRA_BINARY_CACHE, or have Hydra build it for this system"}},
		{topicPrivate, "not there: … 403 Forbidden",
			"The cache does not have the path, or is private: some caches say this of every path to who is not logged in.",
			[]string{"where the cache is private, give its login as a service binding of type nix-binary-cache or in a netrc file"}},
		{topicInvalid, "this is an HTML page, not a narinfo; its narinfo says …; it does not appear to be a binary cache",
			"What the cache serves for the path is no narinfo, one with a wrong field, or another file than its narinfo promises.",
			[]string{"see that the cache's URL is that of a binary cache, then upload the path to it again (nix copy --to …); a page " +
				"in HTML may be one that asks for a login, which belongs into a service binding of type nix-binary-cache or a netrc file"}},
		{topicReference, "the caches have … and not …, which it refers to",
			"A path's closure was not uploaded whole.",
			[]string{"the caches have {root} and not {reference}, which it refers to: whoever uploaded it has not uploaded all of " +
				"its closure, or not yet; upload it whole (nix copy --to …)"}},
		{topicDefaultCache, "the same, of a path that nixpkgs builds unchanged",
			"`BP_NIX_SUBSTITUTERS` replaces the default cache.",
			[]string{"what comes from nixpkgs unchanged is often in the default cache only, which BP_NIX_SUBSTITUTERS leaves out " +
				"here: NIX_EXTRA_BINARY_CACHE=" + defaultCache}},
		{topicEndless, "what the caches say of its paths takes more than … bytes, resolving closure: it has more than … paths",
			"The closure is larger than any that is known: 100,000 paths, or some 600,000 references among them. A cache may make " +
				"up paths without end.",
			[]string{"compare with what Nix finds (nix path-info --recursive --store <cache> <root> | wc --lines): where that ends, " +
				"leave what the app does not need out of its closure; where it does not, leave the cache out"}},
	}
}

func notCachedAdvice() []advice {
	return []advice{
		{topic(roots.Configured), "lists what is not obeyed here",
			"`nixConfig` of a flake, a `nix.conf` of the source or `NIX_CONFIG` names caches and keys. They are not obeyed: " +
				"whoever can write to the source could say with them whom to trust.",
			[]string{"if you trust them:\nNIX_EXTRA_BINARY_CACHE=\"{caches}\"\nBP_NIX_TRUSTED_PUBLIC_KEYS=\"{keys}\""}},
		{topic(roots.ExtraFiles), "in the upload, not in git",
			"An expression that copies `./.` copies these, too, and the output's hash is another one.",
			[]string{"remove them before the upload (git clean -xd --dry-run lists them), or name them in " +
				"project.toml's [io.buildpacks] exclude; or commit them, so that Hydra has them, too"}},
		{topic(roots.MissingFiles), "in git, not in the upload",
			"The upload leaves out what Hydra has.",
			[]string{"upload them: look into project.toml's [io.buildpacks] exclude, and on Heroku into .slugignore"}},
		{topic(roots.ChangedFiles), "different, different in line endings",
			"The upload has other contents than the commit.",
			[]string{"commit and push the changes and let Hydra build them, or git stash them before the upload; of what git LFS keeps, Hydra " +
				"has the pointers only"}},
		{topic(roots.LostModes), "different in the executable bit, or no symbolic link any more",
			"The way of uploading loses modes or links.",
			[]string{"upload in a way that keeps modes and links: from a checkout, not from an archive"}},
		{topic(roots.Clock), "evaluating it again a second later gives another path",
			"The expression reads the clock.",
			[]string{"take builtins.currentTime out: nobody can have built what is different every second"}},
		{topic(roots.Environment), "variables of the environment are read",
			"`builtins.getEnv` gives the empty string here, and may give something else on Hydra.",
			[]string{"make it an argument with a default, and give its value in BP_NIX_ARGS=name=value"}},
		{topic(roots.SearchPath), "the search path is used",
			"On Hydra `<nixpkgs>` is the jobset's input of this name, here what `BP_NIX_PATH` says.",
			[]string{"pin it in the expression, or set BP_NIX_PATH to the very revision of the jobset's input, for example\n" +
				"BP_NIX_PATH=nixpkgs=https://github.com/NixOS/nixpkgs/archive/<revision>.tar.gz"}},
		{topic(roots.Unpinned), "something is fetched whose content is not pinned",
			"It may be another one today than when Hydra fetched it.",
			[]string{"give it a revision and a sha256"}},
		{topicOtherSystem, "for x86_64-linux, not for aarch64-linux",
			"The jobset builds for another system than the image is for.",
			[]string{"add {system} to the jobset: to supportedSystems in release.nix, or as hydraJobs.<job>.{system} in flake.nix, " +
				"and a build machine for it to Hydra; or",
				"build the image for {platform}"}},
		{topic(roots.HydraUnknown), "no binary cache has …, and nothing is compiled here: Hydra may not build this at all",
			"Hydra may not build this at all, may not have finished building this revision, or does not upload to the caches " +
				"that were asked.",
			[]string{"set BP_NIX_HYDRA_URL=https://your.hydra to have it asked, and BP_NIX_HYDRA_JOB=project/jobset/job and " +
				"BP_NIX_HYDRA_WAIT=30m to take its build without evaluating"}},
	}
}

func hydraAdvice() []advice {
	return []advice{
		{topic(roots.HydraServes), "Hydra has built it, but no cache that was asked has it; Hydra serves it itself, signed",
			"Hydra is a binary cache, and is not listed as one.",
			[]string{"add Hydra itself as a cache: NIX_EXTRA_BINARY_CACHE={hydra}\nand the public key {key} to " +
				"BP_NIX_TRUSTED_PUBLIC_KEYS"}},
		{topic(roots.HydraUnsigned), "Hydra serves it itself, without a signature",
			"Hydra is a binary cache without a key, so that nothing proves that what comes from it is what it built.",
			[]string{"have it signed: `nix-store --generate-binary-cache-key` makes a key, binary_cache_secret_key_file in hydra.conf " +
				"names it; then NIX_EXTRA_BINARY_CACHE={hydra}\nand its public key in BP_NIX_TRUSTED_PUBLIC_KEYS; or",
				"have Hydra upload to a cache that signs, and name that one; " + onlyWay}},
		{topicUnsignedRoot, "that it is content-addressed says nothing of who made it",
			"Hydra chose this path. Its content address proves what is in it, and no trusted key says that it is meant to run here.",
			[]string{"have it signed: `nix store sign -k KEY -r {path}`, and upload it again; or a cache whose " +
				"secret-key-files sign what Hydra builds; or", "name it yourself, without Hydra: BP_NIX_STORE_PATH={path}"}},
		{topic(roots.Collected), "it has been garbage-collected from Hydra's own store",
			"The build's outputs are gone; its page still says that it succeeded.",
			[]string{"restart the build on its page, and keep it (Keep), or have the jobset keep more evaluations"}},
		{topic(roots.Uploaded), "Hydra has built it, but no cache that was asked has it",
			"Hydra uploads to another cache, or has not finished uploading.",
			[]string{"name the cache that this Hydra uploads to in NIX_EXTRA_BINARY_CACHE, and its key in " +
				"BP_NIX_TRUSTED_PUBLIC_KEYS;\nif it is named, the upload may still be under way"}},
		{topic(roots.NeverBuilt), "no job gives it",
			"No build of this Hydra ever had an output of this name.",
			[]string{"add it to the jobset, for example to release.nix: {name} = import ./{file} { };"}},
		{topic(roots.OtherRevision), "Hydra has built …, last from …, not from …",
			"Hydra has not built this commit, or it changed nothing for Hydra.",
			[]string{"push this commit to the branch that Hydra follows and have it waited for:\nBP_NIX_HYDRA_JOB={job}\n" +
				"BP_NIX_HYDRA_WAIT=30m"}},
		{topic(roots.Unfinished), "Hydra has not finished building it",
			"Hydra has this very build in its queue, or builds it.",
			[]string{"deploy again when it is done, or have it waited for:\nBP_NIX_HYDRA_JOB={job}\nBP_NIX_HYDRA_WAIT=30m"}},
		{topic(roots.OtherDerivation), "Hydra has built this revision, and the two differ",
			"What Hydra evaluated is not what was evaluated here: other arguments, inputs or files.",
			[]string{takeJob}},
		{topic(roots.DeepClone), "of the jobset is a deep clone",
			"A git input with a third word keeps its `.git`.",
			[]string{takeJob + "\nor take the third word out of the jobset's input"}},
		{topic(roots.Submodules), "Hydra checks submodules out one level deep",
			"An expression that copies `./.` copies these, too, and the output's hash is another one.",
			[]string{"check submodules out as Hydra does, without --recursive, or make the nested ones the repository's own"}},
		{topicHydraLogin, "it wants a log-in",
			"The Hydra is private, or a proxy before it wants a login.",
			[]string{"add a service binding of type nix-binary-cache with Hydra's address as url, username and password"}},
		{topicHydraPassword, "user name or password is wrong: Bad username or password.",
			"Hydra does not accept the login of the service binding.",
			[]string{"correct username and password of the service binding for Hydra's host"}},
		{topicHydraReferer, "POST requests should come from …",
			"Hydra takes another address for its own than the one it is asked at, and refuses the log-in; mostly a proxy before " +
				"it does not pass the host's name on.",
			[]string{"ask it at the address that it names: BP_NIX_HYDRA_URL={hydra}, or",
				"have the proxy before Hydra pass its own address on (nginx: proxy_set_header Host $host, X-Forwarded-Proto " +
					"$scheme, X-Request-Base), with using_frontend_proxy 1 in hydra.conf"}},
		{topicNotHydra, "the server there is not a Hydra",
			"The address is a cache's, a web site's, or nobody's.",
			[]string{"set BP_NIX_HYDRA_URL to Hydra's front page, the page that lists its projects"}},
		{topicNotFront, "is not Hydra's front page",
			"The address leads to a page of Hydra, or to none.",
			[]string{"set BP_NIX_HYDRA_URL={hydra}"}},
		{topicJobset, "Hydra has no such project, Hydra has no such jobset",
			"It is misspelt, or hidden from who is not logged in.",
			[]string{"correct BP_NIX_HYDRA_JOB, which is project/jobset/job, by what there is"}},
		{topicJob, "has no such job",
			"It is misspelt, was removed, or does not evaluate; the message has Hydra's error where there is one.",
			[]string{"correct BP_NIX_HYDRA_JOB by the jobs there are, or fix the error that is quoted"}},
		{topicJobSystem, "finding job … for …: Hydra builds it … (for the system that is in its name)",
			"The setting comes from an image for the other architecture.",
			[]string{"where Hydra has a job of that name for {system}, name it: BP_NIX_HYDRA_JOB=<project>/<jobset>/{job}; or",
				"add {system} to the jobset, and a build machine for it to Hydra"}},
		{topicNoRevision, "the revision of this source is not known",
			"Hydra is asked by commit, and neither `.git` nor the platform tells it.",
			[]string{"set BP_NIX_GIT_REV to the commit, or to latest or latest-finished"}},
		{topicRevision, "none of its … evaluations has it",
			"Hydra lists an evaluation only where it changed a build. The commit is not pushed, not evaluated yet, changed " +
				"nothing, or is of another repository.",
			[]string{"wait for it: BP_NIX_HYDRA_WAIT=30m, or",
				"where one of the revisions listed builds the same, set BP_NIX_GIT_REV to it, or to latest",
				"where another repository is named, set BP_NIX_GIT_URL to the address that the jobset's input has"}},
		{topicBranch, "it is the name of a branch or tag, not a commit; it is short for several",
			"Hydra is asked by commit.",
			[]string{"set BP_NIX_GIT_REV to what git rev-parse HEAD prints"}},
		{topicDisabled, "is disabled, so Hydra does not evaluate it",
			"An administrator has switched the jobset or its project off: no evaluation will come.",
			[]string{"have it enabled in Hydra, or",
				"take what was built before: BP_NIX_GIT_REV=latest"}},
		{topicUnfinished, "is not finished, no wait is allowed, waited …",
			"The build is queued or running.",
			[]string{"deploy again when it is done, or have it waited for: BP_NIX_HYDRA_WAIT=30m"}},
		{topicFailed, "build … of … failed",
			"Hydra could not build it; the message names the steps and their logs.",
			[]string{"look at the log, fix the build, push again"}},
		{topicDeleted, "it has been deleted",
			"The build was there a moment ago.",
			[]string{"deploy again: Hydra may have evaluated the jobset anew"}},
		{topicSearch, "searching Hydra for …: it took too long",
			"Of what a search looks through only derivations have an index in Hydra's database, and the rest has 20 seconds.",
			[]string{"name the job, so that nothing has to be searched for: BP_NIX_HYDRA_JOB=project/jobset/job"}},
		{topicPage, "it answers a question for JSON with one of its pages",
			"Hydra has a page and JSON at the same address, by what is accepted. A proxy before it has kept the one and gives it in place " +
				"of the other.",
			[]string{"have the proxy before Hydra heed what Hydra says of its answers, Vary: Accept, or keep none of them"}},
		{topicSilent, "Hydra could not be asked, no answer came in time",
			"Hydra is overloaded, being restarted, or not reachable from here.",
			[]string{"try again, or check BP_NIX_HYDRA_URL; 60 seconds are allowed per answer"}},
	}
}

func imageAdvice() []advice {
	return []advice{
		{topicBlocked, "relocating closure",
			"A file holds a store path where it cannot be rewritten.",
			[]string{"leave BP_NIX_ENGINE at auto: the app then runs by userns or proot, where the platform allows it, or",
				"if the app does not read these files, or not the store paths in them, say so: BP_NIX_HARMLESS={globs}, or",
				"build the paths named above without the files named there"}},
		{topicMachine, "checking programs: … is for …, and the image is for …",
			"The closure was built for another machine than the image is for.",
			[]string{"name the store path that was built for {system}: have Hydra build it for that system too (add it to the systems " +
				"of the jobset), or",
				"build the image for {machine}, with a builder and run image of that architecture"}},
		{topicTooLong, "the directory has … characters and may have …",
			"Store paths are rewritten at equal length, and the layers directory leaves too few characters for their hashes.",
			[]string{"use a shorter layers directory, or leave BP_NIX_ENGINE at auto"}},
		{topicForeign, "seems to be somebody's checkout and not a copy",
			"The source does not lie beside the layers, as a platform's copy does, and would be removed.",
			[]string{"run the lifecycle on a copy beside the layers directory, for example cp -a {source} {copy}, or",
				"where the source may be removed from {source}, say so: BP_NIX_REMOVE_SOURCE=true"}},
		{topicUnremovable, "must not get into the image and cannot be removed",
			"The file and its directory belong to another user, or nobody may change them: they are mounted read-only, or have an " +
				"attribute that forbids it (chattr).",
			[]string{"let it stay in the image: BP_INCLUDE_FILES={file}, or",
				"leave it out of the upload: project.toml's [io.buildpacks] exclude, or",
				"upload it with its directories, so that they belong to the user who builds"}},
		{topicLongPath, "a path … is longer than 4095 bytes, which Linux does not take",
			"Directories lie so deep in each other that no program can name the last of them: often the leavings of a test, or " +
				"a directory that was copied into itself.",
			[]string{"remove it from the source, or",
				"leave it out of the upload: project.toml's [io.buildpacks] exclude"}},
		{topicSpecialFile, "a … cannot be archived (a named pipe, a socket, a device)",
			"The expression copies a directory of the source that has a pipe, a socket or a device in it, of which there is none in Nix's " +
				"store.",
			[]string{"remove it from the source, or",
				"leave it out of the upload: project.toml's [io.buildpacks] exclude"}},
		{topicDiskFull, "no space left on device",
			"The disk is full that the build writes its layers to, or the volume that it has for them.",
			[]string{"make room there: with pack it is the Docker engine's disk (docker system df says what takes it), with kpack that of " +
				"the build's node, and of the volume in spec.cache.volume"}},
	}
}

// placeholder is a word in braces; what stands in braces with blanks is Nix's.
var placeholder = regexp.MustCompile(`\{([a-z]+)\}`)

// adviceOn are the fixes of an entry. values are the words in braces and what stands for them, in turn; a word for which
// nothing stands is written as on the page.
func adviceOn(t topic, values ...string) []string {
	known := map[string]string{}
	for i := 0; i+1 < len(values); i += 2 {
		known[values[i]] = values[i+1]
	}
	for _, chapter := range chapters() {
		for _, entry := range chapter.entries {
			if entry.topic == t {
				return filled(entry.fixes, known)
			}
		}
	}
	return nil
}

func filled(fixes []string, known map[string]string) []string {
	out := make([]string, len(fixes))
	for i, fix := range fixes {
		out[i] = placeholder.ReplaceAllStringFunc(fix, func(found string) string {
			if value := known[found[1:len(found)-1]]; value != "" {
				return value
			}
			return "<" + found[1:len(found)-1] + ">"
		})
	}
	return out
}
