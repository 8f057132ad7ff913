package hydra_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

func TestBadAnswers(t *testing.T) {
	spec.Run(t, "a Hydra that does not have it", testNotThere, spec.Report(report.Terminal{}))
	spec.Run(t, "a server that does not answer as Hydra does", testBadAnswers, spec.Report(report.Terminal{}))
}

func testNotThere(t *testing.T, when spec.G, it spec.S) {
	var s *hydratest.Server
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t); s = hydratest.New() })
	it.After(func() { s.Close() })

	it("names the jobs there are, nearest first", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "worker"}, hydratest.Job{Name: "shop-app.x86_64-linux"},
			hydratest.Job{Name: "wrker"})
		_, err := client(s).Resolve(ctx, query(shopRev(0), "worke"))
		var typed *hydra.JobNotFoundError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(fmt.Sprintf(`finding job "worke": evaluation %s/eval/%d has no such job; `+
			`jobs it has: worker, wrker, shop-app.x86_64-linux`, s.URL, evals[0].ID)))
	})

	it("says so when a job is missing because its evaluation failed", func() {
		j, evals := shop(s, 2, hydratest.Job{Name: "worker"})
		evals[0].Fails("in job ‘other’:\nno\nin job ‘app.x86_64-linux’:\nerror: undefined variable 'foo'\n\n" +
			"in job ‘z’:\nx")
		evals[1].Fails("in job ‘app.x86_64-linux’:\nerror: of the next evaluation")
		j.Fails("in job ‘app.x86_64-linux’:\nerror: of the last one", "")
		_, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).To(MatchError(ContainSubstring(
			"has no such job; its evaluation failed: error: undefined variable 'foo'; jobs")))
	})

	it("names the jobsets or projects there are", func() {
		shop(s, 1)
		s.Project("shop").Jobset("mainline")
		s.Project("office")
		q := query(shopRev(0), "app")
		q.Jobset = "man"
		_, err := client(s).Resolve(ctx, q)
		var typed *hydra.JobsetNotFoundError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError("finding shop/man: Hydra has no such jobset; jobsets it has: main, mainline"))
		q.Project = "offic"
		_, err = client(s).Resolve(ctx, q)
		Expect(err).To(MatchError("finding offic: Hydra has no such project; projects it has: office, shop"))
		_, err = client(s).LatestEvals(ctx, "nobody", "main", 3)
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
	})

	it("says which revisions it has seen last", func() {
		shop(s, 30, hydratest.Job{Name: "app"})
		_, err := client(s).Resolve(ctx, query(shopRev(99), "app"))
		var typed *hydra.RevisionNotFoundError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(typed.Seen).To(HaveLen(5))
		Expect(typed.Seen[0].Eval).To(BeEquivalentTo(1030))
		Expect(err).To(MatchError(HavePrefix("finding revision " + shopRev(99)[:12] + " in shop/main: none of its 30 " +
			"evaluations has it; last seen: 1030 of 2026-08-02 06:00Z (" + shopRev(29) + "); 1029 of ")))
		Expect(err).To(MatchError(HaveSuffix(`; Hydra looked for changes last at 2026-08-02 06:00Z; Hydra lists a revision ` +
			`only where it changed a build: ` + s.URL + "/jobset/shop/main")))
	})

	it("does not list an evaluation that changed nothing, as Hydra does not", func() {
		j, _ := shop(s, 1, hydratest.Job{Name: "app"})
		j.Evaluate(hydratest.Evaluation{Inputs: inputs(1), Unchanged: true})
		_, err := client(s).Resolve(ctx, query(shopRev(1), "app"))
		Expect(err).To(MatchError(ContainSubstring("none of its 1 evaluations has it")))
	})

	it("bounds how far back it looks, and says how far", func() {
		shop(s, 70, hydratest.Job{Name: "app"})
		c := client(s, func(o *hydra.Options) { o.SetMaxPages(3) })
		_, err := c.Resolve(ctx, query(shopRev(1), "app"))
		Expect(err).To(MatchError(ContainSubstring("none of the newest 60 evaluations, back to 2026-08-01, has it")))
		Expect(s.Requests()).To(HaveLen(3 + 2))
	})

	for name, c := range sorted(map[string]struct {
		change func(*hydratest.Jobset)
		want   string
	}{
		"a disabled project": {func(*hydratest.Jobset) { s.Project("shop").Disable() },
			"the project is disabled, so Hydra does not evaluate its jobsets"},
		"a disabled jobset":    {(*hydratest.Jobset).Disable, "the jobset is disabled, so Hydra does not evaluate it"},
		"a failing fetch":      {func(j *hydratest.Jobset) { j.Fails("", "no\nroute") }, "could not fetch an input: no"},
		"a failing evaluation": {func(j *hydratest.Jobset) { j.Fails("boom", "") }, "last evaluation had errors: boom"},
	}) {
		it("gives Hydra's reason for "+name, func() {
			j, _ := shop(s, 1)
			c.change(j)
			_, err := client(s).Resolve(ctx, query(shopRev(5), "app"))
			Expect(err).To(MatchError(ContainSubstring(c.want)))
		})
	}

	for what, disable := range sorted(map[string]func(*hydratest.Jobset){
		"jobset": (*hydratest.Jobset).Disable, "project": func(*hydratest.Jobset) { s.Project("shop").Disable() },
	}) {
		it("does not wait where the "+what+" is disabled", func() {
			j, _ := shop(s, 1)
			disable(j)
			q := query(shopRev(5), "app")
			q.Wait = 5 * time.Second
			_, err := client(s).Resolve(ctx, q)
			Expect(err).To(MatchError(ContainSubstring("the " + what + " is disabled")))
			Expect(err).NotTo(BeAssignableToTypeOf(&hydra.NotFinishedError{}))
		})
	}

	it("says that a build has been deleted, also while it is waited for", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app"})
		b := evals[0].Build("app")
		s.OnRequest(func(_ int, r *http.Request) {
			if r.URL.Path == fmt.Sprintf("/build/%d", b.ID) {
				b.Delete()
			}
		})
		q := query(shopRev(0), "app")
		q.Wait = time.Hour
		_, err := client(s).Resolve(ctx, q)
		var typed *hydra.BuildDeletedError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(fmt.Sprintf("asking Hydra for build %d: it has been deleted (Build with ID %[1]d doesn't "+
			"exist.): %s/build/%[1]d", b.ID, s.URL)))
	})

	for below, front := range sorted(map[string]string{
		"/wrong": "Page not found.", "/a/b/c": "Page not found.", "/project/shop": "the page of something in Hydra",
		"/jobset/shop/main": "the page of something in Hydra", "/eval/1001": "the page of something",
		"/job/shop/main/app": "Page not found.", "/login": "it answers 405 Method Not Allowed", "/evals": "the page of something",
		"/queue": "the page of something", "/status": "there is an empty list, and not of projects",
	}) {
		it("says that "+below+" is not Hydra's front page, and where that is", func() {
			shop(s, 1, hydratest.Job{Name: "app"})
			for _, private := range []bool{false, true} {
				if private {
					s.Private("bob", "hunter2")
				}
				c := client(s, func(o *hydra.Options) { o.URL, o.Username, o.Password = s.URL+below, "bob", "hunter2" })
				_, err := c.Resolve(ctx, query(shopRev(0), "app"))
				var typed *hydra.NotFrontPageError
				Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
				Expect(typed.Front).To(Equal(s.URL), "%v", err)
				if !private {
					Expect(err).To(MatchError(ContainSubstring(s.URL + below + " is not Hydra's front page: ")))
					Expect(err).To(MatchError(ContainSubstring(front)))
				}
			}
		})
	}

	it("takes a Hydra without projects for what it is", func() {
		_, err := client(s, func(o *hydra.Options) { o.URL += "/" }).Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).To(MatchError("finding shop: Hydra has no such project; projects it has: none that can be seen"))
	})

	it("says so when no input is the source's repository", func() {
		shop(s, 1)
		q := query(shopRev(5), "app")
		q.GitURL = "https://user:secret@git.example.org/other"
		_, err := client(s).Resolve(ctx, q)
		Expect(err).To(MatchError(ContainSubstring(
			"none of its inputs is the source's repository, they are nixpkgs=" + nixpkgsURL + ", src=" + shopURL)))
		Expect(err).NotTo(MatchError(ContainSubstring("secret")))
	})

	it("refuses a short revision that fits several", func() {
		j := s.Project("shop").Jobset("main")
		for _, end := range []string{"1", "2"} {
			j.Evaluate(hydratest.Evaluation{Inputs: map[string]hydratest.Input{
				"src": {URI: shopURL, Revision: "abcdef0" + strings.Repeat(end, 33)}}})
		}
		_, err := client(s).Resolve(ctx, query("abcdef0", "app"))
		var typed *hydra.AmbiguousRevisionError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(typed.Have).To(HaveLen(2))
	})

	for path, want := range sorted(map[string]string{
		"/gnu/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app":       "which is not a store path",
		"/nix/store/../../etc/passwd":                           "which is not a store path",
		"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app/bin/x": "which is not a store path",
		"": "it does not know the path",
	}) {
		it("refuses the output path "+path, func() {
			_, evals := shop(s, 1, hydratest.Job{Name: "app", Outputs: map[string]string{"out": path}})
			evals[0].Succeed()
			_, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
			var typed *hydra.OutputPathError
			Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(ContainSubstring(want)))
		})
	}

	it("refuses a successful build without outputs", func() {
		_, evals := shop(s, 1, hydratest.Job{Name: "app", Outputs: map[string]string{}})
		evals[0].Succeed()
		_, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).To(MatchError(ContainSubstring("it has no outputs at all")))
	})

	it("asks nothing when the question is wrong", func() {
		for _, q := range []hydra.Query{query("main", "app"), query(shopRev(0), "a\x00b"), {Revision: hydra.Latest}} {
			_, err := client(s).Resolve(ctx, q)
			Expect(err).To(HaveOccurred())
		}
		Expect(s.Requests()).To(BeEmpty())
	})
}

func testBadAnswers(t *testing.T, when spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	// ask resolves against a server that answers everything alike, and gives how often it was asked.
	ask := func(f http.HandlerFunc) (error, int) {
		var n atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.Add(1); f(w, r) }))
		defer s.Close()
		c, err := hydra.New(hydra.Options{URL: s.URL}.Fast())
		Expect(err).NotTo(HaveOccurred())
		_, err = c.Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).To(HaveOccurred())
		Expect(err.Error()).NotTo(ContainSubstring("\n"))
		return err, int(n.Load())
	}
	always := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	evals := func(more string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/evals") {
				fmt.Fprintf(w, `{"evals":[{"id":7,"builds":[1],"timestamp":1,"jobsetevalinputs":{"src":{"revision":%q}}}]}`,
					shopRev(0))
				return
			}
			fmt.Fprint(w, more)
		}
	}

	for name, c := range sorted(map[string]struct {
		status           int
		kind, body, want string
	}{
		"a web site":           {200, "text/html", "<html><title>\nAcme &amp; Co</title>", `page "Acme & Co"`},
		"a web site's 404":     {404, "text/html; charset=utf-8", "<!doctype html>gone", "it answers 404 with an HTML page"},
		"a binary cache's 404": {404, "text/plain", "404", "it answers 404 with text/plain"},
		"another API's 404":    {404, "application/json", `{"message":"no"}`, "it answers 404 with application/json"},
		"plain text":           {200, "text/plain", "hello", "with text/plain"},
		"nothing":              {200, "", "", "with something else"},
	}) {
		it("takes "+name+" for what it is", func() {
			err, n := ask(always(c.status, c.kind, c.body))
			var typed *hydra.NotHydraError
			Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(ContainSubstring(c.want)))
			Expect(n).To(Equal(1))
		})
	}

	for body, want := range sorted(map[string]string{
		`{"ok":true}`: `it has no "evals"`,
		`[]`:          "a list of 0 things", `[1]`: "cannot unmarshal", `{"evals":null}`: `no "evals"`,
		`{"evals":[{"id":1},{}]}`: `an evaluation without "id"`, `{"evals":[{"id":"x"}]}`: "not a whole number",
		`{"evals":[{"id":1,"builds":"many"}]}`: "builds are", `{"evals":`: "unexpected end",
		`{"evals":[{"id":1}]}x`:    "invalid character",
		`{"evals":{"1":{"id":1}}}`: "cannot unmarshal",
	}) {
		it("refuses the page of evaluations "+body, func() {
			err, n := ask(always(200, "application/json", body))
			var typed *hydra.AnswerError
			Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(ContainSubstring("its JSON is not what Hydra's API promises: ")))
			Expect(err).To(MatchError(ContainSubstring(want)))
			Expect(n).To(Equal(1))
		})
	}

	for body, want := range sorted(map[string]string{
		`{}`: "cannot unmarshal object", `[{}]`: `it has no build with "id", "job" and "finished"`,
		`[{"id":1,"job":"app","finished":1,"buildstatus":null}]`: `build 1 is finished without a "buildstatus"`,
		`[{"id":1,"job":"app"}]`:                                 "it has no build with", `[null]`: "it has no build with",
		`[{"id":1,"job":"app","finished":1,"buildstatus":0,"system":"x86_64-linux"}]`: "no outputs at all",
		`[{"id":1,"job":"app","finished":1,"buildstatus":0,"buildoutputs":[1]}]`:      "cannot unmarshal array",
	}) {
		it("refuses the builds "+body, func() {
			err, _ := ask(evals(body))
			Expect(err).To(MatchError(ContainSubstring(want)))
		})
	}

	it("accepts what the published schema says where Hydra itself says otherwise", func() {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/evals") {
				fmt.Fprintf(w, `[{"evals":[{"id":"7","builds":[ ],"timestamp":1,"hasnewbuilds":true,"flake":null,"jobsetevalinputs":
					{"src":{"revision":%q,"value":["a"]},"svn":{"revision":12}}}]}]`, shopRev(0))
				return
			}
			fmt.Fprint(w, `[{"id":"1","job":"app","finished":true,"buildstatus":"0","system":"x86_64-linux","jobsetevals":["7"],
				"buildoutputs":{"out":{"path":"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app"}}}]`)
		}))
		defer s.Close()
		c, err := hydra.New(hydra.Options{URL: s.URL + "/"})
		Expect(err).NotTo(HaveOccurred())
		r, err := c.Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(hydratest.Roots(r)).To(HaveLen(1))
		Expect(r.Eval.Builds).To(BeZero())
	})

	it("tells a Hydra whose pages a proxy keeps for everybody from what is none, and from one that wants a log-in", func() {
		const page = "<!DOCTYPE html><html><head>\n<title>Hydra - Jobset shop:main</title></head><body><div id=\"hydra-signin\">" +
			"<input type=\"password\" name=\"password\"/></div></body></html>"
		for _, status := range []int{200, 404} {
			err, n := ask(always(status, "text/html; charset=utf-8", page))
			Expect(err).To(MatchError(HaveSuffix(`it answers a question for JSON with one of its pages, the HTML page "Hydra - Jobset shop:main"`)))
			Expect(err).To(HaveField("Page", BeTrue()))
			Expect(n).To(Equal(1))
		}
	})

	it("tries again what may get better, and says how often it tried", func() {
		for _, status := range []int{429, 500, 502, 503, 504} {
			err, n := ask(always(status, "text/html", "<title>busy</title>"))
			Expect(n).To(Equal(4))
			Expect(err).To(MatchError(ContainSubstring(fmt.Sprint("it answers ", status))))
			Expect(err).To(MatchError(HaveSuffix("(asked 4 times)")))
		}
		err, n := ask(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		Expect(n).To(BeNumerically(">=", 4))
		Expect(err).To(MatchError(ContainSubstring("the connection broke off")))
		_, n = ask(always(400, "application/json", `{"error":"no"}`))
		Expect(n).To(Equal(1))
	})

	it("gets through a server that fails now and then", func() {
		s := hydratest.New()
		defer s.Close()
		_, evals := shop(s, 1, hydratest.Job{Name: "app"})
		evals[0].Succeed()
		busy := hydratest.Fault{Status: 503, Header: map[string]string{"Retry-After": "1"}}
		s.Fail(hydratest.BadGateway(), busy)
		_, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(s.Requests()).To(HaveLen(4))
	})

	it("gives up on an answer that does not come", func() {
		s := hydratest.New()
		defer s.Close()
		shop(s, 1)
		s.Delay(200 * time.Millisecond)
		c := client(s, func(o *hydra.Options) { o.Timeout = 20 * time.Millisecond })
		_, err := c.Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).To(MatchError(HaveSuffix("/jobset/shop/main/evals?page=1: no answer came in time (asked 4 times)")))
	})

	it("says that nobody listens", func() {
		s := hydratest.New()
		s.Close()
		_, err := client(s).Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).To(MatchError(ContainSubstring("connection refused (asked 4 times)")))
	})

	it("bounds redirects and the length of answers", func() {
		err, n := ask(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x?token=secret", 302) })
		Expect(err).To(MatchError(ContainSubstring("redirects more than 5 times")))
		Expect(err).NotTo(MatchError(ContainSubstring("secret")))
		Expect(n).To(Equal(6))
		err, _ = ask(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
		})
		Expect(err).To(MatchError(ContainSubstring("neither http nor https")))
		err, _ = ask(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "900000000000")
			fmt.Fprint(w, "{")
		})
		Expect(err).To(MatchError(ContainSubstring("longer than 192 MiB")))
	})

	it("goes no further than the bound when there is always a next page", func() {
		page := 0
		err, n := ask(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/evals") {
				fmt.Fprint(w, "{}")
				return
			}
			page++
			fmt.Fprintf(w, `{"evals":[{"id":%d,"builds":[]}],"next":"http://elsewhere.example/?page=%d"}`, 1000-page, page+1)
		})
		Expect(err).To(MatchError(ContainSubstring("none of the newest 21 evaluations")))
		Expect(n).To(BeNumerically("<=", 25))
	})

	it("refuses an address that cannot be Hydra's, without repeating a password", func() {
		for address, want := range map[string]string{
			"": "it is empty", "hydra.example.org": "want http:// or https://", "ftp://u:secret@h/": "want http:// or https://",
			"https://": "want http:// or https://", "https://u:secret@h:port/%zz": "it is not a URL",
		} {
			_, err := hydra.New(hydra.Options{URL: address})
			Expect(err).To(MatchError(ContainSubstring(want)), address)
			Expect(err.Error()).NotTo(ContainSubstring("secret"))
		}
	})
}
