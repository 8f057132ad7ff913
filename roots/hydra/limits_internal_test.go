package hydra

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

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

func second[T any](_ T, err error) error { return err }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
