package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// Config says where a [Feed] gets its revisions and whom it tells. Callbacks
// run one at a time, on the feed's own goroutines: they must return soon, and
// must not call WaitReady.
type Config struct {
	// Source is where newer revisions come from. Defaults to nowhere: the feed
	// stays at what it begins with.
	Source Source
	// Cache is the path of the file in which the newest flags and keys are kept,
	// for a start while no server can be reached; its directory is made if it is
	// missing. It holds the keys, so only its owner may read it. Defaults to
	// none.
	Cache string
	// Bootstrap is what to begin with where the cache has nothing. Defaults to
	// none.
	Bootstrap *Bootstrap
	// Client tells the server who is connected, and who holds what. Defaults to
	// nobody.
	Client *guidonv1.Client
	// Log gets one line when a stream is lost, or cannot be opened at first, and
	// one when values are current again; attempts in between are Debug. Defaults
	// to none.
	Log *slog.Logger
	// Status is called after each step of the stream's life: opened, current,
	// lost, an attempt failed, stale. Steps may leave the status as it was.
	Status func(Status)
	// Changed gets the sorted keys of the flags that a new revision created,
	// removed or made different from the one before it, in themselves or in
	// what they read. Never called for the first snapshot.
	Changed func(keys []string)
	// Keys gets the environment's propagation keys as the server sent them, at
	// the start of a stream and whenever they change, and says whether they are
	// in force now. They hold secrets.
	Keys func(*guidonv1.PropagationKeys) bool
	// Pierced counts, by the revision of an emergency, the requests whose value
	// it changed under way, since the last call.
	Pierced func() map[int64]int64
	// OverrideKeys gets what verifies the environment's override tokens, at
	// the start of a stream and whenever it changes. It holds no secrets.
	OverrideKeys func(*guidonv1.OverrideKeys)
	// APIKeys gets what a relay knows its clients by, which servers send to
	// nobody else.
	APIKeys func(*guidonv1.APIKeys)
	// StaleAfter is how long the stream may be lost before the values count as
	// stale. Defaults to 5s.
	StaleAfter time.Duration
	// Budget bounds how long [Feed.FlagAt] may take, if the caller's context
	// does not end sooner. Defaults to 50ms.
	Budget time.Duration
	// SupersededBytes bounds the flags of older revisions that are kept, by what
	// they take in memory, compiled, with what each of them reads: see
	// [eval.Flag.Bytes]. Defaults to 16 MiB, which is some 8,000 common flags.
	SupersededBytes int
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Source == nil {
		c.Source = nowhere{}
	}
	if c.Status == nil {
		c.Status = func(Status) {}
	}
	if c.Changed == nil {
		c.Changed = func([]string) {}
	}
	if c.Keys == nil {
		c.Keys = func(*guidonv1.PropagationKeys) bool { return false }
	}
	if c.Pierced == nil {
		c.Pierced = func() map[int64]int64 { return nil }
	}
	if c.APIKeys == nil {
		c.APIKeys = func(*guidonv1.APIKeys) {}
	}
	if c.OverrideKeys == nil {
		c.OverrideKeys = func(*guidonv1.OverrideKeys) {}
	}
	c.StaleAfter = cmp.Or(c.StaleAfter, 5*time.Second)
	c.Budget = cmp.Or(c.Budget, 50*time.Millisecond)
	c.SupersededBytes = cmp.Or(c.SupersededBytes, 16<<20)
	return c
}

// Feed follows one environment. Make one with [New]. All methods are safe for
// concurrent use.
type Feed struct {
	config Config
	stats  Stats

	snapshot atomic.Pointer[eval.Snapshot]
	ready    chan struct{} // closed with the first snapshot
	ended    chan struct{} // closed when Run returns
	running  atomic.Bool

	superseded  *superseded
	emergencies emergencies

	advancedMu sync.Mutex
	// advanced is closed, and replaced, by each new snapshot.
	advanced chan struct{}
	// waited is the newest revision a pin waited for in vain. Until it is held,
	// pins that are ahead go to the server at once, so that a process that lags
	// waits once and not once for each flag of each request.
	waited int64

	acks      acker
	ackSpread atomic.Int64 // nanoseconds over which the server wants acks spread
	appliedAt atomic.Int64 // unix nanoseconds of the newest snapshot
	// committedAt is in unix nanoseconds, 0 for not known.
	committedAt atomic.Int64
	keysHeld    atomic.Pointer[[]string]
	keys        atomic.Pointer[guidonv1.PropagationKeys] // those in force
	overrides   atomic.Pointer[guidonv1.OverrideKeys]
	apiKeys     atomic.Pointer[guidonv1.APIKeys]
	saves       saver
	ignored     error // why the file was not used; nil if it was or is not there
	forgotten   error // why its checkpoint was not; nil likewise

	heard       atomic.Int64 // unix nanoseconds of the last event
	transitions sync.Mutex
	over        bool // no transition comes any more; under transitions
	condition   atomic.Pointer[condition]
	staleClock  *time.Timer

	// distrust is set when a digest did not match: the next stream starts from
	// nothing. Used by Run alone.
	distrust bool
	// provisional says that the snapshot is of no history that the server knows:
	// the next one replaces it, whatever its revision.
	provisional atomic.Bool
	// foreign says that it is even of another environment. Used by Run alone.
	foreign bool
	// unconfirmed says that no stream has named the environment yet. Used by Run
	// alone.
	unconfirmed bool
	// witness remembers the audit log.
	witness witness
}

// New makes a feed that knows what its cache or its bootstrap holds. It starts
// nothing: see [Feed.Run].
func New(config Config) *Feed {
	f := &Feed{
		config:   config.withDefaults(),
		ready:    make(chan struct{}),
		ended:    make(chan struct{}),
		advanced: make(chan struct{}),
	}
	f.superseded = newSuperseded(f.config.SupersededBytes, &f.stats)
	f.acks = acker{feed: f, news: make(chan struct{}, 1)}
	f.keysHeld.Store(&[]string{})
	f.condition.Store(&condition{})
	f.staleClock = time.AfterFunc(time.Hour, f.goStale)
	f.staleClock.Stop()
	f.saves = saver{feed: f, news: make(chan struct{}, 1)}
	f.restore()
	return f
}

var errRan = errors.New("feed: Run was called before")

// Run keeps the snapshot current until ctx ends, then returns nil when all it
// started has ended. It retries for ever, whatever the server says. A Feed runs
// once; a second call returns an error at once.
func (f *Feed) Run(ctx context.Context) error {
	if !f.running.CompareAndSwap(false, true) {
		return errRan
	}
	defer f.end()
	if f.ignored != nil {
		f.config.Log.LogAttrs(ctx, slog.LevelWarn, "last-known-good file ignored", slog.Any("error", f.ignored))
	}
	if f.forgotten != nil {
		f.config.Log.LogAttrs(ctx, slog.LevelWarn, "checkpoint in the last-known-good file ignored", slog.Any("error", f.forgotten))
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	if f.config.Source == (nowhere{}) {
		f.transition(func(*condition) {})
		<-ctx.Done()
		return nil
	}
	if f.config.Cache != "" {
		beside.Go(func() { f.saves.run(ctx) })
	}
	if f.config.Client != nil {
		beside.Go(func() { f.acks.run(ctx) })
	}
	f.transition(f.startStaleClock)
	var retry backoff
	level := slog.LevelWarn // of the next loss: attempts that fail like the one before are detail
	tooNew := false         // it was said that a newer version is needed, since a stream was current
	killed := 0             // streams in a row
	for {
		s := stream{feed: f}
		follow := s.follow
		if killed >= fruitless {
			killed = 0 // a stream is next, whatever becomes of polling
			follow = s.poll
		}
		err := follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errPolled) {
			killed = fruitless - 1 // one stream, and if that is killed too: polls again
			continue
		}
		if killed++; !s.killed(err) {
			killed = 0
		}
		f.stats.Lost.Add(1)
		wait := retry.after(err, s.lived())
		if !s.currentSince.IsZero() {
			level, tooNew = slog.LevelWarn, false
		}
		if errors.Is(err, eval.ErrUnknownKind) && !tooNew {
			level, tooNew = slog.LevelError, true // nothing newer is taken until somebody acts
		}
		f.config.Log.LogAttrs(ctx, level, "stream of flags lost", slog.Any("error", err), slog.Duration("retry_in", wait))
		level = slog.LevelDebug
		f.lose(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *Feed) end() {
	f.superseded.flights.end()
	f.emergencies.flights.end()
	f.transition(func(c *condition) { c.connected = false })
	f.transitions.Lock()
	defer f.transitions.Unlock()
	f.staleClock.Stop()
	f.over = true // for a clock that had rung before
	close(f.ended)
}

// Snapshot is the newest one, nil before the first. It never goes back, neither
// in revision nor to nil, and costs one atomic load.
func (f *Feed) Snapshot() *eval.Snapshot { return f.snapshot.Load() }

// CommittedAt is when the newest revision was committed, as far as a delta said
// so; zero if it came otherwise.
func (f *Feed) CommittedAt() time.Time {
	if at := f.committedAt.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Environment is the one the stream is of; empty until the first stream.
func (f *Feed) Environment() string { return f.condition.Load().environment }

// SupersededBytes is how much the flags of older revisions take in memory, which
// [Config.SupersededBytes] bounds.
func (f *Feed) SupersededBytes() int64 { return f.superseded.size() }

// Stats are the feed's counters. They are alive: read them by Load.
func (f *Feed) Stats() *Stats { return &f.stats }

// ErrEnded is returned by [Feed.WaitReady] when Run returned before there was a
// snapshot.
var ErrEnded = errors.New("feed: ended")

// WaitReady waits for the first snapshot. It returns nil as soon as there is
// one, even if it is stale by now; an error that wraps ctx's and names what the
// server last said; or [ErrEnded].
func (f *Feed) WaitReady(ctx context.Context) error {
	select { // a feed that has values is ready even if ctx has ended too
	case <-f.ready:
		return nil
	default:
	}
	select {
	case <-f.ready:
		return nil
	case <-f.ended:
		return ErrEnded
	case <-ctx.Done():
		if last := f.Status().LastError; last != "" {
			return fmt.Errorf("feed: no snapshot yet: %w (last error: %s)", ctx.Err(), last)
		}
		return fmt.Errorf("feed: no snapshot yet: %w", ctx.Err())
	}
}
