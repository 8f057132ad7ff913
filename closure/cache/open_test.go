package cache_test

import (
	stdcontext "context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

func TestOpen(t *testing.T) { spec.Run(t, "open", testOpen, spec.Report(report.Terminal{})) }

func testOpen(t *testing.T, context spec.G, it spec.S) {
	var s *server
	ctx := stdcontext.Background()

	it.Before(func() {
		RegisterTestingT(t)
		s = newServer(t)
	})

	it("uses what is left when a cache is down, and says so once", func() {
		dead := newServer(t)
		dead.Close()
		log := &logged{}
		o := options(dead.URL, s.URL)
		o.Log = log.log
		set := open(t, o)
		Expect(log.lines).To(HaveLen(1))
		data := content("a", 100)
		Expect(fetch(set, s.add(t, "a", "none", data, nil).StorePath)).To(Equal(data))
	})

	it("asks by the name that it is given, or by none", func() {
		for _, name := range []string{"buildpack/1.2", ""} {
			o := options(s.URL)
			o.UserAgent = name
			open(t, o)
			asked := s.asked("nix-cache-info")
			Expect(asked[len(asked)-1].UserAgent()).To(Equal(name))
		}
	})

	it("says once that the only cache is down, in its error", func() {
		s.Close()
		log := &logged{}
		o := options(s.URL)
		o.Log = log.log
		_, err := cache.Open(ctx, o)
		Expect(err).To(MatchError(ContainSubstring("connection refused")))
		Expect(log.lines).To(BeEmpty())
	})

	it("fails within seconds when a cache takes connections and never answers", func() {
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		defer silent.Close()
		o := options("http://" + silent.Addr().String())
		o.Policy.Timeout = 200 * time.Millisecond
		began := time.Now()
		_, err = cache.Open(ctx, o)
		var none *cache.OpenError
		Expect(errors.As(err, &none)).To(BeTrue())
		Expect(none.Asked).To(ConsistOf(HaveField("Reason", cache.Down)))
		Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(3*time.Second)))
	})

	context("a cache that is slow to answer", func() {
		var slow *server
		var log *logged
		data := content("a", 100)

		it.Before(func() {
			slow, log = newServer(t), &logged{}
		})
		opened := func() *cache.Set {
			o := options(slow.URL, s.URL)
			o.Log = log.log
			o.Policy.Patience = 50 * time.Millisecond
			return open(t, o)
		}

		it("joins when it has answered, which is waited for where it alone has a path", func() {
			slow.on(func(w http.ResponseWriter, r *http.Request, n int) bool {
				if r.URL.Path == "/nix-cache-info" && n == 1 {
					w.Header().Set("Retry-After", "1")
					w.WriteHeader(http.StatusServiceUnavailable)
					return true
				}
				return false
			})
			set := opened()
			both := s.add(t, "both", "none", data, nil)
			slow.add(t, "both", "none", data, nil)
			Expect(set.Lookup(ctx, both.StorePath)).To(HaveField("CacheURL", s.URL))
			Expect(slow.asked(".narinfo")).To(BeEmpty())
			only := slow.add(t, "only", "none", data, nil)
			Expect(fetch(set, only.StorePath)).To(Equal(data))
			Expect(log.lines).To(ConsistOf(ContainSubstring("no answer yet")))
		})

		it("is named among those asked when it never answers", func() {
			slow.put("nix-cache-info", []byte("StoreDir: /gnu/store\n"))
			slow.on(func(w http.ResponseWriter, r *http.Request, n int) bool {
				time.Sleep(200 * time.Millisecond)
				return false
			})
			_, err := opened().Lookup(ctx, storePath("nowhere"))
			var none *cache.NotFoundError
			Expect(errors.As(err, &none)).To(BeTrue())
			Expect(none.Asked).To(HaveLen(2))
			Expect(none.Asked[1].Why).To(ContainSubstring("/gnu/store"))
		})

		it("is let go of when the set is closed", func() {
			left := make(chan struct{})
			slow.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				<-r.Context().Done()
				close(left)
				return true
			})
			Expect(opened().Close()).To(Succeed())
			Eventually(left, "20s").Should(BeClosed())
			Expect(log.String()).NotTo(ContainSubstring("not used"))
		})
	})

	context("what is no cache for this store", func() {
		refused := func(why string) {
			t.Helper()
			_, err := cache.Open(ctx, options(s.URL))
			var none *cache.OpenError
			Expect(errors.As(err, &none)).To(BeTrue())
			Expect(none.Asked[0].Reason).To(Equal(cache.Invalid))
			Expect(err).To(MatchError(And(ContainSubstring(why), ContainSubstring(s.URL))))
		}

		it("is refused by name: another StoreDir", func() {
			s.put("nix-cache-info", []byte("StoreDir: /home/me/store\n"))
			refused(`field StoreDir: its paths live in "/home/me/store"`)
		})

		it("is refused by name: no nix-cache-info", func() {
			s.drop("nix-cache-info")
			refused("does not appear to be a binary cache")
		})

		it("is refused by name: a login page", func() {
			s.put("nix-cache-info", []byte("<!DOCTYPE html><html>"))
			refused("HTML page")
		})

		it("is refused by name: a Priority that is no number", func() {
			s.put("nix-cache-info", []byte("StoreDir: /nix/store\nPriority: high\n"))
			refused("line 2: field Priority")
		})
	})

	it("wants a login where the cache says 401", func() {
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool { w.WriteHeader(401); return true })
		_, err := cache.Open(ctx, options(s.URL))
		var none *cache.OpenError
		Expect(errors.As(err, &none)).To(BeTrue())
		Expect(none.Asked).To(ConsistOf(
			And(HaveField("Reason", cache.Login), HaveField("Why", ContainSubstring("wants a login")))))
		Expect(s.asked("nix-cache-info")).To(HaveLen(1))
	})

	it("asks a cache once that is named twice", func() {
		Expect(open(t, options(s.URL, s.URL+"/", s.URL+"?priority=3")).Report()).To(HaveLen(1))
	})

	it("refuses addresses that are none, without repeating their secrets", func() {
		for _, bad := range []string{
			"", "cache.nixos.org", "ftp://host/", "https://", "file://host/x", "file:relative", "s3://",
			"https://user:secret@host/%zz", "https://user:secret@host?priority=x", "s3://bucket?scheme=gopher",
			"https://user:secret@ho st/",
		} {
			_, err := cache.Open(ctx, options(bad))
			Expect(err).To(MatchError(ContainSubstring("cache URL")), bad)
			Expect(err.Error()).NotTo(ContainSubstring("secret"))
		}
		_, err := cache.Open(ctx, options())
		Expect(err).To(MatchError(ContainSubstring("none is named")))
	})

	it("mentions a setting that it does not know, or does not do", func() {
		log := &logged{}
		o := options(s.URL + "?prioritee=3&trusted=true&compression=xz")
		o.Log = log.log
		open(t, o)
		Expect(log.lines).To(ConsistOf(ContainSubstring(`"prioritee" is unknown`), ContainSubstring(`"trusted" is ignored`)))
		log.lines, o.RequireSigs = nil, false
		open(t, o)
		Expect(log.lines).To(ConsistOf(ContainSubstring(`"prioritee" is unknown`)))
	})

	context("a cache in a directory", func() {
		var dir string
		data := content("a", 100_000)

		it.Before(func() {
			n := s.add(t, "a", "xz", data, nil)
			dir = filepath.Join(t.TempDir(), "a cache")
			Expect(os.MkdirAll(filepath.Join(dir, "nar"), 0o755)).To(Succeed())
			for _, name := range []string{"nix-cache-info", n.URL, n.StorePath.HashPart() + ".narinfo"} {
				Expect(os.WriteFile(filepath.Join(dir, name), s.file(name), 0o644)).To(Succeed())
			}
		})

		it("is used by file URL and by path", func() {
			for _, url := range []string{"file://" + filepath.ToSlash(dir)[:len(dir)-7] + "a%20cache", dir, dir + "/"} {
				set := open(t, options(url))
				Expect(fetch(set, storePath("a"))).To(Equal(data))
				_, err := set.Lookup(ctx, storePath("b"))
				var none *cache.NotFoundError
				Expect(errors.As(err, &none)).To(BeTrue())
				Expect(none.Asked[0].Reason).To(Equal(cache.Absent))
			}
		})

		it("is not waited for where one of its files is a pipe", func() {
			for _, name := range []string{"nar/a.nar.xz", storePath("a").HashPart() + ".narinfo"} {
				Expect(os.Remove(filepath.Join(dir, name))).To(Succeed())
				Expect(syscall.Mkfifo(filepath.Join(dir, name), 0o644)).To(Succeed())
				_, err := fetch(open(t, options(dir)), storePath("a"))
				Expect(err).To(MatchError(ContainSubstring("no regular file")))
			}
		})

		it("is no cache when it is not there", func() {
			_, err := cache.Open(ctx, options(dir+"/nowhere"))
			Expect(err).To(MatchError(ContainSubstring("does not appear to be a binary cache")))
		})
	})
}
