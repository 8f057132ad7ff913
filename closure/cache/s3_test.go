package cache_test

import (
	stdcontext "context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

func TestS3(t *testing.T) {
	spec.Run(t, "S3", testS3, spec.Report(report.Terminal{}))
}

func testS3(t *testing.T, context spec.G, it spec.S) {
	var s *server
	var n *narinfo.NarInfo
	var bucket string
	data := content("a", 50_000)
	s3 := func(extra string) string {
		return "s3://cache/prefix?region=eu-west-1&scheme=http&endpoint=" + bucket + extra
	}

	it.Before(func() {
		RegisterTestingT(t)
		s = newServer(t)
		n = s.add(t, "a", "zstd", data, nil)
		bucket = host(s.URL)
		for _, name := range []string{"nix-cache-info", n.URL, n.StorePath.HashPart() + ".narinfo"} {
			s.put("cache/prefix/"+name, s.file(name))
		}
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
		t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
		t.Setenv("AWS_CONFIG_FILE", "/nowhere/config")
		t.Setenv("AWS_SHARED_CREDENTIALS_FILE", tempFile(t,
			"[work]\naws_access_key_id = AKIDWORK\naws_secret_access_key = secret\n"))
	})

	it("is asked unsigned without credentials", func() {
		Expect(fetch(open(t, options(s3(""))), n.StorePath)).To(Equal(data))
		Expect(s.asked(n.URL)[0].Header.Get("Authorization")).To(BeEmpty())
	})

	it("is not spoken of by AWS's library", func() {
		metadata := newServer(t)
		metadata.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		})
		t.Setenv("AWS_EC2_METADATA_DISABLED", "")
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
		stderr, said := os.Stderr, tempFile(t, "")
		file, err := os.Create(said)
		Expect(err).NotTo(HaveOccurred())
		os.Stderr = file
		defer func() { os.Stderr = stderr }()
		open(t, options(s3("")))
		Expect(metadata.asked("")).NotTo(BeEmpty())
		Expect(os.ReadFile(said)).To(BeEmpty())
	})

	it("is signed for with the credentials of the environment or of a profile", func() {
		Expect(fetch(open(t, options(s3("&profile=work"))), n.StorePath)).To(Equal(data))
		Expect(s.asked(n.URL)[0].Header.Get("Authorization")).To(And(
			HavePrefix("AWS4-HMAC-SHA256 Credential=AKIDWORK/"), ContainSubstring("/eu-west-1/s3/aws4_request")))
		Expect(s.asked(n.URL)[0].Header.Get("X-Amz-Content-Sha256")).To(Equal(fmt.Sprintf("%x", sha256.Sum256(nil))))
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
		t.Setenv("AWS_SESSION_TOKEN", "session")
		open(t, options(s3("")))
		last := s.asked("nix-cache-info")[1]
		Expect(last.Header.Get("Authorization")).To(ContainSubstring("AKIDENV"))
		Expect(last.Header.Get("X-Amz-Security-Token")).To(Equal("session"))
	})

	it("keeps its signature where a login for the endpoint is known, too", func() {
		o := options(s3("&profile=work"))
		o.Credentials = []cache.Credential{{URL: "http://" + bucket, Username: "me", Password: password}}
		Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
		Expect(s.asked(n.URL)[0].Header.Get("Authorization")).To(HavePrefix("AWS4-HMAC-SHA256 "))
		o.URLs = []string{s3("")}
		open(t, o)
		Expect(s.asked("nix-cache-info")[1].Header.Get("Authorization")).To(Equal(basicMe), "without AWS credentials")
	})

	it("takes 403 for missing, and follows to presigned places unsigned", func() {
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
		target := newServer(t)
		target.put("x", s.file(n.URL))
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, n.URL) {
				http.Redirect(w, r, target.URL+"/x?X-Amz-Signature=y", http.StatusFound)
				return true
			}
			if s.file(r.URL.Path[1:]) == nil {
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			return false
		})
		set := open(t, options(s3("")))
		Expect(fetch(set, n.StorePath)).To(Equal(data))
		Expect(target.asked("/x")[0].Header.Get("Authorization")).To(BeEmpty())
		_, err := set.Lookup(stdcontext.Background(), storePath("b"))
		var none *cache.NotFoundError
		Expect(errors.As(err, &none)).To(BeTrue())
		Expect(none.Asked[0].Reason).To(Equal(cache.Absent))
	})

	it("is told from one of the same name elsewhere", func() {
		other := newServer(t)
		for _, name := range []string{"nix-cache-info", n.URL, n.StorePath.HashPart() + ".narinfo"} {
			other.put("cache/prefix/"+name, s.file(name))
			s.drop("cache/prefix/" + n.StorePath.HashPart() + ".narinfo")
		}
		elsewhere := strings.Replace(s3(""), bucket, host(other.URL), 1)
		set := open(t, options(s3(""), s3("&priority=3"), elsewhere))
		Expect(fetch(set, n.StorePath)).To(Equal(data))
		Expect(set.Report()).To(ConsistOf(HaveField("URL", "s3://cache/prefix?endpoint="+bucket),
			HaveField("URL", "s3://cache/prefix?endpoint="+host(other.URL))))
	})

	it("is asked for names as S3 escapes them, which its signature covers", func() {
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
		s.put("cache/a+b=c d/nix-cache-info", s.file("nix-cache-info"))
		open(t, options(strings.Replace(s3(""), "/prefix", "/a+b=c%20d", 1)))
		Expect(s.asked("nix-cache-info")[0].RequestURI).To(Equal("/cache/a%2Bb%3Dc%20d/nix-cache-info"))
	})

	it("has no login in its endpoint, nor shows one", func() {
		for _, endpoint := range []string{
			"me:secret@127.0.0.1:1", "http://me:secret@h", "me%3Asecret%40h", "h:secret", "//",
		} {
			_, err := cache.Open(stdcontext.Background(), options("s3://cache?scheme=http&endpoint="+endpoint))
			Expect(err).To(MatchError(ContainSubstring("its endpoint has to be a host")), endpoint)
			Expect(err.Error()).NotTo(ContainSubstring("secret"))
			_, err = cache.Open(stdcontext.Background(), options("s3://cache?scheme=gopher&endpoint="+endpoint))
			Expect(err).To(MatchError(ContainSubstring("scheme")))
			Expect(err.Error()).NotTo(MatchRegexp("secret(@|%40)"))
		}
	})
}
