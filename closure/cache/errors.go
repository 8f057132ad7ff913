package cache

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Reason classes why a cache did not serve a path.
type Reason uint8

// The reasons, from the least to the most telling.
const (
	Absent    Reason = iota // the cache does not have the path
	Down                    // the cache could not be reached, or failed
	Login                   // the cache, or the proxy before it, wants a login, or refused the one it got
	Invalid                 // the answer is not a valid narinfo or NAR for this path
	Untrusted               // the path's signatures are not by a trusted key
)

// Answer is what one cache had to say about one path that it did not serve.
type Answer struct {
	// URL is the cache, redacted.
	URL string
	// Reason classes Why.
	Reason Reason
	// Why is the whole reason in one line, and Err the error that it is the text of.
	Why string
	Err error
	// Keys are the names of the keys that signed the path, and Trusted the keys that would do, when Reason is Untrusted.
	Keys    []string
	Trusted narinfo.Keys
}

// ErrNoKeys is the error of Open where signatures are required and no key is trusted.
var ErrNoKeys = errors.New("opening binary caches: no key is trusted, so no cache could be used")

// NotFoundError says that no cache has a valid, trusted narinfo for a path.
type NotFoundError struct {
	Path storepath.Path
	// Asked holds every cache of the set, best first.
	Asked []Answer
	errs  []error
}

// Unwrap gives each cache's error, such as a *narinfo.SignatureError or a *CompressionError.
func (e *NotFoundError) Unwrap() []error { return e.errs }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no binary cache has a usable %s: %s", e.Path, describe(e.Asked))
}

// VerifyError says that what a cache served is not what its narinfo or the path's signature says.
type VerifyError struct {
	// Cache is the cache's URL, redacted.
	Cache string
	Path  storepath.Path
	// Field is the narinfo's field that does not hold: NarHash, NarSize, FileSize, URL, Compression or CA.
	Field string
	// Want and Got are the narinfo's and the found value; Got may be a description.
	Want, Got string
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("verifying %s from %s: %s is %s, its narinfo says %s", e.Path, e.Cache, e.Field, e.Got, e.Want)
}

// CompressionError says that a NAR is packed in a way that no decoder here unpacks, or that its decoder failed.
type CompressionError struct {
	// Cache is the cache's URL, redacted.
	Cache string
	Path  storepath.Path
	// Compression is the name in the narinfo.
	Compression string
	Err         error
}

func (e *CompressionError) Error() string {
	return fmt.Sprintf("decompressing %s from %s: Compression %q: %v", e.Path, e.Cache, e.Compression, e.Err)
}

func (e *CompressionError) Unwrap() error { return e.Err }

// FetchError says that no cache could serve a path's NAR, with what went wrong at each.
type FetchError struct {
	Path   storepath.Path
	Tried  []Answer
	errs   []error
	caches []*substituter
}

func (e *FetchError) Error() string {
	if len(e.errs) == 1 {
		return e.errs[0].Error()
	}
	return fmt.Sprintf("fetching %s: no cache could serve it: %s", e.Path, describe(e.Tried))
}

// Unwrap gives each cache's error, such as a *VerifyError.
func (e *FetchError) Unwrap() []error { return e.errs }

// OpenError says that none of the caches can be used.
type OpenError struct{ Asked []Answer }

// Unwrap gives each cache's error.
func (e *OpenError) Unwrap() []error {
	var errs []error
	for _, a := range e.Asked {
		errs = append(errs, a.Err)
	}
	return errs
}

func (e *OpenError) Error() string {
	return "opening binary caches: none can be used: " + describe(e.Asked)
}

// StatusError is an HTTP answer that is not the file.
type StatusError struct {
	// URL is the request's, redacted.
	URL    string
	Code   int
	Status string
	// LoginSent says that a credential went along with the request.
	LoginSent bool
	// Region is where S3 says that the bucket is, when it was looked for elsewhere.
	Region string
	// S3Code and S3Message are S3's own words, "" where there are none (docs.aws.amazon.com, AmazonS3/latest/API,
	// ErrorResponses).
	S3Code, S3Message string

	retryAfter time.Duration // of the answer's Retry-After, 0 for none
}

func (e *StatusError) Error() string {
	msg := fmt.Sprintf("downloading %s: HTTP error %s", e.URL, text.Clip(e.Status, 120))
	if e.S3Code != "" {
		msg += fmt.Sprintf(": S3 says %s: %s", e.S3Code, e.S3Message)
	}
	switch {
	case e.Region != "" && e.Code >= 300 && e.Code != 403 && e.Code != 404:
		return msg + ": the bucket is in another region, " + e.Region
	case e.Code == 401 && e.LoginSent:
		return msg + ": the login that was sent is refused"
	case e.Code == 401:
		return msg + ": it wants a login"
	case e.Code == 407:
		return msg + ": the proxy wants a login"
	}
	return msg
}

// missing reports whether the answer means that there is no such file: S3 without the right to list a bucket, and
// with it cache.nixos.org, says 403 AccessDenied for that.
func (e *StatusError) missing() bool {
	switch e.S3Code {
	case "", "AccessDenied", "NoSuchKey":
		return e.Code == 404 || e.Code == 403 || e.Code == 410
	}
	return false
}

// login reports whether the answer means that a login is missing or wrong.
func (e *StatusError) login() bool {
	return e.Code == 401 || e.Code == 407 || e.Code == 403 && !e.missing() || credentialCodes[e.S3Code]
}

// credentialCodes are what S3 says of credentials besides 403.
var credentialCodes = map[string]bool{
	"InvalidAccessKeyId": true, "SignatureDoesNotMatch": true, "InvalidToken": true, "ExpiredToken": true,
	"TokenRefreshRequired": true, "InvalidSecurity": true, "CredentialsNotSupported": true,
}

// ProxyError is the answer of a proxy that does not connect us to a cache.
type ProxyError struct {
	// Proxy is its URL, redacted.
	Proxy  string
	Code   int
	Status string
}

func (e *ProxyError) Error() string {
	if e.Code == 407 {
		return fmt.Sprintf("the proxy %s wants a login: its answer is %q", e.Proxy, e.Status)
	}
	return fmt.Sprintf("the proxy %s does not connect: its answer is %q", e.Proxy, e.Status)
}

// SchemeError says that a server speaks TLS where the URL says http, or does not where it says https.
type SchemeError struct {
	// TLS says that the server speaks it.
	TLS bool
	// URL is the request's, redacted.
	URL string
}

func (e *SchemeError) Error() string {
	if e.TLS {
		return fmt.Sprintf("downloading %s: the server speaks TLS at this port", e.URL)
	}
	return fmt.Sprintf("downloading %s: the server does not speak TLS at this port", e.URL)
}

// AuthoritiesError says that certificates of authorities cannot be read.
type AuthoritiesError struct {
	// Source is where they come from: that of Options.RootCAs, or a variable.
	Source string
	Err    error
}

func (e *AuthoritiesError) Error() string {
	return fmt.Sprintf("reading the certificate authorities of %s: %v", e.Source, e.Err)
}

func (e *AuthoritiesError) Unwrap() error { return e.Err }

// errAbsent is the answer of a cache that does not have a file.
var errAbsent = errors.New("not there")

func describe(answers []Answer) string {
	parts := make([]string, len(answers))
	for i, a := range answers {
		parts[i] = a.URL + ": " + a.Why
	}
	return strings.Join(parts, "; ")
}

// invalidError is an answer that is not what the protocol wants.
type invalidError struct{ error }

func (e *invalidError) Unwrap() error { return e.error }

// disabledError is a cache that is not asked for a while.
type disabledError struct{ cause error }

func (e *disabledError) Error() string { return "disabled: " + e.cause.Error() }
func (e *disabledError) Unwrap() error { return e.cause }

// untrustedError is a narinfo that no trusted key signed.
type untrustedError struct {
	keys    []string // that signed it
	trusted narinfo.Keys
	cause   error
	// size is its NarSize where it would do without a signature, were that not above limit.
	size, limit int64
}

func (e *untrustedError) Error() string {
	const lacks = "narinfo field Sig: the path lacks a signature by a trusted key: "
	switch {
	case e.size > e.limit:
		return lacks + fmt.Sprintf("without one no more than %d bytes are taken, and NarSize is %d", e.limit, e.size)
	case len(e.keys) == 0:
		return lacks + "it is not signed"
	case e.altered():
		return fmt.Sprintf("narinfo field Sig: the signature by the trusted key %s does not verify: "+
			"the narinfo was altered, or another key has that name", strings.Join(e.keys, ", "))
	}
	return lacks + fmt.Sprintf("it is signed by %s, which is not trusted", strings.Join(e.keys, ", "))
}

func (e *untrustedError) Unwrap() error { return e.cause }

// altered reports whether a trusted key's name stands on a signature that is not its own.
func (e *untrustedError) altered() bool {
	return slices.ContainsFunc(e.trusted, func(key narinfo.PublicKey) bool { return slices.Contains(e.keys, key.Name) })
}

// shownName is a name that a cache made up, fit for logs: short, and quoted where it has blanks or what moves a terminal's
// cursor.
func shownName(name string) string {
	name = text.Short(name)
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` || strings.ContainsFunc(name, unicode.IsSpace) {
		return quoted
	}
	return name
}

// answerFor is what an error says about its cache.
func (c *substituter) answerFor(err error) Answer {
	a := Answer{URL: c.String(), Why: err.Error(), Err: err}
	var status *StatusError
	var untrusted *untrustedError
	var invalid *invalidError
	var compression *CompressionError
	var verify *VerifyError
	var proxy *ProxyError
	switch {
	case errors.Is(err, errAbsent) && !errors.As(err, &invalid):
		a.Reason = Absent
	case errors.As(err, &untrusted):
		a.Reason, a.Keys, a.Trusted = Untrusted, untrusted.keys, untrusted.trusted
	case errors.As(err, &invalid), errors.As(err, &compression), errors.As(err, &verify):
		a.Reason = Invalid
	case errors.As(err, &status) && status.login(), errors.As(err, &proxy) && proxy.Code == 407:
		a.Reason = Login
	default:
		a.Reason = Down
	}
	return a
}
