package roots

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

func TestASourcesNamesAreTriedTheLikeliestFirst(t *testing.T) {
	g := NewWithT(t)
	now := func(name string) sourceName { return sourceName{name: name} }
	before := func(name string) sourceName { return sourceName{name: name, rule: nixinstall.GitPrefixed} }
	usual := [][]sourceName{{now("source")}, {now("git-export")}, {before("git-export")}}
	g.Expect(Finder{}.sourceNames()).To(Equal(usual))
	g.Expect(Finder{Settings: Settings{SourceName: "source"}}.sourceNames()).To(Equal(usual))
	own := Settings{SourceName: "own"}
	g.Expect(Finder{Settings: own}.sourceNames()).To(Equal([][]sourceName{{now("own")}, {now("source"), now("git-export")}, {before("own")}}))
	g.Expect(Finder{Settings: own, Flake: "."}.sourceNames()).To(Equal([][]sourceName{{now("source")}}))

	tried := []attempt{{sourceName: now("own")}, {sourceName: now("source")}, {sourceName: before("own")}}
	g.Expect(namesUpTo(tried, now("source"))).To(Equal([]string{"own", "source"}))
	g.Expect(namesUpTo(tried, before("own"))).To(Equal([]string{"own", "source", "own"}))
}

func TestTheHookIsNoRootAndTheMainProgramIsThatOfTheFirst(t *testing.T) {
	g := NewWithT(t)
	result := nixinstall.Result{Outputs: []nixinstall.Output{
		{Attr: HookName, Path: "hook", MainProgram: "no"}, {Attr: "app", Path: "app", MainProgram: "server", Licenses: []string{"MIT"}},
		{Attr: "app", Path: "doc", MainProgram: "man", Licenses: []string{"ISC"}}, {Attr: "again", Path: "app", Licenses: []string{"BSL-1.0"}},
	}}
	g.Expect(rootsOf(attempt{result: result})).To(Equal(Result{Paths: []storepath.Path{"app", "doc"}, Hook: "hook", MainProgram: "server",
		Licenses: map[storepath.Path][]string{"app": {"MIT"}, "doc": {"ISC"}}}))
	g.Expect(outputPaths(result)).To(Equal([]storepath.Path{"hook", "app", "doc"}))
	g.Expect(isHook("packages.x86_64-linux." + HookName)).To(BeTrue())
	g.Expect(isHook("my" + HookName)).To(BeFalse())
}

func TestAFlakeIsToldTheRevisionThatItIsOf(t *testing.T) {
	g := NewWithT(t)
	e := evaluation{revCount: 7, Finder: Finder{Flake: ".#app", Identity: nixinstall.Identity{Rev: commitOfGit, LastModified: 5},
		Settings: Settings{Attrs: []string{"a"}, Args: map[string]string{"b": "c"}, ArgExprs: map[string]string{"d": "1"}}}}
	want := nixinstall.Request{Source: "s", Flake: ".#app", Attrs: []string{"a"}, Args: map[string]string{"b": "c"},
		ArgExprs: map[string]string{"d": "1"}, Optional: []string{HookName}, Rev: commitOfGit, LastModified: 5, RevCount: 7}
	g.Expect(e.request("s")).To(Equal(want))
	e.Settings.GitRev = strings.Repeat("a", 40)
	want.Rev, want.LastModified, want.RevCount = e.Settings.GitRev, 0, 0
	g.Expect(e.request("s")).To(Equal(want), "what git has is of another one")
	e.Settings.GitRev, want.Rev = "aaaaaaa", ""
	g.Expect(e.request("s")).To(Equal(want), "an abbreviation")
	e.Flake, e.File, want.Flake, want.File = "", "app.nix", "", "app.nix"
	g.Expect(e.request("s")).To(Equal(want))
	g.Expect([]string{e.entryName(), Finder{Flake: "."}.entryName()}).To(Equal([]string{"app.nix", "the flake ."}))
}

func TestAnOutputForOtherSystemsOnlyIsAProof(t *testing.T) {
	g := NewWithT(t)
	found := forOthers("Hydra has", storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app-1.0"), "x86_64-linux",
		[]string{"aarch64-linux", "riscv64-linux"}, "https://h/1")
	g.Expect(found).To(Equal([]Finding{{Proven: true, Err: &hydra.SystemError{System: "x86_64-linux",
		Have: []string{"aarch64-linux", "riscv64-linux"}, URL: "https://h/1"},
		Text: "Hydra has app-1.0 for aarch64-linux, riscv64-linux, not for x86_64-linux: https://h/1"}}))
}

func TestSoManyPathsAreLookedUpAtATimeAndNoMore(t *testing.T) {
	g := NewWithT(t)
	var paths []storepath.Path
	for i := range 3*64 + 1 {
		paths = append(paths, storepath.Path(strconv.Itoa(i)))
	}
	var mu sync.Mutex
	now, most := 0, 0
	full, none := make(chan struct{}), &cache.NotFoundError{}
	absent, err := lookUp(t.Context(), func(_ context.Context, p storepath.Path) (*cache.Found, error) {
		mu.Lock()
		if now++; now > most {
			if most = now; most == 64 {
				close(full)
			}
		}
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			now--
		}()
		select {
		case <-full:
		case <-time.After(10 * time.Second):
		}
		time.Sleep(time.Millisecond)
		if p == "7" {
			return nil, none
		}
		return &cache.Found{}, nil
	}, paths)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(absent).To(Equal(map[storepath.Path]*cache.NotFoundError{"7": none}))
	g.Expect(most).To(Equal(64))
	_, err = lookUp(t.Context(), func(context.Context, storepath.Path) (*cache.Found, error) { return nil, context.Canceled }, paths)
	g.Expect(err).To(MatchError(context.Canceled))
}
