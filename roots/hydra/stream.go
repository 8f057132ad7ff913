package hydra

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	// thingLimit bounds one thing of an answer, such as an evaluation, in bytes of JSON, and a page for people: an evaluation of
	// nixpkgs lists a quarter of a million builds.
	thingLimit = 8 << 20
	// buildLimit bounds a build, and all else of which a list takes up much more memory than its JSON.
	buildLimit = 1 << 20
	// keptLimit bounds what is kept of an answer, in about as many bytes as it takes in memory.
	keptLimit = 64 << 20
)

// stream reads JSON as it comes, a value at a time, so that an answer takes no more memory than what is kept of it.
type stream struct {
	decoder *json.Decoder
	source  *allowance
	kept    int
}

// allowance is what of a body may be read at once.
type allowance struct {
	from io.Reader
	left int
	err  error // of the body
}

var errThing = errors.New("one thing in it is too long")

// Read gives no more than is allowed.
func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errThing
	}
	n, err := a.from.Read(p[:min(len(p), a.left)])
	a.left -= n
	if err != nil && err != io.EOF {
		a.err = err
	}
	return n, err
}

// readJSON has read take all that there is.
func readJSON(body io.Reader, read func(*stream) error) (bodyErr, err error) {
	source := &allowance{from: body, left: thingLimit}
	s := &stream{decoder: json.NewDecoder(source), source: source}
	if err = read(s); err == nil {
		err = s.end()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("unexpected end of JSON input")
	}
	return source.err, err
}

// value decodes the next value, of at most so many bytes.
func (s *stream) value(limit int, into any) error {
	s.source.left = limit
	return s.decoder.Decode(into)
}

// skip reads over the next value.
func (s *stream) skip() error {
	var ignored json.RawMessage
	return s.value(thingLimit, &ignored)
}

func (s *stream) token() (json.Token, error) {
	s.source.left = thingLimit
	return s.decoder.Token()
}

// begin reads what a list or object begins with.
func (s *stream) begin(with json.Delim) error {
	token, err := s.token()
	if err == nil && token != with {
		err = fmt.Errorf("cannot unmarshal %s where a %s is expected", kindOfJSON(token), kindOfJSON(with))
	}
	return err
}

// list reads a list, each thing by one.
func (s *stream) list(one func() error) error {
	if err := s.begin('['); err != nil {
		return err
	}
	return s.rest(one)
}

// listOrNull is list, where there may be null in its place; begun is called at the beginning of a list.
func (s *stream) listOrNull(one func() error, begun func()) error {
	token, err := s.token()
	switch {
	case err != nil || token == nil:
		return err
	case token != json.Delim('['):
		return fmt.Errorf("cannot unmarshal %s where a list is expected", kindOfJSON(token))
	}
	begun()
	return s.rest(one)
}

// rest reads what follows the beginning of a list or object.
func (s *stream) rest(one func() error) error {
	for s.more() {
		if err := one(); err != nil {
			return err
		}
	}
	_, err := s.token()
	return err
}

// object reads an object, each field's value by field.
func (s *stream) object(field func(name string) error) error {
	if err := s.begin('{'); err != nil {
		return err
	}
	return s.fields(field)
}

func (s *stream) fields(field func(name string) error) error {
	return s.rest(func() error {
		name, err := s.token()
		if err != nil {
			return err
		}
		return field(fmt.Sprint(name))
	})
}

func (s *stream) more() bool {
	s.source.left = thingLimit
	return s.decoder.More()
}

// keep accounts for what is kept, in bytes.
func (s *stream) keep(size int) error {
	if s.kept += size; s.kept > keptLimit {
		return fmt.Errorf("there is more of it than %d MiB can hold", keptLimit>>20)
	}
	return nil
}

// end makes sure that nothing follows.
func (s *stream) end() error {
	token, err := s.token()
	if err == io.EOF {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("invalid character after top-level value: %s", text.Clip(fmt.Sprint(token), 20))
	}
	return err
}

func kindOfJSON(token json.Token) string {
	switch token := token.(type) {
	case json.Delim:
		if token == '[' || token == ']' {
			return "list"
		}
		return "object"
	case string:
		return "string"
	case nil:
		return "null"
	}
	return fmt.Sprintf("%T", token)
}
