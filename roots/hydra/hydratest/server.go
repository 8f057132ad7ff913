// Package hydratest is a stand-in for a Hydra server, to test against where no Hydra can be installed.
//
// It is not a Hydra: it evaluates and builds nothing, and what it knows is told to it in Go. How it answers was
// written from NixOS/hydra's published hydra-api.yaml and from its Perl sources below subprojects/hydra/lib/Hydra:
// Controller/{Root,Project,Jobset,JobsetEval,Job,Build,BuildStep,User}.pm, Base/Controller/ListBuilds.pm,
// Helper/{CatalystUtils,Nix}.pm, and the as_json and json_hint parts of Schema/Result. None of their code is in it.
//
// Where schema and sources disagree, the sources are followed, as they are what runs: a page of evaluations is an
// object and not a list of them, /eval/ID/builds is a plain list of builds, and "finished" and "hasnewbuilds" are 0
// or 1 and not booleans. CheckAnswer holds the fields of every answer in tables of its own; as hydra-api.yaml is
// licensed under the GPL it is not kept here, but the tests validate all answers against a copy of it if the
// environment variable NIX_HYDRA_API_YAML names one.
package hydratest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sort"
	"sync"
	"time"
)

// Server is a Hydra's web interface. All methods may be called while it answers.
type Server struct {
	// URL is its front page.
	URL string

	http *httptest.Server

	mu          sync.Mutex
	projects    map[string]*Project
	evals       map[int64]*Eval
	builds      map[int64]*Build
	nextEval    int64
	nextBuild   int64
	requests    []Request
	connections int
	redirected  int
	hook        func(n int, r *http.Request)
	answers     func(path string, body []byte)
	private     map[string]string // user name to password of a private Hydra
	basic       [2]string         // what a proxy before it wants
	location    string            // what Hydra believes to be its address
	delay       time.Duration
	faults      []Fault
	oldPages    bool
	store       string // the directory of its own binary cache, "" where it is none
	slow        bool   // all searches but those for a derivation take too long
}

// Request is one that was received.
type Request struct {
	Method, Path, Query, Accept, Authorization, Cookie, UserAgent string
}

// New starts a Hydra without projects on the loopback interface.
func New() *Server {
	s := &Server{projects: map[string]*Project{}, evals: map[int64]*Eval{}, builds: map[int64]*Build{}}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.mu.Lock()
			s.connections++
			s.mu.Unlock()
		}
	}
	s.http.Start()
	s.URL = s.http.URL
	return s
}

// Close stops it.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Handler serves the same Hydra elsewhere.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Requests are those received so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Connections is how many TCP connections were opened to it.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections
}

// OnRequest calls f before each request is answered, with its number from 1: the place to let time pass, for example
// to finish a build when it is asked for the third time, or to give this very request a fault.
func (s *Server) OnRequest(f func(n int, r *http.Request)) { s.with(func() { s.hook = f }) }

// OnAnswer calls f with each JSON answer of status 200.
func (s *Server) OnAnswer(f func(path string, body []byte)) { s.with(func() { s.answers = f }) }

// Private makes all pages but the log-in answer 403 until a session cookie comes, as "private = 1" does.
func (s *Server) Private(username, password string) {
	s.with(func() { s.private = map[string]string{username: password} })
}

// Basic puts a proxy before it that wants Basic authentication, or, without a user name, the password as a Bearer
// token.
func (s *Server) Basic(username, password string) {
	s.with(func() { s.basic = [2]string{username, password} })
}

// BelievesItIs sets the address that redirects are made with, which is wrong behind many a proxy.
func (s *Server) BelievesItIs(url string) { s.with(func() { s.location = url }) }

// Delay makes every answer slow.
func (s *Server) Delay(d time.Duration) { s.with(func() { s.delay = d }) }

// OldPages makes pages link to step logs as Hydra did before 2026: /build/ID/nixlog/N, and no /build/ID/step/N.
func (s *Server) OldPages() { s.with(func() { s.oldPages = true }) }

// SlowSearch makes its database that of a large Hydra: a search that cannot use the only index there is, that of
// derivations, runs into the time limit (sql/hydra.sql, IndexTrgmBuildsOnDrvpath).
func (s *Server) SlowSearch() { s.with(func() { s.slow = true }) }

// Fault is an answer that a proxy, or a broken Hydra, gives instead of Hydra's.
type Fault struct {
	Status      int // 0 cuts the connection
	ContentType string
	Body        string
	Header      map[string]string
	Hang        time.Duration // before anything is sent
}

// Fail gives these faults to the next requests, one each.
func (s *Server) Fail(faults ...Fault) { s.with(func() { s.faults = append(s.faults, faults...) }) }

// BadGateway is what nginx answers while Hydra's server is being restarted.
func BadGateway() Fault {
	return Fault{Status: http.StatusBadGateway, ContentType: "text/html",
		Body: "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n" +
			"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"}
}

func (s *Server) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Project finds or makes a project.
func (s *Server) Project(name string) *Project {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.projects[name]
	if p == nil {
		p = &Project{server: s, Name: name, jobsets: map[string]*Jobset{}, renamed: map[string]string{}}
		s.projects[name] = p
	}
	return p
}

// Project is a group of jobsets.
type Project struct {
	Name    string
	server  *Server
	jobsets map[string]*Jobset
	renamed map[string]string

	disabled bool
}

// Disable is what an administrator does.
func (p *Project) Disable() { p.server.with(func() { p.disabled = true }) }

// Jobset finds or makes a jobset.
func (p *Project) Jobset(name string) *Jobset {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	j := p.jobsets[name]
	if j == nil {
		j = &Jobset{project: p, Name: name, enabled: 1, checked: epoch}
		p.jobsets[name] = j
	}
	return j
}

// Jobset is what is evaluated again and again.
type Jobset struct {
	Name    string
	project *Project
	flake   string
	evals   []*Eval // oldest first

	enabled                  int
	checked                  int64
	triggered, started       *int64
	errorMessage, fetchError string
}

// Flake makes it a jobset of a flake.
func (j *Jobset) Flake(uri string) *Jobset {
	j.project.server.with(func() { j.flake = uri })
	return j
}

// Disable is what an administrator does.
func (j *Jobset) Disable() { j.project.server.with(func() { j.enabled = 0 }) }

// Fails records what went wrong when it was evaluated last, and when its inputs were fetched.
func (j *Jobset) Fails(evaluation, fetch string) {
	j.project.server.with(func() { j.errorMessage, j.fetchError = evaluation, fetch })
}

// Evaluating says whether an evaluation is under way.
func (j *Jobset) Evaluating(yes bool) {
	j.project.server.with(func() {
		if j.started = nil; yes {
			now := epoch
			j.started = &now
		}
	})
}

// Rename leaves a redirect behind.
func (j *Jobset) Rename(name string) {
	j.project.server.with(func() {
		delete(j.project.jobsets, j.Name)
		j.project.renamed[j.Name] = name
		j.Name = name
		j.project.jobsets[name] = j
	})
}

// epoch is when the first evaluation was made: 2026-08-01, 00:00 UTC.
const epoch int64 = 1785542400

func names[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for name := range m {
		list = append(list, name)
	}
	sort.Strings(list)
	return list
}
