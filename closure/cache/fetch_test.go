package cache_test

import (
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestFetch(t *testing.T) {
	spec.Run(t, "fetch", testFetch, spec.Report(report.Terminal{}))
}

func testFetch(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	context("compression", func() {
		for _, name := range []string{"none", "zstd", "br", "gzip", "xz", "bzip2"} {
			it("gives the NAR of a path packed with "+name, func() {
				s := newServer(t)
				data := content("a", 300_000)
				n := s.add(t, "a", name, data, nil)
				Expect(fetch(open(t, options(s.URL)), n.StorePath)).To(Equal(data))
			})
		}
	})
}
