package nixinstall

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	defaultQuiet = 5 * time.Second
	maxLogLine   = 4 << 20
	maxKept      = 64 // messages of a kind; a run that fails says what matters in its last ones
)

// message is one message of Nix's internal-json log (NixOS/nix: src/libutil/logging.cc, JSONLogger).
type message struct {
	Action string          `json:"action"`
	Level  int             `json:"level"`
	Text   string          `json:"msg"`
	Raw    string          `json:"raw_msg"`
	File   string          `json:"file"`
	Line   int             `json:"line"`
	Column int             `json:"column"`
	Type   int             `json:"type"`
	Fields json.RawMessage `json:"fields"`
}

// Levels and activity types of that log.
const (
	levelError    = 0
	levelWarning  = 1
	actSubstitute = 108
)

// journal reads Nix's log as it is written, keeps what matters at the end and logs that something is
// going on when it takes long.
type journal struct {
	doing  string
	logf   func(format string, args ...any)
	names  *strings.Replacer
	root   string // of the chroot store, which files are named by where evaluation is pure
	mu     sync.Mutex
	buffer []byte

	errors      []message
	warnings    []string
	plain       []string
	reading     string
	used        map[storepath.Path]bool
	substituted []storepath.Path

	ticker *time.Ticker
	done   chan struct{}
	once   sync.Once
}

// newJournal starts a journal; names has addresses and what to call them, alternately.
func newJournal(s Settings, doing string, names []string) *journal {
	quiet := s.quiet
	if quiet <= 0 {
		quiet = defaultQuiet
	}
	j := &journal{
		doing: doing, logf: s.Log, names: strings.NewReplacer(names...), root: s.root(), used: map[storepath.Path]bool{},
		ticker: time.NewTicker(quiet), done: make(chan struct{}),
	}
	if j.logf == nil {
		j.logf = func(string, ...any) {}
	}
	go j.tick(time.Now())
	return j
}

// tick logs at intervals what is going on.
func (j *journal) tick(start time.Time) {
	for {
		select {
		case <-j.done:
			return
		case now := <-j.ticker.C:
			j.mu.Lock()
			at := ""
			if j.reading != "" {
				at = ", at " + j.reading
			}
			j.mu.Unlock()
			j.logf("%s%s: %s so far%s", strings.ToUpper(j.doing[:1]), j.doing[1:], now.Sub(start).Round(time.Second), at)
		}
	}
}

func (j *journal) stop() {
	j.once.Do(func() {
		j.ticker.Stop()
		close(j.done)
	})
}

// Write takes Nix's standard error.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buffer = append(j.buffer, p...)
	for {
		line, rest, found := bytes.Cut(j.buffer, []byte("\n"))
		if !found {
			break
		}
		j.line(line)
		j.buffer = rest
	}
	if len(j.buffer) > maxLogLine {
		j.buffer = nil
	}
	return len(p), nil
}

// flush takes a last line that does not end in a newline.
func (j *journal) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.buffer) > 0 {
		j.line(j.buffer)
		j.buffer = nil
	}
}

func (j *journal) line(line []byte) {
	record, ok := bytes.CutPrefix(line, []byte("@nix "))
	var m message
	if !ok || json.Unmarshal(record, &m) != nil {
		if text := strings.TrimSpace(stripColours(string(line))); text != "" {
			j.plain = keepLast(j.plain, text)
		}
		return
	}
	m.Text, m.Raw = j.clean(m.Text), j.clean(m.Raw)
	switch {
	case m.Action == "start" && m.Type == actSubstitute:
		j.substitute(m)
	case m.Action != "msg":
	case m.Level == levelError:
		if m.Raw == "" {
			m.Raw = m.Text
		}
		j.errors = keepLast(j.errors, m)
	case m.Level == levelWarning:
		j.warnings = keepLast(j.warnings, strings.TrimPrefix(m.Text, "warning: "))
	case strings.HasPrefix(m.Text, "evaluating file '"):
		j.read(strings.TrimSuffix(strings.TrimPrefix(m.Text, "evaluating file '"), "'"))
	default:
		j.plain = keepLast(j.plain, m.Text)
	}
}

// clean makes a text of Nix's fit to be shown.
func (j *journal) clean(s string) string { return redact.Text(j.names.Replace(stripColours(s))) }

// read notes a file that the evaluator opened.
func (j *journal) read(file string) {
	file = strings.TrimPrefix(file, j.root)
	j.reading = file
	if p, ok := storePathOf(file); ok {
		j.used[p] = true
	}
}

// substitute notes a path that comes from a substituter.
func (j *journal) substitute(m message) {
	var fields []any
	if json.Unmarshal(m.Fields, &fields) != nil || len(fields) < 2 {
		return
	}
	name, _ := fields[0].(string)
	from, _ := fields[1].(string)
	p, ok := storePathOf(name)
	if !ok {
		return
	}
	j.used[p] = true
	j.substituted = append(j.substituted, p)
	j.logf("Fetching %s from %s, which the evaluation reads", p.Name(), j.clean(from))
}

// tail is what Nix said outside its log format, for an error: it does so before it has read its settings.
func (j *journal) tail() string {
	if len(j.plain) == 0 {
		return ""
	}
	last := j.plain[len(j.plain)-1]
	for _, line := range j.plain {
		if rest, ok := strings.CutPrefix(line, "error: "); ok {
			last = rest
		}
	}
	return ": " + text.Line(redact.Text(last))
}

func keepLast[T any](list []T, item T) []T {
	if len(list) >= maxKept {
		list = append(list[:0], list[1:]...)
	}
	return append(list, item)
}

// storePathOf is the store path that a file lies in.
func storePathOf(file string) (storepath.Path, bool) {
	rest, ok := strings.CutPrefix(file, storepath.Dir+"/")
	if !ok {
		return "", false
	}
	base, _, _ := strings.Cut(rest, "/")
	p, err := storepath.FromBase(base)
	return p, err == nil
}

var colours = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// stripColours removes terminal escapes.
func stripColours(s string) string { return colours.ReplaceAllString(s, "") }
