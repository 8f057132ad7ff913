package hydra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	jsonType = "application/json"
	htmlType = "text/html"

	smallBody = 4 << 20   // a jobset, a page for people
	largeBody = 192 << 20 // a page of evaluations or all builds: nixpkgs' are tens of megabytes
	errorBody = 1 << 20   // what is read of an answer that is none

	maxRedirects = 5
	drainLimit   = 256 << 10 // read to the end to keep the connection; longer bodies are cheaper to drop
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
	limit  int64
	read   func(io.Reader) error // takes the answer in, from its beginning again after a failure
	stop   func(*url.URL) bool   // a redirect to here is the answer
	base   *url.URL              // nil is the client's
	once   bool                  // what may get better is not requested again
}

// getJSON asks for JSON of a size that a single thing has.
func (c *Client) getJSON(ctx context.Context, path string, into any) error {
	_, err := c.askJSON(ctx, question{path: path, limit: smallBody}, func(s *stream) error {
		return s.value(smallBody, into)
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
		if attempt >= c.retry.Attempts || q.once || timedOutThere(failed) {
			return nil, err
		}
		var asked time.Duration
		if later := (*retryAfter)(nil); errors.As(failed.Cause, &later) {
			asked = later.delay
		}
		wait := c.retry.delay(attempt, asked)
		if attempt == 1 {
			c.log("Waiting for Hydra: %s; it is asked up to %d times", failed, c.retry.Attempts)
		}
		if err := sleep(ctx, wait+rand.N(wait/4+1)); err != nil {
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
	ctx, cancel := context.WithTimeout(ctx, c.retry.Timeout)
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
	if !sameOrigin(req.URL, c.base) {
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
	if sameOrigin(from, c.base) && from.Scheme == "http" && to.Scheme == "https" &&
		strings.EqualFold(from.Hostname(), to.Hostname()) && from.EscapedPath() == to.EscapedPath() {
		c.base.Scheme, c.base.Host = to.Scheme, to.Host
	}
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// readResponse turns a final response into an answer or the error it stands for.
func (c *Client) readResponse(res *http.Response, asked, at *url.URL, q question) (*answer, error) {
	defer res.Body.Close()
	if res.ContentLength > q.limit {
		return nil, tooLong(at, q.limit)
	}
	if res.StatusCode == http.StatusOK {
		begins := make([]byte, 512)
		n, err := io.ReadFull(res.Body, begins)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, transportError(at, err)
		}
		begins = begins[:n]
		body := io.MultiReader(bytes.NewReader(begins), res.Body)
		switch page := isHTML(res, begins); {
		case q.accept != jsonType, !page && looksJSON(begins):
			return c.take(body, at, q)
		case page:
			return nil, notJSON(body, asked, at, !c.auth.isZero())
		}
		return nil, &NotHydraError{URL: shown(asked), Problem: "it answers a question for JSON with " + kindOf(res)}
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, errorBody))
	if err != nil {
		return nil, transportError(at, err)
	}
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return nil, &LoginError{URL: shown(asked), Problem: statusWords(res, body), Given: !c.auth.isZero()}
	case http.StatusNotFound:
		message, ok := hydraError(body)
		if e := forPeople(at, res.StatusCode, body); !ok && e != nil {
			return nil, e
		}
		if !ok {
			return nil, &NotHydraError{URL: shown(asked), Problem: "it answers 404 with " + pageOrKind(res, body)}
		}
		return nil, &missing{url: shown(at), message: message}
	}
	return nil, &AnswerError{
		URL: shown(at), Status: res.StatusCode, Attempts: 1, Problem: "it answers " + statusWords(res, body),
		Temporary: isTemporary(res.StatusCode), Cause: delayOf(res),
	}
}

// isTemporary reports whether asking again later may help.
func isTemporary(status int) bool { return status == http.StatusTooManyRequests || status >= 500 }

// take has an answer read, up to its limit.
func (c *Client) take(body io.Reader, at *url.URL, q question) (*answer, error) {
	if q.read == nil {
		return &answer{url: at}, nil
	}
	limited := &io.LimitedReader{R: body, N: q.limit + 1}
	err := q.read(limited)
	var format *formatError
	switch {
	case limited.N <= 0:
		return nil, tooLong(at, q.limit)
	case errors.As(err, &format):
		return nil, &AnswerError{URL: shown(at), Status: http.StatusOK, Attempts: 1, Cause: format.error,
			Problem: "its JSON is not what Hydra's API promises: " + text.Clip(format.Error(), clipped)}
	case err != nil:
		return nil, transportError(at, err)
	}
	return &answer{url: at}, nil
}

// notJSON is a page for people in place of JSON.
func notJSON(body io.Reader, asked, at *url.URL, given bool) error {
	page, err := io.ReadAll(io.LimitReader(body, errorBody))
	if err != nil {
		return transportError(at, err)
	}
	if e := forPeople(at, http.StatusOK, page); e != nil { // which have a dialog that asks for a password
		return e
	}
	if to := wantsLogin(asked, at, page); to != "" {
		return &LoginError{URL: shown(asked), Problem: to, Given: given}
	}
	return &NotHydraError{URL: shown(asked), Problem: "it answers a question for JSON with " + pageWords(page)}
}

// forPeople is the error that one of Hydra's pages for people is in place of JSON (root/layout.tt), nil where it is another
// page. Hydra says that the two are not to be mixed up (Vary: Accept), which not every proxy heeds.
func forPeople(at *url.URL, status int, page []byte) error {
	found := pageTitle.FindSubmatch(page)
	if found == nil || !bytes.HasPrefix(bytes.TrimSpace(found[1]), []byte("Hydra - ")) {
		return nil
	}
	return &AnswerError{URL: shown(at), Status: status, Attempts: 1, Problem: "it answers a question for JSON with " + pageWords(page) +
		": does a proxy before it keep pages whatever is accepted?"}
}

const noAnswer = "no answer came in time"

// transportError says what the network did, without the address, which net/http repeats with its query.
func transportError(at *url.URL, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	problem := text.Clip(err.Error(), clipped)
	var network net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, net.ErrClosed), // by the end of its time
		errors.As(err, &network) && network.Timeout():
		problem = noAnswer
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		problem = "the connection broke off"
	}
	return &AnswerError{URL: shown(at), Problem: problem, Attempts: 1, Temporary: true, Cause: err}
}

func tooLong(at *url.URL, limit int64) error {
	return &AnswerError{URL: shown(at), Status: http.StatusOK, Attempts: 1,
		Problem: fmt.Sprintf("its answer is longer than %d MiB", limit>>20)}
}

// retryAfter carries the Retry-After header to the loop that obeys it.
type retryAfter struct{ delay time.Duration }

func (e *retryAfter) Error() string { return "retry after " + e.delay.String() }

func delayOf(res *http.Response) error {
	given := res.Header.Get("Retry-After")
	seconds, err := strconv.Atoi(given)
	delay := time.Duration(min(seconds, 24*60*60)) * time.Second
	if when, notDate := http.ParseTime(given); err != nil && notDate == nil {
		delay, err = time.Until(when), nil
	}
	if err != nil || delay <= 0 {
		return nil
	}
	return &retryAfter{delay: delay}
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

func discard(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, drainLimit)
	res.Body.Close()
}

var loginPath = regexp.MustCompile(`(?i)(^|[/_-])(log[-_]?in|sign[-_]?in|sso|saml2?|oauth2?|auth|authorize)([/_.?-]|$)`)

func isLogin(u *url.URL) bool { return loginPath.MatchString(u.Path) }

// wantsLogin recognises a page that asks for a password instead of answering.
func wantsLogin(asked, at *url.URL, body []byte) string {
	switch {
	case isLogin(at) && !isLogin(asked):
		return "it leads to " + shown(at)
	case regexp.MustCompile(`(?i)type\s*=\s*["']?password`).Match(body):
		return "it answers with " + pageWords(body) + " that asks for a password"
	}
	return ""
}

func isHTML(res *http.Response, body []byte) bool {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return kind == htmlType || kind == "application/xhtml+xml" ||
		strings.HasPrefix(strings.TrimSpace(string(body[:min(len(body), 64)])), "<")
}

func looksJSON(body []byte) bool {
	start := strings.TrimSpace(string(body[:min(len(body), 64)]))
	return strings.HasPrefix(start, "{") || strings.HasPrefix(start, "[")
}

// hydraError reads {"error": "…"}, which is how Hydra says that something does not exist.
func hydraError(body []byte) (string, bool) {
	var said struct {
		Error *string `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error == nil {
		return "", false
	}
	return text.Clip(*said.Error, 400), true
}

func statusWords(res *http.Response, body []byte) string {
	words := strings.TrimSpace(strconv.Itoa(res.StatusCode) + " " + http.StatusText(res.StatusCode))
	if message, ok := hydraError(body); ok && message != "" {
		return words + ": " + message
	}
	if isHTML(res, body) {
		return words + " with " + pageWords(body)
	}
	return words
}

var pageTitle = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

func pageWords(body []byte) string {
	if found := pageTitle.FindSubmatch(body); found != nil {
		if title := text.Clip(html.UnescapeString(string(found[1])), 80); title != "" {
			return fmt.Sprintf("the HTML page %q", title)
		}
	}
	return "an HTML page"
}

func pageOrKind(res *http.Response, body []byte) string {
	if isHTML(res, body) {
		return pageWords(body)
	}
	return kindOf(res)
}

func kindOf(res *http.Response) string {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil || kind == "" {
		return "something else"
	}
	return text.Clip(kind, clipped)
}

// shown is an address without its query and user, either of which may be secret.
func shown(u *url.URL) string {
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if page := u.Query().Get("page"); page != "" && len(page) < 8 {
		bare.RawQuery = "page=" + url.QueryEscape(page)
	}
	return text.Clip(bare.String(), 300)
}

func pathOnly(p string) string {
	p, _, _ = strings.Cut(p, "?")
	return path.Clean(p)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
