package nixinstall

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// reachable are the substituters as Nix can use them. Nix makes folders in a file:// cache before it reads it, and
// so cannot use one that belongs to somebody else or is mounted read-only: such a one is served to it on loopback
// until stop is called.
func reachable(substituters []string) (urls []string, stop func(), err error) {
	var servers []*http.Server
	stop = func() {
		for _, server := range servers {
			_ = server.Close()
		}
	}
	for _, given := range substituters {
		dir, query := folderOf(given)
		if dir == "" || unix.Access(dir, unix.W_OK) == nil {
			urls = append(urls, given)
			continue
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			stop()
			return nil, nil, err
		}
		server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: time.Minute}
		servers = append(servers, server)
		go func() { _ = server.Serve(listener) }()
		urls = append(urls, "http://"+listener.Addr().String()+query)
	}
	return urls, stop, nil
}

// folderOf is the folder of a file:// cache and the parameters behind it; "" for any other.
func folderOf(substituter string) (dir, query string) {
	rest, ok := strings.CutPrefix(substituter, "file://")
	if !ok {
		return "", ""
	}
	rest, query, found := strings.Cut(rest, "?")
	if found {
		query = "?" + query
	}
	dir, err := url.PathUnescape(rest)
	if err != nil {
		return "", ""
	}
	return dir, query
}
