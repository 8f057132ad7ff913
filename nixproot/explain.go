package nixproot

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// explain turns a room's error into what a person needs: what happened, and what to change. It is the one place
// where errors become advice; an error it does not know passes as it is.
func explain(err error) error {
	fixes := advice(err)
	if len(fixes) == 0 {
		return err
	}
	var text strings.Builder
	for _, fix := range fixes {
		fmt.Fprintf(&text, "\n  - %s", fix)
	}
	return fmt.Errorf("%w\n\nWhat to do:%s", err, text.String())
}

func advice(err error) []string {
	var (
		evaluation *nixinstall.EvalError
		attribute  *nixinstall.MissingAttrError
		build      *nixinstall.WouldBuildError
		blocked    *closure.BlockedError
		tooLong    *relocate.TooLongError
		notFound   *cache.NotFoundError
		reference  *closure.MissingError
		unopened   *cache.OpenError
	)
	switch {
	case errors.As(err, &attribute) && attribute.Derivation:
		return []string{"leave BP_NIX_ATTRS unset: the expression is the derivation itself"}
	case errors.As(err, &attribute):
		return []string{"set BP_NIX_ATTRS to one of the attributes that there are"}
	case errors.As(err, &evaluation) && len(evaluation.Unset) > 0:
		return argumentAdvice(evaluation)
	case errors.As(err, &evaluation) && strings.Contains(evaluation.Summary, "was not found in the Nix search path"):
		return []string{"pin nixpkgs inside the expression, so that every machine evaluates the same, or",
			"set BP_NIX_PATH, for example BP_NIX_PATH=nixpkgs=https://example.org/nixpkgs.tar.gz"}
	case errors.As(err, &build):
		return []string{"have Hydra build " + strings.Join(build.Names(), ", ") + " too, for example as a job of its own, or",
			"name a cache that has it in NIX_EXTRA_BINARY_CACHE"}
	case errors.As(err, &blocked):
		return []string{"leave BP_NIX_ENGINE at auto: the app then runs by userns or proot, where the platform allows it, or",
			"build the paths named above without the file named there"}
	case errors.As(err, &tooLong):
		return []string{"use a shorter layers directory, or leave BP_NIX_ENGINE at auto"}
	case errors.As(err, &notFound) && errors.As(err, &reference) && len(reference.Chain) > 1:
		return dependencyAdvice(reference, notFound)
	case errors.As(err, &notFound):
		return cacheAdvice(notFound.Asked)
	case errors.As(err, &unopened):
		return cacheAdvice(unopened.Asked)
	}
	return nil
}

// argumentAdvice is for a function that is called without what it needs: texts can be given, packages have to come from
// an expression.
func argumentAdvice(e *nixinstall.EvalError) []string {
	caller, called := "shell.nix", e.File
	switch called {
	case "":
		called = "default.nix"
	case caller:
		caller = "deploy.nix"
	}
	return []string{
		fmt.Sprintf("if it is a text, give it: BP_NIX_ARGS=%s=…, or", e.Unset[0]),
		fmt.Sprintf("if it is a package, write a file that calls this one with it and name it, BP_NIX_FILE=%s:\n"+
			"    let pkgs = import (builtins.fetchTarball { url = …; sha256 = …; }) { }; in pkgs.callPackage ./%s { }",
			caller, called),
	}
}

// cacheAdvice looks at what each cache said.
func cacheAdvice(asked []cache.Answer) []string {
	reasons := map[cache.Reason]bool{}
	for _, a := range asked {
		reasons[a.Reason] = true
	}
	var fixes []string
	if reasons[cache.Untrusted] {
		fixes = append(fixes, "if you trust that key, add its public part to BP_NIX_TRUSTED_PUBLIC_KEYS (name:base64); "+
			"BP_NIX_REQUIRE_SIGS=false is the only way to do without")
	}
	if reasons[cache.Login] {
		fixes = append(fixes, "give the cache's login as a service binding of type nix-binary-cache or in a netrc file")
	}
	if reasons[cache.Down] {
		fixes = append(fixes, "see whether the caches that could not be reached are up, and whether a proxy is needed "+
			"(HTTPS_PROXY)")
	}
	if reasons[cache.Absent] {
		fixes = append(fixes, "name the cache that has it in NIX_EXTRA_BINARY_CACHE, or have Hydra build it for this system")
	}
	return fixes
}
