package hydra_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// lines collects what a client logs.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) log(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf(format, args...))
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func TestWait(t *testing.T) {
	spec.Run(t, "waiting for Hydra", testWait, spec.Report(report.Terminal{}))
}

func testWait(t *testing.T, when spec.G, it spec.S) {
	var s *hydratest.Server
	var said *lines
	var c *hydra.Client
	ctx := context.Background()
	it.Before(func() {
		RegisterTestingT(t)
		s, said = hydratest.New(), &lines{}
		c = client(s, func(o *hydra.Options) { o.Log = said.log })
	})
	it.After(func() { s.Close() })

	waiting := func(revision string, jobs ...string) hydra.Query {
		q := query(revision, jobs...)
		q.Wait = 5 * time.Second
		return q
	}
	// at makes things happen when the n-th request of a path comes.
	at := func(path string, events map[int]func()) {
		seen := 0
		var mu sync.Mutex
		s.OnRequest(func(_ int, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if r.URL.Path == path {
				seen++
				if event := events[seen]; event != nil {
					event()
				}
			}
		})
	}

	it("waits from queued over running to finished, with a line and a link for each", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app.x86_64-linux"})
		b := evals[0].Build("app.x86_64-linux")
		at(fmt.Sprintf("/build/%d", b.ID), map[int]func(){3: b.Run, 6: b.Succeed})
		r, err := c.Resolve(ctx, waiting(shopRev(0), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(hydratest.Roots(r)).To(HaveLen(1))
		link := fmt.Sprintf("%s/build/%d", s.URL, b.ID)
		Expect(said.all).To(Equal([]string{
			"waiting for Hydra to build app.x86_64-linux, which is queued: " + link + " (at most 5s)",
			"waiting for Hydra to build app.x86_64-linux, which is running: " + link + " (at most 5s)",
		}))
	})

	it("does not guess at queued or running where Hydra will not say", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app"})
		b := evals[0].Build("app")
		s.OnRequest(func(n int, r *http.Request) {
			if r.URL.Path == "/status" {
				s.Fail(hydratest.Fault{Status: 404, ContentType: "text/html", Body: "<html>"})
			}
			if n == 8 {
				b.Succeed()
			}
		})
		_, err := c.Resolve(ctx, waiting(shopRev(0), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(said.text()).To(ContainSubstring("which is queued or running: "))
	})

	for why, fail := range sorted(map[string]func(*hydratest.Jobset){
		"Hydra could not fetch an input: no route": func(j *hydratest.Jobset) { j.Fails("", "no route") },
		"Hydra's last evaluation had errors: boom": func(j *hydratest.Jobset) { j.Fails("boom", "") },
	}) {
		it("waits for the next evaluation where "+why, func() {
			j, _ := shop(s, 1, hydratest.Job{Name: "app"})
			fail(j)
			at("/jobset/shop/main/evals", map[int]func(){3: func() {
				j.Evaluate(hydratest.Evaluation{Inputs: inputs(1), Jobs: []hydratest.Job{{Name: "app"}}}).Succeed()
			}})
			_, err := c.Resolve(ctx, waiting(shopRev(1), "app"))
			Expect(err).NotTo(HaveOccurred())
			Expect(said.text()).To(ContainSubstring("waiting for Hydra to evaluate " + shopRev(1)[:12] + " (" + why + "): "))
		})
	}

	it("waits for an evaluation that is not there yet, reading only the first page again", func() {
		j, _ := shop(s, 45, hydratest.Job{Name: "app"})
		j.Evaluating(true)
		at("/jobset/shop/main/evals", map[int]func(){5: func() {
			j.Evaluate(hydratest.Evaluation{Inputs: inputs(45), Jobs: []hydratest.Job{{Name: "app"}}}).Succeed()
		}})
		r, err := c.Resolve(ctx, waiting(shopRev(45), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Eval.Inputs).To(HaveKeyWithValue("src", HaveField("Revision", shopRev(45))))
		Expect(said.text()).To(ContainSubstring("waiting for Hydra to evaluate " + shopRev(45)[:12] +
			" (Hydra is evaluating it at the moment): " + s.URL + "/jobset/shop/main (at most 5s)"))
		pages := 0
		for _, request := range s.Requests() {
			if strings.HasSuffix(request.Path, "/evals") {
				pages++
			}
		}
		Expect(pages).To(Equal(3 + 2))
	})

	it("waits for the first successful build of a word", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app"}, hydratest.Job{Name: "b"})
		for _, jobs := range [][]string{{"app"}, {"app", "b"}} {
			s.OnRequest(func(n int, _ *http.Request) {
				if n == 12 {
					evals[0].Succeed()
				}
			})
			r, err := c.Resolve(ctx, waiting(hydra.Latest, jobs...))
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Eval.ID).To(BeEquivalentTo(evals[0].ID))
		}
		Expect(said.text()).To(ContainSubstring("waiting for a successful build of shop/main/app: "))
	})

	it("waits for many builds by their evaluation", func() {
		var jobs []hydratest.Job
		for i := range 12 {
			jobs = append(jobs, hydratest.Job{Name: fmt.Sprint("app", i)})
		}
		_, evals := shop(s, 1, jobs...)
		at(fmt.Sprintf("/eval/%d/builds", evals[0].ID), map[int]func(){
			2: evals[0].Build("app3").Succeed, 4: func() { evals[0].Succeed() }})
		r, err := c.Resolve(ctx, waiting(shopRev(0)))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Builds).To(HaveLen(12))
		Expect(said.text()).To(ContainSubstring("(1 of 12 builds are finished)"))
	})

	it("asks for up to four builds one by one, and for more by their evaluation where they are over a tenth of it", func() {
		for _, asked := range []struct {
			unfinished, others int
			byEvaluation       bool
		}{{4, 0, false}, {5, 0, true}, {5, 44, true}, {5, 45, false}, {6, 53, true}, {6, 54, false}} {
			s := hydratest.New()
			var jobs []hydratest.Job
			var names []string
			for i := range asked.unfinished + asked.others {
				jobs = append(jobs, hydratest.Job{Name: fmt.Sprint("app", i)})
				if i < asked.unfinished {
					names = append(names, jobs[i].Name)
				}
			}
			_, evals := shop(s, 1, jobs...)
			var mu sync.Mutex
			waits, again := false, []string{}
			s.OnRequest(func(_ int, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if waits {
					again = append(again, r.URL.Path)
				}
			})
			c := client(s, func(o *hydra.Options) {
				o.Log = func(string, ...any) {
					mu.Lock()
					defer mu.Unlock()
					waits = true
					evals[0].Succeed()
				}
			})
			_, err := c.Resolve(ctx, waiting(shopRev(0), names...))
			Expect(err).NotTo(HaveOccurred())
			want := []string{fmt.Sprintf("/eval/%d/builds", evals[0].ID)}
			if !asked.byEvaluation {
				want = nil
				for _, name := range names {
					want = append(want, fmt.Sprintf("/build/%d", evals[0].Build(name).ID))
				}
			}
			Expect(again).To(Equal(want), "%+v", asked)
			s.Close()
		}
	})

	it("ends when the wait is used up, and says what is missing", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app"})
		q := waiting(shopRev(0), "app")
		for wait, want := range map[time.Duration]string{0: "no wait is allowed", 30 * time.Millisecond: `waited \d+ms`} {
			q.Wait = wait
			_, err := c.Resolve(ctx, q)
			var typed *hydra.NotFinishedError
			Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(MatchRegexp("^waiting for Hydra's build: " + want)))
			Expect(err).To(MatchError(HaveSuffix(
				fmt.Sprintf("app is not finished: %s/build/%d", s.URL, evals[0].Build("app").ID))))
		}
		q = query(shopRev(7), "app")
		_, err := c.Resolve(ctx, q)
		var unseen *hydra.RevisionNotFoundError
		var unfinished *hydra.NotFinishedError
		Expect(errors.As(err, &unseen)).To(BeTrue())
		Expect(errors.As(err, &unfinished)).To(BeFalse())
		q.Wait = 30 * time.Millisecond
		_, err = c.Resolve(ctx, q)
		Expect(errors.As(err, &unseen)).To(BeTrue())
		Expect(errors.As(err, &unfinished)).To(BeTrue())
		Expect(err).To(MatchError(ContainSubstring("last seen: 1001 of 2026-08-01 01:00Z (" + shopRev(0) + ")")))
	})

	it("ends at once when it is cancelled", func() {
		shop(s, 1, hydratest.Job{Name: "app"})
		ctx, cancel := context.WithCancel(ctx)
		s.OnRequest(func(n int, _ *http.Request) {
			if n == 6 {
				cancel()
			}
		})
		q := waiting(shopRev(0), "app")
		q.Wait = time.Hour
		_, err := c.Resolve(ctx, q)
		Expect(errors.Is(err, context.Canceled)).To(BeTrue(), "%v", err)
	})

	it("outlives a Hydra that is being restarted", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app"})
		bad := hydratest.BadGateway()
		s.OnRequest(func(n int, _ *http.Request) {
			switch n {
			case 5:
				s.Fail(bad, bad, bad, bad, bad, hydratest.Fault{}, bad)
			case 16:
				evals[0].Succeed()
			}
		})
		_, err := c.Resolve(ctx, waiting(shopRev(0), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(said.text()).To(ContainSubstring(`502 Bad Gateway with the HTML page "502 Bad Gateway" (asked 4 times)`))
	})

	it("ends as soon as one of the builds has failed", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app"}, hydratest.Job{Name: "worker"})
		b := evals[0].Build("worker")
		at(fmt.Sprintf("/build/%d", b.ID), map[int]func(){2: func() { b.Fail(4) }})
		q := waiting(shopRev(0), "app", "worker")
		q.Wait = time.Hour
		_, err := c.Resolve(ctx, q)
		Expect(err).To(MatchError(ContainSubstring("of worker failed: cancelled by a user")))
	})
}

func TestFailure(t *testing.T) {
	spec.Run(t, "hydra.BuildFailedError", testFailure, spec.Report(report.Terminal{}))
}

func testFailure(t *testing.T, when spec.G, it spec.S) {
	var s *hydratest.Server
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t); s = hydratest.New() })
	it.After(func() { s.Close() })

	for status, words := range sorted(map[string]string{
		"1": "the build returned a non-zero exit code", "2": "a dependency failed to build",
		"3": "aborted by a failure of Hydra's own",
		"4": "cancelled by a user", "6": "failed with output", "7": "timed out", "9": "no machine builds for this system",
		"10": "its log became too long", "11": "its output became too large", "12": "built twice with different results",
		"99": "failed with status 99",
	}) {
		it("puts status "+status+" into words", func() {
			_, evals := shop(s, 1, hydratest.Job{Name: "app"})
			b := evals[0].Build("app")
			code, _ := strconv.Atoi(status)
			b.Fail(code)
			_, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
			Expect(err).To(MatchError(fmt.Sprintf("taking Hydra's build: build %d of app failed: %s, log: %s/build/%d/log",
				b.ID, words, s.URL, b.ID)))
		})
	}

	steps := []hydratest.Step{
		{DrvPath: hydratest.StorePath("1", "ok-1.0.drv"), Output: hydratest.StorePath("2", "ok-1.0")},
		{DrvPath: hydratest.StorePath("3", "lib-2.0.drv"), Output: hydratest.StorePath("4", "lib-2.0-dev"), Status: 1,
			Error: "no <space> left"},
		{DrvPath: hydratest.StorePath("5", "tool-3.drv"), Output: hydratest.StorePath("6", "tool-3"), Status: 8},
	}

	it("names the failed steps, with links to their logs", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app"})
		b := evals[0].Build("app")
		b.Fail(2, steps...)
		_, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
		var typed *hydra.BuildFailedError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(typed.Builds[0].Steps).To(Equal([]hydra.Step{
			{Number: 2, Name: "lib-2.0", Status: "Failed",
				LogURL: fmt.Sprintf("%s/build/%d/step/2/log", s.URL, b.ID)},
			{Number: 3, Name: "tool-3", Status: "Cached failure",
				LogURL: fmt.Sprintf("%s/build/%d/step/3/log", s.URL, b.ID)},
		}))
		Expect(err).To(MatchError(ContainSubstring("a dependency failed to build, step 2, lib-2.0, failed, log: http://")))
		res, err := http.Get(typed.Builds[0].Steps[0].LogURL)
		Expect(err).NotTo(HaveOccurred())
		defer res.Body.Close()
		Expect(res.StatusCode).To(Equal(200))
	})

	it("names them of a build of very many steps, whose page is as long", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app"})
		many := append([]hydratest.Step{}, steps...)
		for i := range 15_000 {
			many = append(many, hydratest.Step{DrvPath: hydratest.StorePath(fmt.Sprint(i), "part.drv"),
				Output: hydratest.StorePath(fmt.Sprint(i), "part")})
		}
		evals[0].Build("app").Fail(2, many...)
		_, err := client(s, func(o *hydra.Options) { o.Timeout = time.Minute }).Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).To(MatchError(ContainSubstring("a dependency failed to build, step 2, lib-2.0, failed, log: http://")))
	})

	it("names them by their outputs where Hydra has no page for a step", func() {
		s.OldPages()
		_, evals := shop(s, 1, hydratest.Job{Name: "app"})
		evals[0].Build("app").Fail(2, steps...)
		_, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).To(MatchError(MatchRegexp(`step 2, lib-2.0-dev, failed, log: http://[^ ]*/nixlog/2,`)))
	})

	it("gives the cause of an aborted step, and no link to a log that there is not", func() {
		for _, old := range []bool{false, true} {
			if old {
				s.OldPages()
			}
			j := s.Project("shop").Jobset(fmt.Sprint("aborted-", old))
			e := j.Evaluate(hydratest.Evaluation{Inputs: inputs(0), Jobs: []hydratest.Job{{Name: "app"}}})
			b := e.Build("app")
			b.NoLog()
			b.Fail(3, hydratest.Step{DrvPath: hydratest.StorePath("7", "app-1.drv"), Output: hydratest.StorePath("8", "app-1"),
				Status: 3, NoLog: true, Error: "error: cannot connect to build machine"})
			q := query(shopRev(0), "app")
			q.Jobset = j.Name
			_, err := client(s).Resolve(ctx, q)
			Expect(err).To(MatchError(fmt.Sprintf("taking Hydra's build: build %d of app failed: aborted by a failure of Hydra's "+
				"own, step 1, app-1, aborted: error: cannot connect to build machine, build: %s/build/%[1]d", b.ID, s.URL)))
		}
	})

	it("names the parts of an aggregate that failed or are not finished", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "a"}, hydratest.Job{Name: "b"}, hydratest.Job{Name: "c"},
			hydratest.Job{Name: "all", Constituents: []string{"a", "b", "c"}})
		evals[0].Build("a").Fail(1)
		evals[0].Build("b").Succeed()
		evals[0].Build("all").Fail(2)
		_, err := client(s).Resolve(ctx, query(shopRev(0), "all"))
		Expect(err).To(MatchError(ContainSubstring(
			"its part a is finished (the build returned a non-zero exit code): " + s.URL + "/build/")))
		Expect(err).To(MatchError(ContainSubstring("its part c is not finished: ")))
		Expect(err).NotTo(MatchError(ContainSubstring("its part b")))
	})

	it("still says what failed when the page for people is of no use", func() {
		for _, fault := range []hydratest.Fault{
			{Status: 500, Body: "{}"},
			{Status: 200, ContentType: "text/html", Body: "<table><tr><td>\x00<a href='/build/x/step/'>"},
		} {
			s := hydratest.New()
			_, evals := shop(s, 1, hydratest.Job{Name: "app"})
			evals[0].Build("app").Fail(1, steps...)
			s.OnRequest(func(_ int, r *http.Request) {
				if r.Header.Get("Accept") == "text/html" {
					s.Fail(fault)
				}
			})
			_, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
			Expect(err).To(MatchError(HaveSuffix(fmt.Sprintf(", build: %s/build/%d", s.URL, evals[0].Build("app").ID))))
			s.Close()
		}
	})
}
