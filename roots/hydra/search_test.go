package hydra_test

import (
	"context"
	"testing"

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

	it("finds the builds of an output, and those of the same name, newest first", func() {
		const name = "shop_web-1.0+git?=2"
		j := s.Project("shop").Jobset("main")
		for _, seed := range []string{"one", "two"} {
			j.Evaluate(hydratest.Evaluation{
				Inputs: map[string]hydratest.Input{
					"src": {URI: "https://git.example.org/shop.git main", Revision: hydratest.Revision(seed)},
				},
				Jobs: []hydratest.Job{
					{Name: "web", Outputs: map[string]string{"out": path(seed, name).String()}},
					{Name: "other", Outputs: map[string]string{"out": path(seed, "shopxweb-1.0").String()}},
				},
			})
		}
		builds, err := c.FindOutput(ctx, path("one", name))
		Expect(err).NotTo(HaveOccurred())
		Expect(builds).To(HaveLen(1))
		Expect(builds[0].Job).To(Equal("web"))
		Expect(builds[0].Finished).To(BeFalse())

		builds, err = c.FindNamed(ctx, path("elsewhere", name))
		Expect(err).NotTo(HaveOccurred())
		Expect(builds).To(HaveLen(2), "an underscore must not find another name")
		Expect(builds[0].ID).To(BeNumerically(">", builds[1].ID))

		eval, err := c.Evaluation(ctx, builds[0].Evals[0])
		Expect(err).NotTo(HaveOccurred())
		sources := eval.Sources()
		Expect(sources).To(HaveLen(1))
		Expect(sources[0].Revision).To(Equal(hydratest.Revision("two")))
		Expect(sources[0].RepositoryURL()).To(Equal("https://git.example.org/shop.git"))

		builds, err = c.FindOutput(ctx, path("never", name))
		Expect(err).NotTo(HaveOccurred())
		Expect(builds).To(BeEmpty())
	})

	it("says that a server without a search is not one to ask", func() {
		s.Fail(hydratest.Fault{Status: 200, ContentType: "application/json", Body: "{}"})
		_, err := c.FindOutput(ctx, path("one", "x"))
		Expect(err).To(MatchError(ContainSubstring("not what Hydra's API promises")))
	})
}
