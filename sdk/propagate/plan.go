package propagate

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// plan is what rooting needs to know of a snapshot, worked out once for each.
type plan struct {
	snapshot *eval.Snapshot
	travel   []travel     // the allow-list as far as request flags read it, by wire name
	rooted   []*eval.Flag // flags that cannot be derived from what travels, by key
	attached []*eval.Flag // derivable flags that are to be read without an engine, by key
	decided  []*eval.Flag // both, those first that nobody else could decide
}

type travel struct {
	attribute, wire string
	readers         []*eval.Flag
}

// plans remembers the plan of the newest snapshot.
type plans struct {
	newest atomic.Pointer[plan]
}

func (c *plans) of(s *eval.Snapshot) *plan {
	known := c.newest.Load()
	if known != nil && known.snapshot == s {
		return known
	}
	fresh := newPlan(s)
	if known == nil || known.snapshot.Revision() < s.Revision() {
		c.newest.Store(fresh)
	}
	return fresh
}

func newPlan(s *eval.Snapshot) *plan {
	p := &plan{snapshot: s}
	listed := s.Settings().Travel
	readers := make(map[string][]*eval.Flag, len(listed))
	for _, t := range listed {
		readers[t.Attribute] = nil
	}
	for f := range s.Flags() {
		if f.Scope() != scopeRequest || f.Archived() || f.Err() != nil {
			continue // evaluates the same with any context, or not at the pin
		}
		switch {
		case len(f.NotTravelling()) > 0:
			p.rooted = append(p.rooted, f)
		case f.Attach():
			p.attached = append(p.attached, f)
		}
		for _, path := range f.Reads() {
			name, _, _ := strings.Cut(path, ".")
			if known, ok := readers[name]; ok && !slices.Contains(known, f) {
				readers[name] = append(known, f)
			}
		}
	}
	p.decided = slices.Concat(p.rooted, p.attached)
	for _, t := range listed {
		if t.Attribute != targetingKey && len(readers[t.Attribute]) > 0 {
			wire := wireName(t)
			if attributeName(listed, wire) != t.Attribute {
				wire = "" // shared by two attributes: it would be read as the other, so it cannot travel
			}
			p.travel = append(p.travel, travel{t.Attribute, wire, readers[t.Attribute]})
		}
	}
	slices.SortFunc(p.travel, func(a, b travel) int { return cmp.Compare(a.wire, b.wire) })
	return p
}

// wireName is an attribute's name in the header.
func wireName(t eval.Travel) string { return cmp.Or(t.As, t.Attribute) }

// attributeName is the inverse of wireName under the allow-list, or "".
func attributeName(listed []eval.Travel, wire string) string {
	for _, t := range listed {
		if wireName(t) == wire {
			return t.Attribute
		}
	}
	return ""
}
