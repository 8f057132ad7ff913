package roots

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

func TestAnAnswerOfACacheIsAReasonWhereItIsMoreThanThatThePathIsNotThere(t *testing.T) {
	g := NewWithT(t)
	asked := func(reasons ...cache.Reason) (all []cache.Answer) {
		for _, reason := range reasons {
			all = append(all, cache.Answer{URL: "https://c", Reason: reason, Why: "because"})
		}
		return all
	}
	found := cacheFindings(asked(cache.Absent, cache.Untrusted, cache.Invalid, cache.Login, cache.Down))
	g.Expect(found).To(HaveLen(4))
	for i, proven := range []bool{true, false, false, false} {
		g.Expect(found[i].Proven).To(Equal(proven))
		g.Expect(found[i].Err).To(BeAssignableToTypeOf(&cache.NotFoundError{}))
	}
	g.Expect(found[2].Text).To(Equal("https://c: because"))
	g.Expect(found[3].Text).To(Equal("https://c could not be asked, and may have it: because"))

	e := &NotCachedError{Asked: asked(cache.Down, cache.Untrusted)}
	never := func(context.Context, *NotCachedError) []Finding { panic("the reason is known") }
	g.Expect(Finder{}.look(t.Context(), e, never)).To(BeIdenticalTo(e))
	g.Expect(e.Findings).To(HaveLen(1), "what is proven stands alone")
	g.Expect(e.Findings[0].Proven).To(BeTrue())
}

func TestWhereACacheHasAnOutputThatIsNotTrustedNothingLacks(t *testing.T) {
	g := NewWithT(t)
	a := attempt{lacks: &NotCachedError{Missing: make([]storepath.Path, 3), Asked: []cache.Answer{{Reason: cache.Down}}}}
	g.Expect(a.distance()).To(Equal(3))
	a.lacks.Asked = append(a.lacks.Asked, cache.Answer{Reason: cache.Untrusted})
	g.Expect(a.distance()).To(BeZero())
}

func TestReasonsAreListedAsTheyAreAskedForUntilOneIsProven(t *testing.T) {
	g := NewWithT(t)
	says := func(findings ...Finding) question {
		return func(context.Context, *NotCachedError) []Finding { return findings }
	}
	texts := func(f Finder, questions ...question) (texts []string) {
		e := &NotCachedError{}
		g.Expect(f.look(t.Context(), e, questions...)).To(BeIdenticalTo(e))
		for _, finding := range e.Findings {
			texts = append(texts, finding.Text)
		}
		return texts
	}
	known := Finder{Settings: Settings{HydraURL: "https://hydra"}}
	may, is := Finding{Text: "may"}, Finding{Text: "is", Proven: true}
	g.Expect(texts(known, says(), says(may), says(may))).To(Equal([]string{"may", "may"}))
	g.Expect(texts(known, says(may), says(may, is, is), says(Finding{Text: "not asked"}))).To(Equal([]string{"is", "is"}))
	g.Expect(texts(Finder{}, says(may))).To(ConsistOf("may", HavePrefix("Hydra may not build this at all")))
	g.Expect(texts(Finder{}, says(is))).To(ConsistOf("is"))
	unknown := &NotCachedError{}
	_ = Finder{}.look(t.Context(), unknown)
	g.Expect(unknown.Findings[0].Kinds).To(Equal([]Kind{HydraUnknown}))

	ended, end := context.WithCancel(t.Context())
	end()
	g.Expect(known.look(ended, &NotCachedError{}, says(is))).To(MatchError(context.Canceled))
}

// hydraReason is a Hydra, and an output that an evaluation found and no cache has.
type hydraReason struct {
	server  *hydratest.Server
	missing storepath.Path
	d       diagnosis
}

const reasonSystem = "x86_64-linux"

func newHydraReason(t *testing.T) *hydraReason {
	h := &hydraReason{server: hydratest.New(), missing: storepath.Path(hydratest.StorePath("ours", "shop-1.0"))}
	t.Cleanup(h.server.Close)
	f := Finder{File: "app.nix", Settings: Settings{HydraURL: h.server.URL, System: reasonSystem},
		Identity: nixinstall.Identity{Rev: hydratest.Revision("ours")}, Log: t.Logf}
	f.Servers.Getenv = func(string) string { return "" }
	h.d = diagnosis{evaluation: evaluation{Finder: f}, drvs: []storepath.Path{storepath.Path(hydratest.StorePath("drv", "shop-1.0.drv"))},
		tried: []attempt{{lacks: &NotCachedError{Missing: []storepath.Path{h.missing}}}}}
	return h
}

// builds has Hydra evaluate a revision with one job, and gives its build.
func (h *hydraReason) builds(revision string, job hydratest.Job, options string) *hydratest.Build {
	job.Name = "shop"
	if job.Outputs == nil {
		job.Outputs = map[string]string{"out": hydratest.StorePath("theirs", "shop-1.0")}
	}
	return h.server.Project("p").Jobset("main").Evaluate(hydratest.Evaluation{Jobs: []hydratest.Job{job},
		Inputs: map[string]hydratest.Input{"flags": {Type: "string", Value: "-O3"},
			"src": {URI: "https://git/x", Revision: hydratest.Revision(revision), Options: options}}}).Build("shop")
}

// says gives the one finding.
func (h *hydraReason) says(g *WithT, e *NotCachedError) Finding {
	e.Missing = []storepath.Path{h.missing}
	found := h.d.ofHydra(context.Background(), e)
	g.Expect(found).To(HaveLen(1))
	return found[0]
}

func TestHydrasBuildOfTheOutputIsAReason(t *testing.T) {
	g := NewWithT(t)
	h := newHydraReason(t)
	for _, ours := range []hydratest.Job{{DrvPath: h.d.drvs[0].String()}, {Outputs: map[string]string{"out": h.missing.String()}}} {
		b := h.builds("older", ours, "")
		page := fmt.Sprintf("build %d of p/main/shop: %s/build/%d", b.ID, h.server.URL, b.ID)
		g.Expect(h.says(g, &NotCachedError{})).To(Equal(Finding{Text: "Hydra has not finished building it: " + page, Proven: true,
			Kinds: []Kind{Unfinished}, Facts: []string{"job", "p/main/shop"}}))
		b.Succeed()
		built := h.says(g, &NotCachedError{})
		g.Expect(built.Text).To(Equal("Hydra has built it, but no cache that was asked has it (" + page + ")"))
		g.Expect(built.Kinds).To(Equal([]Kind{Uploaded}))
		g.Expect(built.Proven).To(BeTrue())
		unasked := &NotCachedError{Findings: []Finding{{Text: "a cache could not be asked"}}}
		g.Expect(h.says(g, unasked).Proven).To(BeFalse(), "that cache may have it")
		b.Delete()
		b = h.builds("older", ours, "")
		b.Fail(1)
		failed := h.says(g, unasked)
		g.Expect(failed.Text).To(And(HavePrefix("Hydra could not build it: "), ContainSubstring(fmt.Sprintf("build %d of shop", b.ID))))
		g.Expect(failed.Err).To(BeAssignableToTypeOf(&hydra.BuildFailedError{}))
		g.Expect(failed.Proven).To(BeTrue())
		b.Delete()
	}

	store := t.TempDir()
	h.server.Store(store)
	b := h.builds("older", hydratest.Job{DrvPath: h.d.drvs[0].String()}, "")
	b.Succeed()
	kindsAndKey := func(sig string) ([]Kind, []string) {
		text := fmt.Sprintf("StorePath: %s\nNarHash: sha256:%s\nNarSize: 8\n%s", h.missing, strings.Repeat("1", 52), sig)
		g.Expect(os.WriteFile(filepath.Join(store, h.missing.HashPart()+".narinfo"), []byte(text), 0o644)).To(Succeed())
		found := h.says(g, &NotCachedError{})
		return found.Kinds, found.Facts[2:]
	}
	g.Expect(h.says(g, &NotCachedError{}).Kinds).To(Equal([]Kind{Collected}))
	kinds, _ := kindsAndKey("")
	g.Expect(kinds).To(Equal([]Kind{HydraUnsigned}))
	kinds, key := kindsAndKey("Sig: " + strings.Repeat("k", 130) + ":" + base64.StdEncoding.EncodeToString(make([]byte, 64)) + "\n")
	g.Expect(kinds).To(Equal([]Kind{HydraServes}))
	g.Expect(key).To(Equal([]string{"key", strings.Repeat("k", 120) + "…"}))
}

func TestHydrasBuildsOfTheNameAreAReason(t *testing.T) {
	g := NewWithT(t)
	h := newHydraReason(t)
	g.Expect(h.says(g, &NotCachedError{})).To(Equal(Finding{Kinds: []Kind{NeverBuilt}, Facts: []string{"name", "shop", "file", "app.nix"},
		Text: h.server.URL + " has never built anything named shop-1.0: no job gives it"}))
	shop := h.missing
	h.missing = storepath.Path(hydratest.StorePath("ours", "my-shop-2.0"))
	g.Expect(h.says(g, &NotCachedError{}).Facts).To(Equal([]string{"name", "my-shop", "file", "app.nix"}))
	h.missing = shop

	same := h.builds("older", hydratest.Job{System: "riscv64-linux"}, "")
	b := h.builds("ours", hydratest.Job{System: "riscv64-linux"}, "")
	other := h.says(g, &NotCachedError{})
	g.Expect(other.Text).To(Equal(fmt.Sprintf("Hydra builds shop-1.0 for riscv64-linux, not for x86_64-linux: %s/build/%d", h.server.URL, b.ID)))
	g.Expect(other.Proven).To(BeTrue())
	g.Expect(other.Err).To(HaveField("Have", []string{"riscv64-linux"}))
	same.Delete()
	b.Delete()

	h.builds("older", hydratest.Job{}, "")
	b = h.builds("old", hydratest.Job{}, "")
	page := func() string { return fmt.Sprintf("(build %d of p/main/shop: %s/build/%[1]d)", b.ID, h.server.URL) }
	inputs := "flags=-O3, src="
	g.Expect(h.says(g, &NotCachedError{})).To(Equal(Finding{Kinds: []Kind{OtherRevision}, Facts: []string{"job", "p/main/shop"},
		Text: "Hydra has built shop-1.0, last from " + inputs + hydratest.Revision("old") + " " + page() + ", not from " + hydratest.Revision("ours")}))

	derivations := func() string {
		return " " + page() + ":\nHydra's derivation is " + b.DrvPath() + ", here it is " + h.d.drvs[0].String() + "\nwhat Hydra evaluated: " + inputs
	}
	h.d.Identity.Rev = ""
	newest := h.says(g, &NotCachedError{})
	g.Expect(newest.Text).To(Equal("Hydra's newest build of it differs from what was evaluated here" + derivations() + hydratest.Revision("old")))
	g.Expect(newest.Kinds).To(Equal([]Kind{OtherDerivation}))
	h.d.Identity.Rev = hydratest.Revision("ours")

	b = h.builds("ours", hydratest.Job{}, "")
	h.builds("newer", hydratest.Job{}, "")
	h.builds("newer", hydratest.Job{System: "riscv64-linux"}, "")
	g.Expect(h.says(g, &NotCachedError{})).To(Equal(Finding{Kinds: []Kind{OtherDerivation}, Facts: []string{"job", "p/main/shop"},
		Text: "Hydra has built this revision, and the two differ" + derivations() + hydratest.Revision("ours")}))

	b = h.builds("ours", hydratest.Job{}, "main 1")
	deep := h.says(g, &NotCachedError{})
	g.Expect(deep.Kinds).To(Equal([]Kind{DeepClone}))
	g.Expect(deep.Text).To(Equal("Hydra has built this revision, and the two differ: input src of the jobset is a deep clone (https://git/x main 1), " +
		"and its .git is in Hydra's source, which no other checkout has alike" + derivations() + hydratest.Revision("ours")))
	for range 3 {
		h.builds("newer", hydratest.Job{}, "")
	}
	g.Expect(h.says(g, &NotCachedError{}).Kinds).To(Equal([]Kind{OtherRevision}), "only the newest are looked into")

	answer := hydratest.Fault{Status: 200, ContentType: "application/json", Body: `{"builds":[{"id":1,"finished":1,"buildstatus":0,"system":"` +
		reasonSystem + `","project":"p","jobset":"main","job":"shop","nixname":"shop-1.0","buildoutputs":{"out":{"path":"` +
		hydratest.StorePath("theirs", "shop-1.0") + `"}},"jobsetevals":[]}],"buildsdrv":[]}`}
	h.server.Fail(answer, answer)
	g.Expect(h.d.ofHydra(t.Context(), &NotCachedError{Missing: []storepath.Path{h.missing}})).To(BeEmpty(), "it is of no evaluation")

	h.server.Fail(hydratest.Fault{Status: 501, Body: "no"})
	silent := h.says(g, &NotCachedError{})
	g.Expect(silent.Text).To(HavePrefix("Hydra could not be asked: asking Hydra for "))
	g.Expect(silent.Err).To(HaveOccurred())
	g.Expect(silent.Proven).To(BeFalse())
	h.server.OnRequest(func(_ int, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/eval/") {
			h.server.Fail(hydratest.Fault{Status: 501, Body: "no"})
		}
	})
	g.Expect(h.says(g, &NotCachedError{}).Text).To(HavePrefix("Hydra could not be asked: "))
	h.server.SlowSearch()
	g.Expect(h.says(g, &NotCachedError{}).Err).To(BeAssignableToTypeOf(&hydra.SearchTimeoutError{}))
	h.d.Settings.HydraURL = "ftp://hydra"
	g.Expect(h.says(g, &NotCachedError{}).Text).To(HavePrefix("Hydra could not be asked: reading Hydra's address"))
	h.d.Settings.HydraURL = ""
	g.Expect(h.d.ofHydra(t.Context(), &NotCachedError{})).To(BeEmpty())
}

func TestWhatHydraEvaluatedIsNamedInOrder(t *testing.T) {
	g := NewWithT(t)
	inputs := map[string]hydra.Input{"f": {Value: "v", Revision: "r"}}
	for _, name := range []string{"e", "c", "a", "d", "b"} {
		inputs[name] = hydra.Input{Value: name}
	}
	g.Expect(inputsOf(hydra.Eval{Inputs: inputs})).To(Equal("a=a, b=b, c=c, d=d, e=e, f=r"))
	for _, name := range []string{"k", "j", "i", "h", "g"} {
		inputs[name] = hydra.Input{Value: name}
	}
	g.Expect(inputsOf(hydra.Eval{Inputs: inputs})).To(And(ContainSubstring("j=j"), Not(ContainSubstring("k=k"))), "ten are")
	g.Expect(inputsOf(hydra.Eval{Flake: "git+https://me:secret@h/x"})).To(Equal("git+https://h/x"))
	d := diagnosis{drvs: []storepath.Path{"/nix/store/x"}}
	found, ofCommit := d.compared(t.Context(), nil, hydra.Build{}, hydra.Eval{}, "shop") // without a commit there, and here
	g.Expect(ofCommit).To(BeFalse())
	g.Expect(found.Kinds).To(Equal([]Kind{OtherDerivation}))
}

func TestImpuritiesAreNamedByKindTheClockFirst(t *testing.T) {
	g := NewWithT(t)
	place := func(line int, kind nixinstall.ImpurityKind, what string) nixinstall.Impurity {
		return nixinstall.Impurity{File: "a", Line: line, Kind: kind, What: what}
	}
	found := impure([]nixinstall.Impurity{place(1, nixinstall.Environment, "builtins.getEnv"), place(2, nixinstall.SearchPath, "<x>"),
		place(3, nixinstall.Unpinned, "fetchTarball"), place(4, nixinstall.Clock, "builtins.currentTime"),
		place(5, nixinstall.Clock, "builtins.currentTime")}, nil)
	g.Expect(found).To(Equal([]Finding{
		{Kinds: []Kind{Clock}, Text: "the clock is read at a:4: builtins.currentTime, a:5: builtins.currentTime"},
		{Kinds: []Kind{Environment}, Text: "variables of the environment are read at a:1: builtins.getEnv; they are empty here, and Hydra's may not be"},
		{Kinds: []Kind{SearchPath}, Text: "the search path is used at a:2: <x>; here it is empty, and Hydra's is the jobset's inputs of these names"},
		{Kinds: []Kind{Unpinned}, Text: "something is fetched whose content is not pinned, at a:3: fetchTarball"}}))
	found = impure([]nixinstall.Impurity{place(2, nixinstall.SearchPath, "<x>")}, []string{"x=./x", "https://me:secret@h/y"})
	g.Expect(found[0].Text).To(ContainSubstring("here it is x=./x https://h/y, and"))

	d := diagnosis{evaluation: evaluation{Finder: Finder{Source: t.TempDir()}}}
	e := &NotCachedError{}
	g.Expect(d.impurity(t.Context(), e)).To(BeEmpty())
	d.Flake = ".#"
	g.Expect(os.WriteFile(filepath.Join(d.Source, "a.nix"), []byte("<x>"), 0o644)).To(Succeed())
	g.Expect(d.impurity(t.Context(), e)).To(BeEmpty(), "a flake is evaluated purely")
	d.Flake = ""
	d.Settings.NixPath = []string{"x=./x"}
	g.Expect(d.impurity(t.Context(), e)).To(ConsistOf(And(HaveField("Kinds", []Kind{SearchPath}), HaveField("Text", ContainSubstring("x=./x")))))
}

func TestCachesThatASourceListsAreNamedWhereTheyWereNotAsked(t *testing.T) {
	g := NewWithT(t)
	source := t.TempDir()
	g.Expect(os.WriteFile(filepath.Join(source, "nix.conf"), []byte("substituters = https://a/?priority=1 https://me:x@b\n"), 0o644)).To(Succeed())
	f := Finder{Source: source, Servers: cache.Options{Getenv: func(string) string { return "" }}}
	listed := func(asked ...string) []Finding {
		e := &NotCachedError{}
		for _, url := range asked {
			e.Asked = append(e.Asked, cache.Answer{URL: url})
		}
		return f.configured(t.Context(), e)
	}
	g.Expect(listed()).To(Equal([]Finding{{Kinds: []Kind{Configured}, Text: "nix.conf lists what is not obeyed here",
		Facts: []string{"caches", "https://a/?priority=1 https://b", "keys", ""}}}))
	g.Expect(listed("https://a")).To(ConsistOf(HaveField("Facts", []string{"caches", "https://b", "keys", ""})))
	g.Expect(listed("https://a/", "https://b/")).To(BeEmpty())
	tree(g, source, map[string]string{"svc/flake.nix": `{ nixConfig.extra-substituters = [ "https://c" ]; }`})
	f.Flake = ".?dir=svc#x"
	g.Expect(listed("https://a", "https://b")).To(ConsistOf(HaveField("Facts", []string{"caches", "https://c", "keys", ""})))
	f.Flake = ""
	f.Servers.Getenv = func(name string) string {
		return map[string]string{"NIX_CONFIG": "extra-trusted-public-keys = k-1:x= k-2:\x1b"}[name]
	}
	g.Expect(listed()).To(Equal([]Finding{{Kinds: []Kind{Configured}, Text: "nix.conf, NIX_CONFIG lists what is not obeyed here",
		Facts: []string{"caches", "https://a/?priority=1 https://b", "keys", `k-1:x= k-2:\x1b`}}}))
}
