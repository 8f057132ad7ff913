package cache

import (
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestInternal(t *testing.T) {
	spec.Run(t, "addresses and texts", testInternal, spec.Report(report.Terminal{}))
}

func testInternal(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("turns s3 addresses into HTTP as Nix and Amazon do", func() {
		for raw, want := range map[string]string{
			"s3://bucket":                                     "https://bucket.s3.us-east-1.amazonaws.com",
			"s3://bucket/a/b?region=eu-west-1":                "https://bucket.s3.eu-west-1.amazonaws.com/a/b",
			"s3://bucket?region=cn-north-1":                   "https://bucket.s3.cn-north-1.amazonaws.com.cn",
			"s3://my.bucket?region=eu-west-1":                 "https://s3.eu-west-1.amazonaws.com/my.bucket",
			"s3://bucket?endpoint=minio:9000&scheme=http":     "http://minio:9000/bucket",
			"s3://bucket/p?endpoint=https://s3.example":       "https://s3.example/bucket/p",
			"s3://bucket?endpoint=h&addressing-style=virtual": "https://bucket.h",
			"s3://bucket?addressing-style=path":               "https://s3.us-east-1.amazonaws.com/bucket",
		} {
			a, err := parseAddress(raw)
			Expect(err).NotTo(HaveOccurred())
			Expect(a.httpBase().String()).To(Equal(want), raw)
		}
	})

	it("takes an IPv6 address in brackets, its zone behind %25, and none that is written otherwise", func() {
		for _, raw := range []string{"http://::1:8080", "http://2001:db8::1/cache", "http://[fe80::1%eth0]:8080", "http://[::1"} {
			_, err := parseAddress(raw)
			Expect(err).To(MatchError("parsing cache URL: it is not a URL"), raw)
		}
		a, err := parseAddress("http://[fe80::1%25eth0]:8080")
		Expect(err).NotTo(HaveOccurred())
		Expect(a.base.Hostname()).To(Equal("fe80::1%eth0"))
	})

	it("resolves a narinfo's URL below the cache", func() {
		a, err := parseAddress("https://h/prefix/")
		Expect(err).NotTo(HaveOccurred())
		for ref, want := range map[string]string{
			"nar/x.nar.xz":         "https://h/prefix/nar/x.nar.xz",
			"nar/x.nar?hash=y":     "https://h/prefix/nar/x.nar?hash=y",
			"/nar/x":               "https://h/nar/x",
			"../nar/x?y":           "https://h/nar/x?y",
			"nar/../other/x":       "https://h/prefix/other/x",
			"https://other/nar/x":  "https://other/nar/x",
			"nar/a%2Fb":            "https://h/prefix/nar/a%2Fb",
			"nar/with space and ü": "https://h/prefix/nar/with%20space%20and%20%C3%BC",
		} {
			u, err := a.resolve(ref)
			Expect(err).NotTo(HaveOccurred(), ref)
			Expect(u.String()).To(Equal(want))
		}
		for _, bad := range []string{"", "mailto:x", "ftp://h/x", "https:///x", "%zz"} {
			_, err := a.resolve(bad)
			Expect(err).To(HaveOccurred(), bad)
		}
		for _, raw := range []string{"file:///cache", "s3://bucket"} {
			a, err := parseAddress(raw)
			Expect(err).NotTo(HaveOccurred())
			for _, bad := range []string{"..", "../nar/x", "nar/../../x", "nar/%2e%2e/%2e%2e/x", "/etc/passwd", "//h/x"} {
				_, err := a.resolve(bad)
				Expect(err).To(MatchError(ContainSubstring("leads out of the cache")), raw+" "+bad)
			}
		}
	})
}

func TestAPolicyIsABuildsWhereNothingElseIsSaid(t *testing.T) {
	RegisterTestingT(t)
	o := Options{}.withDefaults()
	Expect(o.Stall).To(Equal(30 * time.Second))
	Expect(o.Policy).To(Equal(Policy{
		Backoff: 250 * time.Millisecond, Timeout: 15 * time.Second, Patience: time.Second, Disable: time.Minute,
	}))
	own := Policy{Backoff: 1, Timeout: 2, Patience: 3, Disable: 4}
	o = Options{Stall: 5, Policy: own}.withDefaults()
	Expect(o.Policy).To(Equal(own))
	Expect(o.Stall).To(BeEquivalentTo(5))
}

func TestAPauseIsAsLongAsRetryAfterSaysAndNoLongerThanItMay(t *testing.T) {
	RegisterTestingT(t)
	p := Policy{Backoff: time.Millisecond, Disable: 5 * time.Second}
	Expect(pause(p, 1, &StatusError{retryAfter: 2 * time.Second})).To(Equal(2 * time.Second))
	Expect(pause(p, 1, &StatusError{retryAfter: time.Hour})).To(Equal(5 * time.Second))
}

func TestAConnectionEndsAtTheFirstByteBeyond32MiBThatNobodyAskedFor(t *testing.T) {
	RegisterTestingT(t)
	here, there := net.Pipe()
	defer there.Close()
	go func() {
		for piece := make([]byte, 1<<20); ; {
			if _, err := there.Write(piece); err != nil {
				return
			}
		}
	}()
	c := &connection{Conn: here, pool: &Transport{}}
	read := func(n int) error { _, err := io.ReadFull(c, make([]byte, n)); return err }
	Expect(read(32 << 20)).To(Succeed())
	c.asking.Store(1)
	Expect(read(40<<20)).To(Succeed(), "what is asked for is not counted")
	c.asking.Store(0)
	Expect(read(32 << 20)).To(Succeed())
	_, err := c.Read(make([]byte, 1))
	Expect(err).To(MatchError(errUnasked))
	_, err = here.Read(make([]byte, 1))
	Expect(err).To(MatchError(io.ErrClosedPipe))
}

func FuzzParseInfo(f *testing.F) {
	f.Add("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n")
	f.Add("<html>")
	f.Add("StoreDir:\r\nPriority: 999999999999999999999999")
	f.Fuzz(func(t *testing.T, text string) {
		info, err := ParseInfo(strings.NewReader(text))
		if err == nil && info.StoreDir == "" {
			t.Fatalf("%q has no StoreDir and no error", text)
		}
	})
}

func FuzzNetrc(f *testing.F) {
	f.Add("machine h login l password p\ndefault login \"a b\" password \"\\\"\" # c\nmacdef m\nx\n\nmachine z")
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range ParseNetrc(text) {
			e.matches(&url.URL{Scheme: "https", Host: "h"}, true)
		}
	})
}
