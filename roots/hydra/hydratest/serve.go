package hydratest

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const sessionCookie = "hydra_session"

// failure is Hydra's error: a status and a message.
type failure struct {
	status  int
	message string
}

func notFound(format string, args ...any) failure {
	return failure{http.StatusNotFound, fmt.Sprintf(format, args...)}
}

// moved is a redirect within Hydra.
type moved struct {
	status int
	path   string
}

// page is HTML, for people.
type page string

// plain is a log.
type plain string

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery,
		Accept: r.Header.Get("Accept"), Authorization: r.Header.Get("Authorization"), Cookie: r.Header.Get("Cookie"),
		UserAgent: r.UserAgent()})
	n, hook, delay := len(s.requests), s.hook, s.delay
	s.mu.Unlock()
	if hook != nil {
		hook(n, r)
	}
	fault := s.nextFault()
	if !pause(r, delay) {
		return
	}
	if fault != nil {
		fault.serve(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.proxyLets(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="builds"`)
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte("<html><head><title>401 Authorization Required</title></head><body></body></html>"))
		return
	}
	s.write(w, r, s.answer(r))
}

func (s *Server) nextFault() *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) == 0 {
		return nil
	}
	fault := s.faults[0]
	s.faults = s.faults[1:]
	return &fault
}

// pause waits unless the client leaves.
func pause(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}

func (f *Fault) serve(w http.ResponseWriter, r *http.Request) {
	if !pause(r, f.Hang) {
		return
	}
	if f.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	for name, value := range f.Header {
		w.Header().Set(name, value)
	}
	if f.ContentType != "" {
		w.Header().Set("Content-Type", f.ContentType)
	}
	w.WriteHeader(f.Status)
	_, _ = w.Write([]byte(f.Body))
}

func (s *Server) proxyLets(r *http.Request) bool {
	if s.basic == [2]string{} {
		return true
	}
	if s.basic[0] == "" {
		return r.Header.Get("Authorization") == "Bearer "+s.basic[1]
	}
	user, password, ok := r.BasicAuth()
	return ok && user == s.basic[0] && password == s.basic[1]
}

// write serializes as Catalyst's REST does: JSON to who asks for it, else HTML.
func (s *Server) write(w http.ResponseWriter, r *http.Request, what any) {
	w.Header().Set("Vary", "Accept")
	wantsJSON := strings.HasPrefix(r.Header.Get("Accept"), "application/json")
	switch v := what.(type) {
	case moved:
		s.redirected++
		base := s.location
		if base == "" {
			base = "http://" + r.Host
		}
		w.Header().Set("Location", base+v.path)
		w.WriteHeader(v.status)
	case session:
		http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: v.value, Path: "/", HttpOnly: true})
		w.Header().Set("Location", "http://"+r.Host+"/current-user")
		writeJSON(w, http.StatusFound, object{"username": "user", "fullname": "",
			"emailaddress": "", "userroles": []string{}})
	case file:
		w.Header().Set("Content-Type", v.kind)
		w.WriteHeader(v.status)
		_, _ = w.Write(v.data)
	case plain:
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(v))
	case failure:
		if wantsJSON {
			writeJSON(w, v.status, object{"error": v.message})
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(v.status)
		_, _ = w.Write([]byte(document("Error", `<div class="alert alert-error">`+html.EscapeString(v.message)+"</div>")))
	case page:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(v))
	default:
		body := writeJSON(w, http.StatusOK, v)
		if s.answers != nil {
			s.answers(r.URL.Path, body)
		}
	}
}

// document is a page with what all have (root/layout.tt), of which the dialog to sign in matters (root/auth.tt).
func document(title, body string) string {
	return "<!DOCTYPE html>\n<html><head>\n<title>Hydra - " + title + "</title></head><body>\n" + body + `<div id="hydra-signin" class="modal"><form ` +
		`id="signin-form"><input type="text" name="username"/><input type="password" name="password"/></form></div></body></html>` + "\n"
}

func writeJSON(w http.ResponseWriter, status int, v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return body
}

// answer is the dispatch that Catalyst's chains make. They split the path after its escapes are undone, as PSGI's
// PATH_INFO has it (Catalyst/Engine.pm, prepare_path), so that no part has a slash.
func (s *Server) answer(r *http.Request) any {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if parts[0] == "login" && len(parts) == 1 {
		return s.login(r)
	}
	if s.private != nil {
		if cookie, err := r.Cookie(sessionCookie); err != nil || cookie.Value != sessionOf(s.private) {
			return failure{http.StatusForbidden, "This page requires you to sign in."}
		}
	}
	htmlWanted := !strings.HasPrefix(r.Header.Get("Accept"), "application/json")
	if answer, ok := s.storePage(parts); ok {
		return answer
	}
	switch {
	case r.URL.Path == "/":
		return s.front(htmlWanted)
	case parts[0] == "status" && len(parts) == 1:
		return s.status()
	case parts[0] == "queue" && len(parts) == 1:
		return s.queue()
	case parts[0] == "evals" && len(parts) == 1:
		return s.newest()
	case parts[0] == "search" && len(parts) == 1:
		return s.search(r.URL.Query().Get("query"), r.URL.Query().Get("limit"))
	case parts[0] == "project" && len(parts) == 2:
		return s.project(parts[1])
	case parts[0] == "jobset" && len(parts) >= 3:
		return s.jobset(r, parts)
	case parts[0] == "eval" && len(parts) >= 2:
		return s.eval(parts, htmlWanted)
	case parts[0] == "job" && len(parts) >= 5:
		return s.job(parts, r.URL.RawQuery)
	case parts[0] == "build" && len(parts) >= 2:
		return s.build(parts, htmlWanted)
	}
	return notFound("Page not found.")
}

func sessionOf(private map[string]string) string {
	return StorePath(fmt.Sprint(private), "session")[11:43]
}

// login is Controller/User.pm, login_POST, and the check of Root.pm's begin that a POST comes from Hydra's own pages.
func (s *Server) login(r *http.Request) any {
	if r.Method != http.MethodPost { // there is a dialog on each page, and no page of its own (Catalyst/Action/REST.pm)
		return file{http.StatusMethodNotAllowed, "text/plain", fmt.Appendf(nil, "Method %s not implemented for http://%s/login",
			r.Method, r.Host)}
	}
	from := r.Header.Get("Referer")
	if from == "" {
		from = r.Header.Get("Origin")
	}
	base := "http://" + r.Host + "/"
	if s.location != "" {
		base = s.location + "/"
	}
	if !strings.HasPrefix(from+"/", base) {
		return failure{http.StatusInternalServerError, "POST requests should come from ‘" + base + "’."}
	}
	var given struct{ Username, Password string }
	if json.NewDecoder(r.Body).Decode(&given) != nil || given.Username == "" {
		return failure{http.StatusBadRequest, "You must specify a user name."}
	}
	if given.Password == "" {
		return failure{http.StatusBadRequest, "You must specify a password."}
	}
	if password, ok := s.private[given.Username]; !ok || password != given.Password {
		return failure{http.StatusForbidden, "Bad username or password."}
	}
	return session{value: sessionOf(s.private)}
}

func (s *Server) front(htmlWanted bool) any {
	if htmlWanted {
		return page(document("Overview", ""))
	}
	projects := []object{}
	for _, name := range names(s.projects) {
		projects = append(projects, s.projects[name].json())
	}
	return projects
}

func (s *Server) status() any {
	running := []object{}
	for _, id := range s.buildIDs() {
		if b := s.builds[id]; b.busy {
			running = append(running, b.listed())
		}
	}
	return running
}

// queue is Controller/Root.pm, queue_GET.
func (s *Server) queue() any {
	queued := []object{}
	for _, id := range s.buildIDs() {
		if b := s.builds[id]; !b.finished {
			queued = append(queued, b.listed())
		}
	}
	return queued
}

// newest are the newest evaluations of all jobsets (Controller/Root.pm, evals; Helper/Nix.pm, getEvals).
func (s *Server) newest() any {
	evals := []object{}
	for id := 1000 + s.nextEval; id > 1000 && len(evals) < 20; id-- {
		if e := s.evals[id]; e != nil && !e.unlisted {
			evals = append(evals, object{"eval": e.json(), "nrScheduled": 0, "nrSucceeded": len(e.builds), "nrFailed": 0,
				"diff": 0, "changedInputs": []object{}})
		}
	}
	return evals
}

func (s *Server) project(name string) any {
	if p := s.projects[name]; p != nil {
		return p.json()
	}
	return notFound("Project ‘%s’ doesn't exist.", name)
}

func pageNumber(r *http.Request) int {
	n, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil || n == 0 {
		return 1
	}
	return n
}
