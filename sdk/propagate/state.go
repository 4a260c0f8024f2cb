package propagate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/guidon-flags/guidon/sdk/eval"
)

var (
	// ErrSealed is returned by Enrich once the State's context can no longer
	// change, since a decision or a call was already based on it.
	ErrSealed = errors.New("the request's flag state is sealed")

	// ErrNoState is returned by Enrich if no State is in the context.
	ErrNoState = errors.New("the context carries no flag state")
)

// targetingKey is the evaluation context's name for the subject.
const targetingKey = "targetingKey"

// State is the flag state of one request: the pin, the subject, the travelling
// attributes, the root's clock and the decisions that travel.
//
// In the process that rooted it, a State is open until the first evaluation of
// a request flag or the first outgoing call, and sealed, that is immutable,
// from then on; elsewhere it is sealed from the start. It lives in a
// context.Context, is shared by all who have that context, and is safe for
// concurrent use.
type State struct {
	p           *Propagator
	correlation string
	external    string
	received    string // the header as it came
	followed    bool   // and was read; else these bytes go out instead of a header of our own
	off         bool   // never pinned or sealed, only a correlation ID and what is known here

	sealed  atomic.Bool
	mu      sync.Mutex // guards what follows until sealed, nobody writes it afterwards; and then met
	pin     Header
	full    *eval.Context                  // all this process knows of the subject; nil unless rooted here
	fullMap atomic.Pointer[map[string]any] // made of full on demand, once sealed

	// snapshot is that of the pin, if this process happened to have it: it
	// answers for every flag without history, however far the newest moves on.
	snapshot *eval.Snapshot
	plan     *plan // of snapshot; nil unless rooted here

	overrides  []OverrideToken // what the root was asked to force
	overridden bool            // whether the pin holds any

	travelling atomic.Pointer[travelling] // subject and attributes as every hop sees them

	met     atomic.Pointer[known] // nil until sealed
	knowns  [2]known              // the first two that met points to: few requests have more
	pierced []int64               // emergencies that changed a value here; under mu

	carried stateContext // the first context that carries s
}

// stateContext is context.WithValue as part of its value: every request has one.
type stateContext struct {
	context.Context //nolint:containedctx // it is one
	state           *State
}

// Value implements context.Context.
func (c *stateContext) Value(key any) any {
	if key == (stateKey{}) {
		return c.state
	}
	return c.Context.Value(key)
}

type stateKey struct{}

func stateOf(ctx context.Context) *State {
	s, _ := ctx.Value(stateKey{}).(*State)
	return s
}

// withState returns ctx with s, which nobody else has yet.
func withState(ctx context.Context, s *State) context.Context {
	s.carried = stateContext{ctx, s}
	return &s.carried
}

// FromContext returns the State of the request that ctx belongs to. There is
// none outside requests and where propagation is off.
func FromContext(ctx context.Context) (*State, bool) {
	if s := stateOf(ctx); s != nil && !s.off {
		return s, true
	}
	return nil, false
}

// CorrelationID returns the request's correlation ID.
func (s *State) CorrelationID() string { return s.correlation }

// ExternalRequestID returns the ID that a caller from outside sent along, for
// logs, or "". Within the zone the request goes by its CorrelationID.
func (s *State) ExternalRequestID() string { return s.external }

// Sealed reports whether the State can no longer change.
func (s *State) Sealed() bool { return s.sealed.Load() }

// Pin returns what travels: revision, subject, attributes, clock, decisions.
// It reports false for a State that is still open. The caller must not change
// the lists.
func (s *State) Pin() (Header, bool) {
	if !s.sealed.Load() {
		return Header{}, false
	}
	return s.pin, true
}

// Revision returns the revision the request is pinned to, or 0 if that is not
// settled yet because no snapshot has arrived.
func (s *State) Revision() int64 {
	if !s.sealed.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	return s.pin.Revision
}

// Header seals the State and returns the value that outgoing calls carry. It
// reports false if there is nothing to carry: this process has no snapshot or
// no signing key yet. A header that was received is returned as it came, unless
// an emergency is known here that it does not tell of.
func (s *State) Header() (string, bool) {
	if s.off {
		return "", false
	}
	sealed := s.seal(nil)
	if s.received != "" && !s.followed {
		return s.received, true
	}
	if sealed {
		if k := s.outgoing(); k.value != "" {
			return k.value, true
		}
	}
	s.p.counters.event(NotMinted)
	return "", false
}

// Enrich adds attributes to the evaluation context of the request, "targetingKey"
// among them; later ones win. It fails with ErrSealed once the State is sealed,
// with ErrNoState outside requests, and with an error that names the place if
// an attribute is of a type that no evaluation can use; then nothing is added.
// Where propagation is off, what it adds counts for evaluations in this process.
func Enrich(ctx context.Context, attributes map[string]any) error {
	s := stateOf(ctx)
	if s == nil {
		return ErrNoState
	}
	c, err := eval.NewContext(attributes)
	if err != nil {
		return err
	}
	return s.enrich(c)
}

// enrich adds attributes while s is open.
func (s *State) enrich(attributes *eval.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed.Load() {
		s.p.counters.event(LateEnrich)
		return ErrSealed
	}
	s.add(attributes)
	return nil
}
