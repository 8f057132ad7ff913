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

	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Options says which Hydra to ask and how. Only URL is needed.
type Options struct {
	// URL is the Hydra's front page, http or https, with or without a path. User name and password in it are
	// taken as if given below.
	URL string
	// Transport sends the requests, and bounds the headers of answers; nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Username and Password are sent as Basic authentication, which is what a proxy before Hydra wants, and given
	// to Hydra's own log-in when it asks for one. They reach no other host than URL's.
	Username, Password string
	// Token is sent as a Bearer token, to URL's host only.
	Token string
	// UserAgent names the program that asks; "" is no name.
	UserAgent string
	// Timeout is how long one answer may take, from dialling to its last byte; 0 means a minute.
	Timeout time.Duration
	// Log gets a line of progress while waiting; nil means silence.
	Log func(format string, args ...any)

	poll     poll // tests wait for less
	maxPages int  // tests have less than the constant
}

// What follows suits a Hydra that is busy or being restarted.
const (
	// attempts is how often a question is put in all, where the network fails, time runs out, or Hydra answers 429 or 5xx.
	attempts = 4
	timeout  = time.Minute
	// backoffs is how many times as long as the pause before the second attempt an answer may take: the pause is half a
	// second of a minute. See retry.Pause.
	backoffs = 120
	// maxRetryAfter is how many of these pauses a server may ask for.
	maxRetryAfter = 16
	// maxPages bounds how many pages of evaluations, 20 each, are read to find a revision, so that a search and the four
	// requests that may follow it stay below 25.
	maxPages = 21
	// searchRest is for how long Hydra is not searched again after a search that took it too long.
	searchRest = time.Minute
)

// pause is the wait after the n-th attempt, where Hydra asks not to be asked for a time.
func (c *Client) pause(n int, asked time.Duration) time.Duration {
	backoff := c.timeout / backoffs
	return max(retry.Pause(backoff, n), min(asked, maxRetryAfter*backoff))
}

// poll is the rhythm of a wait.
type poll struct {
	first, longest time.Duration // pause before the second look, half as long again each time, up to the longest
	line           time.Duration // a line of progress at least this far from the last, unless something changed
}

// defaultPoll looks again after two seconds at first and every 15 seconds in the end.
func defaultPoll() poll {
	return poll{first: 2 * time.Second, longest: 15 * time.Second, line: 5 * time.Second}
}

// Client asks one Hydra. It may be used by several goroutines at once.
type Client struct {
	http      *http.Client
	auth      credentials
	userAgent string
	timeout   time.Duration
	poll      poll
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
	if o.poll == (poll{}) {
		o.poll = defaultPoll()
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return &Client{
		http: httpClient(o.Transport), auth: auth, userAgent: o.UserAgent, timeout: cmp.Or(o.Timeout, timeout), poll: o.poll,
		maxPages: cmp.Or(o.maxPages, maxPages), log: o.Log, base: base,
	}, nil
}

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

// httpClient never follows a redirect by itself: which host gets the credentials is decided here.
func httpClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// clipped is how much of a stranger's words is repeated.
const clipped = 160
