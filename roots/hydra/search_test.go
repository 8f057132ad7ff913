package hydra_test

import (
	"context"
	"errors"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

func TestSearch(t *testing.T) { spec.Run(t, "Search", testSearch) }

func testSearch(t *testing.T, _ spec.G, it spec.S) {
	var s *hydratest.Server
	var c *hydra.Client
	ctx := context.Background()

	it.Before(func() {
		RegisterTestingT(t)
		s = hydratest.New()
		s.OnAnswer(func(path string, body []byte) { Expect(hydratest.CheckAnswer(path, body)).To(Succeed()) })
		var err error
		c, err = hydra.New(hydra.Options{URL: s.URL})
		Expect(err).NotTo(HaveOccurred())
	})
	it.After(func() { s.Close() })

	path := func(seed, name string) storepath.Path {
		p, err := storepath.Parse(hydratest.StorePath(seed, name))
		Expect(err).NotTo(HaveOccurred())
		return p
	}

	it("finds the builds of a derivation, and those that have an output of a name, newest first", func() {
		const name = "shop_web-1.0+git?=2"
		j := s.Project("shop").Jobset("main")
		for _, seed := range []string{"one", "two"} {
			j.Evaluate(hydratest.Evaluation{
				Inputs: map[string]hydratest.Input{
					"src": {URI: "https://git.example.org/shop.git", Revision: hydratest.Revision(seed)},
				},
				Jobs: []hydratest.Job{
					{Name: "web", Outputs: map[string]string{"out": path(seed, name).String()}},
					{Name: "other", Outputs: map[string]string{"out": path(seed, "shopxweb-1.0").String()}},
				},
			})
		}
		builds, err := c.FindNamed(ctx, path("elsewhere", name))
		Expect(err).NotTo(HaveOccurred())
		Expect(builds).To(HaveLen(2), "an underscore must not find another name")
		Expect(builds[0].ID).To(BeNumerically(">", builds[1].ID))

		eval, err := c.Evaluation(ctx, builds[0].Evals[0])
		Expect(err).NotTo(HaveOccurred())
		sources := eval.Sources()
		Expect(sources).To(HaveLen(1))
		Expect(sources[0].Revision).To(Equal(hydratest.Revision("two")))

		drv, err := storepath.Parse(builds[1].DrvPath)
		Expect(err).NotTo(HaveOccurred())
		byDrv, err := c.FindDerivation(ctx, drv)
		Expect(err).NotTo(HaveOccurred())
		Expect(byDrv).To(HaveLen(1))
		Expect(byDrv[0].ID).To(Equal(builds[1].ID))
		Expect(byDrv[0].Finished).To(BeFalse())
		byDrv, err = c.FindDerivation(ctx, path("never", name+".drv"))
		Expect(err).NotTo(HaveOccurred())
		Expect(byDrv).To(BeEmpty())
	})

	it("says which input of a jobset is a deep clone", func() {
		inputs := map[string]hydratest.Input{}
		for name, options := range map[string]string{"plain": "", "branch": "main", "deep": "main 1", "option": "main timeout=3",
			"both": "main deepClone timeout=3"} {
			inputs[name] = hydratest.Input{URI: "https://git.example/x", Options: options}
		}
		inputs["text"] = hydratest.Input{Type: "string", Value: "a b c"}
		s.Project("shop").Jobset("main").Evaluate(hydratest.Evaluation{Inputs: inputs})
		for name, want := range map[string]string{"deep": "https://git.example/x main 1", "both": "https://git.example/x main deepClone timeout=3",
			"plain": "", "branch": "", "option": "", "text": "", "none": ""} {
			value, deep, err := c.DeepClone(ctx, "shop", "main", name)
			Expect(err).NotTo(HaveOccurred())
			Expect(deep).To(Equal(want != ""), name)
			if deep {
				Expect(value).To(Equal(want))
			}
		}
	})

	it("says that a server without a search is not one to ask", func() {
		s.Fail(hydratest.Fault{Status: 200, ContentType: "application/json", Body: "{}"})
		_, err := c.FindNamed(ctx, path("one", "x"))
		Expect(err).To(MatchError(ContainSubstring("not what Hydra's API promises")))
	})

	it("does not search again for a minute after a search that took Hydra too long", func() {
		j := s.Project("shop").Jobset("main")
		e := j.Evaluate(hydratest.Evaluation{Jobs: []hydratest.Job{{Name: "web"}}})
		drv, err := storepath.Parse(e.Build("web").DrvPath())
		Expect(err).NotTo(HaveOccurred())
		s.SlowSearch()
		builds, err := c.FindDerivation(ctx, drv)
		Expect(err).NotTo(HaveOccurred())
		Expect(builds).To(HaveLen(1), "derivations have an index")
		for range 3 {
			_, err = c.FindNamed(ctx, path("one", "web-1.0"))
			var timeout *hydra.SearchTimeoutError
			Expect(errors.As(err, &timeout)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(ContainSubstring("canceling statement due to statement timeout")))
		}
		_, err = c.FindDerivation(ctx, drv)
		Expect(err).To(HaveOccurred())
		Expect(s.Requests()).To(HaveLen(2))
	})

	for name, fault := range sorted(map[string]hydratest.Fault{
		"a proxy that gives up": {Status: 504, ContentType: "text/html", Body: "<title>504 Gateway Time-out</title>"},
		"no answer":             {Status: 200, Hang: time.Second},
	}) {
		it("takes "+name+" for a search that takes too long, and asks once", func() {
			c := client(s, func(o *hydra.Options) { o.Timeout = 100 * time.Millisecond })
			s.Fail(fault)
			_, err := c.FindNamed(ctx, path("one", "web-1.0"))
			var timeout *hydra.SearchTimeoutError
			Expect(errors.As(err, &timeout)).To(BeTrue(), "%v", err)
			Expect(s.Requests()).To(HaveLen(1))
		})
	}
}
