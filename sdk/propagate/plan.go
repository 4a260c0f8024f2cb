package propagate

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// plan is what sealing needs to know of a snapshot. It looks at every flag, so
// it is worked out once for all States of that snapshot, by the first that is
// sealed.
type plan struct {
	snapshot *eval.Snapshot
	once     sync.Once

	travel   []travel     // the allow-list as far as request flags read it, by wire name
	rooted   []*eval.Flag // flags that cannot be derived from what travels, by key
	attached []*eval.Flag // derivable flags that are to be read without an engine, by key
	decided  []*eval.Flag // both, those first that nobody else could decide
}

type travel struct {
	attribute, wire string
	limit           int // bytes of a value, as text
	readers         []*eval.Flag
}

// plans holds the plan of the newest snapshot; a State keeps that of its own.
type plans struct {
	newest atomic.Pointer[plan]
}

func (c *plans) of(s *eval.Snapshot) *plan {
	known := c.newest.Load()
	if known != nil && known.snapshot == s {
		return known
	}
	fresh := &plan{snapshot: s}
	if c.newest.CompareAndSwap(known, fresh) {
		return fresh
	}
	if known = c.newest.Load(); known.snapshot == s {
		return known
	}
	return fresh
}

// ready returns p worked out.
func (p *plan) ready() *plan {
	p.once.Do(p.work)
	return p
}

// work sorts the request flags by what they read.
func (p *plan) work() {
	listed := p.snapshot.Settings().Travel
	readers := make(map[string][]*eval.Flag, len(listed))
	for _, t := range listed {
		readers[t.Attribute] = nil
	}
	for f := range p.snapshot.Flags() {
		if f.Scope() != scopeRequest || f.Archived() || f.Err() != nil {
			continue // read at the newest, or the same whatever the context
		}
		switch {
		case !f.Derivable():
			p.rooted = append(p.rooted, f)
		case f.Attach():
			p.attached = append(p.attached, f)
		}
		for _, name := range f.ReadNames() {
			if known, listed := readers[name]; listed {
				readers[name] = append(known, f)
			}
		}
	}
	p.decided = slices.Concat(p.rooted, p.attached)
	for _, t := range listed {
		if t.Attribute != targetingKey && len(readers[t.Attribute]) > 0 {
			wire := t.Wire()
			if attributeName(listed, wire) != t.Attribute {
				wire = "" // shared by two attributes: it would be read as the other, so it cannot travel
			}
			p.travel = append(p.travel, travel{t.Attribute, wire, t.Limit(), readers[t.Attribute]})
		}
	}
	slices.SortFunc(p.travel, func(a, b travel) int { return cmp.Compare(a.wire, b.wire) })
}

// attributeName is the attribute of a name in the header under the allow-list, or
// "".
func attributeName(listed []eval.Travel, wire string) string {
	for _, t := range listed {
		if t.Wire() == wire {
			return t.Attribute
		}
	}
	return ""
}
