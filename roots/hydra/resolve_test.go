package hydra_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

const (
	shopURL    = "https://git.example.org/acme/shop.git"
	nixpkgsURL = "https://git.example.org/nixpkgs.git"
	linux      = "x86_64-linux"
)

func client(s *hydratest.Server, change ...func(*hydra.Options)) *hydra.Client {
	o := hydra.Options{URL: s.URL}.Fast()
	for _, f := range change {
		f(&o)
	}
	c, err := hydra.New(o)
	Expect(err).NotTo(HaveOccurred())
	return c
}

// shop is a jobset of two inputs whose i-th evaluation has the revision shopRev(i).
func shop(s *hydratest.Server, evals int, jobs ...hydratest.Job) (*hydratest.Jobset, []*hydratest.Eval) {
	j := s.Project("shop").Jobset("main")
	var all []*hydratest.Eval
	for i := range evals {
		all = append(all, j.Evaluate(hydratest.Evaluation{Inputs: inputs(i), Jobs: jobs}))
	}
	return j, all
}

func inputs(i int) map[string]hydratest.Input {
	return map[string]hydratest.Input{
		"src":     {URI: shopURL, Revision: shopRev(i)},
		"nixpkgs": {URI: nixpkgsURL, Revision: hydratest.Revision(fmt.Sprint("nixpkgs", i/3))},
		"release": {Type: "boolean", Value: "true"},
	}
}

func shopRev(i int) string { return hydratest.Revision(fmt.Sprint("shop", i)) }

func query(revision string, jobs ...string) hydra.Query {
	return hydra.Query{Project: "shop", Jobset: "main", Jobs: jobs, Revision: revision, System: linux, GitURL: shopURL}
}

func outOf(b *hydratest.Build) storepath.Path { return storepath.Path(b.Outputs()["out"]) }

func TestResolve(t *testing.T) {
	spec.Run(t, "hydra.Client.Resolve", testResolve, spec.Report(report.Terminal{}))
}

func testResolve(t *testing.T, when spec.G, it spec.S) {
	var s *hydratest.Server
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t); s = hydratest.New() })
	it.After(func() { s.Close() })

	it("finds the roots of a job at a revision, whole or short", func() {
		_, evals := shop(s, 3, hydratest.Job{Name: "app.x86_64-linux"}, hydratest.Job{Name: "app.aarch64-linux"})
		for i, e := range evals {
			e.Succeed()
			for _, rev := range []string{shopRev(i), strings.ToUpper(shopRev(i)), shopRev(i)[:7]} {
				for _, job := range []string{"app", "app.x86_64-linux"} {
					c := client(s)
					before := len(s.Requests())
					r, err := c.Resolve(ctx, query(rev, job))
					Expect(err).NotTo(HaveOccurred())
					Expect(hydratest.Roots(r)).To(Equal([]storepath.Path{outOf(e.Build("app.x86_64-linux"))}))
					Expect(r.Eval.ID).To(BeEquivalentTo(e.ID))
					Expect(r.Builds[0].DrvPath).To(Equal(e.Build("app.x86_64-linux").DrvPath()))
					Expect(r.Builds[0].URL).To(Equal(fmt.Sprintf("%s/build/%d", s.URL, r.Builds[0].ID)))
					Expect(s.Requests()).To(HaveLen(before + 2))
				}
			}
		}
	})

	it("takes several jobs, or all of a jobset that are for the system", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "worker.x86_64-linux"}, hydratest.Job{Name: "app.x86_64-linux"},
			hydratest.Job{Name: "app.aarch64-linux"})
		e := evals[0].Succeed()
		app, worker := outOf(e.Build("app.x86_64-linux")), outOf(e.Build("worker.x86_64-linux"))
		for _, jobs := range [][]string{nil, {"worker", "app"}, {"app", "app", "worker", "app.x86_64-linux"}} {
			r, err := client(s).Resolve(ctx, query(shopRev(0), jobs...))
			Expect(err).NotTo(HaveOccurred())
			Expect(hydratest.Roots(r)).To(ConsistOf(app, worker))
			Expect(r.Builds).To(HaveLen(2))
		}
		r, err := client(s).Resolve(ctx, query(shopRev(0), "worker", "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Builds[0].Job).To(Equal("worker.x86_64-linux"))
	})

	it("gives all outputs of a build", func() {
		out, dev := hydratest.StorePath("1", "app"), hydratest.StorePath("2", "app-dev")
		_, evals := shop(s, 1, hydratest.Job{Name: "app", Outputs: map[string]string{"out": out, "dev": dev}})
		evals[0].Succeed()
		r, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(hydratest.Roots(r)).To(ConsistOf(storepath.Path(out), storepath.Path(dev)))
	})

	it("finds the system anywhere in a job's name", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "packages.x86_64-linux.app", System: linux},
			hydratest.Job{Name: "packages.aarch64-linux.app", System: "aarch64-linux"},
			hydratest.Job{Name: "plain", System: linux})
		evals[0].Succeed()
		r, err := client(s).Resolve(ctx, query(shopRev(0), "packages.app", "plain"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Builds[0].Job).To(Equal("packages.x86_64-linux.app"))
		for job, have := range map[string][]string{"packages.aarch64-linux.app": {"aarch64-linux"}, "plain": {linux}} {
			q := query(shopRev(0), job)
			if q.System = "riscv64-linux"; job != "plain" {
				q.System = linux
			}
			_, err = client(s).Resolve(ctx, q)
			var typed *hydra.SystemError
			Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
			Expect(typed.Have).To(Equal(have))
		}
		q := query(shopRev(0), "packages.app")
		q.System = "i686-linux"
		_, err = client(s).Resolve(ctx, q)
		Expect(err).To(MatchError(ContainSubstring(
			`finding job "packages.app" for i686-linux: Hydra builds it for aarch64-linux, x86_64-linux: ` + s.URL)))
	})

	it("says for which systems there is a job that is named for ours, unless Hydra could not evaluate that", func() {
		for _, others := range []int{0, 250, 5001} {
			jobs := []hydratest.Job{{Name: "app." + linux}, {Name: "packages." + linux + ".tool", System: linux}}
			for i := range others {
				jobs = append(jobs, hydratest.Job{Name: fmt.Sprintf("other%d", i)})
			}
			many := hydratest.New()
			defer many.Close()
			_, evals := shop(many, 1, jobs...)
			evals[0].Succeed()
			for _, revision := range []string{shopRev(0), "latest", "latest-finished"} {
				for _, job := range []string{"app.aarch64-linux", "packages.aarch64-linux.tool"} {
					q := query(revision, job)
					q.System = "aarch64-linux"
					_, err := client(many).Resolve(ctx, q)
					Expect(err).To(MatchError(ContainSubstring(
						fmt.Sprintf("finding job %q for aarch64-linux: Hydra builds it for x86_64-linux: ", job))))
				}
			}
			evals[0].Fails("in job ‘app.aarch64-linux’:\nerror: undefined variable 'foo'")
			q := query(shopRev(0), "app.aarch64-linux")
			q.System = "aarch64-linux"
			_, err := client(many).Resolve(ctx, q)
			Expect(err).To(MatchError(ContainSubstring("its evaluation failed: error: undefined variable 'foo'")))
		}
	})

	it("goes to the newest evaluation of a revision that has several", func() {
		j, _ := shop(s, 1, hydratest.Job{Name: "app"})
		newer := j.Evaluate(hydratest.Evaluation{Inputs: inputs(0), Jobs: []hydratest.Job{{Name: "app"}}}).Succeed()
		r, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Eval.ID).To(BeEquivalentTo(newer.ID))
	})

	it("takes the revision of the source's input, not of another", func() {
		j := s.Project("shop").Jobset("main")
		for i, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
			j.Evaluate(hydratest.Evaluation{Jobs: []hydratest.Job{{Name: "app", NixName: fmt.Sprint("app-", i)}},
				Inputs: map[string]hydratest.Input{
					"one": {URI: "git@git.example.org:acme/shop", Revision: hydratest.Revision(pair[0])},
					"two": {URI: nixpkgsURL, Revision: hydratest.Revision(pair[1])},
				}}).Succeed()
		}
		r, err := client(s).Resolve(ctx, query(hydratest.Revision("a"), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Builds[0].NixName).To(Equal("app-0"))
		q := query(hydratest.Revision("a"), "app")
		q.GitURL = ""
		r, err = client(s).Resolve(ctx, q)
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Builds[0].NixName).To(Equal("app-1"), "any input, newest first")
	})

	it("matches a flake's locked revision", func() {
		j := s.Project("shop").Jobset("main").Flake("github:acme/shop")
		for i := range 3 {
			j.Evaluate(hydratest.Evaluation{Flake: "github:acme/shop/" + shopRev(i) + "?narHash=sha256-abc",
				Jobs: []hydratest.Job{{Name: "app.x86_64-linux"}}}).Succeed()
		}
		q := query(shopRev(1), "app")
		q.GitURL = "git@github.com:acme/shop.git"
		r, err := client(s).Resolve(ctx, q)
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Eval.Flake).To(ContainSubstring(shopRev(1)))
	})

	it("needs at most 10 requests for a job 100 evaluations back, over one connection", func() {
		for _, jobs := range []int{2, 250} {
			m, err := hydratest.MeasureResolve(ctx, 100, jobs, 0)
			Expect(err).NotTo(HaveOccurred())
			Expect(m.Requests).To(BeNumerically("<=", 10))
			Expect(m.Connections).To(Equal(1))
			Expect(m.Roots).To(Equal(1))
		}
	})

	it("says for which systems an evaluation too large to be listed has a job", func() {
		jobs := []hydratest.Job{{Name: "app.x86_64-linux"}, {Name: "plain", System: "aarch64-linux"}}
		for i := range 5001 {
			jobs = append(jobs, hydratest.Job{Name: fmt.Sprintf("other%d", i)})
		}
		_, evals := shop(s, 1, jobs...)
		evals[0].Succeed()
		q := query(shopRev(0), "app")
		q.System = "aarch64-linux"
		_, err := client(s).Resolve(ctx, q)
		var typed *hydra.SystemError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(typed.Have).To(Equal([]string{linux}))
		_, err = client(s).Resolve(ctx, query(shopRev(0), "plain"))
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(typed.Have).To(Equal([]string{"aarch64-linux"}))
		_, err = client(s).Resolve(ctx, query(shopRev(0), "nothing"))
		var none *hydra.JobNotFoundError
		Expect(errors.As(err, &none)).To(BeTrue(), "%v", err)
		for _, request := range s.Requests() {
			Expect(request.Path).NotTo(HaveSuffix("/builds"))
		}
	})

	it("looks jobs of a large evaluation up by name", func() {
		jobs := []hydratest.Job{{Name: "app.x86_64-linux"}, {Name: "x86_64-linux.tool", System: linux}, {Name: "plain"},
			{Name: "packages.x86_64-linux.deep", System: linux}, {Name: "arm.aarch64-linux"}}
		for i := range 250 {
			jobs = append(jobs, hydratest.Job{Name: fmt.Sprintf("other%d", i)})
		}
		_, evals := shop(s, 1, jobs...)
		evals[0].Succeed()
		r, err := client(s).Resolve(ctx, query(shopRev(0), "app", "tool", "plain"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Builds).To(HaveLen(3))
		Expect(r.Builds[1].Job).To(Equal("x86_64-linux.tool"))
		for _, request := range s.Requests() {
			Expect(request.Path).NotTo(HaveSuffix("/builds"))
		}
		r, err = client(s).Resolve(ctx, query(shopRev(0), "packages.deep"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Builds[0].Job).To(Equal("packages.x86_64-linux.deep"))
		_, err = client(s).Resolve(ctx, query(shopRev(0), "arm"))
		Expect(err).To(MatchError(ContainSubstring("Hydra builds it for aarch64-linux")))
		_, err = client(s).Resolve(ctx, query(shopRev(0), "ap"))
		Expect(err).To(MatchError(ContainSubstring(
			`evaluation ` + r.Eval.URL + ` has no such job; jobs it has: app.x86_64-linux, `)))
		Expect(err).To(MatchError(HaveSuffix("and 247 more")))
	})

	it("does not believe in the address that a Hydra behind a proxy gives itself", func() {
		jobs := []hydratest.Job{{Name: "app"}}
		for i := range 250 {
			jobs = append(jobs, hydratest.Job{Name: fmt.Sprintf("other%d", i)})
		}
		_, evals := shop(s, 1, jobs...)
		evals[0].Succeed()
		s.BelievesItIs("http://localhost:1")
		for _, rev := range []string{shopRev(0), hydra.Latest} {
			_, err := client(s).Resolve(ctx, query(rev, "app"))
			Expect(err).NotTo(HaveOccurred())
		}
	})

	it("follows a renamed jobset, and its pages without more redirects", func() {
		j, evals := shop(s, 70, hydratest.Job{Name: "app"})
		evals[5].Succeed()
		j.Rename("trunk")
		c := client(s)
		r, err := c.Resolve(ctx, query(shopRev(5), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Eval.ID).To(BeEquivalentTo(evals[5].ID))
		Expect(s.Requests()).To(HaveLen(1 + 4 + 1))
		s.BelievesItIs("http://hydra.internal:3000") // which no redirect is followed to
		for _, word := range []string{hydra.Latest, hydra.LatestFinished} {
			for _, system := range []string{linux, ""} {
				q := query(word, "app")
				q.System = system
				r, err := client(s).Resolve(ctx, q)
				Expect(err).NotTo(HaveOccurred())
				Expect(r.Eval.ID).To(BeEquivalentTo(evals[5].ID))
			}
		}
		r, err = client(s).Resolve(ctx, query(shopRev(5), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Eval.ID).To(BeEquivalentTo(evals[5].ID))
	})

	it("takes jobs whose names have blanks and other letters", func() {
		names := []string{"my app", `packages."app-1.2"`, "größe", "c++", "a&b", "50%", "don't", "日本.x86_64-linux",
			"node.@scope/cli", "a/b.x86_64-linux"}
		var jobs []hydratest.Job
		for _, name := range names {
			jobs = append(jobs, hydratest.Job{Name: name, System: linux, NixName: "app-1.0"})
		}
		for i := range 250 {
			jobs = append(jobs, hydratest.Job{Name: fmt.Sprintf("part%d", i)})
		}
		_, evals := shop(s, 1, jobs...)
		evals[0].Succeed()
		for _, name := range names {
			for _, revision := range []string{shopRev(0), hydra.Latest} {
				r, err := client(s).Resolve(ctx, query(revision, name))
				Expect(err).NotTo(HaveOccurred(), name)
				Expect(r.Builds[0].Job).To(Equal(name))
			}
		}
	})

	when("the revision is a word", func() {
		it("takes the newest successful build of a job", func() {
			_, evals := shop(s, 4, hydratest.Job{Name: "app.x86_64-linux"}, hydratest.Job{Name: "slow"},
				hydratest.Job{Name: "packages.x86_64-linux.deep", System: linux})
			evals[0].Succeed()
			evals[1].Build("app.x86_64-linux").Succeed()
			evals[1].Build("packages.x86_64-linux.deep").Succeed()
			evals[2].Build("app.x86_64-linux").Fail(1)
			for _, job := range []string{"app", "app.x86_64-linux", "packages.deep"} {
				r, err := client(s).Resolve(ctx, query(hydra.Latest, job))
				Expect(err).NotTo(HaveOccurred())
				Expect(r.Eval.ID).To(BeEquivalentTo(evals[1].ID))
				r, err = client(s).Resolve(ctx, query(hydra.LatestFinished, job))
				Expect(err).NotTo(HaveOccurred())
				Expect(r.Eval.ID).To(BeEquivalentTo(evals[0].ID))
			}
		})

		it("takes the newest evaluation that has all of several jobs", func() {
			_, evals := shop(s, 4, hydratest.Job{Name: "app"}, hydratest.Job{Name: "worker"}, hydratest.Job{Name: "slow"})
			evals[0].Succeed()
			evals[1].Build("app").Succeed()
			evals[1].Build("worker").Succeed()
			evals[2].Build("app").Succeed()
			evals[2].Build("worker").Fail(1)
			r, err := client(s).Resolve(ctx, query(hydra.Latest, "app", "worker"))
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Eval.ID).To(BeEquivalentTo(evals[1].ID))
			for _, jobs := range [][]string{{"app", "worker"}, nil} {
				r, err = client(s).Resolve(ctx, query(hydra.LatestFinished, jobs...))
				Expect(err).NotTo(HaveOccurred())
				Expect(r.Eval.ID).To(BeEquivalentTo(evals[0].ID))
			}
		})

		it("passes over evaluations that lack one of several jobs", func() {
			j, evals := shop(s, 2, hydratest.Job{Name: "app"}, hydratest.Job{Name: "worker"})
			evals[0].Succeed()
			evals[1].Succeed()
			j.Evaluate(hydratest.Evaluation{Inputs: inputs(2), Jobs: []hydratest.Job{{Name: "app"}}}).Succeed()
			for _, word := range []string{hydra.Latest, hydra.LatestFinished} {
				r, err := client(s).Resolve(ctx, query(word, "app", "worker"))
				Expect(err).NotTo(HaveOccurred())
				Expect(r.Eval.ID).To(BeEquivalentTo(evals[1].ID))
			}
			_, err := client(s).Resolve(ctx, query(hydra.Latest, "app", "never"))
			var none *hydra.JobNotFoundError
			Expect(errors.As(err, &none)).To(BeTrue(), "%v", err)
		})

		it("says why there is none", func() {
			_, evals := shop(s, 2, hydratest.Job{Name: "app"}, hydratest.Job{Name: "worker"})
			evals[1].Build("app").Fail(7)
			var typed *hydra.NoBuildError
			for _, word := range []string{hydra.Latest, hydra.LatestFinished} {
				_, err := client(s).Resolve(ctx, query(word, "app"))
				Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
				Expect(err).To(MatchError(ContainSubstring(
					"finding " + word + " of shop/main/app: any evaluation has no successful")))
				Expect(err).To(MatchError(ContainSubstring("is finished (timed out)")))
				_, err = client(s).Resolve(ctx, query(word))
				Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
				Expect(typed.Looked).To(Equal(2))
			}
			var none *hydra.JobNotFoundError
			_, err := client(s).Resolve(ctx, query(hydra.Latest, "ap"))
			Expect(errors.As(err, &none)).To(BeTrue(), "%v", err)
			Expect(none.Have).To(Equal([]string{"app", "worker"}))
			s.Project("shop").Jobset("empty")
			q := query(hydra.Latest, "app")
			q.Jobset = "empty"
			_, err = client(s).Resolve(ctx, q)
			Expect(err).To(MatchError(ContainSubstring("lists no evaluation")))
		})
	})

	it("takes a job once that is named twice, or with and without its system, in small evaluations and large ones", func() {
		for _, others := range []int{0, 200} {
			s := hydratest.New()
			jobs := []hydratest.Job{{Name: "app.x86_64-linux"}, {Name: "web"}}
			for i := range others {
				jobs = append(jobs, hydratest.Job{Name: fmt.Sprint("other", i)})
			}
			_, evals := shop(s, 1, jobs...)
			evals[0].Succeed()
			for _, revision := range []string{shopRev(0), hydra.Latest, hydra.LatestFinished} {
				r, err := client(s).Resolve(ctx, query(revision, "web", "app", "web", "app.x86_64-linux"))
				Expect(err).NotTo(HaveOccurred())
				Expect(r.Builds).To(HaveExactElements(HaveField("Job", "web"), HaveField("Job", "app.x86_64-linux")), "%s of %d", revision, others+2)
			}
			r, err := client(s).Resolve(ctx, query(hydra.Latest, "web", "web"))
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Builds).To(HaveExactElements(HaveField("Job", "web")))
			s.Close()
		}
	})

	it("lists the newest evaluations, each once", func() {
		_, evals := shop(s, 45, hydratest.Job{Name: "app"})
		for _, n := range []int{1, 20, 21, 45, 99} {
			list, err := client(s).LatestEvals(ctx, "shop", "main", n)
			Expect(err).NotTo(HaveOccurred())
			Expect(list).To(HaveLen(min(n, 45)))
			Expect(list[0].ID).To(Equal(evals[44].ID))
			Expect(list[len(list)-1].ID).To(Equal(evals[45-len(list)].ID))
		}
	})

	it("keeps each evaluation once when new ones move the pages", func() {
		j, _ := shop(s, 45, hydratest.Job{Name: "app"})
		s.OnRequest(func(n int, _ *http.Request) {
			if n > 1 {
				j.Evaluate(hydratest.Evaluation{Inputs: inputs(100 + n)})
			}
		})
		list, err := client(s).LatestEvals(ctx, "shop", "main", 100)
		Expect(err).NotTo(HaveOccurred())
		Expect(list).To(HaveLen(45))
	})
}
