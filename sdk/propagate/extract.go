package propagate

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// maxSkew is how far a root's clock may be from ours without being counted. It
// is only counted: re-rooting old headers would tear requests whose messages
// wait in a queue.
const maxSkew = 60 * time.Second

// Extract returns ctx with the State of the request that c belongs to: pinned
// as its header says if Mode and signature allow, else a fresh root, open for
// Enrich. A bad header is as good as none; it is counted by what is wrong with
// it and never fails the request.
func (p *Propagator) Extract(ctx context.Context, c Carrier) context.Context {
	s, _ := p.extract(c)
	return withState(ctx, s)
}

// extract also returns what became of the header.
func (p *Propagator) extract(c Carrier) (*State, Outcome) {
	s := p.newState()
	if p.config.Mode == Edge {
		outcome := p.inspect(c)
		p.counters.header(outcome)
		s.external = p.correlationOf(c)
		now := p.config.Now()
		correlation, root := newIDs(now)
		s.root(correlation, root, now, nil)
		return s, outcome
	}
	outcome := Absent
	if p.config.Mode == Internal {
		outcome = p.follow(s, c)
		p.counters.header(outcome)
	}
	if outcome == Verified {
		return s, outcome
	}
	now := p.config.Now()
	made, root := newIDs(now)
	correlation := cmp.Or(p.correlationOf(c), made)
	s.root(correlation, root, now, nil)
	if outcome == Absent && p.config.Mode == Internal {
		p.counters.event(OrphanRooted)
	}
	return s, outcome
}

// inspect counts what arrives at an edge. A valid header there means that an
// internal caller came in by the front door, or that the mode is wrong.
func (p *Propagator) inspect(c Carrier) Outcome {
	values := c.Values(HeaderName)
	if len(values) == 0 {
		return Absent
	}
	if len(values) == 1 {
		if _, err := p.config.Keys.Verify(values[0]); err == nil {
			p.counters.event(ValidAtEdge)
		}
	}
	return Stripped
}

// follow makes s the State of a header that may be trusted. A header that only
// another service can read leaves s unpinned but is remembered, to be passed
// on as it came.
func (p *Propagator) follow(s *State, c Carrier) Outcome {
	values, packed := c.Values(HeaderName), inBaggage(c.Values("baggage"))
	if len(values) == 0 {
		values, packed = packed, nil // what came as baggage alone is as good
	}
	switch len(values) {
	case 0:
		return Absent
	case 1:
	default:
		return Duplicate
	}
	pin, err := p.config.Keys.Verify(values[0])
	outcome := Verified
	if refused, ok := errors.AsType[*HeaderError](err); ok {
		outcome = refused.Outcome
	} else if pin.Environment != p.config.Environment() {
		outcome = ForeignEnvironment
	}
	if outcome != Verified {
		if outcome.forwardable() {
			s.received = values[0]
			p.counters.event(Forwarded)
		}
		return outcome
	}
	s.correlation, s.received, s.followed, s.pin = pin.Correlation, values[0], true, pin
	s.overridden = pin.overridden()
	s.knowns[0] = metBy(&s.pin)
	s.knowns[0].value = values[0]
	s.met.Store(&s.knowns[0])
	if skew := p.config.Now().Sub(time.Unix(pin.Time, 0)); skew.Abs() > maxSkew {
		p.counters.event(ClockSkew)
	}
	if newest := p.config.Snapshots.Snapshot(); newest != nil && newest.Revision() == pin.Revision {
		s.snapshot = newest
	}
	s.sealed.Store(true)
	if len(packed) > 0 && !s.joinBaggage(packed) {
		p.counters.event(BaggageRefused)
	}
	return Verified
}

// joinBaggage takes from a second header, which came as baggage, the emergencies
// that the first does not tell of. It reports false unless it is of this root.
func (s *State) joinBaggage(values []string) bool {
	if len(values) != 1 {
		return false
	}
	if values[0] == s.received {
		return true
	}
	h, err := s.p.config.Keys.Verify(values[0])
	if err != nil || !s.sameRoot(&h) {
		return false
	}
	s.unite(metBy(&h))
	return true
}

func (p *Propagator) correlationOf(c Carrier) string {
	id, refused := inboundCorrelation(c)
	if refused {
		p.counters.event(CorrelationRefused)
	}
	return id
}

// Inject writes into c what an outgoing call carries, and seals the State of
// ctx: the header as it was received or as this root minted it, and the
// correlation ID. Whether the destination may see it is the caller's to know;
// Transport decides for HTTP. Without a State it writes nothing.
func (p *Propagator) Inject(ctx context.Context, c Carrier) {
	s := stateOf(ctx)
	if s == nil {
		return
	}
	if p.config.Mode != Off {
		if value, ok := s.Header(); ok {
			c.Set(HeaderName, value)
			p.counters.headerBytes.add(uint64(len(value)))
		}
	}
	c.Set(correlationName, s.correlation)
}
