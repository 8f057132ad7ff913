package rig

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// FreePort gives a TCP port of loopback that nobody listens on at the moment.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}

// Await asks a URL until it answers with status 200, at most for the given time, and gives the answer's body. When
// alive is not nil and says false, it gives up at once.
func Await(ctx context.Context, url string, limit time.Duration, alive func() bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for {
		body, err := get(ctx, url)
		if err == nil {
			return body, nil
		}
		if ctx.Err() == nil {
			last = err
		}
		if alive != nil && !alive() {
			return "", fmt.Errorf("awaiting %s: it ended: %w", url, last)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("awaiting %s: %w: %w", url, ctx.Err(), last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	return string(body), err
}
