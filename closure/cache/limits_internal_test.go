package cache

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

func TestWithoutATrustedSignatureFourGiBAndFourNamesAreTaken(t *testing.T) {
	RegisterTestingT(t)
	s := &Set{options: Options{}.withDefaults()}
	check := func(size int64) (*Found, error) {
		found := &Found{NarInfo: &narinfo.NarInfo{NarSize: size, Sigs: make([]narinfo.Signature, 9)}}
		return found, s.checkSignature(found)
	}
	found, err := check(4 << 30)
	Expect(err).NotTo(HaveOccurred())
	Expect(found.Sigs).To(HaveLen(4))
	_, err = check(4<<30 + 1)
	Expect(err).To(MatchError(ContainSubstring("no more than 4294967296 bytes are taken")))
}

func TestAFileThatASettingNamesMayHave16MiB(t *testing.T) {
	RegisterTestingT(t)
	name := filepath.Join(t.TempDir(), "netrc")
	Expect(os.WriteFile(name, nil, 0o600)).To(Succeed())
	Expect(os.Truncate(name, 16<<20)).To(Succeed())
	text, err := readSetting(name)
	Expect(err).NotTo(HaveOccurred())
	Expect(len(text)).To(Equal(16 << 20))
	Expect(os.Truncate(name, 16<<20+1)).To(Succeed())
	_, err = readSetting(name)
	Expect(err).To(HaveOccurred())
}

func TestACacheWithoutAPriorityHasNixs(t *testing.T) {
	RegisterTestingT(t)
	Expect(ParseInfo(strings.NewReader(""))).To(HaveField("Priority", 50))
}

func TestSettingsOfNixForWritingAreNotUnknown(t *testing.T) {
	RegisterTestingT(t)
	unknown := func(names ...string) []string {
		a, err := parseAddress("https://c?" + strings.Join(names, "=1&") + "=1")
		Expect(err).NotTo(HaveOccurred())
		return a.unknown
	}
	// nix help-stores
	Expect(unknown("compression", "compression-level", "parallel-compression", "index-debug-info", "local-nar-cache",
		"path-info-cache-size", "priority", "secret-key", "secret-keys", "store", "system-features", "trusted", "want-mass-query",
		"write-nar-listing", "narinfo-compression", "ls-compression", "log-compression", "multipart-upload", "buffer-size")).To(BeEmpty())
	Expect(unknown("Priority")).To(Equal([]string{"Priority"}))
}

func TestOfAnAnswerThatIsNotTheFileSixteenKiBAreRead(t *testing.T) {
	RegisterTestingT(t)
	const words = "HTTP request to an HTTPS server"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		http.Error(w, strings.Repeat(" ", n-len(words))+words, http.StatusBadRequest)
	}))
	defer server.Close()
	ask := func(length string) error {
		transport, err := newHTTPTransport(Options{}.withDefaults())
		Expect(err).NotTo(HaveOccurred())
		defer transport.CloseIdleConnections()
		a, err := parseAddress(server.URL + "/" + length)
		Expect(err).NotTo(HaveOccurred())
		_, err = (&httpTransport{client: &http.Client{Transport: transport}, logins: &logins{}}).get(t.Context(), request{url: a.base})
		return err
	}
	Expect(ask("16384")).To(BeAssignableToTypeOf(&SchemeError{}))
	Expect(ask("16385")).To(BeAssignableToTypeOf(&StatusError{}))
}

func TestAConnectionIsUsedAgainAfterALongAnswerThatIsNotTheFile(t *testing.T) {
	RegisterTestingT(t)
	connections := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections[r.RemoteAddr] = true
		http.Error(w, strings.Repeat("x", 60<<10), http.StatusNotFound)
	}))
	defer server.Close()
	transport, err := newHTTPTransport(Options{}.withDefaults())
	Expect(err).NotTo(HaveOccurred())
	defer transport.CloseIdleConnections()
	a, err := parseAddress(server.URL)
	Expect(err).NotTo(HaveOccurred())
	for range 3 {
		_, err = (&httpTransport{client: &http.Client{Transport: transport}, logins: &logins{}}).get(t.Context(), request{url: a.base})
		Expect(err).To(BeAssignableToTypeOf(&StatusError{}))
	}
	Expect(connections).To(HaveLen(1))
}

func TestAHeaderMayHaveSome64KiB(t *testing.T) {
	RegisterTestingT(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		w.Header().Set("X", strings.Repeat("x", n<<10))
	}))
	defer server.Close()
	transport, err := newHTTPTransport(Options{}.withDefaults())
	Expect(err).NotTo(HaveOccurred())
	defer transport.CloseIdleConnections()
	for path, taken := range map[string]bool{"/60": true, "/80": false} {
		answer, err := (&http.Client{Transport: transport}).Get(server.URL + path)
		Expect(err == nil).To(Equal(taken), path)
		if err == nil {
			answer.Body.Close()
		}
	}
}

func TestConnectionsAreKeptForAsManyLookUpsAsThereAreAtOnceAndAsManyNARs(t *testing.T) {
	RegisterTestingT(t)
	const together = 2 * LookupsAtOnce
	var all sync.WaitGroup
	all.Add(together)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		all.Done()
		all.Wait()
	}))
	defer server.Close()
	transport, err := newHTTPTransport(Options{}.withDefaults())
	Expect(err).NotTo(HaveOccurred())
	defer transport.CloseIdleConnections()
	kept := make(chan error, together)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{PutIdleConn: func(err error) { kept <- err }})
	for range together {
		go func() {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
			if err != nil {
				panic(err)
			}
			answer, err := transport.RoundTrip(request)
			if err != nil {
				kept <- err
				return
			}
			answer.Body.Close()
		}()
	}
	for range together {
		Eventually(kept).WithTimeout(30 * time.Second).Should(Receive(&err))
		Expect(err).NotTo(HaveOccurred())
	}
}

func TestAStreamOfHTTP2BuffersOneMiB(t *testing.T) {
	RegisterTestingT(t)
	wrote, more := make(chan bool, 1), make(chan bool, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		flusher := w.(http.Flusher)
		w.Write(make([]byte, 1<<20))
		flusher.Flush()
		wrote <- true
		w.Write(make([]byte, 1))
		flusher.Flush()
		more <- true
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	transport, err := newHTTPTransport(Options{RootCAs: []Authorities{{Source: "the test", PEM: authority}}}.withDefaults())
	Expect(err).NotTo(HaveOccurred())
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get(server.URL)
	Expect(err).NotTo(HaveOccurred())
	defer answer.Body.Close()
	Expect(answer.ProtoMajor).To(Equal(2))
	Eventually(wrote).WithTimeout(30 * time.Second).Should(Receive())
	Consistently(more).WithTimeout(50 * time.Millisecond).ShouldNot(Receive())
	_, err = io.Copy(io.Discard, answer.Body)
	Expect(err).NotTo(HaveOccurred())
	Eventually(more).WithTimeout(30 * time.Second).Should(Receive())
}
