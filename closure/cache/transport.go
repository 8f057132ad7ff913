package cache

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

// request is one file wanted from a cache.
type request struct {
	url *url.URL
	// from is the byte to start at; validator is the ETag that the file had when its first bytes came.
	from      int64
	validator string
	// packed says that the content does not compress further, so that no Content-Encoding is asked for.
	packed bool
}

// response is a file as it begins to arrive. Close the body.
type response struct {
	body io.ReadCloser
	// from is the first byte that body holds; 0 when the server started over.
	from int64
	// size is how many bytes body holds, -1 when the server does not say.
	size int64
	// validator is the file's strong ETag, "" without one.
	validator string
	// encoding is the Content-Encoding left to undo, "" for none.
	encoding string
	// openEnd says that the body ends where the connection is closed, so that a part of it looks like all of it.
	openEnd bool
	// html says that the server calls the file a web page.
	html bool
}

// transport gets files. Its errors are redacted: errAbsent, a *StatusError, or a failure of the connection.
type transport interface {
	get(ctx context.Context, r request) (*response, error)
}

// doer is what an HTTP transport needs of http.Client.
type doer interface {
	Do(*http.Request) (*http.Response, error)
}
