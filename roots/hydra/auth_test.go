package hydra_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

func TestAuth(t *testing.T) {
	spec.Run(t, "a Hydra that wants a log-in", testAuth, spec.Report(report.Terminal{}))
}

func testAuth(t *testing.T, when spec.G, it spec.S) {
	var s *hydratest.Server
	ctx := context.Background()
	it.Before(func() {
		RegisterTestingT(t)
		s = hydratest.New()
		_, evals := shop(s, 1, hydratest.Job{Name: "app"})
		evals[0].Succeed()
	})
	it.After(func() { s.Close() })

	resolve := func(c *hydra.Client) error {
		_, err := c.Resolve(ctx, query(shopRev(0), "app"))
		return err
	}
	as := func(username, password, token string) func(*hydra.Options) {
		return func(o *hydra.Options) { o.Username, o.Password, o.Token = username, password, token }
	}
	refused := func(err error, want string) {
		var typed *hydra.LoginError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(ContainSubstring(want)))
		Expect(err.Error()).NotTo(ContainSubstring("hunter2"))
	}

	it("says that a private one wants a log-in", func() {
		s.Private("bob", "hunter2")
		refused(resolve(client(s)), "it wants a log-in (403 Forbidden: This page requires you to sign in.) "+
			"and no credentials are set for it")
	})

	it("logs in to a private one, once", func() {
		s.Private("bob", "hunter2")
		c := client(s, as("bob", "hunter2", ""))
		Expect(resolve(c)).To(Succeed())
		Expect(resolve(c)).To(Succeed())
		logins := 0
		for _, r := range s.Requests() {
			if r.Path == "/login" {
				logins++
			}
		}
		Expect(logins).To(Equal(1))
		Expect(s.Requests()).To(HaveLen(1 + 1 + 2 + 2))
	})

	it("logs in by JSON, from Hydra's own page, as this program, and to a proxy before Hydra as well", func() {
		s.Private("bob", "hunter2")
		var seen http.Header
		s.OnRequest(func(_ int, r *http.Request) {
			if r.URL.Path == "/login" {
				seen = r.Header.Clone()
			}
		})
		Expect(resolve(client(s, as("bob", "hunter2", ""), func(o *hydra.Options) { o.UserAgent = "buildpack/1.2" }))).To(Succeed())
		proxy := &http.Request{Header: seen}
		username, password, _ := proxy.BasicAuth()
		Expect([]string{seen.Get("Content-Type"), seen.Get("Accept"), proxy.Referer(), proxy.UserAgent(), username, password}).To(
			Equal([]string{"application/json", "application/json", s.URL + "/", "buildpack/1.2", "bob", "hunter2"}))
	})

	it("takes user name and password from the address", func() {
		s.Private("bob", "hunter2")
		u, _ := url.Parse(s.URL)
		u.User = url.UserPassword("bob", "hunter2")
		c, err := hydra.New(hydra.Options{URL: u.String()})
		Expect(err).NotTo(HaveOccurred())
		Expect(resolve(c)).To(Succeed())
		Expect(c.URL()).To(Equal(s.URL))
	})

	it("says that a private one does not accept the password, or a token", func() {
		s.Private("bob", "hunter2")
		refused(resolve(client(s, as("bob", "hunter22", ""))), "/login: user name or password is wrong: 403 Forbidden: "+
			"Bad username or password.")
		refused(resolve(client(s, as("", "", "hunter2"))), "the credentials set for it were not accepted")
	})

	it("tells a wrong password from a Hydra that takes another address for its own, each in Hydra's words", func() {
		s.Private("bob", "hunter2")
		var typed *hydra.LoginError
		err := resolve(client(s, as("bob", "hunter22", "")))
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(typed.Refused).To(Equal(hydra.RefusedPassword))
		s.BelievesItIs("http://hydra.internal:3000")
		err = resolve(client(s, as("bob", "hunter2", "")))
		refused(err, "it takes another address for its own: 500 Internal Server Error: POST requests should come from "+
			"‘http://hydra.internal:3000/’.")
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(typed.Refused).To(Equal(hydra.RefusedReferer))
		Expect(typed.HydraURL).To(Equal("http://hydra.internal:3000/"))
	})

	it("does not take a log-in that fails for one that is refused, and tries again", func() {
		s.Private("bob", "hunter2")
		s.Store(t.TempDir())
		failing := 0
		s.OnRequest(func(_ int, r *http.Request) {
			if r.URL.Path == "/login" && failing > 0 {
				failing--
				s.Fail(hydratest.BadGateway())
			}
		})
		failing = 2
		Expect(resolve(client(s, as("bob", "hunter2", "")))).To(Succeed())
		failing = 100
		err := resolve(client(s, as("bob", "hunter2", "")))
		Expect(err).To(MatchError("asking Hydra for " + s.URL + "/login: its log-in answers 502 Bad Gateway with the HTML page " +
			`"502 Bad Gateway" (asked 4 times)`))

		sessions := hydra.NewSessions("buildpack/1.2")
		get := func() (*http.Response, error) {
			req, err := http.NewRequest(http.MethodGet, s.URL+"/nix-cache-info", nil)
			Expect(err).NotTo(HaveOccurred())
			req.SetBasicAuth("bob", "hunter2")
			return sessions.Wrap(http.DefaultTransport).RoundTrip(req)
		}
		failing = 1
		_, err = get()
		Expect(err).To(MatchError(ContainSubstring("its log-in answers 502 Bad Gateway")))
		res, err := get()
		Expect(err).NotTo(HaveOccurred())
		defer res.Body.Close()
		Expect(res.StatusCode).To(Equal(200))
	})

	it("serves its own store to who has a session, which the log-in of a cache's request gives once", func() {
		s.Private("bob", "hunter2")
		s.Store(t.TempDir())
		get := func(password, page string) *http.Response {
			sessions := &http.Client{Transport: hydra.NewSessions("buildpack/1.2").Wrap(http.DefaultTransport)}
			before := len(s.Requests())
			for range 3 {
				req, err := http.NewRequest(http.MethodGet, s.URL+page, nil)
				Expect(err).NotTo(HaveOccurred())
				req.SetBasicAuth("bob", password)
				res, err := sessions.Do(req)
				Expect(err).NotTo(HaveOccurred())
				defer res.Body.Close()
				if page == "/nix-cache-info" && password == "hunter2" {
					Expect(res.StatusCode).To(Equal(200))
					continue
				}
				return res
			}
			Expect(s.Requests()).To(HaveLen(before+1+1+3), "one refusal, one log-in, three answers")
			return nil
		}
		get("hunter2", "/nix-cache-info")
		Expect(get("hunter2", "/00bgd045z0d4icpbc2yyz4gx48ak44la.narinfo").StatusCode).To(Equal(404))
		Expect(get("hunter2", "/nar/00bgd045z0d4icpbc2yyz4gx48ak44la-app").StatusCode).To(Equal(410))
		res := get("wrong", "/nix-cache-info")
		Expect(res.StatusCode).To(Equal(403))
		Expect(res.Status).To(HaveSuffix("user name or password is wrong: 403 Forbidden: Bad username or password."))
		sessions := hydra.NewSessions("buildpack/1.2")
		front, err := url.Parse(s.URL + "/")
		Expect(err).NotTo(HaveOccurred())
		_, ok := sessions.LoggedIn(front)
		Expect(ok).To(BeFalse())
		req, err := http.NewRequest(http.MethodGet, s.URL+"/nix-cache-info", nil)
		Expect(err).NotTo(HaveOccurred())
		req.SetBasicAuth("bob", "hunter2")
		res, err = sessions.Wrap(http.DefaultTransport).RoundTrip(req)
		Expect(err).NotTo(HaveOccurred())
		defer res.Body.Close()
		Expect(res.StatusCode).To(Equal(200))
		wrap, ok := sessions.LoggedIn(front)
		Expect(ok).To(BeTrue())
		elsewhere := hydratest.New()
		defer elsewhere.Close()
		nobody := &http.Client{Transport: wrap(http.DefaultTransport)} // as Nix is, which knows no cookies
		for url, want := range map[string]int{s.URL: 200, elsewhere.URL: 404} {
			res, err = nobody.Get(url + "/nix-cache-info")
			Expect(err).NotTo(HaveOccurred())
			defer res.Body.Close()
			Expect(res.StatusCode).To(Equal(want))
		}
		Expect(elsewhere.Requests()[0].Authorization + elsewhere.Requests()[0].Cookie).To(BeEmpty())
		before := len(s.Requests())
		Expect(get("hunter2", "/project/shop").StatusCode).To(Equal(403), "no page of a store")
		Expect(s.Requests()).To(HaveLen(before + 1))
	})

	it("passes a proxy that wants Basic authentication or a token", func() {
		s.Basic("bob", "hunter2")
		refused(resolve(client(s)), `401 Unauthorized with the HTML page "401 Authorization Required"`)
		Expect(resolve(client(s, as("bob", "hunter2", "")))).To(Succeed())
		refused(resolve(client(s, as("bob", "wrong", ""))), "were not accepted")
		s.Basic("", "hunter2")
		Expect(resolve(client(s, as("", "", "hunter2")))).To(Succeed())
	})

	it("recognises a redirect to a log-in page, here or elsewhere, without following it", func() {
		for _, to := range []string{"/login?from=x", "https://sso.example.org/oauth2/authorize?state=hunter2",
			"/users/sign_in"} {
			s.Fail(hydratest.Fault{Status: 302, Header: map[string]string{"Location": to}})
			before := len(s.Requests())
			refused(resolve(client(s)), "it redirects to ")
			Expect(s.Requests()).To(HaveLen(before + 1))
		}
	})

	it("recognises a page that asks for a password instead of answering", func() {
		s.Fail(hydratest.Fault{Status: 200, ContentType: "text/html",
			Body: `<html><title>Welcome</title><form><input name=p type='password'></form>`})
		refused(resolve(client(s)), `it answers with the HTML page "Welcome" that asks for a password`)
	})

	it("sends credentials to no other host, not even when told to go there", func() {
		other := hydratest.New()
		defer other.Close()
		_, evals := shop(other, 1, hydratest.Job{Name: "app"})
		evals[0].Succeed()
		s.OnRequest(func(_ int, r *http.Request) {
			s.Fail(hydratest.Fault{Status: 302, Header: map[string]string{"Location": other.URL + r.URL.String()}})
		})
		for _, c := range []*hydra.Client{client(s, as("bob", "hunter2", "")), client(s, as("", "", "hunter2"))} {
			Expect(resolve(c)).To(Succeed())
		}
		Expect(other.Requests()).NotTo(BeEmpty())
		for _, r := range other.Requests() {
			Expect(r.Authorization + r.Cookie).To(BeEmpty())
			Expect(r.Accept).To(Equal("application/json"))
		}
	})

	it("moves to https when told to, with credentials for the same host only", func() {
		secure := httptest.NewTLSServer(s.Handler())
		defer secure.Close()
		forgets := false
		plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if forgets {
				r.URL.RawQuery = ""
			}
			http.Redirect(w, r, secure.URL+r.URL.String(), http.StatusMovedPermanently)
		}))
		defer plain.Close()
		s.Basic("bob", "hunter2")
		for _, forgets = range []bool{false, true} {
			c, err := hydra.New(hydra.Options{URL: plain.URL, Transport: secure.Client().Transport, Username: "bob", Password: "hunter2"})
			Expect(err).NotTo(HaveOccurred())
			Expect(resolve(c)).To(Succeed())
			Expect(c.URL()).To(Equal(secure.URL))
			Expect(s.Requests()[len(s.Requests())-2].Query).To(Equal("page=1"), "the query is kept")
		}
	})

	it("works below a path, as behind a proxy", func() {
		outer := httptest.NewServer(http.StripPrefix("/hydra", s.Handler()))
		defer outer.Close()
		s.Private("bob", "hunter2")
		c, err := hydra.New(hydra.Options{URL: outer.URL + "/hydra/", Username: "bob", Password: "hunter2"})
		Expect(err).NotTo(HaveOccurred())
		r, err := c.Resolve(ctx, query(shopRev(0), "app"))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Builds[0].URL).To(Equal(fmt.Sprintf("%s/hydra/build/%d", outer.URL, r.Builds[0].ID)))
	})

	it("names itself", func() {
		Expect(resolve(client(s, func(o *hydra.Options) { o.UserAgent = "buildpack/1.2" }))).To(Succeed())
		Expect(s.Requests()[0].UserAgent).To(Equal("buildpack/1.2"))
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"evals":[{"id":7,"builds":[1],"flake":"github:a/b/0123456",`+
		`"jobsetevalinputs":{"src":{"revision":"0123456"}}}]}`),
		[]byte(`[{"id":1,"job":"app","finished":1,"buildstatus":0,"buildoutputs":{"out":{"path":"/nix/store/x"}}}]`))
	f.Add([]byte(`[{"evals":[],"next":"?page=2"}]`),
		[]byte(`<tr><td><a href="/build/1/nixlog/1"></a><span class="error">x`))
	f.Add([]byte(`{"evals":[{"id":1e3}]}`), []byte(`[null]`))
	f.Fuzz(func(t *testing.T, page, rest []byte) {
		transport := roundTrip(func(r *http.Request) *http.Response {
			w := httptest.NewRecorder()
			if strings.HasSuffix(r.URL.Path, "/evals") {
				_, _ = w.Write(page)
			} else {
				_, _ = w.Write(rest)
			}
			return w.Result()
		})
		o := hydra.Options{URL: "http://hydra", Transport: transport}
		o.SetMaxPages(2)
		c, err := hydra.New(o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Resolve(context.Background(), hydra.Query{Project: "p", Jobset: "j", Jobs: []string{"app"},
			Revision: "0123456"})
		switch {
		case err != nil && strings.ContainsAny(err.Error(), "\n\x1b\x00"):
			t.Fatalf("error is not one clean line: %q", err)
		case err == nil && len(hydratest.Roots(r)) == 0:
			t.Fatal("success without a store path")
		}
	})
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }
