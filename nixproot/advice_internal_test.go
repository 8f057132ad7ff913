package nixproot

import (
	"crypto/x509"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

var update = flag.Bool("update", false, "write docs/troubleshooting.md")

func TestThePageOfTroublesIsMadeOfTheAdvice(t *testing.T) {
	g := NewWithT(t)
	const file = "../docs/troubleshooting.md"
	if *update {
		g.Expect(os.WriteFile(file, []byte(troubleshooting()), 0o644)).To(Succeed())
	}
	page, err := os.ReadFile(file)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(page)).To(Equal(troubleshooting()), "go test ./nixproot -run TestThePageOfTroubles -update writes it")
}

// Every entry is given somewhere in the code that turns errors into advice, and none twice on the page.
func TestEveryEntryIsGiven(t *testing.T) {
	g := NewWithT(t)
	var code string
	for _, file := range []string{"explain.go", "explain_caches.go", "report.go", "../roots/whynot.go", "../roots/hydrabuild.go", "../roots/upload.go", "../roots/imported.go"} {
		text, err := os.ReadFile(file)
		g.Expect(err).NotTo(HaveOccurred())
		code += string(text)
	}
	table, err := os.ReadFile("advice.go")
	g.Expect(err).NotTo(HaveOccurred())
	names := map[string]string{}
	for _, found := range regexp.MustCompile(`(topic\w+)\s+topic = "([a-z-]+)"`).FindAllStringSubmatch(string(table), -1) {
		names[found[2]] = found[1]
	}
	kinds, err := os.ReadFile("../roots/finding.go")
	g.Expect(err).NotTo(HaveOccurred())
	for _, found := range regexp.MustCompile(`(\w+)\s+Kind = "([a-z-]+)"`).FindAllStringSubmatch(string(kinds), -1) {
		g.Expect(names).NotTo(HaveKey(found[2]))
		names[found[2]] = found[1]
	}
	seen := map[topic]bool{}
	for _, chapter := range chapters() {
		for _, entry := range chapter.entries {
			g.Expect(seen).NotTo(HaveKey(entry.topic))
			seen[entry.topic] = true
			g.Expect(entry.fixes).NotTo(BeEmpty())
			g.Expect(code).To(MatchRegexp(`\b`+names[string(entry.topic)]+`\b`), "%s is never given", entry.topic)
		}
	}
	g.Expect(seen).To(HaveLen(len(names)))
}

// Whoever looks for a message on the page has it from a build: what stands above an entry is said by the code, or by what
// it is made with.
func TestEveryMessageOfThePageIsSaid(t *testing.T) {
	g := NewWithT(t)
	var code strings.Builder
	joined := regexp.MustCompile(`"\s*\+\s*"`)
	g.Expect(filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (name == "../integration" || name == "../.git") {
			return fs.SkipDir
		}
		if ext := filepath.Ext(name); ext != ".go" && ext != ".nix" || strings.HasSuffix(name, "_test.go") || name == "../nixproot/advice.go" {
			return nil
		}
		text, err := os.ReadFile(name)
		code.WriteString(joined.ReplaceAllString(string(text), ""))
		return err
	})).To(Succeed())
	for _, status := range []int{401, 403, 407} {
		fmt.Fprintf(&code, "%d %s\n", status, http.StatusText(status))
	}
	name := x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a"}}, Host: "b"}
	for _, err := range []error{x509.UnknownAuthorityError{}, x509.CertificateInvalidError{Reason: x509.Expired}, name} {
		code.WriteString(err.Error() + "\n")
	}
	fmt.Fprintf(&code, "%s\n%s\n", &net.OpError{Op: "proxyconnect", Net: "tcp", Err: syscall.ECONNREFUSED}, &net.DNSError{Err: "no such host"})
	fmt.Fprintln(&code, syscall.ENOSPC, syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.EINVAL)
	// As the code has what an example stands for in a message, and what the page adds.
	example := strings.NewReplacer("x86_64-linux", "%s", "aarch64-linux", "%s", "4095", "%d", "not in git", "", "no such project", "no such %s", "no such jobset", "no such %s",
		"SignatureDoesNotMatch", "", "InvalidToken and others", "", "AccessDenied", "", "NoSuchBucket", "",
		", of a cache at localhost", "", ", of a link-local address (fe80::…) without its zone", "", ", of a path below /nix/store that a flake fetches", "", "the same, of a path that nixpkgs builds unchanged", "")
	pieces := 0
	for _, chapter := range chapters() {
		for _, entry := range chapter.entries {
			if entry.topic == topicReference { // whose fix says it
				continue
			}
			message := regexp.MustCompile(` \(.*\)$`).ReplaceAllString(example.Replace(entry.message), "")
			for _, piece := range regexp.MustCompile(`…|, |; |: `).Split(message, -1) {
				if piece = strings.Trim(piece, " ."); len(piece) > 6 {
					pieces++
					g.Expect(strings.Contains(code.String(), piece)).To(BeTrue(), "nothing says %q, which %q has", piece, entry.message)
				}
			}
		}
	}
	g.Expect(pieces).To(BeNumerically(">", 80))
	for _, s := range slices.Concat(warnings, selfExplaining, atStart) {
		for _, piece := range regexp.MustCompile(`…|, finding |, parsing `).Split(s.message, -1) {
			piece = strings.Trim(piece, " ,")
			g.Expect(strings.Contains(code.String(), piece)).To(BeTrue(), "nothing says %q, which %q has", piece, s.message)
		}
	}
}

func TestHydrasErrorsHaveTheirAdvice(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&hydra.LoginError{}, "service binding of type nix-binary-cache"},
		{&hydra.LoginError{Refused: hydra.RefusedPassword}, "correct username and password"},
		{&hydra.LoginError{Refused: hydra.RefusedReferer, HydraURL: "http://hydra.internal:3000/"},
			"BP_NIX_HYDRA_URL=http://hydra.internal:3000/"},
		{&hydra.AnswerError{Cause: unreachable("192.0.2.1", "", syscall.ENETUNREACH)}, "the build has no IPv4: give Hydra's host an address"},
		{&hydra.AnswerError{Cause: &net.OpError{Op: "proxyconnect", Net: "tcp", Err: &net.DNSError{IsNotFound: true}}},
			"correct the proxy's address in HTTPS_PROXY and HTTP_PROXY (of IPv6 in brackets: http://[2001:db8::1]:3128)"},
		{&hydra.AnswerError{Cause: unreachable("fe80::1", "", syscall.EINVAL)}, "http://[fe80::1%25eth0]:8080"},
		{&hydra.NotFrontPageError{Front: "https://h"}, "BP_NIX_HYDRA_URL=https://h"},
		{&hydra.NotFrontPageError{}, "BP_NIX_HYDRA_URL=<hydra>"},
		{&hydra.NotHydraError{}, "the page that lists its projects"},
		{&hydra.JobsetNotFoundError{}, "BP_NIX_HYDRA_JOB"},
		{&hydra.JobNotFoundError{}, "by the jobs there are"},
		{&hydra.RevisionNotFoundError{}, "BP_NIX_HYDRA_WAIT=30m"},
		{&hydra.RevisionNotFoundError{Disabled: true}, "have it enabled"},
		{&hydra.RevisionError{}, "git rev-parse HEAD"},
		{&hydra.AmbiguousRevisionError{}, "git rev-parse HEAD"},
		{&hydra.NotFinishedError{}, "BP_NIX_HYDRA_WAIT=30m"},
		{&hydra.NoBuildError{}, "BP_NIX_HYDRA_WAIT=30m"},
		{&hydra.BuildFailedError{}, "fix the build"},
		{&hydra.BuildDeletedError{}, "deploy again"},
		{&hydra.SearchTimeoutError{}, "name the job"},
		{&hydra.AnswerError{}, "try again"},
		{&hydra.AnswerError{Page: true}, "Vary: Accept"},
		{&roots.UnsignedRootError{Path: "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app"}, "BP_NIX_STORE_PATH=/nix/store/00bgd0"},
		{roots.ErrNoRevision, "BP_NIX_GIT_REV"},
		{&roots.NoDerivationError{}, "BP_NIX_ATTRS"},
		{&nixinstall.MissingAttrError{Attr: "packages.aarch64-linux.default", Missing: "packages.aarch64-linux",
			Have: []string{"x86_64-linux", "x86_64-darwin"}}, "have it give packages.aarch64-linux.default: add aarch64-linux to the systems of"},
		{&nixinstall.MissingAttrError{Attr: "web", Missing: "web", Have: []string{"x86_64-linux"}}, "set BP_NIX_ATTRS"},
	} {
		NewWithT(t).Expect(explain(fmt.Errorf("a step: %w", c.err))).To(MatchError(ContainSubstring(c.want)), "%T", c.err)
	}
}

func TestAJobForAnotherSystemHasItsAdvice(t *testing.T) {
	const arm, intel = "aarch64-linux", "x86_64-linux"
	name := func(job, system string) []string {
		return []string{"where Hydra has a job of that name for " + system + ", name it: BP_NIX_HYDRA_JOB=<project>/<jobset>/" + job + "; or",
			"add " + system + " to the jobset, and a build machine for it to Hydra"}
	}
	add := func(system, platform string) []string {
		line := "add " + system + " to the jobset: to supportedSystems in release.nix, or as hydraJobs.<job>." + system +
			" in flake.nix, and a build machine for it to Hydra"
		if platform == "" {
			return []string{line}
		}
		return []string{line + "; or", "build the image for " + platform}
	}
	for _, c := range []struct {
		job, system string
		have        []string
		want        []string
	}{
		{"packages.x86_64-linux.app", arm, []string{intel}, name("packages.aarch64-linux.app", arm)},
		{"app.aarch64-linux", intel, []string{arm}, name("app.x86_64-linux", intel)},
		{"aarch64-darwin.app", intel, []string{"aarch64-darwin"}, name("x86_64-linux.app", intel)},
		{"x86_64-linux", arm, []string{intel}, name("aarch64-linux", arm)},
		{"app", arm, []string{intel}, add(arm, "linux/amd64")},               // a jobset that has app.x86_64-linux only
		{"app.aarch64-linux", arm, []string{intel}, add(arm, "linux/amd64")}, // of the same, by the name that it should have
		{"app", intel, []string{arm}, add(intel, "linux/arm64")},
		{"app", arm, []string{"aarch64-darwin"}, add(arm, "")}, // of which there are no images
		{"app", arm, []string{"aarch64-darwin", intel}, add(arm, "linux/amd64")},
		{"app", "riscv64-linux", []string{arm}, add("riscv64-linux", "linux/arm64")},
		{"x86_64-linux-tools.app", arm, []string{intel}, add(arm, "linux/amd64")},
		{"", arm, []string{intel}, add(arm, "linux/amd64")}, // all of a jobset
	} {
		var fixes []string
		for _, line := range hydraFixes(fmt.Errorf("a step: %w", &hydra.SystemError{Job: c.job, System: c.system, Have: c.have})) {
			fixes = append(fixes, strings.ReplaceAll(line, "\n", " "))
		}
		NewWithT(t).Expect(fixes).To(Equal(c.want), "%s for %s", c.job, c.system)
	}
}

func TestAnEndlessClosureHasItsAdvice(t *testing.T) {
	err := explain(fmt.Errorf("a step: %w", &closure.LimitError{What: "it has more than 100000 paths"}))
	NewWithT(t).Expect(err).To(MatchError(And(ContainSubstring("resolving closure: it has more"), ContainSubstring("nix path-info"))))
}

// said is a message of which the page has a line, as it says itself what to do or is not ours.
type said struct{ message, meaning string }

// selfExplaining are errors that say what to do.
var selfExplaining = []said{
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

// atStart are messages of the launcher.
var atStart = []said{
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

// ofOthers are messages that are not of this buildpack, with the reasons that have to do with it.
var ofOthers = []said{
	{"refusing to evaluate", "nixpkgs does not evaluate what has an unfree licence, a known vulnerability or a mark as broken. Give the build " +
		"`NIXPKGS_ALLOW_UNFREE=1` or its like ([settings](../README.md#settings)), which flakes do not see, or say so where nixpkgs is imported: " +
		"`import nixpkgs { config.allowUnfree = true; }`"},
	{"signal: killed, exit status 137", "there was no more memory: give the build's container more, or have fewer paths fetched at once (`BP_NIX_CONCURRENCY`)"},
	{"No buildpack groups passed detection", "this buildpack says `SKIPPED` or an error in the lines before: the source has none of the files that it looks for, or " +
		"they did not get into the upload (`project.toml`'s exclude, `.gitignore`, another directory). Without a line of its own it is not in the order: name it with `--buildpack` or in `project.toml`"},
	{"failed to fetch base layers: … EOF", "after minutes at `Saving`: [what helps](limits.md#what-helps)"},
	{"failed to launch: bash exec", "a later buildpack has replaced the process type: [a procfile buildpack](composition.md#a-procfile-buildpack)"},
}

// warnings are what a build says and goes on after, in the order in which it does.
var warnings = []said{
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

// troubleshooting is the page of all entries.
func troubleshooting() string {
	var page strings.Builder
	page.WriteString(`# Troubleshooting
What a build may say, what it means, and what to do. An error has its advice with it, with the values of the build at
hand filled in; this page is made of the same entries. Where several reasons are possible, the error lists them with the
likeliest first; a reason that was proven stands alone.

## A log that tells more
` + "`BP_LOG_LEVEL=debug`" + ` as a setting of the build adds to its log
- which caches are asked, and the names of the keys whose signatures count;
- each layer of the closure, whether it is new or kept from the previous image, and each store path in it with its size,
  the cache that it came from, and the key that signed it;
- what the platform gives: the source's files, the settings, the service bindings, with all that may be secret hidden;
- what the lifecycle is told of each layer.

The app's image is the same with it. How an app starts, the launcher says where ` + "`BPL_NIX_LAUNCH_DEBUG=true`" + ` is in the
container's environment.
`)
	lines := func(title, whose, where string, all []said) {
		fmt.Fprintf(&page, "\n## %s\n%s\n\n| %s | it means |\n|---|---|\n", title, whose, where)
		for _, s := range all {
			fmt.Fprintf(&page, "| %s | %s |\n", s.message, s.meaning)
		}
	}
	lines("Warnings", "A build goes on after these.", "the log says", warnings)
	lines("Errors that say themselves what to do", "They end a build, and have the names and values at hand in them.", "the error says", selfExplaining)
	for _, chapter := range chapters() {
		fmt.Fprintf(&page, "\n## %s\n", chapter.title)
		for _, entry := range chapter.entries {
			fmt.Fprintf(&page, "\n### %s\n%s\n\n", entry.message, entry.cause)
			for _, fix := range filled(entry.fixes, nil) {
				// A word in angle brackets would be taken for a tag.
				fmt.Fprintf(&page, "- %s\n", strings.NewReplacer("\n", "\n  ", "<", `\<`).Replace(fix))
			}
		}
	}
	lines("When the app does not start", "What the launcher says on the container's standard error.", "the container says", atStart)
	lines("What nixpkgs, the kernel and the lifecycle say", "It ends a build or a start, and is not of this buildpack.", "they say", ofOthers)
	return page.String()
}
