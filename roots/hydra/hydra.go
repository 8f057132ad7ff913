// Package hydra asks a Hydra server which outputs a revision of a source has, so that nothing needs to be evaluated
// or built to know what to download.
//
// It reads the JSON side of Hydra's web interface as NixOS/hydra describes it in hydra-api.yaml and implements it in
// subprojects/hydra/lib/Hydra: Controller/Jobset.pm (evaluations, paging), Controller/JobsetEval.pm (builds of an
// evaluation), Base/Controller/ListBuilds.pm (latest, latest-for, latest-finished) and Schema/Result/Builds.pm (the
// JSON of a build). Where the two disagree, the sources are followed.
package hydra

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Options says which Hydra to ask and how. Only URL is needed.
type Options struct {
	// URL is the Hydra's front page, http or https, with or without a path. User name and password in it are
	// taken as if given below.
	URL string
	// HTTP sends the requests; nil means a client of its own with keep-alive and time limits. Its redirect policy
	// and cookie jar are not used.
	HTTP *http.Client
	// Username and Password are sent as Basic authentication, which is what a proxy before Hydra wants, and given
	// to Hydra's own log-in when it asks for one. They reach no other host than URL's.
	Username, Password string
	// Token is sent as a Bearer token, to URL's host only.
	Token string
	// UserAgent names the program that asks.
	UserAgent string
	// Retry is what is done when an answer does not come.
	Retry Retry
	// Poll is how often a wait looks again; the zero value means defaultPoll.
	Poll Poll
	// MaxPages bounds how many pages of evaluations, 20 each, are read to find a revision; 0 means 21, so that a
	// search and what follows it stay below 25 requests.
	MaxPages int
	// Log gets a line of progress while waiting; nil means silence.
	Log func(format string, args ...any)
}

// Retry is how an unanswered request is repeated: network errors, time-outs, 429 and 5xx answers. Zeros mean the constants
// below, which suit a Hydra that is busy or being restarted.
type Retry struct {
	Backoff time.Duration // pause before the second request, doubled up to 16 times that, as long as Retry-After may be
	Timeout time.Duration // for one answer, from dialling to the last byte
}

const (
	// attempts is how often a question is put in all.
	attempts = 4
	backoff  = 500 * time.Millisecond
	timeout  = 60 * time.Second
	// maxBackoff is the longest pause between two requests, in times of the first.
	maxBackoff = 16
	// searchRest is for how long Hydra is not searched again after a search that took it too long.
	searchRest = time.Minute
)

// delay is the pause after an attempt, the first of which is 1, where a server asked for one with Retry-After.
func (r Retry) delay(attempt int, asked time.Duration) time.Duration {
	return min(max(r.Backoff<<min(attempt-1, 20), asked), maxBackoff*r.Backoff)
}

// Poll is the rhythm of a wait.
type Poll struct {
	First, Max time.Duration // pause before the second look, half as long again each time, up to Max
	Line       time.Duration // a line of progress at least this far from the last, unless something changed
}

// defaultPoll looks again after two seconds at first and every 15 seconds in the end.
func defaultPoll() Poll {
	return Poll{First: 2 * time.Second, Max: 15 * time.Second, Line: 5 * time.Second}
}

// Client asks one Hydra. It may be used by several goroutines at once.
type Client struct {
	http      *http.Client
	auth      credentials
	userAgent string
	retry     Retry
	poll      Poll
	maxPages  int
	log       func(format string, args ...any)

	mu      sync.Mutex
	base    *url.URL // without a slash at the end of its path; moves from http to https when told to
	session []*http.Cookie
	tried   bool // Hydra's own log-in was tried

	lastTimeout   *SearchTimeoutError
	lastTimeoutAt time.Time
}

// credentials go to the base URL's origin and nowhere else.
type credentials struct{ username, password, token string }

func (c credentials) isZero() bool { return c == credentials{} }

// New makes a client. It asks nothing yet.
func New(o Options) (*Client, error) {
	base, err := parseBase(o.URL)
	if err != nil {
		return nil, err
	}
	auth := credentials{username: o.Username, password: o.Password, token: o.Token}
	if user := base.User; user != nil {
		if auth.isZero() {
			auth.username = user.Username()
			auth.password, _ = user.Password()
		}
		base.User = nil
	}
	o.Retry = Retry{Backoff: cmp.Or(o.Retry.Backoff, backoff), Timeout: cmp.Or(o.Retry.Timeout, timeout)}
	if o.Poll == (Poll{}) {
		o.Poll = defaultPoll()
	}
	if o.MaxPages <= 0 {
		o.MaxPages = defaultMaxPages
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.UserAgent == "" {
		o.UserAgent = "nix-hydra-buildpack"
	}
	return &Client{
		http: httpClient(o.HTTP), auth: auth, userAgent: o.UserAgent, retry: o.Retry, poll: o.Poll,
		maxPages: o.MaxPages, log: o.Log, base: base,
	}, nil
}

// defaultMaxPages leaves room for the four requests that may follow a search.
const defaultMaxPages = 21

// URL is the address of the Hydra, without credentials and without a slash at its end.
func (c *Client) URL() string { return c.baseURL().String() }

func (c *Client) baseURL() *url.URL {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := *c.base
	return &u
}

// link is the address of a page for people.
func (c *Client) link(format string, args ...any) string {
	return c.URL() + fmt.Sprintf(format, args...)
}

func parseBase(raw string) (*url.URL, error) {
	raw = strings.TrimSpace(raw)
	if raw == "" {
		return nil, errors.New("reading Hydra's address: it is empty, want for example https://hydra.example.org")
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's error quotes the address, which may hold a password.
		return nil, errors.New("reading Hydra's address: it is not a URL, want for example https://hydra.example.org")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("reading Hydra's address %q: want http:// or https:// and a host, "+
			"for example https://hydra.example.org", text.Clip(u.Redacted(), clipped))
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	u.RawQuery, u.Fragment, u.ForceQuery = "", "", false
	return u, nil
}

// httpClient is the caller's, or one made for this use, which never follows a redirect by itself: which host gets
// the credentials is decided here.
func httpClient(given *http.Client) *http.Client {
	client := http.Client{}
	if given != nil {
		client = *given
	} else {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = lookupsAtOnce
		transport.ForceAttemptHTTP2 = true
		transport.MaxResponseHeaderBytes = maxHeader
		client.Transport = transport
	}
	client.Jar = nil
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// maxHeader bounds the header of an answer, in bytes: Go's own bound is 10 MiB, of each answer under way.
const maxHeader = 64 << 10

// clipped is how much of a stranger's words is repeated.
const clipped = 160
