package propagate

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// EventKind names what a Propagator counts besides the outcomes of headers.
type EventKind uint8

// What is counted.
const (
	HeaderRefused        EventKind = iota // an inbound header was not followed; see Event.Outcome
	ValidAtEdge                           // a rightly signed header arrived at an edge: is the listener's mode right?
	Forwarded                             // an unreadable header is passed on as it is
	ClockSkew                             // a followed header's clock is more than 60 s away from ours
	CorrelationRefused                    // an inbound correlation ID was not valid and was replaced
	Rooted                                // a State was rooted here
	OrphanRooted                          // of these, at an internal listener without any header: did a hop drop it?
	NotMinted                             // a root's header could not be written: no key, no environment, or no snapshot
	LateEnrich                            // Enrich after sealing
	SubjectLeftOut                        // a root's targeting key is too long to travel
	AttributeLeftOut                      // an attribute of a root could not travel; what reads it was decided at the root
	AttributeUnusable                     // an attribute of a root is of a type no evaluation can use
	NoState                               // per flag: a request flag evaluated without a State
	OtherSubject                          // per flag: evaluated for another targeting key than the request's
	LateSubject                           // per flag: of these, because the request was sealed without any
	IgnoredAttributes                     // per flag: attributes passed at a call after sealing
	UnknownVariant                        // per flag: a decision that travelled names a variant unknown at the pin
	OverBudget                            // per flag: no room for its root decision
	RootFailed                            // per flag: its evaluation for the root decision was an ERROR, so all hops get the code default
	CreatedAfterPin                       // per flag: did not exist at the pin
	EmergencyPierced                      // per flag: a request that was pinned before a kill got it
	EmergencyUnavailable                  // per flag: a kill that the request had met could not be had
	EmergenciesFetched                    // the log of kills was asked for
	Joined                                // an answer told of kills that were not known here
	JoinRefused                           // what an answer told was not of this request
	BaggageRefused                        // a header that came as baggage beside a plain one was not of its root
	OverrideRefused                       // an override token was not followed; see Event.Override
	OverrideUsed                          // per flag: a signed override decided
	Compared                              // per flag: a root decision was recomputed, as one in a thousand is that can be
	Diverged                              // per flag: and the outcome was another; it must not happen
	PinFetched                            // per flag: the definition at the pin was asked for
	PinUnavailable                        // per flag: and could not be had
	PinNearest                            // per flag: of these, answered as of the oldest revision kept, as the flag asks for
	eventKinds
)

var eventNames = [eventKinds]string{
	"header_refused", "valid_at_edge", "forwarded", "clock_skew", "correlation_refused", "rooted", "orphan_rooted",
	"not_minted", "late_enrich", "subject_left_out", "attribute_left_out", "attribute_unusable", "no_state",
	"other_subject", "late_subject", "ignored_attributes", "unknown_variant", "over_budget", "root_failed", "created_after_pin",
	"emergency_pierced", "emergency_unavailable", "emergencies_fetched", "joined", "join_refused", "baggage_refused", "override_refused", "override_used", "compared", "diverged", "pin_fetched",
	"pin_unavailable", "pin_nearest",
}

// String returns the kind in snake case, fit for a metric label.
func (k EventKind) String() string {
	if k < eventKinds {
		return eventNames[k]
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is something an operator may want to read once: an Observer is told of
// the first of each, and the counters tell how often it happened since.
type Event struct {
	Kind    EventKind
	Flag    string  // of the kinds that are per flag
	Outcome Outcome // of HeaderRefused

	Override OverrideOutcome // of OverrideRefused
}

// Stats is a copy of a Propagator's counters at one moment, counted since the
// Propagator was made.
type Stats struct {
	Headers map[Outcome]uint64 // inbound requests and messages by what became of their header
	Events  map[EventKind]uint64
	Flags   map[EventKind]map[string]uint64 // the kinds that are per flag, by flag key

	Overrides map[OverrideOutcome]uint64 // override tokens by what became of them at this edge

	HeaderBytes     Histogram // headers that went out
	PinFetchSeconds Histogram // how long definitions at a pin were waited for
}

// maxTalliedFlags bounds the memory of per-flag counters; flags beyond it are
// counted in the totals only.
const maxTalliedFlags = 10_000

// counters is shared by a Propagator and its WithMode copies.
type counters struct {
	observer func(Event)
	headers  [outcomes]atomic.Uint64
	events   [eventKinds]atomic.Uint64
	tokens   [overrideOutcomes]atomic.Uint64

	decided     atomic.Uint64 // root decisions that were used and could be recomputed
	headerBytes distribution
	pinFetch    distribution // microseconds

	mu    sync.RWMutex
	flags map[Event]*atomic.Uint64

	piercedMu sync.Mutex
	pierced   map[int64]int64 // requests by emergency, since they were taken
}

// maxPierced bounds the emergencies that pierced holds if nobody takes them.
const maxPierced = 1000

func (c *counters) pierce(revision int64) {
	c.piercedMu.Lock()
	defer c.piercedMu.Unlock()
	if c.pierced == nil {
		c.pierced = map[int64]int64{}
	}
	if _, there := c.pierced[revision]; there || len(c.pierced) < maxPierced {
		c.pierced[revision]++
	}
}

func (c *counters) takePierced() map[int64]int64 {
	c.piercedMu.Lock()
	defer c.piercedMu.Unlock()
	taken := c.pierced
	c.pierced = nil
	return taken
}

func newCounters(observer func(Event)) *counters {
	return &counters{
		observer: observer, flags: make(map[Event]*atomic.Uint64),
		headerBytes: distribution{bounds: &headerBounds}, pinFetch: distribution{bounds: &fetchBounds},
	}
}

func (c *counters) header(o Outcome) {
	first := c.headers[o].Add(1) == 1
	if o == Absent || o == Verified {
		return
	}
	c.events[HeaderRefused].Add(1)
	if first {
		c.observe(Event{Kind: HeaderRefused, Outcome: o})
	}
}

func (c *counters) override(o OverrideOutcome) {
	if c.tokens[o].Add(1) == 1 && o != OverrideTaken {
		c.observe(Event{Kind: OverrideRefused, Override: o})
	}
	if o != OverrideTaken {
		c.events[OverrideRefused].Add(1)
	}
}

func (c *counters) event(kind EventKind) {
	if c.events[kind].Add(1) == 1 {
		c.observe(Event{Kind: kind})
	}
}

func (c *counters) flag(kind EventKind, key string) {
	c.events[kind].Add(1)
	e := Event{Kind: kind, Flag: key}
	c.mu.RLock()
	n, full := c.flags[e], len(c.flags) == maxTalliedFlags
	c.mu.RUnlock()
	if n == nil && !full {
		n = c.newTally(e)
	}
	if n != nil && n.Add(1) == 1 {
		c.observe(e)
	}
}

func (c *counters) newTally(e Event) *atomic.Uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flags[e] == nil && len(c.flags) < maxTalliedFlags {
		c.flags[e] = new(atomic.Uint64)
	}
	return c.flags[e]
}

func (c *counters) observe(e Event) {
	if c.observer != nil {
		c.observer(e)
	}
}

func (c *counters) stats() Stats {
	s := Stats{
		Headers: make(map[Outcome]uint64, outcomes),
		Events:  make(map[EventKind]uint64, eventKinds),
		Flags:   make(map[EventKind]map[string]uint64),

		Overrides: make(map[OverrideOutcome]uint64, overrideOutcomes),

		HeaderBytes:     c.headerBytes.histogram(1),
		PinFetchSeconds: c.pinFetch.histogram(1e-6),
	}
	for o := range c.headers {
		s.Headers[Outcome(o)] = c.headers[o].Load()
	}
	for o := range c.tokens {
		s.Overrides[OverrideOutcome(o)] = c.tokens[o].Load()
	}
	for k := range c.events {
		s.Events[EventKind(k)] = c.events[k].Load()
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for e, n := range c.flags {
		if s.Flags[e.Kind] == nil {
			s.Flags[e.Kind] = make(map[string]uint64)
		}
		s.Flags[e.Kind][e.Flag] = n.Load()
	}
	return s
}
