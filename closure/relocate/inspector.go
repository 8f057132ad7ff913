package relocate

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
	"github.com/nixproot/nix-hydra-buildpack/closure/xz"
)

const (
	// maxDepth is how many containers deep an inspector looks: a file in a jar in a tar in a gzip in a deb.
	maxDepth = 5
)

var (
	errStopped = errors.New("stopped")
	errBudget  = errors.New("it inflates to more than is looked at")
	errDepth   = fmt.Errorf("containers are nested more than %d deep", maxDepth)
)

// location says where an inspector is.
type location struct {
	via      string // the containers around, outermost first; "" for the file's own bytes
	kind     Kind   // what a reference here is
	plain    bool   // nothing around is compressed or checksummed, so the file's own bytes are searched already
	harmless string // why nothing here matters, or ""
	name     string // of the file or member
	depth    int
}

// in is the location inside a container.
func (p location) in(what string, plain bool) location {
	p.via += what
	p.plain = p.plain && plain
	return p
}

// member is the location of a container's member.
func (p location) member(name string) location {
	p.via += fmt.Sprintf(" member %.200q", name)
	p.name = name
	return p
}

// inspector looks for references where a plain search cannot see them: in what is compressed, in checksummed
// members, in containers within containers. It reads once, in bounded memory.
type inspector struct {
	ctx     context.Context
	scan    *scanner
	parts   *parts
	magics  []magic
	found   func(kind Kind, detail, harmless string)
	foreign func(hash []byte)
	budget  *budget
	taken   int64        // by its decoders, in bytes
	loan    *memory.Loan // for more than is small
	hasLoan bool         // whoever inspects has one
	levels  [maxDepth + 1]*level
	seen    map[string]bool
}

// level is what one depth of containers is read with; all of it is used again for the next file, and by the next
// inspector.
type level struct {
	*bufio.Reader
	gzip   *gzip.Reader
	zlib   io.ReadCloser
	zstd   *zstd.Decoder
	xz     *xz.Reader
	flate  io.ReadCloser
	buffer *searchBuffer
	search *plainSearch
}

// levels are those that no inspector has.
var levels = sync.Pool{New: func() any {
	l := &level{Reader: bufio.NewReaderSize(nil, scriptLen), search: &plainSearch{}}
	l.buffer = &searchBuffer{next: io.Discard, search: func(buf []byte, from, to int) {
		l.search.look(buf, from, to, l.buffer.off)
	}}
	return l
}}

func newInspector(s *scanner, p *parts, b *budget) *inspector {
	return &inspector{ctx: context.Background(), scan: s, parts: p, budget: b, magics: magics()}
}

// start makes the inspector ready for a file of size bytes.
func (x *inspector) start(size int64) {
	x.budget.allow(size)
	clear(x.seen)
}

// file goes through a whole file. What can go wrong is reported: a container that is corrupt is as corrupt for its
// reader, and all that a decoder here may refuse or trip over counts as not looked into.
func (x *inspector) file(r io.Reader, name string) {
	defer x.freeMemory()
	defer func() {
		if problem := recover(); problem != nil {
			x.report(Opaque, fmt.Sprintf("its decoder failed: %v", problem), "")
		}
	}()
	_ = x.look(r, location{plain: true, name: name})
}

// look goes through r, whatever format it has.
func (x *inspector) look(r io.Reader, p location) error {
	if p.depth > maxDepth {
		return errDepth
	}
	l := x.level(p.depth)
	if p.plain {
		l.Reset(r)
	} else {
		l.begin(p)
		l.Reset(io.TeeReader(&meter{r, x}, l.buffer))
	}
	head, err := l.Peek(headLen)
	if n := wanted(head); n > headLen {
		head, err = l.Peek(n)
	}
	if len(head) == 0 && err != nil && err != io.EOF {
		return err // otherwise what there is before the error is as good as any
	}
	f := x.recognise(p.name, head)
	l.search.begin(f, head)
	if p.depth > 0 && (f.name == lispName || f.look == nil && isPHP(head) && l.beginsPHAR()) {
		x.report(Opaque, p.via+join(p.via)+cmp.Or(f.name, pharName), p.harmless)
	}
	if p.plain && p.depth > 0 && f.kind != "" && f.look == nil && !f.opaque {
		return searchSealed(f, l, p)
	}
	err = x.lookAs(f, l, p)
	if p.plain {
		return err
	}
	if err == nil {
		_, err = io.Copy(io.Discard, l.Reader)
	}
	return errors.Join(err, l.end())
}

// beginsPHAR reports whether a PHP program is to come with what may be an archive behind it.
func (l *level) beginsPHAR() bool {
	head, _ := l.Peek(l.Size())
	return pharManifest(head, math.MaxUint32) > 0
}

// searchSealed goes through a member that no rewriting may touch.
func searchSealed(f format, l *level, p location) error {
	p = p.in(join(p.via)+f.name, false)
	p.kind = f.kind
	l.begin(p)
	_, err := io.Copy(l.buffer, l.Reader)
	return errors.Join(err, l.end())
}

// begin has the level search what stands at p.
func (l *level) begin(p location) {
	l.search.location = p
	l.buffer.open(math.MaxInt64)
}

// end searches what the buffer still holds.
func (l *level) end() error {
	l.buffer.left = 0
	return l.buffer.slide()
}

// lookAs goes through l as the format says.
func (x *inspector) lookAs(f format, l *level, p location) error {
	switch {
	case f.opaque:
		x.report(Opaque, p.via+join(p.via)+f.name, p.harmless)
		return nil
	case f.look == nil:
		return nil
	}
	p = p.in(join(p.via)+f.name, f.kind == "")
	p.depth++
	if f.kind != "" {
		p.kind = f.kind
	}
	err := f.look(x, l, p)
	if errors.Is(err, errStopped) {
		return err
	}
	if unreadable(err) {
		x.report(Opaque, fmt.Sprintf("%s: %v", p.via, err), p.harmless)
	}
	// What is corrupt is so for its reader, too; the part before it has been looked at.
	return nil
}

func join(via string) string {
	if via == "" {
		return ""
	}
	return ": "
}

// unsupported is the error of a container that uses what no decoder here knows.
type unsupported string

func (u unsupported) Error() string { return string(u) }

// unreadable tells errors that hide intact contents from those of corrupt contents.
func unreadable(err error) bool {
	var u unsupported
	return errors.As(err, &u) || errors.Is(err, errBudget) || errors.Is(err, errDepth)
}

// level gives the readers for a depth.
func (x *inspector) level(depth int) *level {
	l := x.levels[depth]
	if l == nil {
		l = levels.Get().(*level)
		l.search.x, l.search.split.parts = x, x.parts
		x.levels[depth] = l
	}
	return l
}

// release lets other inspectors have what this one read with.
func (x *inspector) release() {
	for i, l := range x.levels {
		if l == nil {
			continue
		}
		l.Reset(nil)
		l.buffer.release()
		*l.search = plainSearch{}
		levels.Put(l)
		x.levels[i] = nil
	}
}

// report reports one blocker per kind and location.
func (x *inspector) report(kind Kind, detail, harmless string) {
	if x.seen == nil {
		x.seen = make(map[string]bool)
	}
	if key := string(kind) + detail; len(x.seen) < 1000 && !x.seen[key] {
		x.seen[key] = true
		x.found(kind, detail, harmless)
	}
}

// meter counts what is looked at, until the inspector's context ends.
type meter struct {
	r io.Reader
	x *inspector
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.x.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	if !m.x.budget.inflated(int64(n)) {
		return n, errBudget
	}
	return n, err
}

// plainSearch is the finder for bytes inside a container: whatever is found there is a blocker.
type plainSearch struct {
	x   *inspector
	buf []byte
	location
	split splitSearch
	code  bool
}

// begin makes the search ready for contents of a format.
func (s *plainSearch) begin(f format, head []byte) {
	s.code = f.code
	s.split.begin(head)
}

// look searches the places buf[from:to]; buf begins at off.
func (s *plainSearch) look(buf []byte, from, to int, off int64) {
	s.buf = buf
	s.x.scan.scan(buf, from, to, s)
	regexps(buf, from, to, s.x.scan.members, func(_, member int) { s.member(member, " in a compiled regular expression") })
	if s.code {
		s.split.search(buf, from, to, off, s)
	}
}

func (s *plainSearch) reference(_, member int) { s.member(member, "") }
func (s *plainSearch) bareHash(i, member int) {
	if !isMention(s.buf, i) {
		s.member(member, " without /nix/store")
	}
}

func (s *plainSearch) wideHash(_, width, member int) {
	s.member(member, fmt.Sprintf(" in UTF-%d", 8*width))
}

func (s *plainSearch) member(member int, how string) {
	s.x.report(s.kind, fmt.Sprintf("%s: the hash of %s%s", s.via, s.x.scan.members.paths[member], how), s.harmless)
}

func (s *plainSearch) splitPart(member int) { s.member(member, " split") }

func (s *plainSearch) foreign(i int) { s.x.foreign(s.buf[i : i+hashLen]) }

// relocatedName does not matter here: nothing is rewritten, and nothing undone.
func (s *plainSearch) relocatedName(int) {}
