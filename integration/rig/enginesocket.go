package rig

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// engineSocket is where the Docker engine listens, "" where that is no socket of this machine.
func engineSocket() string {
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		return "/var/run/docker.sock"
	}
	if path, ok := strings.CutPrefix(host, "unix://"); ok {
		return path
	}
	return ""
}

// ServeEngine serves the Docker engine once more, at a socket in dir that is a user's own, until it is closed, and gives
// the socket's name. The lifecycle connects to such a one as often as it likes; to a socket of root's it keeps the one
// connection that it made while it was root, which its HTTP client loses when exporting takes more than 30 seconds
// (docs/limits.md). Whoever is that user may do with the engine whatever root may.
func ServeEngine(dir string, user, group int) (socket string, closing io.Closer, err error) {
	socket = filepath.Join(dir, "engine.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return "", nil, fmt.Errorf("serving the Docker engine: %w", err)
	}
	if err = os.Chmod(socket, 0o600); err == nil {
		err = os.Chown(socket, user, group)
	}
	if err != nil {
		_ = listener.Close()
		return "", nil, fmt.Errorf("serving the Docker engine: %w", err)
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go forward(client.(*net.UnixConn), engineSocket())
		}
	}()
	return socket, listener, nil
}

// forward connects two sockets until both sides have said all.
func forward(client *net.UnixConn, to string) {
	defer client.Close()
	connection, err := net.Dial("unix", to)
	if err != nil {
		return
	}
	engine := connection.(*net.UnixConn)
	defer engine.Close()
	var both sync.WaitGroup
	for _, way := range [][2]*net.UnixConn{{client, engine}, {engine, client}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			_ = way[1].CloseWrite()
		})
	}
	both.Wait()
}
