package propagate

import (
	"context"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// Root starts a new request: for jobs, consumers and whatever else does not
// arrive through a transport. It pins the newest revision; attributes, which
// may be nil, are what is known of the subject, and Enrich adds to them until
// the State is sealed.
func (p *Propagator) Root(ctx context.Context, attributes map[string]any) context.Context {
	s := p.newState()
	correlation, root := newIDs(p.config.Now())
	s.root(correlation, root, attributes)
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
	s := p.newState()
	_, root := newIDs(p.config.Now())
	s.external = old.external
	if !old.followed {
		s.received = old.received // unreadable here, but still meant for a service further down
	}
	s.root(old.correlation, root, old.copied(p.config.Snapshots.Snapshot()))
	return withState(ctx, s)
}

func (p *Propagator) newState() *State {
	return &State{p: p, off: p.config.Mode == Off}
}

// root makes s an open State pinned to the newest revision.
func (s *State) root(correlation, root string, attributes map[string]any) {
	s.correlation = correlation
	s.full = make(map[string]any, len(attributes))
	s.add(attributes)
	if s.off {
		return
	}
	s.p.counters.event(Rooted)
	s.pin = Header{Correlation: correlation, Root: root, Environment: s.p.config.Environment(), Time: s.p.config.Now().Unix()}
	s.take(s.p.config.Snapshots.Snapshot())
}

func (s *State) take(newest *eval.Snapshot) {
	if newest != nil {
		s.snapshot, s.plan, s.pin.Revision = newest, s.p.plans.of(newest), newest.Revision()
	}
}

// add copies what an evaluation can use of attributes, lists and objects in
// depth, since they may be read long after the caller changes his. One bad
// value must not cost the others.
func (s *State) add(attributes map[string]any) {
	for name, value := range attributes {
		switch value.(type) {
		case string, bool, int:
		default:
			c, err := eval.NewContext(map[string]any{name: value})
			if err != nil {
				s.p.counters.event(AttributeUnusable)
				continue
			}
			value = c.Map()[name]
		}
		s.full[name] = value
	}
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
	s.add(call)
	s.settle()
	s.overridden = s.pin.overridden()
	s.met.Store(new(known))
	s.sealed.Store(true)
	return true
}
