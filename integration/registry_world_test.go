package integration_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	. "github.com/onsi/gomega"
)

// imageRegistry is a registry on loopback that counts what it is sent.
type imageRegistry struct {
	address string

	mu       sync.Mutex
	received int64
	uploaded map[string]bool // digests of blobs
	lost     map[string]bool // those of blobs that it does not have any more
}

func newRegistry(t *testing.T) *imageRegistry {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	r := &imageRegistry{address: listener.Addr().String(), uploaded: map[string]bool{}, lost: map[string]bool{}}
	files := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		_, digest, _ := strings.Cut(q.URL.Path, "/blobs/")
		lost := r.lost[digest]
		r.mu.Unlock()
		if lost && (q.Method == http.MethodGet || q.Method == http.MethodHead) {
			http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"lost"}]}`, http.StatusNotFound)
			return
		}
		if uploaded := q.URL.Query().Get("digest"); uploaded != "" {
			r.mu.Lock()
			r.uploaded[uploaded] = true
			delete(r.lost, uploaded)
			r.mu.Unlock()
		}
		if q.Body != nil {
			q.Body = &counted{ReadCloser: q.Body, registry: r}
		}
		files.ServeHTTP(w, q)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return r
}

// locked gives the address of the same registry for those who log in.
func (r *imageRegistry) locked(t *testing.T, user, password string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	address := listener.Addr().String()
	open := &httputil.ReverseProxy{Rewrite: func(q *httputil.ProxyRequest) {
		q.SetURL(&url.URL{Scheme: "http", Host: r.address})
		q.Out.Host = address // which answers name
	}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if name, word, _ := q.BasicAuth(); name != user || word != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		open.ServeHTTP(w, q)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return address
}

// take gives the bytes that came in since it was called last.
func (r *imageRegistry) take() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.received
	r.received = 0
	return n
}

// blobs is how many different ones were uploaded.
func (r *imageRegistry) blobs() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.uploaded)
}

// lose makes the registry forget a layer.
func (r *imageRegistry) lose(digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[digest] = true
}

// push copies an image of the Docker engine to the registry and gives its name there.
func (r *imageRegistry) push(t *testing.T, image, as string) string {
	t.Helper()
	full := r.address + "/" + as
	for _, args := range [][]string{{"tag", image, full}, {"push", "--quiet", full}} {
		out, err := exec.Command("docker", args...).CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "docker %v: %s", args, out)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", full).Run() })
	return full
}

// manifest reads an image's manifest, of which only what is asked for here is known.
func (r *imageRegistry) manifest(image string) (known imageManifest, all map[string]any) {
	raw := r.call(http.MethodGet, image, "manifests/latest", "", nil)
	must(json.Unmarshal(raw, &known))
	must(json.Unmarshal(raw, &all))
	return known, all
}

type imageManifest struct {
	MediaType string
	Config    struct{ Digest string }
	Layers    []struct{ Digest string }
}

// layers are an image's layer digests, compressed.
func (r *imageRegistry) layers(image string) []string {
	manifest, _ := r.manifest(image)
	var digests []string
	for _, layer := range manifest.Layers {
		digests = append(digests, layer.Digest)
	}
	return digests
}

// remove removes an image.
func (r *imageRegistry) remove(image string) {
	r.call(http.MethodDelete, image, "manifests/latest", "", nil)
}

// relabel changes a label of an image.
func (r *imageRegistry) relabel(image, label string, change func(string) string) {
	known, manifest := r.manifest(image)
	var config map[string]any
	must(json.Unmarshal(r.call(http.MethodGet, image, "blobs/"+known.Config.Digest, "", nil), &config))
	labels := config["config"].(map[string]any)["Labels"].(map[string]any)
	before := labels[label].(string)
	labels[label] = change(before)
	Expect(labels[label]).NotTo(Equal(before))
	raw, err := json.Marshal(config)
	must(err)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(raw))
	r.call(http.MethodPost, image, "blobs/uploads/?digest="+digest, "application/octet-stream", raw)
	described := manifest["config"].(map[string]any)
	described["digest"], described["size"] = digest, len(raw)
	raw, err = json.Marshal(manifest)
	must(err)
	r.call(http.MethodPut, image, "manifests/latest", known.MediaType, raw)
}

// call makes a request about an image.
func (r *imageRegistry) call(method, image, what, mediaType string, body []byte) []byte {
	repository := strings.TrimPrefix(image, r.address+"/")
	request, err := http.NewRequest(method, "http://"+r.address+"/v2/"+repository+"/"+what, bytes.NewReader(body))
	must(err)
	if mediaType != "" {
		request.Header.Set("Content-Type", mediaType)
	}
	response, err := http.DefaultClient.Do(request)
	must(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	must(err)
	Expect(response.StatusCode).To(BeNumerically("<", 300), "%s %s: %s", method, what, answer)
	return answer
}

// counted is a request's body.
type counted struct {
	io.ReadCloser
	registry *imageRegistry
}

// Read counts.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	c.registry.received += int64(n)
	return n, err
}
