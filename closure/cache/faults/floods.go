package faults

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"io"
	"maps"
	"net"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
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
	"data": func(f *http2.Framer, stream uint32) error {
		return f.WriteData(stream, false, bytes.Repeat([]byte(" "), 1000))
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

// Flood is a server with HTTP/2 that answers each request by one thing, sent without end.
type Flood struct {
	URL         string
	Certificate []byte // in PEM, of whom to trust
	// Connected is how many connections it has, Accepted how many it has had.
	Connected, Accepted atomic.Int32

	listener net.Listener
}

// Floods are the kinds of floods.
func Floods() []string { return slices.Sorted(maps.Keys(floods)) }

// NewFlood begins to listen. Close the server after use.
func NewFlood(kind string) (*Flood, error) {
	own := httptest.NewTLSServer(nil)
	defer own.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: own.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		return nil, err
	}
	f := &Flood{
		URL: "https://" + listener.Addr().String(), listener: listener,
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate().Raw}),
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			f.Connected.Add(1)
			f.Accepted.Add(1)
			go func() {
				defer f.Connected.Add(-1)
				flood(c, kind)
			}()
		}
	}()
	return f, nil
}

// Close takes no more connections.
func (f *Flood) Close() error { return f.listener.Close() }

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
		case "data", "empty data", "padding":
			err = f.WriteHeaders(headers(stream, true, ":status", "200"))
		}
		for err == nil && !ended.Load() {
			err = floods[kind](f, stream)
		}
		return
	}
}

// Peak runs what faces a flood, and gives its error and by how much the heap grew meanwhile, at most, in bytes. What earlier
// tests have left behind is no part of that.
func Peak(t *testing.T, run func() error) (most uint64, err error) {
	done := make(chan error, 1)
	heap := func() uint64 {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		return now.HeapInuse
	}
	runtime.GC()
	before, began := heap(), time.Now()
	go func() { done <- run() }()
	for {
		select {
		case err := <-done:
			t.Logf("%v, at most %d MiB: %.150v", time.Since(began).Round(time.Millisecond), most>>20, err)
			return most, err
		case <-time.After(50 * time.Millisecond):
			most = max(most, max(heap(), before)-before)
		}
	}
}
