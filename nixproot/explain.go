package nixproot

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
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
		machine    *MachineError
		unfetched  *cache.FetchError
		foreign    *ForeignSourceError
		fixed      *UnremovableError
	)
	switch {
	case errors.As(err, &attribute) && attribute.Derivation:
		return []string{"leave BP_NIX_ATTRS unset: the expression is the derivation itself"}
	case errors.As(err, &attribute):
		return []string{"set BP_NIX_ATTRS to one of the attributes that there are"}
	case errors.As(err, &evaluation) && len(evaluation.Unset) > 0:
		return argumentAdvice(evaluation)
	case errors.As(err, &evaluation) && evaluation.Unfetched != "":
		return []string{"have the flake take " + evaluation.Unfetched + " by builtins.path, which reads it through the store, or as " +
			"an input of its own (inputs.NAME.url = \"path:./FOLDER\"): fetchTree, getFlake and file:// addresses in a flake look for " +
			"/nix/store in the file system, where it is not during a build"}
	case errors.As(err, &evaluation) && strings.Contains(evaluation.Summary, "was not found in the Nix search path"):
		return []string{"pin nixpkgs inside the expression, so that every machine evaluates the same, or",
			"set BP_NIX_PATH, for example BP_NIX_PATH=nixpkgs=https://example.org/nixpkgs.tar.gz"}
	case errors.As(err, &build):
		return []string{"have Hydra build " + strings.Join(build.Names(), ", ") + " too, for example as a job of its own, or",
			"name a cache that has it in NIX_EXTRA_BINARY_CACHE"}
	case errors.As(err, &blocked):
		return []string{"leave BP_NIX_ENGINE at auto: the app then runs by userns or proot, where the platform allows it, or",
			"build the paths named above without the file named there"}
	case errors.As(err, &machine):
		return []string{fmt.Sprintf("name the store path that was built for %s: have Hydra build it for that system too (add it to "+
			"the systems of the jobset), or", machine.System),
			fmt.Sprintf("build the image for %s, with a builder and run image of that architecture", machine.Machine)}
	case errors.As(err, &tooLong):
		return []string{"use a shorter layers directory, or leave BP_NIX_ENGINE at auto"}
	case errors.As(err, &notFound) && errors.As(err, &reference) && len(reference.Chain) > 1:
		return dependencyAdvice(reference, notFound)
	case errors.As(err, &notFound):
		return cacheAdvice(notFound.Asked)
	case errors.As(err, &unopened):
		return cacheAdvice(unopened.Asked)
	case errors.As(err, &unfetched):
		return cacheAdvice(unfetched.Tried)
	case errors.As(err, &foreign):
		return []string{"run the lifecycle on a copy beside the layers directory, for example cp -a " + foreign.Dir + " " +
			filepath.Join(filepath.Dir(foreign.Layers), "workspace") + ", or",
			"where the source may be removed from " + foreign.Dir + ", say so: BP_NIX_REMOVE_SOURCE=true"}
	case errors.As(err, &fixed):
		return []string{"let it stay in the image: BP_INCLUDE_FILES=" + fixed.Files[0] + ", or",
			"leave it out of the upload: project.toml's [io.buildpacks] exclude, or",
			"upload it with its directories, so that they belong to the user who builds"}
	case errors.Is(err, cache.ErrNoKeys):
		return []string{`set BP_NIX_TRUSTED_PUBLIC_KEYS="<name>:<base64>" to the caches' public keys, or`,
			"accept what nobody signed: BP_NIX_REQUIRE_SIGS=false is the only way to do without"}
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
	var fixes []string
	for _, a := range asked {
		reasons[a.Reason] = true
		if a.Reason == cache.Untrusted && !slices.Contains(fixes, roots.TrustAdvice(a)) {
			fixes = append(fixes, roots.TrustAdvice(a))
		}
	}
	if reasons[cache.Login] {
		fixes = append(fixes, "give the cache's login as a service binding of type nix-binary-cache or in a netrc file, "+
			"a proxy's in HTTPS_PROXY")
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

// dependencyAdvice is for a closure of which a cache has the root and lacks a reference.
func dependencyAdvice(missing *closure.MissingError, why *cache.NotFoundError) []string {
	for _, a := range why.Asked {
		if a.Reason != cache.Absent {
			return cacheAdvice(why.Asked) // the reference may be there, but not for us
		}
	}
	needed, by := missing.Chain[len(missing.Chain)-1], missing.Chain[len(missing.Chain)-2]
	fixes := []string{fmt.Sprintf("the caches have %s and not %s, which it refers to: whoever uploaded it has not uploaded all "+
		"of its closure, or not yet; upload it whole (nix copy --to …)", by.Name(), needed.Name())}
	if !slices.ContainsFunc(why.Asked, func(a cache.Answer) bool { return strings.Contains(a.URL, "cache.nixos.org") }) {
		fixes = append(fixes, "what comes from nixpkgs unchanged is often in the default cache only, which "+
			"BP_NIX_SUBSTITUTERS leaves out here: NIX_EXTRA_BINARY_CACHE="+defaultCache)
	}
	return fixes
}
