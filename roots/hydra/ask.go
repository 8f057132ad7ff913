package hydra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/origin"
	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
)

const (
	jsonType = "application/json"
	htmlType = "text/html"

	maxBody   = 192 << 20 // an answer: nixpkgs' pages of evaluations and lists of builds are tens of megabytes
	errorBody = 1 << 20   // what is read of an answer that is none

	maxRedirects = 5
)

// answer is a 200, or the redirect that a question asked to stop at.
type answer struct {
	url      *url.URL // where it was found, after redirects
	location *url.URL // of the redirect stopped at
}

// missing is Hydra's own 404, in JSON.
type missing struct{ url, message string }

// noSuchPage is what Hydra answers where it has no page at all (Controller/Root.pm, default).
const noSuchPage = "Page not found."

func (e *missing) Error() string { return fmt.Sprintf("asking Hydra for %s: %s", e.url, e.message) }

// question is one thing to ask for.
type question struct {
	path   string // below the base, with its query
	accept string
	read   func(io.Reader) error // takes the answer in, from its beginning again after a failure
	stop   func(*url.URL) bool   // a redirect to here is the answer
	base   *url.URL              // nil is the client's
	once   bool                  // what may get better is not requested again
}

// getJSON asks for JSON of a size that a single thing has.
func (c *Client) getJSON(ctx context.Context, path string, into any) error {
	_, err := c.askJSON(ctx, question{path: path}, func(s *stream) error {
		return s.value(thingLimit, into)
	})
	return err
}

// askJSON has read take in an answer in JSON.
func (c *Client) askJSON(ctx context.Context, q question, read func(*stream) error) (*url.URL, error) {
	q.accept = jsonType
	q.read = func(body io.Reader) error {
		bodyErr, err := readJSON(body, read)
		if bodyErr != nil {
			return bodyErr
		}
		if err != nil {
			return &formatError{err}
		}
		return nil
	}
	got, err := c.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	return got.url, nil
}

// formatError is an answer that came whole, and is not what it should be.
type formatError struct{ error }

// ask puts a question until it is answered or the attempts are used up, and logs in once when told to.
func (c *Client) ask(ctx context.Context, q question) (*answer, error) {
	for attempt := 1; ; attempt++ {
		got, err := c.askOnce(ctx, q)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("asking Hydra for %s: %w", c.baseURL().JoinPath(pathOnly(q.path)), context.Cause(ctx))
		}
		var login *LoginError
		if errors.As(err, &login) && c.mayLogIn() {
			if err = c.logIn(ctx); err == nil {
				continue
			}
		}
		var failed *AnswerError
		if !errors.As(err, &failed) || !failed.Temporary {
			return nil, err
		}
		failed.Attempts = attempt
		if attempt >= attempts || q.once || timedOutThere(failed) {
			return nil, err
		}
		if attempt == 1 {
			c.log("Waiting for Hydra: %s; it is asked up to %d times", failed, attempts)
		}
		if err := retry.Sleep(ctx, c.pause(attempt, failed.retryAfter)); err != nil {
			return nil, fmt.Errorf("asking Hydra for %s: %w", failed.URL, err)
		}
	}
}

// timedOutThere reports whether the database gave a question up (Controller/Root.pm, search: statement_timeout): it
// would do so again.
func timedOutThere(e *AnswerError) bool { return strings.Contains(e.Problem, "statement timeout") }

// askOnce follows redirects by hand: each hop is counted, keeps the Accept header, and gets credentials only where
// they belong.
func (c *Client) askOnce(ctx context.Context, q question) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	base := q.base
	if base == nil {
		base = c.baseURL()
	}
	at, err := url.Parse(base.String() + q.path)
	if err != nil {
		return nil, fmt.Errorf("asking Hydra: %w", err)
	}
	first := at
	for range maxRedirects + 1 {
		res, err := c.send(ctx, at, q.accept)
		if err != nil {
			return nil, err
		}
		if to := redirect(res, at); to != nil {
			discard(res)
			if q.stop != nil && q.stop(to) {
				return &answer{url: at, location: to}, nil
			}
			if isLogin(to) && !isLogin(first) {
				return nil, &LoginError{URL: shown(first), Problem: "it redirects to " + shown(to), Given: !c.auth.isZero()}
			}
			if to.Scheme != "http" && to.Scheme != "https" {
				return nil, &AnswerError{URL: shown(first), Status: res.StatusCode, Attempts: 1,
					Problem: "it redirects to an address that is neither http nor https"}
			}
			if to.RawQuery == "" && to.EscapedPath() == at.EscapedPath() {
				to.RawQuery = at.RawQuery // which many a proxy that only changes the scheme forgets
			}
			c.upgrade(at, to)
			at = to
			continue
		}
		return c.readResponse(res, first, at, q)
	}
	return nil, &AnswerError{URL: shown(first), Attempts: 1,
		Problem: fmt.Sprintf("it redirects more than %d times, in the end to %s", maxRedirects, shown(at))}
}

func (c *Client) send(ctx context.Context, at *url.URL, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, &AnswerError{URL: shown(at), Attempts: 1, Problem: "its address cannot be asked for"}
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", c.userAgent)
	c.authorize(req)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, transportError(at, err)
	}
	return res, nil
}

// authorize adds what is secret, for the base's own origin only.
func (c *Client) authorize(req *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if origin.Of(req.URL) != origin.Of(c.base) {
		return
	}
	switch {
	case c.auth.token != "":
		req.Header.Set("Authorization", "Bearer "+c.auth.token)
	case c.auth.username != "":
		req.SetBasicAuth(c.auth.username, c.auth.password)
	}
	for _, cookie := range c.session {
		req.AddCookie(cookie)
	}
}

// upgrade adopts a redirect from http to https of the same host, so that later questions cost one round trip.
func (c *Client) upgrade(from, to *url.URL) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if origin.Of(from) == origin.Of(c.base) && from.Scheme == "http" && to.Scheme == "https" &&
		strings.EqualFold(from.Hostname(), to.Hostname()) && from.EscapedPath() == to.EscapedPath() {
		c.base.Scheme, c.base.Host = to.Scheme, to.Host
	}
}

func pathOnly(p string) string {
	p, _, _ = strings.Cut(p, "?")
	return path.Clean(p)
}

func redirect(res *http.Response, at *url.URL) *url.URL {
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil
	}
	location := res.Header.Get("Location")
	if location == "" {
		return nil
	}
	to, err := at.Parse(location)
	if err != nil {
		return nil
	}
	to.User, to.Fragment = nil, ""
	return to
}

// discard reads a body to its end, to keep the connection, unless that is far.
func discard(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, errorBody)
	res.Body.Close()
}
