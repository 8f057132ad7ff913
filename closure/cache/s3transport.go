package cache

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/encoding/httpbinding"
	"github.com/aws/smithy-go/logging"
)

const (
	// emptyPayload is the SHA-256 of no bytes, which a signed GET names as its content.
	emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	// credentialsWait bounds the search for AWS credentials, which may ask a metadata service that is not there.
	credentialsWait = 5 * time.Second
	// defaultRegion is Nix's and Amazon's.
	defaultRegion = "us-east-1"
)

// httpBase is the bucket's URL in HTTP: path-style for an endpoint of one's own and for names with dots (which no
// wildcard certificate covers), else the virtual host that Amazon wants.
func (a *address) httpBase() *url.URL {
	bucket := a.base.Hostname()
	u := &url.URL{Scheme: "https", Path: a.base.Path}
	host := a.s3.endpoint
	if scheme, rest, found := strings.Cut(host, "://"); found {
		u.Scheme, host = scheme, rest
	}
	if a.s3.scheme != "" {
		u.Scheme = strings.ToLower(a.s3.scheme)
	}
	pathStyle := host != "" || strings.Contains(bucket, ".")
	switch a.s3.style {
	case "path":
		pathStyle = true
	case "virtual":
		pathStyle = false
	}
	if host == "" {
		host = "s3." + a.region() + ".amazonaws.com"
		if strings.HasPrefix(a.region(), "cn-") {
			host += ".cn"
		}
	}
	u.Host = strings.TrimRight(host, "/")
	if pathStyle {
		u.Path = "/" + bucket + u.Path
	} else {
		u.Host = bucket + "." + u.Host
	}
	return u
}

func (a *address) region() string {
	return cmp.Or(a.s3.region, defaultRegion)
}

// s3Signer signs requests to one bucket's host, when AWS credentials can be found the usual way (environment, shared
// config and its profiles, web identity, container and instance roles). Without credentials it signs nothing.
type s3Signer struct {
	next    http.RoundTripper
	host    string
	region  string
	profile string
	log     func(string, ...any)
	now     func() time.Time

	once     sync.Once
	provider aws.CredentialsProvider
}

func (s *s3Signer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != s.host {
		return s.next.RoundTrip(req)
	}
	s.once.Do(func() { s.find(req.Context()) })
	if s.provider == nil {
		return s.next.RoundTrip(req)
	}
	keys, err := s.provider.Retrieve(req.Context())
	if err != nil {
		return nil, fmt.Errorf("finding AWS credentials: %w", err)
	}
	signed := req.Clone(req.Context())
	agent, encoding := signed.Header.Get("User-Agent"), signed.Header.Get("Accept-Encoding")
	signed.Header.Del("Accept-Encoding")
	signed.Header.Set("X-Amz-Content-Sha256", emptyPayload)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	err = signer.SignHTTP(req.Context(), keys, signed, emptyPayload, "s3", s.region, s.now())
	if err != nil {
		return nil, fmt.Errorf("signing a request to S3: %w", err)
	}
	signed.Header.Set("User-Agent", agent)
	signed.Header.Set("Accept-Encoding", encoding)
	return s.next.RoundTrip(signed)
}

// find looks for credentials once.
func (s *s3Signer) find(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), credentialsWait)
	defer cancel()
	options := []func(*config.LoadOptions) error{config.WithRegion(s.region), config.WithLogger(logging.Nop{})}
	if s.profile != "" {
		options = append(options, config.WithSharedConfigProfile(s.profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		s.log("S3 at %s: reading the AWS configuration: %v; requests are not signed", s.host, err)
		return
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		s.log("S3 at %s: no AWS credentials found; requests are not signed", s.host)
		return
	}
	s.provider = cfg.Credentials
}

// s3Transport gets files of a bucket: its URLs are s3://, turned into HTTP here.
type s3Transport struct {
	bucket, base *url.URL
	web          transport
}

func (t *s3Transport) get(ctx context.Context, r request) (*response, error) {
	if r.url.Scheme == "s3" {
		u := *t.base
		u.Path += strings.TrimPrefix(r.url.Path, t.bucket.Path)
		u.RawPath = httpbinding.EscapePath(u.Path, false) // as S3 escapes it when it checks the signature
		r.url = &u
	}
	return t.web.get(ctx, r)
}
