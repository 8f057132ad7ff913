package rig

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// claims are the ports that this process was given, each with the abstract socket that says so to others: a file that
// nothing holds is closed.
var claims sync.Map

// FreePort gives a TCP port of loopback that nobody listens on, and gives it to nobody else on this machine while this
// process lives. It is below those that Linux hands to whoever asks for any (ip_local_port_range, from 32768): a server
// that starts between this call and the port's use is not given it.
func FreePort() (int, error) {
	var last error
	for range 100 {
		port := 20000 + rand.IntN(12000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			err = listener.Close()
		}
		var claim net.Listener
		if err == nil {
			claim, err = net.Listen("unix", fmt.Sprintf("@nix-hydra-rig-port-%d", port))
		}
		if err == nil {
			claims.Store(port, claim)
			return port, nil
		}
		last = err
	}
	return 0, fmt.Errorf("finding a free port: %w", last)
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

// get asks once, by a connection of its own.
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
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return string(body), err
}
