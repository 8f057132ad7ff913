// Package retryafter reads for how long a server asks not to be asked again.
package retryafter

import (
	"net/http"
	"strconv"
	"time"
)

// longest is what a larger number of seconds counts as.
const longest = 24 * time.Hour

// Of is the wait that the header Retry-After of an answer asks for, in seconds or until a date (RFC 9110, section
// 10.2.3). It is 0 where there is none, and for one that is over or cannot be read.
func Of(header http.Header) time.Duration {
	text := header.Get("Retry-After")
	if when, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(when))
	}
	seconds, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return time.Duration(min(max(seconds, 0), int(longest/time.Second))) * time.Second
}
