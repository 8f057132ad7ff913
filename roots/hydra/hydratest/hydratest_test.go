package hydratest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// seed makes a Hydra in which there is one of everything, and the addresses to see it at.
func seed() (s *hydratest.Server, paths []string) {
	s = hydratest.New()
	j := s.Project("shop").Jobset("main")
	inputs := map[string]hydratest.Input{
		"src":     {URI: "https://git.example.org/shop.git", Revision: hydratest.Revision("1")},
		"release": {Type: "boolean", Value: "true"},
	}
	e := j.Evaluate(hydratest.Evaluation{Inputs: inputs, Jobs: []hydratest.Job{{Name: "good.x86_64-linux"},
		{Name: "bad", Outputs: map[string]string{"out": hydratest.StorePath("1", "bad"), "dev": ""}}, {Name: "busy"},
		{Name: "queued"}, {Name: "all", Constituents: []string{"good.x86_64-linux", "bad"}}}})
	e.Build("good.x86_64-linux").Succeed()
	e.Build("bad").Fail(1, hydratest.Step{DrvPath: hydratest.StorePath("2", "x.drv"), Status: 1})
	e.Build("busy").Run()
	for range 44 {
		j.Evaluate(hydratest.Evaluation{Inputs: inputs, Jobs: []hydratest.Job{{Name: "busy", Same: e.Build("busy")}}})
	}
	j.Fails("an error", "")
	f := s.Project("shop").Jobset("flake").Flake("github:acme/shop")
	f.Evaluating(true)
	flake := f.Evaluate(hydratest.Evaluation{Flake: "github:acme/shop/" + hydratest.Revision("2")})
	s.Project("empty").Jobset("nothing")
	paths = []string{"/", "/status", "/project/shop", "/project/empty", "/jobset/shop/main", "/jobset/shop/main/errors",
		"/jobset/shop/flake", "/jobset/empty/nothing", "/jobset/shop/main/evals", "/jobset/shop/main/evals?page=2",
		"/jobset/shop/main/evals?page=3", "/jobset/shop/main/evals?page=9", "/jobset/empty/nothing/evals",
		"/jobset/shop/flake/latest-eval", "/job/shop/main/good.x86_64-linux/latest",
		"/job/shop/main/good.x86_64-linux/latest-for/x86_64-linux", fmt.Sprintf("/eval/%d/job/busy", e.ID),
		fmt.Sprintf("/eval/%d", e.ID), fmt.Sprintf("/eval/%d/builds", e.ID), fmt.Sprintf("/eval/%d", flake.ID)}
	for _, job := range []string{"good.x86_64-linux", "bad", "busy", "queued", "all"} {
		path := fmt.Sprintf("/build/%d", e.Build(job).ID)
		paths = append(paths, path, path+"/constituents")
	}
	return s, append(paths, fmt.Sprintf("/build/%d/step/1", e.Build("bad").ID))
}

func get(url, accept string) (int, http.Header, string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	Expect(err).NotTo(HaveOccurred())
	req.Header.Set("Accept", accept)
	res, err := http.DefaultClient.Do(req)
	Expect(err).NotTo(HaveOccurred())
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	Expect(err).NotTo(HaveOccurred())
	return res.StatusCode, res.Header, string(body)
}

func TestServer(t *testing.T) {
	spec.Run(t, "hydratest.Server", testServer, spec.Report(report.Terminal{}))
}

func testServer(t *testing.T, when spec.G, it spec.S) {
	var s *hydratest.Server
	var paths []string
	it.Before(func() { RegisterTestingT(t); s, paths = seed() })
	it.After(func() { s.Close() })

	it("answers with the fields that Hydra's sources serialize", func() {
		checked := 0
		s.OnAnswer(func(path string, body []byte) {
			checked++
			if err := hydratest.CheckAnswer(path, body); err != nil {
				t.Error(err)
			}
		})
		for _, path := range paths {
			status, header, _ := get(s.URL+path, "application/json")
			Expect(status).To(Equal(200), path)
			Expect(header.Get("Content-Type")).To(Equal("application/json"))
			Expect(header.Get("Vary")).To(Equal("Accept"))
		}
		Expect(checked).To(Equal(len(paths)))
	})

	it("pages by 20 and says which page is next", func() {
		for page, want := range []string{"20 next=?page=2 previous=", "20 next=?page=3 previous=?page=1",
			"5 next= previous=?page=2",
			"0 next= previous=?page=3"} {
			_, _, body := get(fmt.Sprintf("%s/jobset/shop/main/evals?page=%d", s.URL, page+1), "application/json")
			var p struct {
				Evals                []any
				Next, Previous, Last string
			}
			Expect(json.Unmarshal([]byte(body), &p)).To(Succeed())
			Expect(fmt.Sprintf("%d next=%s previous=%s", len(p.Evals), p.Next, p.Previous)).To(Equal(want))
			Expect(p.Last).To(Equal("?page=3"))
		}
	})

	it("says in JSON what does not exist, to who asks for JSON", func() {
		for path, want := range map[string]string{
			"/jobset/none/x/evals":                "Project ‘none’ doesn't exist.",
			"/jobset/shop/none/evals":             "Jobset ‘none’ doesn't exist.",
			"/project/none":                       "Project ‘none’ doesn't exist.",
			"/eval/1":                             "Evaluation 1 doesn't exist.",
			"/eval/1001/job/none":                 "This evaluation has no job with the specified name.",
			"/build/1":                            "Build with ID 1 doesn't exist.",
			"/job/shop/main/bad/latest":           "There is no successful build to redirect to.",
			"/job/shop/main/bad/latest-for/riscv": "There is no successful build for platform `riscv' to redirect to.",
			"/job/shop/main/bad/latest-finished":  "There is no successful build to redirect to.",
			"/jobset/empty/nothing/latest-eval":   "No evaluation found.",
			"/elsewhere":                          "Page not found.",
		} {
			status, _, body := get(s.URL+path, "application/json")
			Expect(status).To(Equal(404), path)
			Expect(body).To(MatchJSON(fmt.Sprintf(`{"error": %q}`, want)), path)
			status, header, body := get(s.URL+path, "text/html")
			Expect(status).To(Equal(404), path)
			Expect(header.Get("Content-Type")).To(HavePrefix("text/html"))
			Expect(body).To(ContainSubstring("<title>Hydra - Error</title>"))
		}
	})

	it("measures a search over 100 evaluations", func() {
		m, err := hydratest.MeasureResolve(t.Context(), 100, 3, time.Millisecond)
		Expect(err).NotTo(HaveOccurred())
		Expect(m.Requests).To(Equal(7))
		Expect(m.Connections).To(Equal(1))
		Expect(m.Redirects).To(BeZero())
		Expect(m.Roots).To(Equal(1))
		Expect(m.Elapsed).To(BeNumerically(">=", 7*time.Millisecond))
	})

	if file := os.Getenv("NIX_HYDRA_API_YAML"); file != "" {
		it("answers by the published schema, but for what Hydra's own answers differ in", func() {
			schema := readSchema(file)
			for _, path := range paths {
				status, _, body := get(s.URL+path, "application/json")
				Expect(status).To(Equal(200))
				var v any
				Expect(json.Unmarshal([]byte(body), &v)).To(Succeed())
				if name := schema.of(strings.SplitN(path, "?", 2)[0]); name != nil {
					Expect(schema.check(v, name, "", path)).To(Succeed())
				}
			}
			Expect(schema.checked).To(BeNumerically(">", 500))
		})
	}
}

func TestCheckAnswer(t *testing.T) {
	g := NewWithT(t)
	const eval = `{"timestamp":1,"checkouttime":1,"evaltime":1,"hasnewbuilds":1,"id":1,"flake":null,"builds":[1],
		"jobsetevalinputs":{"a":{"revision":null,"value":null,"type":"git","uri":null,"dependency":null}}}`
	g.Expect(hydratest.CheckAnswer("/eval/1", []byte(eval))).To(Succeed())
	for _, wrong := range [][2]string{
		{`"id":1`, `"id":"1"`}, {`"id":1`, `"id":1.5`}, {`"flake":null`, `"flake":0`}, {`"flake":null,`, ``},
		{`[1]`, `[null]`}, {`[1]`, `1`}, {`"type":"git"`, `"type":null`}, {`"id":1`, `"id":1,"extra":1`}, {`{"a":{`, `[{`},
	} {
		broken := strings.Replace(eval, wrong[0], wrong[1], 1)
		g.Expect(hydratest.CheckAnswer("/eval/1", []byte(broken))).NotTo(Succeed(), broken)
	}
	g.Expect(hydratest.CheckAnswer("/nowhere", []byte(`{}`))).NotTo(Succeed())
}
