package hydratest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// Measurement is what it took to go from a revision to the roots of a job.
type Measurement struct {
	Requests    int           // that the server received
	Connections int           // TCP connections these came over
	Redirects   int           // requests that were answered with a redirect
	Roots       int           // store paths that were found
	Elapsed     time.Duration // from asking to having them
}

// MeasureResolve makes a jobset in which the wanted revision has the given number of newer evaluations, each with
// jobs builds, lets every answer take latency, and resolves one job of it.
func MeasureResolve(ctx context.Context, back, jobs int, latency time.Duration) (Measurement, error) {
	s := New()
	defer s.Close()
	j := s.Project("shop").Jobset("main")
	const repository = "https://git.example.org/shop.git"
	for i := range back + 10 {
		found := []Job{{Name: "app.x86_64-linux"}}
		for n := 1; n < jobs; n++ {
			found = append(found, Job{Name: fmt.Sprintf("part%d.x86_64-linux", n)})
		}
		j.Evaluate(Evaluation{Jobs: found, Inputs: map[string]Input{
			"src":     {URI: repository, Revision: Revision(fmt.Sprint("shop ", i))},
			"nixpkgs": {URI: "https://git.example.org/nixpkgs.git", Revision: Revision(fmt.Sprint("nixpkgs ", i/7))},
		}}).Succeed()
	}
	s.Delay(latency)
	var m Measurement
	c, err := hydra.New(hydra.Options{URL: s.URL})
	if err != nil {
		return m, err
	}
	start := time.Now()
	r, err := c.Resolve(ctx, hydra.Query{Project: "shop", Jobset: "main", Jobs: []string{"app"},
		Revision: Revision(fmt.Sprint("shop ", 9)), System: "x86_64-linux", GitURL: repository})
	if err != nil {
		return m, fmt.Errorf("measuring Hydra requests: %w", err)
	}
	m.Elapsed = time.Since(start)
	m.Requests, m.Connections, m.Roots = len(s.Requests()), s.Connections(), len(Roots(r))
	m.Redirects = s.redirects()
	return m, nil
}

func (s *Server) redirects() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.redirected
}

// Roots are the store paths of the builds' outputs, sorted, each once.
func Roots(r *hydra.Resolution) []storepath.Path {
	var all []storepath.Path
	for _, b := range r.Builds {
		all = slices.AppendSeq(all, maps.Values(b.Outputs))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
