package hydra

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// mayLogIn reports, once, that Hydra's own log-in is worth trying: a private Hydra answers 403 until a session
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

// logIn exchanges user name and password for a session cookie (Controller/User.pm, login_POST). The Referer is
// needed: Hydra refuses a POST that does not come from itself (Controller/Root.pm, begin).
func (c *Client) logIn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.retry.AnswerLimit)
	defer cancel()
	body, err := json.Marshal(map[string]string{"username": c.auth.username, "password": c.auth.password})
	if err != nil {
		return fmt.Errorf("logging in to Hydra: %w", err)
	}
	base := c.baseURL()
	at := base.JoinPath("login")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("logging in to Hydra at %s: its address cannot be asked for", shown(at))
	}
	req.Header.Set("Accept", jsonType)
	req.Header.Set("Content-Type", jsonType)
	req.Header.Set("Referer", base.String())
	req.Header.Set("User-Agent", c.userAgent)
	c.authorize(req)
	c.requests.Add(1)
	res, err := c.http.Do(req)
	if err != nil {
		return transportError(at, err)
	}
	defer discard(res)
	var session []*http.Cookie
	for _, cookie := range res.Cookies() {
		session = append(session, &http.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	if res.StatusCode >= http.StatusBadRequest || len(session) == 0 {
		return &LoginError{URL: shown(at), Given: true, Problem: "the log-in answers " + statusWords(res, nil)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = session
	return nil
}

// escape makes one path segment of a name.
func escape(name string) string { return url.PathEscape(name) }
