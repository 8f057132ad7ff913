package builds_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// secrets are one for each way that one can come to a build.
var secrets = map[string]string{
	"a binding's password":                "pw-of-binding-7f3a",
	"a binding's token":                   "token-of-binding-91c2",
	"the user name and password of a URL": "pw-of-url-5d0e",
	"a token in a URL's query":            "query-of-url-a41b",
	"a signature of a signed URL":         "sig-of-redirect-c6f9",
	"a password that a redirect leads to": "pw-of-location-1d27",
	"the user's netrc":                    "pw-of-netrc-2b8d",
	"a binding's netrc":                   "pw-of-bound-netrc-e013",
	"S3's secret key":                     "s3secret/of+env-4c77",
	"S3's session token":                  "s3token-of-env-88aa",
	"Hydra's password":                    "pw-of-hydra-d2d5",
	"a proxy's password":                  "pw-of-proxy-5b5b",
	"a variable of the app":               "variable-of-app-6e6e",
	"an argument of the expression":       "argument-of-nix-3f3f",
}

// fromFiles are those that come in files, so that no process ought to have them in its environment.
var fromFiles = []string{
	"a binding's password", "a binding's token", "the user's netrc", "a binding's netrc", "Hydra's password",
	"a signature of a signed URL", "a password that a redirect leads to",
}

// TestSecretsAreNowhere plants a secret in each way that one can come, runs builds at debug level that succeed, fail and
// are killed, and looks for them in all that a build says and leaves, and in the processes that it starts.
func TestSecretsAreNowhere(t *testing.T) {
	RegisterTestingT(t)
	s := newShelf(t)
	p := newPlatform(t, s, "")
	root := s.add("app-1.0", map[string]string{"bin/app": "#!/bin/sh\necho $out\n", "bin/heroku-compile-hook": "#!/bin/sh\n"})
	// The launcher, which starts the hook, is a program that says so and stays for a while.
	Expect(os.WriteFile(filepath.Join(p.Buildpack.Dir, "bin", "launch"), []byte("#!/bin/sh\nsleep 0.3\necho hooked\n"), 0o755)).To(Succeed())

	// The servers: a mirror of the cache that wants this and that, and one whose NARs are behind signed addresses.
	var failing, silent atomic.Bool
	var redirected atomic.Int64
	used := map[string]*atomic.Int64{}
	for what := range secrets {
		used[what] = new(atomic.Int64)
	}
	files := http.FileServer(http.Dir(s.dir))
	serve := func(answer func(w http.ResponseWriter, r *http.Request) bool) *httptest.Server {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if silent.Load() {
				<-r.Context().Done()
				return
			}
			if answer(w, r) {
				files.ServeHTTP(w, r)
			}
		}))
		t.Cleanup(server.Close)
		return server
	}
	wants := func(what, user string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if _, password, _ := r.BasicAuth(); password == secrets[what] {
				used[what].Add(1)
			} else if r.Header.Get("Authorization") != "" {
				t.Errorf("a login goes to another server: %s", what)
			} else {
				w.WriteHeader(http.StatusUnauthorized)
				return false
			}
			if failing.Load() && strings.HasSuffix(r.URL.Path, ".nar") {
				panic(http.ErrAbortHandler)
			}
			return true
		}
	}
	signed := serve(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("X-Amz-Signature") != secrets["a signature of a signed URL"] {
			w.WriteHeader(http.StatusForbidden)
			return false
		}
		used["a signature of a signed URL"].Add(1)
		if failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return !failing.Load()
	})
	byURL := serve(wants("the user name and password of a URL", "someone"))
	byBinding := serve(wants("a binding's password", "deploy"))
	byNetrc := serve(wants("the user's netrc", "net"))
	byBoundNetrc := serve(wants("a binding's netrc", "net"))
	byToken := serve(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer "+secrets["a binding's token"] {
			used["a binding's token"].Add(1)
		}
		if strings.HasSuffix(r.URL.Path, ".nar") {
			to := "http://someone:" + secrets["a password that a redirect leads to"] + "@" + strings.TrimPrefix(signed.URL, "http://") + r.URL.Path
			if redirected.Add(1)%2 == 0 {
				to = strings.Replace(to, "someone", "some%zzone", 1) // which is no address, and parsers quote it
			}
			http.Redirect(w, r, to+"?X-Amz-Signature="+secrets["a signature of a signed URL"], http.StatusFound)
			return false
		}
		return true
	})
	byQuery := serve(func(http.ResponseWriter, *http.Request) bool { return true })
	bucket := serve(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256") {
			used["S3's secret key"].Add(1)
		}
		if r.Header.Get("X-Amz-Security-Token") == secrets["S3's session token"] {
			used["S3's session token"].Add(1)
		}
		if failing.Load() { // S3 says back what it was told
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, "<Error><Code>ExpiredToken</Code><Message>The token %[1]s has expired</Message><Token-0>%[1]s</Token-0></Error>",
				r.Header.Get("X-Amz-Security-Token"))
			return false
		}
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/bucket")
		return true
	})
	hydra := hydratest.New()
	defer hydra.Close()
	hydra.Basic("bob", secrets["Hydra's password"])
	revision := hydratest.Revision("shop")
	hydra.Project("shop").Jobset("main").Evaluate(hydratest.Evaluation{
		Inputs: map[string]hydratest.Input{"src": {URI: "https://git.example.org/shop", Revision: revision}},
		Jobs:   []hydratest.Job{{Name: "app", System: "x86_64-linux", Outputs: map[string]string{"out": root.String()}}},
	}).Succeed()

	host := func(server *httptest.Server) string { return strings.TrimPrefix(server.URL, "http://") }
	withUser := func(server *httptest.Server, user, what string) string {
		return "http://" + user + ":" + secrets[what] + "@" + host(server)
	}
	p.Env["BP_LOG_LEVEL"] = "debug"
	p.Env["DATABASE_URL"] = "postgres://me:" + secrets["a variable of the app"] + "@db.example.org/x"
	p.Env["BP_NIX_ARGS"] = "apiToken=" + secrets["an argument of the expression"]
	p.Env["AWS_ACCESS_KEY_ID"], p.Env["AWS_SECRET_ACCESS_KEY"] = "AKIAEXAMPLE", secrets["S3's secret key"]
	p.Env["AWS_SESSION_TOKEN"] = secrets["S3's session token"]
	p.Env["NETRC"] = filepath.Join(p.Dir, "netrc")
	p.Bindings = map[string]map[string]string{
		"own":   {"type": "nix-binary-cache", "url": byBinding.URL, "username": "deploy", "password": secrets["a binding's password"]},
		"token": {"type": "nix-binary-cache", "url": byToken.URL, "token": secrets["a binding's token"]},
		"hydra": {"type": "nix-binary-cache", "url": hydra.URL, "username": "bob", "password": secrets["Hydra's password"]},
		"netrc": {"type": "nix-binary-cache", "netrc": "machine " + host(byBoundNetrc) + " login net password " +
			secrets["a binding's netrc"] + "\n"},
	}
	p.Prepare = func(string) error {
		return os.WriteFile(p.Env["NETRC"], []byte("machine "+host(byNetrc)+" login net password "+secrets["the user's netrc"]+"\n"), 0o600)
	}
	caches := []string{
		withUser(byURL, "someone", "the user name and password of a URL"), byBinding.URL, byNetrc.URL, byBoundNetrc.URL, byToken.URL,
		byQuery.URL + "/?token=" + secrets["a token in a URL's query"],
		"s3://bucket?region=eu-west-1&scheme=http&endpoint=" + host(bucket),
	}

	var log strings.Builder
	watch := newProcessWatch(t)
	run := func(env ...string) *integration.Outcome {
		t.Helper()
		o := p.try(root, env...)
		log.WriteString(o.Log)
		p.search(o.Log)
		return o
	}
	// Each cache alone, so that each login is used, and some again while they fail.
	for i, url := range caches {
		for _, fails := range []bool{false, true} {
			if failing.Store(fails); fails && i != 0 && i != 4 && i != 6 {
				continue // the same as the first, and each takes as long as the attempts do
			}
			Expect(p.NewImage()).To(Succeed())
			run("BP_NIX_SUBSTITUTERS", url)
		}
	}
	failing.Store(false)
	Expect(p.NewImage()).To(Succeed())
	o := run("BP_NIX_SUBSTITUTERS", strings.Join(caches, " "))
	Expect(o.Status).To(BeZero(), o.Log)
	Expect(o.Log).To(ContainSubstring("hooked"))
	// Hydra, with its login, and without.
	for _, url := range []string{hydra.URL, "http://bob:" + secrets["Hydra's password"] + "@" + strings.TrimPrefix(hydra.URL, "http://")} {
		for _, job := range []string{"shop/main/app", "shop/main/none"} {
			Expect(p.NewImage()).To(Succeed())
			o := run("BP_NIX_STORE_PATH", "", "BP_NIX_HYDRA_URL", url, "BP_NIX_HYDRA_JOB", job, "BP_NIX_GIT_REV", revision)
			Expect(o.Status == 0).To(Equal(job == "shop/main/app"), o.Log)
		}
	}
	used["Hydra's password"].Add(1) // else it had not answered
	// A proxy that serves, refuses, is none, or is not there; its address with and without a scheme, and one that is none.
	proxy := serve(func(w http.ResponseWriter, r *http.Request) bool {
		login := strings.TrimPrefix(r.Header.Get("Proxy-Authorization"), "Basic ")
		if text, _ := base64.StdEncoding.DecodeString(login); string(text) == "deploy:"+secrets["a proxy's password"] {
			used["a proxy's password"].Add(1)
		}
		if failing.Load() || r.Method == http.MethodConnect {
			w.Header().Set("Proxy-Authenticate", "Basic realm=\""+login+"\"")
			w.WriteHeader(http.StatusProxyAuthRequired)
			return false
		}
		return true
	})
	login := "deploy:" + secrets["a proxy's password"]
	for _, through := range []struct {
		address, cache string
		fails          bool
	}{
		{"http://" + login + "@" + host(proxy), "http://cache.example.org", false},
		{login + "@" + host(proxy), "http://cache.example.org", false},
		{"http://" + login + "@" + host(proxy), "http://cache.example.org", true},
		{"http://" + login + "@" + host(proxy), "https://cache.example.org", true},
		{"http://" + login + "%zz@" + host(proxy), "http://127.0.0.2:1", true},
		{login + "%zz@" + host(proxy), "http://127.0.0.2:1", true},
		{login + "@127.0.0.1:1", "http://cache.example.org", true},
		{"socks5://" + login + "@127.0.0.1:1", "https://cache.example.org", true},
		{"https://" + login + "@" + host(proxy), "https://cache.example.org", true},
	} {
		failing.Store(through.fails)
		Expect(p.NewImage()).To(Succeed())
		o := run("BP_NIX_SUBSTITUTERS", through.cache, "http_proxy", through.address, "https_proxy", through.address)
		Expect(o.Status == 0).To(Equal(!through.fails), "%s: %s", through.address, o.Log)
	}
	failing.Store(false)
	// Hydra behind one.
	for _, address := range []string{login + "%zz@" + host(proxy), "http://" + login + "@" + host(proxy), login + "@127.0.0.1:1"} {
		failing.Store(true)
		Expect(p.NewImage()).To(Succeed())
		o := run("BP_NIX_STORE_PATH", "", "BP_NIX_HYDRA_URL", "http://hydra.example.org", "BP_NIX_HYDRA_JOB", "shop/main/app",
			"BP_NIX_GIT_REV", revision, "http_proxy", address)
		Expect(o.Status).NotTo(BeZero())
	}
	failing.Store(false)
	// A path that nobody has, and a build that is told to dump its memory.
	nobody, err := storepath.Parse("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-nobody")
	Expect(err).NotTo(HaveOccurred())
	o = p.try(nobody, "BP_NIX_SUBSTITUTERS", strings.Join(caches, " "))
	Expect(o.Status).NotTo(BeZero())
	p.search(o.Log)
	// It waits for caches that do not answer any more, whose logins it has read by then.
	silent.Store(true)
	for _, signal := range []syscall.Signal{syscall.SIGABRT, syscall.SIGQUIT, syscall.SIGSEGV} {
		Expect(p.NewImage()).To(Succeed())
		p.Before, p.KillAfter, p.Signal = "ulimit -c unlimited", 3*time.Second, signal
		o := run("BP_NIX_SUBSTITUTERS", strings.Join(caches, " "), "GOTRACEBACK", "crash")
		Expect(o.Status).NotTo(BeZero(), "%v: %s", signal, o.Log)
		Expect(o.Dying).NotTo(BeZero(), "it ended before it was told to")
		Expect(o.Log).To(ContainSubstring("goroutine "), "it did not crash")
		p.Before, p.KillAfter, p.Signal = "", 0, 0
		cores, err := filepath.Glob(filepath.Join(p.App(), "core*"))
		Expect(err).NotTo(HaveOccurred())
		Expect(cores).To(BeEmpty(), "%v", signal)
	}

	for what := range secrets {
		switch what {
		case "a variable of the app", "an argument of the expression", "a token in a URL's query",
			"a password that a redirect leads to": // which nobody sends
		default:
			Expect(used[what].Load()).NotTo(BeZero(), "%s is not used, so that the search for it is for nothing", what)
		}
	}
	watch.stop()
	t.Logf("%d builds' processes looked at", watch.seen)
	Expect(watch.seen).NotTo(BeZero())
}

// encoded are the ways in which a secret may be written.
func encoded(secret string) [][]byte {
	all := [][]byte{[]byte(secret)}
	for _, user := range []string{"deploy", "someone", "net", "bob"} { // as in Authorization: Basic
		all = append(all, []byte(strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(user+":"+secret)), "=")))
	}
	return append(all, []byte(strings.NewReplacer("/", "%2F", "+", "%2B").Replace(secret)))
}

// leaks names the secrets that data has.
func leaks(data []byte, which ...string) []string {
	if len(which) == 0 {
		which = slices.Sorted(maps.Keys(secrets))
	}
	return slices.DeleteFunc(which, func(what string) bool {
		return !slices.ContainsFunc(encoded(secrets[what]), func(text []byte) bool { return bytes.Contains(data, text) })
	})
}

// search looks for secrets in what a build said and in all that it left, but for what the platform gave it.
func (p *platform) search(log string) {
	p.t.Helper()
	Expect(leaks([]byte(log))).To(BeEmpty(), log)
	Expect(filepath.WalkDir(p.Dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == filepath.Join(p.Dir, "platform") {
			return fs.SkipDir
		}
		if file == p.Env["NETRC"] || !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		Expect(leaks(text)).To(BeEmpty(), file)
		return nil
	})).To(Succeed())
	var raw bytes.Buffer
	Expect(nar.Dump(context.Background(), &raw, p.Layers())).To(Succeed()) // names of files and links
	Expect(leaks(raw.Bytes())).To(BeEmpty())
}

// processWatch looks at the command lines and environments of all processes that this one starts, directly or not.
type processWatch struct {
	t    *testing.T
	seen int
	done chan struct{}
	wait sync.WaitGroup
}

func newProcessWatch(t *testing.T) *processWatch {
	w := &processWatch{t: t, done: make(chan struct{})}
	w.wait.Go(func() {
		for {
			w.look()
			select {
			case <-w.done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return w
}

func (w *processWatch) stop() { close(w.done); w.wait.Wait() }

func (w *processWatch) look() {
	parents := map[int]int{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, ok := strings.Cut(string(stat), ") "); ok {
			if fields := strings.Fields(rest); len(fields) > 1 {
				parents[pid], _ = strconv.Atoi(fields[1])
			}
		}
	}
	for pid := range parents {
		if !descends(pid, os.Getpid(), parents) {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		w.seen++
		if found := leaks(line); len(found) > 0 {
			w.t.Errorf("a command line has %v: %q", found, line)
		}
		// What the platform gives in the environment is there; what comes in files is not.
		which := fromFiles
		if bytes.Contains(environ, []byte("BP_NIX_HYDRA_URL=http://bob")) {
			which = slices.DeleteFunc(slices.Clone(fromFiles), func(what string) bool { return what == "Hydra's password" })
		}
		if found := leaks(environ, slices.Clone(which)...); len(found) > 0 {
			w.t.Errorf("the environment of %q has %v", line, found)
		}
	}
}

func descends(pid, from int, parents map[int]int) bool {
	for range 20 {
		if pid = parents[pid]; pid == from {
			return true
		}
	}
	return false
}
