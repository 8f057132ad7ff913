package hydra

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/internal/origin"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Sessions logs in to private Hydras that serve their own store as a binary cache: they answer 403 to narinfos and NARs
// alike until a session cookie comes, whatever the Authorization header says (Controller/Root.pm, begin and narinfo).
// It may be used by several goroutines at once, and by several clients that then share the sessions.
type Sessions struct {
	userAgent string

	mu     sync.Mutex
	byBase map[string]*session
}

// session is that of one Hydra under one name.
type session struct {
	as credentials

	mu      sync.Mutex
	cookies []*http.Cookie
	refused string // what Hydra said to the log-in, "" while it was not refused
}

// NewSessions has no session yet.
func NewSessions(userAgent string) *Sessions {
	return &Sessions{userAgent: userAgent, byBase: map[string]*session{}}
}

// Wrap puts the sessions between a client and the network: a request with user name and password that a private Hydra
// refuses is made again with the cookie of a session in their name; all others pass as they are. Where the log-in is
// refused, too, the answer is the first one, and its Status has Hydra's words.
func (s *Sessions) Wrap(next http.RoundTripper) http.RoundTripper { return &sessionTransport{s, next} }

// LoggedIn gives what Wrap does for a client that cannot log in by itself, where there is a session with the Hydra whose
// front page is at base: its requests get that session's user name, password and cookie. ok is false of any other
// server.
func (s *Sessions) LoggedIn(base *url.URL) (wrap func(next http.RoundTripper) http.RoundTripper, ok bool) {
	front := url.URL{Scheme: base.Scheme, Host: base.Host, Path: strings.TrimRight(base.Path, "/")}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, one := range s.byBase {
		if strings.HasPrefix(key, front.String()+" ") && len(one.current()) > 0 {
			return func(next http.RoundTripper) http.RoundTripper {
				return &loggedIn{base: &front, as: one.as, next: s.Wrap(next)}
			}, true
		}
	}
	return nil, false
}

// loggedIn adds a login to what is asked for below a base.
type loggedIn struct {
	base *url.URL
	as   credentials
	next http.RoundTripper
}

func (l *loggedIn) RoundTrip(req *http.Request) (*http.Response, error) {
	if origin.Of(req.URL) == origin.Of(l.base) && strings.HasPrefix(req.URL.Path, l.base.Path+"/") {
		req = req.Clone(req.Context())
		req.SetBasicAuth(l.as.username, l.as.password)
	}
	return l.next.RoundTrip(req)
}

type sessionTransport struct {
	*Sessions
	next http.RoundTripper
}

// storePage is what of Hydra a binary cache's client asks for.
var storePage = regexp.MustCompile(`^(.*)/(?:nix-cache-info|[0-9a-z]{32}\.(?:narinfo|ls)|nar/[^/]+|realisations/[^/]+|log/[^/]+)$`)

// mustSignIn is what a private Hydra says to who has no session (Helper/CatalystUtils.pm, forceLogin).
const mustSignIn = "This page requires you to sign in."

// RoundTrip sends a request, and once more with a session where a private Hydra wants one.
func (s *sessionTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	found := storePage.FindStringSubmatch(req.URL.Path)
	username, password, given := req.BasicAuth()
	if found == nil || !given || req.Body != nil && req.Body != http.NoBody {
		return s.next.RoundTrip(req)
	}
	base := &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: found[1]}
	one := s.session(base, credentials{username: username, password: password})
	sent := one.current()
	res, err := s.next.RoundTrip(withCookies(req, sent))
	if err != nil || res.StatusCode != http.StatusForbidden {
		return res, err
	}
	page, err := io.ReadAll(io.LimitReader(res.Body, errorBody))
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(page), res.Body), res.Body}
	if err != nil || !bytes.Contains(page, []byte(mustSignIn)) {
		return res, nil
	}
	cookies, refused, err := one.renew(req.Context(), sent, func(ctx context.Context) ([]*http.Cookie, error) {
		return signIn(ctx, httpClient(s.next), base, one.as, s.userAgent)
	})
	if err != nil { // nothing is known of the login
		res.Body.Close()
		return nil, err
	}
	if refused != "" {
		res.Status = fmt.Sprintf("%d %s", res.StatusCode, refused)
		return res, nil
	}
	res.Body.Close()
	return s.next.RoundTrip(withCookies(req, cookies))
}

func (s *Sessions) session(base *url.URL, as credentials) *session {
	key := base.String() + " " + as.username + " " + as.password
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byBase[key] == nil {
		s.byBase[key] = &session{as: as}
	}
	return s.byBase[key]
}

func (s *session) current() []*http.Cookie {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cookies
}

// renew logs in, unless somebody else has since the cookies were sent, or was refused. An error is a Hydra that did not
// answer.
func (s *session) renew(ctx context.Context, sent []*http.Cookie,
	signIn func(context.Context) ([]*http.Cookie, error)) (cookies []*http.Cookie, refused string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused != "" || len(s.cookies) > 0 && (len(sent) == 0 || s.cookies[0] != sent[0]) {
		return s.cookies, s.refused, nil
	}
	cookies, err = signIn(ctx)
	var failed *AnswerError
	switch {
	case err == nil:
		s.cookies = cookies
		return cookies, "", nil
	case errors.As(err, &failed) && failed.Temporary:
		return nil, "", err
	}
	s.refused = text.Clip(err.Error(), 300)
	return nil, s.refused, nil
}

func withCookies(req *http.Request, cookies []*http.Cookie) *http.Request {
	if len(cookies) == 0 {
		return req
	}
	req = req.Clone(req.Context())
	for _, cookie := range cookies {
		req.AddCookie(cookie)
	}
	return req
}
