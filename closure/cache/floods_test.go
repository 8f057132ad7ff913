package cache_test

import (
	"bytes"
	stdcontext "context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
)

// floods are what a server with HTTP/2 may send without end in place of an answer.
var floods = map[string]func(f *http2.Framer, stream uint32) error{
	"pings": func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{1}) },
	"settings": func(f *http2.Framer, _ uint32) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	},
	"window updates": func(f *http2.Framer, stream uint32) error { return f.WriteWindowUpdate(stream, 1) },
	"informational": func(f *http2.Framer, stream uint32) error {
		return f.WriteHeaders(headers(stream, true, ":status", "103", "link", strings.Repeat("x", 1000)))
	},
	"a header": func(f *http2.Framer, stream uint32) error {
		return f.WriteContinuation(stream, false, block("x", strings.Repeat("x", 1000)))
	},
	"empty data": func(f *http2.Framer, stream uint32) error { return f.WriteData(stream, false, nil) },
	"padding": func(f *http2.Framer, stream uint32) error {
		return f.WriteDataPadded(stream, false, nil, make([]byte, 255))
	},
	"unknown frames": func(f *http2.Framer, stream uint32) error {
		return f.WriteRawFrame(0xfe, 0, stream, make([]byte, 1000))
	},
	"goings away": func(f *http2.Framer, _ uint32) error {
		return f.WriteGoAway(1<<31-1, http2.ErrCodeNo, make([]byte, 1000))
	},
	"priorities": func(f *http2.Framer, stream uint32) error {
		return f.WritePriority(stream, http2.PriorityParam{StreamDep: 0, Weight: 1})
	},
	"answers pushed": func(f *http2.Framer, stream uint32) error {
		return f.WritePushPromise(http2.PushPromiseParam{StreamID: stream, PromiseID: 2, BlockFragment: block(":path", "/"), EndHeaders: true})
	},
	"nothing at all": func(*http2.Framer, uint32) error { time.Sleep(10 * time.Millisecond); return nil },
}

// block is a header as HTTP/2 has it.
func block(pairs ...string) []byte {
	var text bytes.Buffer
	encoder := hpack.NewEncoder(&text)
	for i := 0; i < len(pairs); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return text.Bytes()
}

func headers(stream uint32, whole bool, pairs ...string) http2.HeadersFrameParam {
	return http2.HeadersFrameParam{StreamID: stream, BlockFragment: block(pairs...), EndHeaders: whole}
}

// flooding is a server that answers each request with a flood; connected is how many connections it has.
func flooding(t *testing.T, kind string) (url string, certificate *httptest.Server, connected *atomic.Int32) {
	connected = new(atomic.Int32)
	certificate = httptest.NewTLSServer(nil)
	t.Cleanup(certificate.Close)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificate.TLS.Certificates, NextProtos: []string{"h2"}})
	Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connected.Add(1)
			go func() {
				defer connected.Add(-1)
				flood(c, kind)
			}()
		}
	}()
	return "https://" + listener.Addr().String(), certificate, connected
}

func flood(c net.Conn, kind string) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	if f.WriteSettings() != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		if frame.Header().Type != http2.FrameHeaders {
			continue
		}
		var ended atomic.Bool
		go func() {
			_, _ = io.Copy(io.Discard, c)
			ended.Store(true)
		}()
		stream := frame.Header().StreamID
		switch kind {
		case "a header":
			err = f.WriteHeaders(headers(stream, false, ":status", "200"))
		case "empty data", "padding":
			err = f.WriteHeaders(headers(stream, true, ":status", "200"))
		}
		for err == nil && !ended.Load() {
			err = floods[kind](f, stream)
		}
		return
	}
}

// TestFloods opens caches that never say anything, but say that without end.
func TestFloods(t *testing.T) {
	log.SetOutput(io.Discard) // as the buildpack's program has it: Go's client logs frames that it does not know, each
	defer log.SetOutput(os.Stderr)
	for kind := range floods {
		t.Run(kind, func(t *testing.T) {
			RegisterTestingT(t)
			url, server, connected := flooding(t, kind)
			o := options(url)
			o.Retry.Timeout = 500 * time.Millisecond
			o.RootCAs = []cache.Authorities{{PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}}
			ctx, cancel := stdcontext.WithTimeout(stdcontext.Background(), time.Minute)
			defer cancel()
			var most runtime.MemStats
			done := make(chan error, 1)
			began := time.Now()
			go func() { _, err := cache.Open(ctx, o); done <- err }()
			var err error
			for waiting := true; waiting; {
				select {
				case err = <-done:
					waiting = false
				case <-time.After(50 * time.Millisecond):
					var now runtime.MemStats
					if runtime.ReadMemStats(&now); now.HeapInuse > most.HeapInuse {
						most = now
					}
				}
			}
			t.Logf("%v, at most %d MiB: %.150v", time.Since(began).Round(time.Millisecond), most.HeapInuse>>20, err)
			Expect(err).To(HaveOccurred())
			Expect(ctx.Err()).NotTo(HaveOccurred(), "it goes on")
			Expect(most.HeapInuse).To(BeNumerically("<", 64<<20))
			Eventually(connected.Load).WithTimeout(10*time.Second).Should(BeZero(), "the flood goes on")
		})
	}
}
