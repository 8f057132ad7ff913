package nixproot

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/appdir"
	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// adviceCase is an error with words of its advice, "" where there is none.
type adviceCase struct {
	err  error
	want string
}

// adviceCases have an error for each entry that is for one.
func adviceCases() []adviceCase {
	const arm, intel = "aarch64-linux", "x86_64-linux"
	absent := &cache.NotFoundError{Path: shopB, Asked: []cache.Answer{{URL: "https://own.example", Reason: cache.Absent}}}
	return []adviceCase{
		{&misspeltError{Name: "BP_NIX_FLIE", Meant: "BP_NIX_FILE"}, "write BP_NIX_FILE, or leave BP_NIX_FLIE out"},
		{&misspeltError{Name: "BP_NIX_X"}, "leave BP_NIX_X out, or look up"},
		{&narinfo.SecretKeyError{Name: "mine-1"}, "give the public key"},
		{&procfile.FileError{Kind: procfile.BadLink}, "have the link lead to a file"},
		{&procfile.FileError{Kind: procfile.BadFile}, "a line for each process type"},
		{&procfile.FileError{Kind: procfile.BadEncoding}, "save it as UTF-8"},

		{&nixinstall.MissingAttrError{Attr: "web", Missing: "web", Have: []string{intel}}, "set BP_NIX_ATTRS to one"},
		{&nixinstall.MissingAttrError{Attr: "packages." + arm + ".default", Missing: "packages." + arm, Have: []string{intel, "x86_64-darwin"}},
			"have it give packages.aarch64-linux.default: add aarch64-linux to the systems of"},
		{&nixinstall.MissingAttrError{Attr: "web", Missing: "web", Derivation: true, Have: []string{"out"}}, "leave BP_NIX_ATTRS unset"},
		{&nixinstall.MissingAttrError{Attr: arm, Missing: arm, Derivation: true, Have: []string{intel}}, "leave BP_NIX_ATTRS unset"},
		{&roots.NoDerivationError{}, "where one lies deeper, name it with BP_NIX_ATTRS"},
		{&nixinstall.EvalError{Summary: "the expression is string, not a derivation or a set of them"}, "callPackage"},
		{&nixinstall.EvalError{Summary: "path 'nix/app.nix' does not exist", File: "shell.nix"}, "see whether nix/app.nix is committed, and whether .gitignore"},
		{&nixinstall.EvalError{Summary: "file 'nixpkgs' was not found in the Nix search path (add it using $NIX_PATH or -I)"}, "set BP_NIX_PATH"},
		{&nixinstall.EvalError{Unset: []string{"stdenv", "lib"}, File: "shell.nix"}, "BP_NIX_FILE=deploy.nix"},
		{&nixinstall.EvalError{Summary: "flake.lock does not hold the input a", Unlocked: true}, "run nix flake lock and commit flake.lock"},
		{&nixinstall.EvalError{Pure: true}, "packages.<system>"},
		{&nixinstall.EvalError{Unfetched: "/nix/store/x"}, "have the flake take /nix/store/x by builtins.path"},
		{&nixinstall.EvalError{Summary: "unable to download 'http://h.example/n': Could not connect to server"}, "upload what is fetched from h.example"},
		{&nixinstall.EvalError{Summary: "experimental Nix feature 'pipe-operators' is disabled; add '--extra-experimental-features pipe-operators'"},
			`set NIX_CONFIG="extra-experimental-features = pipe-operators"`},
		{&nixinstall.EvalError{Summary: "undefined variable 'stdenvv'"}, ""},
		{&nixinstall.EvalError{Summary: "path '/etc/app.nix' does not exist"}, ""},
		{&nixinstall.EvalError{Summary: "unable to download 'http://h/n': HTTP error 404"}, ""},
		{&nixinstall.WouldBuildError{Drvs: []storepath.Path{shop, shopB}}, "have Hydra build shop-1.0, "},

		{&closure.LimitError{What: "it has more than 100000 paths"}, "nix path-info"},
		{fmt.Errorf("a step: %w", cache.ErrNoKeys), "BP_NIX_REQUIRE_SIGS=false"},
		{&cache.AuthoritiesError{Source: "SSL_CERT_FILE"}, "have SSL_CERT_FILE hold certificates in PEM form"},
		{&closure.MissingError{Chain: []storepath.Path{shop, shopB}, Err: absent}, "upload it whole"},

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
		{&hydra.SystemError{Job: "app", System: arm, Have: []string{intel}}, "hydraJobs.<job>.aarch64-linux in flake.nix"},
		{&hydra.SystemError{Job: "app." + intel, System: arm, Have: []string{intel}}, "a job of that name for aarch64-linux"},
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
		{&roots.UnsignedRootError{Path: shop}, "BP_NIX_STORE_PATH=" + shop.String()},
		{roots.ErrNoRevision, "BP_NIX_GIT_REV"},

		{&closure.BlockedError{Blockers: []closure.Blocker{{Path: shop, File: "bin/shop", Kind: relocate.Opaque}}}, "leave BP_NIX_ENGINE at auto: the app"},
		{&relocate.TooLongError{Dir: "/layers", Max: 5}, "use a shorter layers directory"},
		{&machineError{Path: shop, Program: "bin/shop", Machine: intel, System: arm}, "of the jobset), or\n  - build the image for x86_64-linux"},
		{&machineError{Path: shop, Program: "bin/shop", Machine: "riscv64-linux", System: arm}, "add it to the systems of the jobset)\n"},
		{&appdir.ForeignError{Dir: "/home/me/app", Layers: "/build/layers"}, "cp -a /home/me/app /build/workspace, or"},
		{&appdir.UnremovableError{Files: []string{"a", "b"}}, "BP_INCLUDE_FILES=a, or"},
		{&appdir.LongPathError{Dir: "a/a"}, "remove it from the source"},
		{&nar.SpecialError{What: "socket"}, "remove it from the source"},
		{fmt.Errorf("writing file: %w", syscall.ENOSPC), "make room there: with pack it is the Docker engine's disk"},
	}
}

func TestEveryErrorHasItsAdvice(t *testing.T) {
	for _, c := range adviceCases() {
		_, steps, found := strings.Cut(explain(fmt.Errorf("a step: %w", c.err)).Error(), "What to do:")
		NewWithT(t).Expect(found).To(Equal(c.want != ""), "%T", c.err)
		NewWithT(t).Expect(steps+"\n").To(ContainSubstring(c.want), "%T", c.err)
	}
}

// exampleAnswers have an answer of a cache for each entry that is for one, or for an error of the connection.
func exampleAnswers() []cache.Answer {
	answers := []cache.Answer{
		{Reason: cache.Absent, Err: &cache.StatusError{Code: http.StatusForbidden}}, {Reason: cache.Untrusted},
		{Reason: cache.Untrusted, Keys: []string{"mine-1"}},
		{Reason: cache.Untrusted, Keys: []string{"mine-1"}, Trusted: narinfo.Keys{{Name: "mine-1"}}},
		{Reason: cache.Login}, {Reason: cache.Down, URL: "http://localhost:5000"}, {Reason: cache.Invalid},
	}
	for _, c := range connectionCases {
		answers = append(answers, cache.Answer{Reason: cache.Down, Err: c.err})
	}
	return answers
}
