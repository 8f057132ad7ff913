package roots_test

import (
	"errors"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

const (
	foundApp = "00bgd045z0d4icpbc2yyz4gx48ak44la-app"
	foundDoc = "11bgd045z0d4icpbc2yyz4gx48ak44la-doc"
)

// Each finding says what was seen, and only claims to be the reason where that is certain.
func TestFindingsSayWhatWasSeenAndWhetherThatProvesTheReason(t *testing.T) {
	app, doc := storepath.Path("/nix/store/"+foundApp), storepath.Path("/nix/store/"+foundDoc)
	build := hydra.Build{ID: 7, Project: "p", Jobset: "main", Job: "app", Finished: true, URL: "https://hydra/build/7",
		DrvPath: "/nix/store/x.drv", Outputs: map[string]storepath.Path{"out": app, "doc": doc}}
	unfinished := build
	unfinished.Finished = false
	extra := roots.FileDiff{roots.Extra: {"x"}}
	asked := func(reason cache.Reason) roots.Finding {
		return roots.CacheAnswer{Answer: cache.Answer{URL: "https://c", Reason: reason, Why: "because"}}
	}
	for _, c := range []struct {
		finding roots.Finding
		proven  bool
		text    string
	}{
		{asked(cache.Untrusted), true, "https://c: because"},
		{asked(cache.Invalid), false, "https://c: because"},
		{asked(cache.Login), false, "https://c: because"},
		{asked(cache.Down), false, "https://c could not be asked, and may have it: because"},
		{roots.HydraSilent{Err: errors.New("no route")}, false, "Hydra could not be asked: no route"},
		{roots.NeverBuilt{Hydra: "https://hydra", Name: "app"}, false, "https://hydra has never built anything named app: no job gives it"},
		{roots.OtherSystem{Who: "Hydra builds", Name: "app", System: "x", Have: []string{"y", "z"}, At: "https://hydra/build/7"}, true,
			"Hydra builds app for y, z, not for x: https://hydra/build/7"},
		{roots.OtherSystem{Who: "the caches have", Name: "app", System: "x", Have: []string{"y"}, At: "/nix/store/z-app"}, true,
			"the caches have app for y, not for x: /nix/store/z-app"},
		{roots.HydraBuild{Build: unfinished}, true,
			"Hydra has not finished building it: build 7 of p/main/app: https://hydra/build/7"},
		{roots.HydraBuild{Build: build, Failure: errors.New("exit 1")}, true, "Hydra could not build it: exit 1"},
		{roots.HydraBuild{Build: build}, true, "Hydra has built it, but no cache that was asked has it " +
			"(build 7 of p/main/app: https://hydra/build/7)"},
		{roots.HydraBuild{Build: build, Store: &roots.HydraStore{URL: "u", Collected: true}}, true,
			"Hydra has built it, but no cache that was asked has it (build 7 of p/main/app: https://hydra/build/7); it has been garbage-collected from Hydra's own store (u)"},
		{roots.HydraBuild{Build: build, Store: &roots.HydraStore{URL: "u"}}, true,
			"Hydra has built it, but no cache that was asked has it (build 7 of p/main/app: https://hydra/build/7); Hydra serves it itself, without a signature (u)"},
		{roots.HydraBuild{Build: build, Store: &roots.HydraStore{URL: "u", Keys: []string{"a-1", "b-1"}}}, true,
			"Hydra has built it, but no cache that was asked has it (build 7 of p/main/app: https://hydra/build/7); Hydra serves it itself, signed by a-1, b-1 (u)"},
		{roots.OtherBuild{Build: build, Name: "app", Commit: "c0ffee", Inputs: "lib=bb, src=aa"}, false,
			"Hydra has built app, last from lib=bb, src=aa (build 7 of p/main/app: https://hydra/build/7), not from c0ffee"},
		{roots.OtherBuild{Build: build, Commit: "c0ffee", OfCommit: true, Ours: "/nix/store/y.drv", Inputs: "src=aa"}, false,
			"Hydra has built this revision, and the two differ (build 7 of p/main/app: https://hydra/build/7):\n" +
				"Hydra's derivation is /nix/store/x.drv, here it is /nix/store/y.drv\nwhat Hydra evaluated: src=aa"},
		{roots.OtherBuild{Build: build, Commit: "c0ffee", OfCommit: true, Ours: "/nix/store/y.drv", Inputs: "src=aa", DeepClone: "input src of the jobset is a deep clone (x)"}, false,
			"Hydra has built this revision, and the two differ: input src of the jobset is a deep clone (x), and its .git is in Hydra's " +
				"source, which no other checkout has alike (build 7 of p/main/app: https://hydra/build/7):\n" +
				"Hydra's derivation is /nix/store/x.drv, here it is /nix/store/y.drv\nwhat Hydra evaluated: src=aa"},
		{roots.UploadDiffers{Files: roots.FileDiff{roots.Nested: {"a/b", "c/d"}}, Complete: true}, false,
			"the upload is not what Hydra fetches:\nsubmodules of submodules (Hydra checks submodules out one level deep, and has empty " +
				"directories in their place): a/b, c/d\n" +
				"The caches do not have what that gives, either, so there is another reason, too"},
		{roots.OtherBuild{Build: build, Ours: "/nix/store/y.drv", Inputs: "src=aa"}, false,
			"Hydra's newest build of it differs from what was evaluated here (build 7 of p/main/app: https://hydra/build/7):\n" +
				"Hydra's derivation is /nix/store/x.drv, here it is /nix/store/y.drv\nwhat Hydra evaluated: src=aa"},
		{roots.UploadDiffers{Files: extra, From: "commit c", Restored: []storepath.Path{app}, Name: "source"}, true,
			"the upload is not what Hydra fetches (compared with commit c):\nin the upload, not in git: x\nWithout that difference it is " + foundApp +
				", in a source named source, and the caches have it"},
		{roots.UploadDiffers{Files: extra, From: "commit c", Complete: true}, false,
			"the upload is not what Hydra fetches (compared with commit c):\nin the upload, not in git: x\n" +
				"The caches do not have what that gives, either, so there is another reason, too"},
		{roots.UploadDiffers{Files: extra, From: "commit c"}, false,
			"the upload is not what Hydra fetches (compared with commit c):\nin the upload, not in git: x\n" +
				"(What git has could not be restored completely from .git, so that this is not proven)"},
		{roots.Impure{Kind: nixinstall.Clock, Places: []string{"a:1", "b:2"}}, false, "the clock is read at a:1, b:2"},
		{roots.Impure{Kind: nixinstall.Clock, Places: []string{"a:1"}, Changed: true}, true,
			"evaluating it again a second later gives another path: it depends on the clock, at a:1"},
		{roots.Impure{Kind: nixinstall.Environment, Places: []string{"a:1"}}, false,
			"variables of the environment are read at a:1; they are empty here, and Hydra's may not be"},
		{roots.Impure{Kind: nixinstall.SearchPath, Places: []string{"a:1"}}, false,
			"the search path is used at a:1; here it is empty, and Hydra's is the jobset's inputs of these names"},
		{roots.Impure{Kind: nixinstall.SearchPath, Places: []string{"a:1"}, NixPath: []string{"x=./x", "https://me:secret@h/y"}}, false,
			"the search path is used at a:1; here it is x=./x https://h/y, and Hydra's is the jobset's inputs of these names"},
		{roots.Impure{Kind: nixinstall.Unpinned, Places: []string{"a:1"}}, false,
			"something is fetched whose content is not pinned, at a:1"},
		{roots.ConfiguredCaches{ListedCaches: nixinstall.ListedCaches{From: []string{"nixConfig of flake.nix"}, Substituters: []string{"https://c"}}}, false,
			"nixConfig of flake.nix lists what is not obeyed here:\nsubstituters https://c"},
		{roots.ConfiguredCaches{ListedCaches: nixinstall.ListedCaches{From: []string{"nix.conf", "NIX_CONFIG"}, TrustedPublicKeys: []string{"k-1:x"}}}, false,
			"nix.conf, NIX_CONFIG lists what is not obeyed here:\ntrusted-public-keys k-1:x"},
		{roots.Imported{Names: []string{"a", "b"}}, false,
			"the expression imports a, b, which has to be built or fetched by a builder first"},
		{roots.Imported{Names: []string{"a"}, Fetched: []string{"a (https://x)", "b"}}, false,
			"the expression imports what a builder has to fetch first: a (https://x); b"},
	} {
		t.Run(c.text[:min(40, len(c.text))], func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(c.finding.String()).To(Equal(c.text))
			g.Expect(roots.Proven(c.finding)).To(Equal(c.proven))
		})
	}
}
