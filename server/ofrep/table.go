package ofrep

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// entry is a flag with what can be said of it already encoded:
// {"key":K,"reason":R,"variant":V,"value":X,"metadata":M}, of which only R and
// the choice of V and X are for each evaluation.
type entry struct {
	flag *eval.Flag
	// head is {"key":K.
	head []byte
	// tails are ,"variant":V,"value":X,"metadata":M} by variant, rest is that
	// without a variant.
	tails [][]byte
	rest  []byte
}

func newEntry(f *eval.Flag) *entry {
	e := &entry{flag: f, head: appendText([]byte(`{"key":`), f.Key())}
	e.rest = append(append([]byte(`,"metadata":`), encoded(f.Metadata())...), '}')
	for name, value := range f.Variants() {
		tail := append(appendText([]byte(`,"variant":`), name), `,"value":`...)
		tail = append(append(tail, encoded(value)...), e.rest...)
		e.tails = append(e.tails, tail)
	}
	return e
}

// encoded is JSON of what a definition held. It is made when a flag is
// published, never when it is evaluated.
func encoded(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // it was read from JSON
	}
	return bytes.TrimSpace(b.Bytes())
}

// appendText appends a JSON string. Keys and names are plain; others take the
// long way.
func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			return append(dst, encoded(s)...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// append appends the answer for the flag: a success, or a failure where the
// answer is an error.
func (e *entry) append(dst []byte, a *view.Answer, s view.Selector) []byte {
	if code := a.ErrorCode(); code != eval.CodeNone {
		return e.appendFailure(dst, a, string(code), s)
	}
	reason := a.Reason()
	if reason == eval.ReasonStatic && !a.Cacheable() {
		reason = eval.ReasonTargetingMatch // clients may keep what is STATIC, whatever they ask for next
	}
	dst = append(dst, e.head...)
	dst = append(append(append(dst, `,"reason":"`...), reason...), '"')
	if i := a.VariantIndex(); i >= 0 {
		dst = append(dst, e.tails[i]...)
	} else {
		dst = append(dst, e.rest...)
	}
	return annotate(dst, a, s)
}

func (e *entry) appendFailure(dst []byte, a *view.Answer, code string, s view.Selector) []byte {
	dst = append(dst, e.head...)
	dst = append(append(append(dst, `,"errorCode":"`...), code...), `","errorDetails":`...)
	dst = append(appendText(dst, a.Message()), e.rest...)
	return annotate(dst, a, s)
}

// annotate adds to the metadata at the end of dst what depends on the request.
func annotate(dst []byte, a *view.Answer, s view.Selector) []byte {
	if a.Pinned == 0 && s.Key != view.Source {
		return dst
	}
	dst = dst[:len(dst)-len("}}")] // of the metadata, which are never empty, and of the flag
	if a.Pinned != 0 {
		dst = strconv.AppendInt(append(dst, `,"pinnedRevision":`...), a.Pinned, 10)
	}
	if unavailable, nearest := a.PinUnavailable(); unavailable {
		dst = append(dst, `,"PIN_UNAVAILABLE":true`...)
		if nearest != 0 {
			dst = strconv.AppendInt(append(dst, `,"nearestRevision":`...), nearest, 10)
		}
	}
	if s.Key == view.Source {
		dst = appendText(append(dst, `,"source":`...), s.Project)
	}
	return append(dst, "}}"...)
}

// table holds the entries of one snapshot.
type table struct {
	snapshot      *eval.Snapshot
	entries       []*entry // by key
	by            map[string]*entry
	timeDependent bool

	// scopes holds what is known of parts of the table.
	mu     sync.Mutex
	scopes map[scope]extent
}

// scope is a part of an environment that a caller sees.
type scope struct {
	selector   view.Selector
	clientOnly bool
}

// extent tells two states of a scope apart: whatever changes in it, appears or
// goes, changes one of the two.
type extent struct {
	from  int64 // the newest revision that changed a flag of it
	flags int
}

// maxScopes bounds what is kept of parts: callers name them.
const maxScopes = 1000

// extent returns the state of a scope.
func (t *table) extent(s scope) extent {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, ok := t.scopes[s]; ok {
		return known
	}
	var x extent
	for _, e := range t.entries {
		if s.selector.Selects(e.flag) && (!s.clientOnly || e.flag.ClientVisible()) {
			x.from = max(x.from, e.flag.EffectiveFrom())
			x.flags++
		}
	}
	if len(t.scopes) < maxScopes {
		t.scopes[s] = x
	}
	return x
}

// tables is the newest table of an environment.
type tables struct {
	newest atomic.Pointer[table]
	mu     sync.Mutex // held while a newer one is made
}

// table returns the table of a snapshot, which is the newest or was a moment
// ago. Flags that did not change keep their entries.
func (h *Handler) table(e *hub.Environment, s *eval.Snapshot) *table {
	held, ok := h.tables.Load(e)
	if !ok {
		held, _ = h.tables.LoadOrStore(e, new(tables))
	}
	ts := held.(*tables)
	if t := ts.newest.Load(); t != nil && t.snapshot == s {
		return t
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	old := ts.newest.Load()
	if old != nil && old.snapshot == s {
		return old
	}
	t := newTable(s, old)
	if old == nil || old.snapshot.Revision() <= s.Revision() {
		ts.newest.Store(t)
	}
	return t
}

func newTable(s *eval.Snapshot, old *table) *table {
	t := &table{snapshot: s, entries: make([]*entry, 0, s.Len()), by: make(map[string]*entry, s.Len()), scopes: map[scope]extent{}}
	for f := range s.Flags() {
		var e *entry
		if old != nil {
			e = old.by[f.Key()]
		}
		if e == nil || e.flag != f {
			e = newEntry(f)
		}
		t.entries = append(t.entries, e)
		t.by[f.Key()] = e
		t.timeDependent = t.timeDependent || f.TimeDependent()
	}
	return t
}

// entryFor returns the entry of the flag that an answer came from. Emergencies
// and definitions of older revisions are flags of their own.
func (t *table) entryFor(f *eval.Flag) *entry {
	if e := t.by[f.Key()]; e != nil && e.flag == f {
		return e
	}
	return newEntry(f)
}
