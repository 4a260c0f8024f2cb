package propagate

import (
	"context"
	"maps"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// Root starts a new request: for jobs, consumers and whatever else does not
// arrive through a transport. It pins the newest revision; attributes, which
// may be nil, are what is known of the subject, and Enrich adds to them until
// the State is sealed.
func (p *Propagator) Root(ctx context.Context, attributes map[string]any) context.Context {
	s, now := p.newState(), p.config.Now()
	correlation, root := newIDs(now)
	s.root(correlation, root, now, attributes)
	return withState(ctx, s)
}

// Reroot starts a new root within the same request, at the newest revision and
// the present time, and keeps correlation ID, subject and attributes: once per
// message of a long stream or per turn of a loop. What was evaluated before
// and after may differ, which is the point. Without a State in ctx it is Root.
func (p *Propagator) Reroot(ctx context.Context) context.Context {
	old := stateOf(ctx)
	if old == nil {
		return p.Root(ctx, nil)
	}
	s, now := p.newState(), p.config.Now()
	_, root := newIDs(now)
	s.external = old.external
	if !old.followed {
		s.received = old.received // unreadable here, but still meant for a service further down
	}
	s.root(old.correlation, root, now, old.copied(p.config.Snapshots.Snapshot()))
	return withState(ctx, s)
}

func (p *Propagator) newState() *State {
	return &State{p: p, off: p.config.Mode == Off}
}

// root makes s an open State pinned to the newest revision.
func (s *State) root(correlation, root string, now time.Time, attributes map[string]any) {
	s.correlation = correlation
	s.full = nothing
	s.add(s.p.usable(attributes))
	if s.off {
		return
	}
	s.p.counters.event(Rooted)
	s.pin.Correlation, s.pin.Root, s.pin.Environment, s.pin.Time = correlation, root, s.p.config.Environment(), now.Unix()
	s.take(s.p.config.Snapshots.Snapshot())
}

func (s *State) take(newest *eval.Snapshot) {
	if newest != nil {
		s.snapshot, s.plan, s.pin.Revision = newest, s.p.plans.of(newest), newest.Revision()
	}
}

// nothing is an evaluation context of no attributes.
var nothing, _ = eval.NewContext(nil)

// usable is what an evaluation can use of attributes, copied in depth, since it
// may be read long after the caller changes his. One bad value must not cost the
// others.
func (p *Propagator) usable(attributes map[string]any) *eval.Context {
	if len(attributes) == 0 {
		return nothing
	}
	all, err := eval.NewContext(attributes)
	if err == nil {
		return all
	}
	good := make(map[string]any, len(attributes))
	for name, value := range attributes {
		if _, err := eval.NewContext(map[string]any{name: value}); err != nil {
			p.counters.event(AttributeUnusable)
			continue
		}
		good[name] = value
	}
	if all, err = eval.NewContext(good); err != nil { // too many together
		p.counters.event(AttributeUnusable)
		return nothing
	}
	return all
}

// add lays attributes over what is known.
func (s *State) add(attributes *eval.Context) {
	const few = 32 // beyond that it is quicker to begin anew
	if min(s.full.Len(), attributes.Len()) <= few {
		s.full = s.full.Merge(attributes)
		return
	}
	merged := s.full.Map()
	maps.Copy(merged, attributes.Map())
	s.full = s.p.usable(merged)
}

// seal makes the State immutable. call is the evaluation context of the call
// that causes it and is brought in first, so that an application that passes
// its context at evaluation, and does nothing else, simply works. It reports
// false, and leaves the State open, as long as there is no snapshot to pin.
func (s *State) seal(call map[string]any) bool {
	if s.sealed.Load() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed.Load() {
		return true
	}
	if s.snapshot == nil {
		if s.take(s.p.config.Snapshots.Snapshot()); s.snapshot == nil {
			return false
		}
	}
	if s.pin.Environment == "" {
		s.pin.Environment = s.p.config.Environment()
	}
	s.add(s.p.usable(call))
	s.settle()
	s.overridden = s.pin.overridden()
	s.met.Store(&s.knowns[0])
	s.sealed.Store(true)
	return true
}
