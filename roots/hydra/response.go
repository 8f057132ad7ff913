package hydra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// readResponse turns a final response into an answer or the error it stands for.
func (c *Client) readResponse(res *http.Response, asked, at *url.URL, q question) (*answer, error) {
	defer res.Body.Close()
	if res.ContentLength > maxBody {
		return nil, tooLong(at)
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
		Temporary: isTemporary(res.StatusCode), retryAfter: retry.After(res.Header),
	}
}

// isTemporary reports whether asking again later may help.
func isTemporary(status int) bool { return status == http.StatusTooManyRequests || status >= 500 }

// take has an answer read, up to its limit.
func (c *Client) take(body io.Reader, at *url.URL, q question) (*answer, error) {
	if q.read == nil {
		return &answer{url: at}, nil
	}
	limited := &io.LimitedReader{R: body, N: maxBody + 1}
	err := q.read(limited)
	var format *formatError
	switch {
	case limited.N <= 0:
		return nil, tooLong(at)
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
	return &AnswerError{URL: shown(at), Status: status, Attempts: 1, Page: true,
		Problem: "it answers a question for JSON with one of its pages, " + pageWords(page)}
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

func tooLong(at *url.URL) error {
	return &AnswerError{URL: shown(at), Status: http.StatusOK, Attempts: 1,
		Problem: fmt.Sprintf("its answer is longer than %d MiB", maxBody>>20)}
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
