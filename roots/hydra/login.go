package hydra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"

	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
)

// mayLogIn reports, until there was an answer to one, that Hydra's own log-in is worth trying: a private Hydra answers 403 until a session
// cookie comes, whatever the Authorization header says.
func (c *Client) mayLogIn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tried || c.auth.username == "" || c.auth.password == "" {
		return false
	}
	c.tried = true
	return true
}

// logIn exchanges user name and password for a session cookie.
func (c *Client) logIn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	base := c.baseURL()
	session, err := c.signInAt(ctx, base)
	if errors.Is(err, errNoLogin) {
		return c.findLogin(ctx, base)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var failed *AnswerError
	if errors.As(err, &failed) && failed.Temporary {
		c.tried = false
	}
	c.session = session
	return err
}

func (c *Client) signInAt(ctx context.Context, base *url.URL) ([]*http.Cookie, error) {
	return signIn(ctx, c.http, base, c.auth, c.userAgent)
}

// findLogin looks for the front page of a Hydra that has no log-in where its address says: above it.
func (c *Client) findLogin(ctx context.Context, base *url.URL) error {
	e := &NotFrontPageError{URL: shown(base), Asked: shown(base.JoinPath("login")), Problem: "Hydra has no log-in there"}
	for parent := range parents(base) {
		if _, err := c.signInAt(ctx, parent); !errors.Is(err, errNoLogin) {
			var refused *LoginError
			if err == nil || errors.As(err, &refused) && refused.Refused != RefusedOtherwise {
				e.Front = shown(parent)
			}
			break
		}
	}
	return e
}

// errNoLogin says that there is no log-in at an address, in a Hydra that has one elsewhere: its path is not "login"
// (Controller/Root.pm, noLoginNeeded).
var errNoLogin = errors.New("logging in to Hydra: it has no log-in there")

// signIn logs in to a Hydra at base (Controller/User.pm, login_POST), and gives the cookies of the session. A refusal is
// a LoginError with Hydra's own words. The Referer is needed: Hydra refuses a POST that does not come from what it
// takes for its own address (Controller/Root.pm, begin).
func signIn(ctx context.Context, client *http.Client, base *url.URL, as credentials, userAgent string) ([]*http.Cookie,
	error) {
	body, err := json.Marshal(map[string]string{"username": as.username, "password": as.password})
	if err != nil {
		return nil, fmt.Errorf("logging in to Hydra: %w", err)
	}
	at := base.JoinPath("login")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("logging in to Hydra at %s: its address cannot be asked for", shown(at))
	}
	req.Header.Set("Accept", jsonType)
	req.Header.Set("Content-Type", jsonType)
	req.Header.Set("Referer", base.String()+"/")
	req.Header.Set("User-Agent", userAgent)
	req.SetBasicAuth(as.username, as.password) // for a proxy before it
	res, err := client.Do(req)
	if err != nil {
		return nil, transportError(at, err)
	}
	defer discard(res)
	var session []*http.Cookie
	for _, cookie := range res.Cookies() {
		session = append(session, &http.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	if res.StatusCode < http.StatusBadRequest && len(session) > 0 {
		return session, nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, errorBody))
	if err != nil {
		return nil, transportError(at, err)
	}
	said, isHydra := hydraError(text)
	refused := refusal(res.StatusCode, said)
	switch {
	case isHydra && (said == mustSignIn || said == noSuchPage):
		return nil, errNoLogin
	case refused == RefusedOtherwise && isTemporary(res.StatusCode): // which says nothing of the password
		return nil, &AnswerError{URL: shown(at), Status: res.StatusCode, Attempts: 1, Temporary: true,
			Problem: "its log-in answers " + statusWords(res, text), retryAfter: retry.After(res.Header)}
	}
	return nil, &LoginError{
		URL: shown(at), Given: true, Problem: statusWords(res, text), Refused: refused,
		HydraURL: ownAddress(said),
	}
}

// fromItself is what Hydra says to a POST that does not come from its own pages (Controller/Root.pm, begin).
var fromItself = regexp.MustCompile(`POST requests should come from ‘([^’]*)’`)

// refusal says which of a log-in Hydra does not accept.
func refusal(status int, said string) Refusal {
	switch {
	case fromItself.MatchString(said):
		return RefusedReferer
	case status == http.StatusForbidden && said != "":
		return RefusedPassword
	}
	return RefusedOtherwise
}

// ownAddress is the address that Hydra takes for its own, "" where it does not say.
func ownAddress(said string) string {
	if found := fromItself.FindStringSubmatch(said); found != nil {
		if u, err := url.Parse(found[1]); err == nil {
			return shown(u)
		}
	}
	return ""
}

// escape makes one path segment of a name.
func escape(name string) string { return url.PathEscape(name) }
