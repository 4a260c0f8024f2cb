package hub

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// Projects are those whose flags a caller sees. The zero value is all. It is
// comparable: the same projects are equal.
type Projects struct{ names string }

// NewProjects takes the names of projects, which hold no commas; none is all.
func NewProjects(names []string) Projects {
	var b strings.Builder
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		b.WriteString(name)
		b.WriteByte(',')
	}
	return Projects{b.String()}
}

// All reports whether p are all projects there are.
func (p Projects) All() bool { return p.names == "" }

// String are the names, sorted, each with a comma behind it; empty for all.
func (p Projects) String() string { return p.names }

// Has reports whether a project is one of them.
func (p Projects) Has(project string) bool {
	if p.All() {
		return true
	}
	for rest := p.names; rest != ""; {
		var name string
		if name, rest, _ = strings.Cut(rest, ","); name == project {
			return true
		}
	}
	return false
}

// Flag returns the flag of a snapshot if its project is among p, else nil: what
// there is for a flag of p to require is not p's.
func (p Projects) Flag(s *eval.Snapshot, key string) *eval.Flag {
	if f := s.Flag(key); f != nil && p.Has(f.Project()) {
		return f
	}
	return nil
}

// maxParts bounds the sets of projects of one environment whose heads are kept.
// Beyond it, those who follow the one longest unused get a snapshot where a
// delta would do.
const maxParts = 256

// parts are the heads of an environment for some of its projects. Each is made
// by whoever first needs it at a revision, and shared by all.
type parts struct {
	mu    sync.Mutex
	clock int64
	by    map[Projects]*part
}

// part is the environment for some projects.
type part struct {
	used int64 // by the clock of all parts, under their lock

	mu   sync.Mutex
	of   *Head // what head was made of
	head *Head
}

// get returns the part for some projects, which may hold no head yet.
func (ps *parts) get(p Projects) *part {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.clock++
	found := ps.by[p]
	if found == nil {
		if ps.by == nil {
			ps.by = map[Projects]*part{}
		}
		if len(ps.by) >= maxParts {
			ps.drop()
		}
		found = &part{}
		ps.by[p] = found
	}
	found.used = ps.clock
	return found
}

// drop lets go of the part that was not used for the longest. It is called under
// the lock.
func (ps *parts) drop() {
	var oldest Projects
	for p, part := range ps.by {
		if o := ps.by[oldest]; o == nil || part.used < o.used {
			oldest = p
		}
	}
	delete(ps.by, oldest)
}

// HeadFor is Head for some projects: of their flags and what these read, with
// digests of its own. It has every revision of the environment, also those that
// changed nothing in it. Its keys verify and do not sign.
func (e *Environment) HeadFor(p Projects) *Head {
	if p.All() {
		return e.Head()
	}
	part := e.parts.get(p)
	part.mu.Lock()
	defer part.mu.Unlock()
	if head := e.Head(); part.of != head { // read under the lock, so that a part never goes back
		part.head = head.narrow(p, part.of, part.head, e.hub.cfg.DeltaBytes)
		part.of = head
	}
	return part.head
}

// narrow returns h for some projects. before is what that was, made of an older
// head; both are nil the first time.
func (h *Head) narrow(p Projects, of, before *Head, limit int) *Head {
	next := h.narrowed(p, of, before, limit)
	next.committedAt, next.protected, next.overrides, next.superseded = h.committedAt, h.protected, h.overrides, h.superseded
	switch {
	case h.keys == nil:
		next.keys = nil
	case of != nil && of.keys == h.keys:
		next.keys = before.keys
	default:
		next.keys = &guidonv1.PropagationKeys{Keys: h.keys.GetKeys()}
	}
	return next
}

func (h *Head) narrowed(p Projects, of, before *Head, limit int) *Head {
	if of != nil && of.snapshot == h.snapshot {
		return before.clone()
	}
	snapshot := h.snapshot.Narrow(p.Has)
	if before == nil || store.Epoch(before.Revision()) != store.Epoch(h.Revision()) {
		return newHead(snapshot)
	}
	upserts, deletes := snapshot.Since(before.snapshot)
	for _, row := range upserts {
		if row.From <= before.Revision() {
			// A flag of p reads now what it did not read before. In a delta, clients
			// take no row that is older than what they have.
			return newHead(snapshot)
		}
	}
	return before.followedBy(snapshot, upserts, deletes, limit)
}

// AtFor is At for some projects.
func (e *Environment) AtFor(ctx context.Context, p Projects, revision int64) (*eval.Snapshot, error) {
	snapshot, err := e.At(ctx, revision)
	if err != nil || p.All() {
		return snapshot, err
	}
	if head := e.HeadFor(p); head.Revision() == snapshot.Revision() {
		return head.snapshot, nil
	}
	return snapshot.Narrow(p.Has), nil
}

// nobody is a key that no flag can have.
const nobody = "~"

// DefinitionFor is Definition for some projects: the flags of others are as
// unknown as those that never were.
func (e *Environment) DefinitionFor(ctx context.Context, p Projects, key string, revision int64) (Definition, error) {
	d, err := e.Definition(ctx, key, revision)
	if err != nil || d.flag == nil || p.Has(d.flag.Project()) {
		return d, err
	}
	return e.Definition(ctx, nobody, revision)
}

// NearestDefinitionFor is nearestDefinition on the terms of
// [Environment.DefinitionFor].
func (e *Environment) NearestDefinitionFor(ctx context.Context, p Projects, key string, revision int64) (Definition, int64, error) {
	d, at, err := e.nearestDefinition(ctx, key, revision)
	if err != nil || d.flag == nil || p.Has(d.flag.Project()) {
		return d, at, err
	}
	return e.nearestDefinition(ctx, nobody, revision)
}

// WatchFor is Watch for some projects, without an idle time.
func (e *Environment) WatchFor(ctx context.Context, p Projects) iter.Seq[*Head] {
	return func(yield func(*Head) bool) {
		for range e.Watch(ctx, 0) {
			if !yield(e.HeadFor(p)) {
				return
			}
		}
	}
}
