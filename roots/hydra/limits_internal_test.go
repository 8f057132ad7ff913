package hydra

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	. "github.com/onsi/gomega"
)

func TestAnAnswerIsTakenUpToItsBoundsAndNoByteMore(t *testing.T) {
	RegisterTestingT(t)
	c, at := &Client{}, &url.URL{Scheme: "https", Host: "hydra.example"}

	all := question{read: func(body io.Reader) error { _, err := io.Copy(io.Discard, body); return err }}
	take := func(n int64) error { _, err := c.take(io.LimitReader(zeros{}, n), at, all); return err }
	Expect(take(192 << 20)).To(Succeed())
	Expect(take(192<<20 + 1)).To(MatchError(ContainSubstring("longer than 192 MiB")))

	value := func(limit, n int) error {
		return second(readJSON(strings.NewReader(`["`+strings.Repeat("a", n-4)+`"]`), func(s *stream) error {
			var all []string
			return s.value(limit, &all)
		}))
	}
	Expect(value(thingLimit, 8<<20)).To(Succeed())
	Expect(value(thingLimit, 8<<20+1)).To(MatchError(errThing))
	Expect(value(buildLimit, 1<<20)).To(Succeed())
	Expect(value(buildLimit, 1<<20+1)).To(MatchError(errThing))

	s := &stream{}
	Expect(s.keep(64 << 20)).To(Succeed())
	Expect(s.keep(1)).To(MatchError(ContainSubstring("more of it than 64 MiB can hold")))

	absent := func(n int) error {
		said := `{"error":"no such jobset"}`
		body := io.NopCloser(strings.NewReader(said + strings.Repeat(" ", n-len(said)-1) + "x"))
		_, err := c.readResponse(&http.Response{StatusCode: http.StatusNotFound, Body: body}, at, at, question{accept: jsonType})
		return err
	}
	Expect(absent(1<<20)).To(BeAssignableToTypeOf(&NotHydraError{}), "the x is read, which is no JSON")
	Expect(absent(1<<20+1)).To(BeAssignableToTypeOf(&missing{}), "it is not")
}

func TestFewBuildsStepsAndDirectoriesAreLookedInto(t *testing.T) {
	RegisterTestingT(t)
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer server.Close()
	c, err := New(Options{URL: server.URL})
	Expect(err).NotTo(HaveOccurred())
	var failed *BuildFailedError
	Expect(errors.As(c.Explain(t.Context(), make([]Build, 7)...), &failed)).To(BeTrue())
	Expect(failed.Builds).To(HaveLen(7))
	Expect(asked).To(HaveLen(2*5), "of five, the page and the parts")

	page := "<table>"
	for i := range 12 {
		page += fmt.Sprintf("<tr><td>%d</td><td class=error>Failed</td></tr>", i+1)
	}
	found, err := readBuildPage(strings.NewReader(page+"</table>"), 7)
	Expect(err).NotTo(HaveOccurred())
	Expect(found.steps).To(HaveLen(10))

	base := &url.URL{Scheme: "https", Host: "h", Path: "/a/b/c/d/e/f"}
	Expect(slices.Collect(parents(base))).To(HaveLen(4))
}

func TestAJobsNameMayHave512BytesAndAHundredJobsBeNamed(t *testing.T) {
	RegisterTestingT(t)
	parse := func(s string) error { return second(ParseJob(s)) }
	Expect(parse("shop/main/" + strings.Repeat("a", 512))).To(Succeed())
	Expect(parse("shop/main/" + strings.Repeat("a", 513))).NotTo(Succeed())
	Expect(parse("shop/main/a" + strings.Repeat(" b", 99))).To(Succeed())
	Expect(parse("shop/main/a" + strings.Repeat(" b", 100))).NotTo(Succeed())
}

func TestALargeEvaluationIsAskedForJobsAndNotListed(t *testing.T) {
	RegisterTestingT(t)
	var asked []string
	c := answering(t, func(r *http.Request) (int, string) {
		asked = append(asked, r.URL.Path)
		if strings.HasSuffix(r.URL.Path, "/builds") {
			return http.StatusOK, "[]"
		}
		return http.StatusNotFound, `{"error":"none"}`
	})
	look := func(builds int) []string {
		asked = nil
		_, err := c.builds(t.Context(), Query{Project: "p", Jobset: "j", Jobs: []string{"app"}}, Eval{ID: 1, Builds: builds})
		Expect(err).To(BeAssignableToTypeOf(&JobNotFoundError{}))
		return asked
	}
	Expect(look(200)[0]).To(Equal("/eval/1/builds"))
	Expect(look(201)[0]).To(Equal("/eval/1/job/app"))
	Expect(look(5000)).To(ContainElement("/eval/1/builds"), "to say which jobs there are")
	Expect(look(5001)).NotTo(ContainElement("/eval/1/builds"))
}

func TestTheLatestOfSeveralJobsIsLookedForInTheNewestPage(t *testing.T) {
	RegisterTestingT(t)
	page, pages, listed := "", 0, 0
	for i := range 20 {
		page += fmt.Sprintf(`,{"id":%d,"builds":[1]}`, i+1)
	}
	c := answering(t, func(r *http.Request) (int, string) {
		if strings.HasSuffix(r.URL.Path, "/evals") {
			pages++
			return http.StatusOK, `{"evals":[` + page[1:] + `],"next":"?page=9"}`
		}
		if strings.HasSuffix(r.URL.Path, "/builds") {
			listed++
		}
		return http.StatusOK, "[]"
	})
	_, err := c.latestOfAll(t.Context(), Query{Project: "p", Jobset: "j", Jobs: []string{"a", "b"}})
	Expect(err).To(BeAssignableToTypeOf(&JobNotFoundError{}))
	Expect([]int{pages, listed}).To(Equal([]int{1, 20}))
}

func TestFourJobsAreLookedUpAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		RegisterTestingT(t)
		var now, most atomic.Int32
		c := answering(t, func(r *http.Request) (int, string) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Second)
			now.Add(-1)
			return http.StatusNotFound, `{"error":"none"}`
		})
		jobs := strings.Fields("a b c d e f g h i")
		_, err := c.lookUp(t.Context(), Query{Jobs: jobs}, Eval{ID: 1})
		Expect(err).NotTo(HaveOccurred())
		Expect(most.Load()).To(BeEquivalentTo(4))
	})
}

func TestAnAnswerIsWaitedForAMinuteAndTheNextSearchAsLong(t *testing.T) {
	RegisterTestingT(t)
	c := answering(t, nil)
	Expect(c.timeout).To(Equal(time.Minute))
	c.lastTimeout = &SearchTimeoutError{}
	c.lastTimeoutAt = time.Now().Add(-50 * time.Second)
	Expect(c.restSearch()).To(MatchError(c.lastTimeout))
	c.lastTimeoutAt = time.Now().Add(-61 * time.Second)
	Expect(c.restSearch()).To(Succeed())
}

func TestASearchAsksForAsManyBuildsAsHydraGives(t *testing.T) {
	RegisterTestingT(t)
	limit := ""
	c := answering(t, func(r *http.Request) (int, string) {
		limit = r.URL.Query().Get("limit")
		return http.StatusOK, `{"builds":[]}`
	})
	Expect(second(c.searchFor(t.Context(), "app"))).To(Succeed())
	Expect(limit).To(Equal("50"))
}

func TestTheNearestNamesAreThoseOfTheFirst5000ByTheirFirst64Bytes(t *testing.T) {
	RegisterTestingT(t)
	names := make([]string, 5001)
	for i := range names {
		names[i] = fmt.Sprintf("zzzzzzzz%d", i)
	}
	first := func(want string, names []string) string { near, _ := nearest(want, names); return near[0] }
	names[5000] = "app"
	Expect(first("app", names)).NotTo(Equal("app"))
	names[4999] = "app"
	Expect(first("app", names)).To(Equal("app"))

	as := strings.Repeat("a", 63)
	Expect(first(as+"azzzzz", []string{as + "Bzzzzz", as + "aother"})).To(Equal(as + "aother"))
}

func TestStrangersWordsAreClippedWhereTheyAreShown(t *testing.T) {
	RegisterTestingT(t)
	shows := func(n int) string { return second(ParseJob(strings.Repeat("w", n))).Error() }
	Expect(shows(160)).To(ContainSubstring(strings.Repeat("w", 160) + `"`))
	Expect(shows(161)).To(ContainSubstring(strings.Repeat("w", 160) + "…"))
	Expect(shownText(strings.Repeat("a", 8<<10))).To(HaveLen(8 << 10))
	Expect(shownText(strings.Repeat("a", 8<<10+1))).To(Equal(strings.Repeat("a", 8<<10) + "…"))
}

func TestOfACellFourKiBAreReadAndOfARowEightAtOnce(t *testing.T) {
	RegisterTestingT(t)
	steps := func(row string) []Step {
		found, err := readBuildPage(strings.NewReader("<table><tr>"+row+"<td class=error>Failed</td></tr></table>"), 7)
		Expect(err).NotTo(HaveOccurred())
		return found.steps
	}
	Expect(steps("<td>" + strings.Repeat(" ", 4<<10-1) + "7</td>")).To(HaveLen(1))
	Expect(steps("<td>" + strings.Repeat(" ", 4<<10) + "7</td>")).To(BeEmpty())
	Expect(steps(strings.Repeat("<tt>", 7) + "<td>7</td>")).To(HaveLen(1))
	Expect(steps(strings.Repeat("<tt>", 8) + "<td>7</td>")).To(BeEmpty())
}

// These sizes are all that bounds how much memory an answer takes; reading it leaves as much again to be collected.
func TestWhatIsKeptTakesLessThanItIsSaidToAndNotMuchLess(t *testing.T) {
	RegisterTestingT(t)
	const n = 200
	client := answering(t, nil)
	outputs, inputs := make([]string, 20), make([]string, 20)
	for i := range outputs {
		outputs[i] = fmt.Sprintf(`"o%d":{"path":"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a"}`, i)
		inputs[i] = fmt.Sprintf(`"i%d":{"uri":"u","revision":"r","value":"v"}`, i)
	}
	list := func(thing string) string { return "[" + strings.Repeat(thing+",", n-1) + thing + "]" }
	for name, c := range map[string]struct {
		answer      string
		least, most float64
	}{
		"builds":              {list(`{"id":1,"job":"a","finished":0}`), 1.4, 3},
		"their evaluations":   {list(`{"id":1,"job":"a","finished":0,"jobsetevals":[1` + strings.Repeat(",1", 999) + `]}`), 1.1, 2.4},
		"their outputs":       {list(`{"id":1,"job":"a","finished":0,"buildoutputs":{` + strings.Join(outputs, ",") + `}}`), 2, 4.5},
		"evaluations":         {`{"evals":` + list(`{"id":1}`) + `}`, 2.3, 5},
		"evaluations' inputs": {`{"evals":` + list(`{"id":1,"jobsetevalinputs":{`+strings.Join(inputs, ",")+`}}`) + `}`, 1.8, 4},
	} {
		builds, evals, said := make([]Build, 0, n), evalsJSON{Evals: make([]evalJSON, 0, n)}, 0
		before := heap() - n*int(unsafe.Sizeof(Build{}))
		_, err := readJSON(strings.NewReader(c.answer), func(s *stream) error {
			defer func() { said = s.kept }()
			if c.answer[0] == '{' {
				return evals.read(s)
			}
			return client.readBuilds(s, func(b Build) { builds = append(builds, b) })
		})
		takes := heap() - before
		Expect(err).NotTo(HaveOccurred())
		Expect(float64(said)/float64(takes)).To(And(BeNumerically(">", c.least), BeNumerically("<", c.most)), name)
		runtime.KeepAlive(builds)
		runtime.KeepAlive(evals)
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// answering is a client of a Hydra that answers so, without a network.
func answering(t *testing.T, answer func(*http.Request) (int, string)) *Client {
	c, err := New(Options{URL: "https://h", Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		code, body := answer(r)
		return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {jsonType}}, Request: r,
			Body: io.NopCloser(strings.NewReader(body))}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func second[T any](_ T, err error) error { return err }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
