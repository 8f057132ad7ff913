package hydra_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

func TestErrorsSayHowOftenAndHowLongAndHowManyMore(t *testing.T) {
	RegisterTestingT(t)
	builds := func(n int) (list []hydra.Build) {
		for i := range n {
			list = append(list, hydra.Build{Job: fmt.Sprint("job-", i), URL: fmt.Sprint("https://h/build/", i)})
		}
		return list
	}
	const five = "job-0 is not finished: https://h/build/0; job-1 is not finished: https://h/build/1; " +
		"job-2 is not finished: https://h/build/2; job-3 is not finished: https://h/build/3; job-4 is not finished: https://h/build/4"
	noon := time.Date(2026, 8, 21, 13, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		err  error
		says string
	}{
		{&hydra.AnswerError{URL: "u", Problem: "p", Attempts: 1}, "asking Hydra for u: p"},
		{&hydra.AnswerError{URL: "u", Problem: "p", Attempts: 2}, "asking Hydra for u: p (asked 2 times)"},
		{&hydra.NoBuildError{Word: hydra.Latest, What: "a:b:c", URL: "u"},
			"finding latest of a:b:c: any evaluation has no successful build of it: u"},
		{&hydra.NoBuildError{Word: hydra.Latest, What: "a:b:c", Looked: 1, Problem: "p", URL: "u"},
			"finding latest of a:b:c: the newest 1 evaluations has no successful build of it: p: u"},
		{&hydra.NotFinishedError{Builds: builds(1)},
			"waiting for Hydra's build: no wait is allowed: job-0 is not finished: https://h/build/0"},
		{&hydra.NotFinishedError{Waited: 1, Builds: builds(1)},
			"waiting for Hydra's build: waited 0s: job-0 is not finished: https://h/build/0"},
		{&hydra.NotFinishedError{Waited: 1234567 * time.Microsecond, Builds: builds(5)},
			"waiting for Hydra's build: waited 1s: " + five},
		{&hydra.NotFinishedError{Waited: 999 * time.Millisecond, Builds: builds(6)},
			"waiting for Hydra's build: waited 999ms: " + five + " and 1 more"},
		{&hydra.NotFinishedError{Waited: time.Minute, Cause: fmt.Errorf("none")},
			"waiting for Hydra's evaluation: waited 1m0s: none"},
		{&hydra.RevisionNotFoundError{Project: "p", Jobset: "j", Revision: "main", Looked: 1, All: true, URL: "u",
			Seen: []hydra.SeenRevision{{Eval: 7, Time: noon, Revisions: []string{"a=1", "b=2"}}, {Eval: 6, Time: noon, Revisions: []string{"a=0"}}}},
			"finding revision main in p/j: none of its 1 evaluations has it; last seen: 7 of 2026-08-21 13:00Z (a=1, b=2); " +
				"6 of 2026-08-21 13:00Z (a=0); Hydra lists a revision only where it changed a build: u"},
	} {
		Expect(c.err).To(MatchError(c.says))
	}
	failed := make([]hydra.FailedBuild, 7)
	var said []string
	for i := range failed {
		failed[i].Build = builds(7)[i]
		said = append(said, failed[i].String())
	}
	Expect(&hydra.BuildFailedError{Builds: failed[:5]}).To(MatchError("taking Hydra's build: " + strings.Join(said[:5], "; ")))
	Expect(&hydra.BuildFailedError{Builds: failed[:6]}).To(
		MatchError("taking Hydra's build: " + strings.Join(said[:5], "; ") + " and 1 more"))
}
