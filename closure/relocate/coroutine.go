package relocate

import (
	"io"
	"iter"
)

// pushed runs a function that reads on bytes that are pushed to it. The function runs only within push and finish,
// never at the same time as its caller, and is ended by stop.
type pushed struct {
	chunk  []byte
	ended  bool
	done   bool
	yield  func(struct{}) bool
	resume func() (struct{}, bool)
	stop   func()
}

func newPushed(read func(io.Reader)) *pushed {
	p := &pushed{}
	p.resume, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		read(p)
	})
	return p
}

// Read gives what was pushed, and lets the pusher go on where there is nothing left.
func (p *pushed) Read(b []byte) (int, error) {
	for len(p.chunk) == 0 {
		if p.ended {
			return 0, io.EOF
		}
		if !p.yield(struct{}{}) {
			return 0, errStopped
		}
	}
	n := copy(b, p.chunk)
	p.chunk = p.chunk[n:]
	return n, nil
}

// push lets the function read chunk; it returns when all of it is read or the function has ended.
func (p *pushed) push(chunk []byte) {
	if len(chunk) == 0 || p.done {
		return
	}
	p.chunk = chunk
	_, more := p.resume()
	p.chunk, p.done = nil, !more
}

// finish lets the function see the end of what was pushed.
func (p *pushed) finish() {
	p.ended = true
	if !p.done {
		_, more := p.resume()
		p.done = !more
	}
	p.stop()
}
