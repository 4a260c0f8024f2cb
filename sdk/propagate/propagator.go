package propagate

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// Snapshots is where flags come from. Both the SDK's feed and the server's hub
// are one. All methods are called from any number of goroutines.
type Snapshots interface {
	// Snapshot returns the newest snapshot, or nil before the first one. It is
	// called for every evaluation and must cost no more than an atomic load.
	Snapshot() *eval.Snapshot

	// FlagAt returns the flag as it was at a revision that the newest snapshot
	// cannot answer for: from memory, by waiting for a revision that is on its
	// way, or from the server. It returns nil without an error if the flag did
	// not exist at that revision. Any error means that nobody knows in time.
	FlagAt(ctx context.Context, key string, revision int64) (*eval.Flag, error)

	// Nearest is FlagAt for a flag that has asked for it: where the revision is no
	// longer kept it returns the flag as it was at the oldest revision that is,
	// and that revision, which is greater than the one asked for; otherwise what
	// FlagAt returns, and the revision asked for. A revision that is out of reach,
	// or was lost by a restore, is an error as ever.
	Nearest(ctx context.Context, key string, revision int64) (flag *eval.Flag, at int64, err error)

	// Emergencies returns the newest emergency log there is, which may be ahead
	// of the newest snapshot and is never behind it. It never goes back, and
	// must cost no more than Snapshot.
	Emergencies() eval.Emergencies

	// EmergenciesAt returns an emergency log that is complete up to a revision
	// which Emergencies has not reached: by waiting for it or from the server,
	// and from then on Emergencies returns it or a newer one. Any error means that
	// nobody knows in time.
	EmergenciesAt(ctx context.Context, revision int64) (eval.Emergencies, error)
}

// Config is what a Propagator works with. It is not changed after New.
type Config struct {
	// Snapshots gives the flags. Required.
	Snapshots Snapshots

	// Keys verifies and signs headers. It may be filled and changed at any
	// time. Defaults to an empty ring: nothing is followed, nothing minted.
	Keys *Keyring

	// Overrides verifies the override tokens that requests bring to an edge. It
	// may be filled and changed at any time. Defaults to one that accepts none.
	Overrides *Overrides

	// Environment names the environment that Snapshots holds; it is asked anew
	// each time, since an SDK learns it from its stream, and must be cheap. An
	// empty name means not known yet: nothing is followed, nothing minted.
	// Required.
	Environment func() string

	// Mode says how far inbound requests are trusted. Defaults to Edge. See
	// WithMode for processes with several listeners.
	Mode Mode

	// Destinations lists the hosts that outgoing requests may carry the header
	// to: names, addresses, or suffixes of whole labels. It is all of them: a
	// list that is not nil replaces the default. Defaults to loopback
	// addresses, names of a single label, and names ending in .localhost,
	// .internal, .local or .svc.
	Destinations []string

	// Baggage lists those destinations, in the form of Destinations, that get the
	// header a second time, as the member "guidon" of W3C baggage: for services
	// which pass on baggage and nothing else, so that the ones behind them can
	// follow. Only destinations inside the zone get it. Defaults to none.
	Baggage []string

	// Context gives what Middleware knows of a request that it roots: the
	// evaluation context, "targetingKey" among it. It is not called for
	// requests that arrive with a pin. Defaults to nothing.
	Context func(*http.Request) map[string]any

	// Observer is told of the first event of each kind, of each flag for the
	// kinds that are per flag. It is called from any goroutine, on the path of
	// a request, and must not block. Defaults to nobody.
	Observer func(Event)

	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// Propagator applies the rules of propagation: it roots States, reads and
// writes headers, and evaluates flags under the State of a context. Every
// transport takes one. It starts no goroutine and is safe for concurrent use.
type Propagator struct {
	config       Config
	destinations destinations
	baggage      destinations
	counters     *counters
	plans        *plans
}

// New checks the configuration and makes a Propagator. An error names the field.
func New(c Config) (*Propagator, error) {
	switch {
	case c.Snapshots == nil:
		return nil, errors.New("propagate: Config.Snapshots is required")
	case c.Environment == nil:
		return nil, errors.New("propagate: Config.Environment is required")
	case c.Mode > Off:
		return nil, errors.New("propagate: Config.Mode: " + c.Mode.String() + " is not a mode")
	}
	d, err := newDestinations(c.Destinations)
	if err != nil {
		return nil, errors.New("propagate: Config.Destinations: " + err.Error())
	}
	baggage, err := newDestinations(append([]string{}, c.Baggage...)) // none is not the default
	if err != nil {
		return nil, errors.New("propagate: Config.Baggage: " + err.Error())
	}
	if c.Keys == nil {
		c.Keys = new(Keyring)
	}
	if c.Overrides == nil {
		c.Overrides = new(Overrides)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Propagator{
		config:       c,
		destinations: d,
		baggage:      baggage,
		counters:     newCounters(c.Observer),
		plans:        new(plans),
	}, nil
}

// WithMode returns a Propagator that differs in its mode only: snapshots, keys
// and counters are shared, and each follows the States of the other. It serves
// processes with a public and an internal listener.
func (p *Propagator) WithMode(m Mode) *Propagator {
	q := *p
	q.config.Mode = m
	return &q
}

// Mode returns how far inbound requests are trusted.
func (p *Propagator) Mode() Mode { return p.config.Mode }

// TakePierced returns how many requests each emergency, by its revision, has
// changed under way in this process since the last call.
func (p *Propagator) TakePierced() map[int64]int64 { return p.counters.takePierced() }

// Stats returns a copy of the counters.
func (p *Propagator) Stats() Stats { return p.counters.stats() }

// same reports whether both belong together: a State of another environment
// means nothing to the snapshots at hand.
func (p *Propagator) same(q *Propagator) bool { return p.counters == q.counters }
