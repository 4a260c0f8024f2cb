package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/store"
)

// Errors of this package.
var (
	// ErrNotReady says that an environment, or anything at all, has not been
	// read yet.
	ErrNotReady = errors.New("not read yet")
	// ErrUnknownEnvironment says that there is no environment of that name.
	ErrUnknownEnvironment = errors.New("no such environment")
	// ErrBehind says that a revision is newer than what this replica has read,
	// though it may exist. The same request may succeed later.
	ErrBehind = errors.New("revision is not here yet")
)

const (
	// lookTimeout bounds one look, so that a database that hangs is noticed.
	lookTimeout = 5 * time.Second
	// keysInterval is how often keys are read again though nothing says that
	// they have changed: what an override's revocation says ends with its time.
	keysInterval = time.Minute
)

// Config says where a hub reads and how often.
type Config struct {
	// Store is read for revisions. Required, if there is no Upstream.
	Store *store.DB
	// Upstream is read in place of Store, by a relay. Defaults to none.
	Upstream Source
	// Log gets one line when the database is lost and one when it is back.
	// Defaults to discarding.
	Log *slog.Logger
	// PollInterval is how often the hub looks for newer revisions even when no
	// notification came. It bounds staleness if notifications are lost.
	// Defaults to 1s.
	PollInterval time.Duration
	// StaleAfter is how long ago the last successful look at an environment
	// may be before the hub stops being ready. Defaults to 30s.
	StaleAfter time.Duration
	// DeltaBytes bounds what is kept for each environment to tell a watcher
	// that is some revisions behind what changed meanwhile. One that is
	// further behind gets a snapshot. Defaults to 1 MiB.
	DeltaBytes int
	// HistoryBytes bounds the older snapshots and definitions kept in memory,
	// over all environments. Defaults to 64 MiB.
	HistoryBytes int
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	c.PollInterval = cmp.Or(c.PollInterval, time.Second)
	c.StaleAfter = cmp.Or(c.StaleAfter, 30*time.Second)
	c.DeltaBytes = cmp.Or(c.DeltaBytes, 1<<20)
	c.HistoryBytes = cmp.Or(c.HistoryBytes, 64<<20)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Hub holds the environments of one installation. Its methods are safe for
// concurrent use. Until [Hub.Run] has looked once, it has no environments.
type Hub struct {
	cfg      Config
	source   Source
	history  *history
	counters counters
	// poke wakes the looking goroutine. One pending wake-up is enough,
	// whatever its cause, so further ones are dropped.
	poke chan struct{}
	// environments is replaced, never changed, by the looking goroutine.
	environments atomic.Pointer[map[string]*Environment]
	// failure is why the last look failed; nil if it did not.
	failure atomic.Pointer[error]
	// askedAt is since when the database has been asked which environments there
	// are; nil while it is not. unanswered says that it did not tell, the last time.
	askedAt    atomic.Pointer[time.Time]
	unanswered atomic.Bool
	// keysAt and keysVersion are when the keys were last read, and what the
	// database said of them then. The looking goroutine owns them.
	keysAt      time.Time
	keysVersion int64
	// began is when the first look was, warned whether the log says that looks
	// fail. The looking goroutine owns them.
	began  time.Time
	warned bool
}

// New returns a hub that knows nothing yet. It starts nothing; see [Hub.Run].
func New(cfg Config) *Hub {
	cfg = cfg.withDefaults()
	h := &Hub{cfg: cfg, source: cfg.Upstream, poke: make(chan struct{}, 1)}
	if h.source == nil {
		h.source = database{cfg.Store}
	}
	h.history = &history{kept: newCache(cfg.HistoryBytes), counters: &h.counters}
	h.environments.Store(&map[string]*Environment{})
	return h
}

// Run keeps the hub current until ctx ends, and returns why it ended. A
// database that is away is no reason: Run goes on trying.
func (h *Hub) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.source.Listen(ctx, h.Look) })
	g.Go(func() error {
		tick := time.NewTicker(h.cfg.PollInterval)
		defer tick.Stop()
		h.began = h.cfg.Now()
		for {
			h.lookOnce(ctx)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-h.poke:
				if err := store.Failpoint("notified-not-broadcast"); err != nil {
					<-tick.C // the notification is lost, nothing else
				}
			case <-tick.C:
			}
		}
	})
	return g.Wait()
}

// Look makes the hub look for newer revisions now. It does not wait; see
// [Environment.Await].
func (h *Hub) Look() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

// Environment returns the environment called name. The error is [ErrNotReady]
// or [ErrUnknownEnvironment].
func (h *Hub) Environment(name string) (*Environment, error) {
	environments := *h.environments.Load()
	e, ok := environments[name]
	switch {
	case len(environments) == 0, ok && e.Head() == nil:
		return nil, ErrNotReady
	case !ok:
		return nil, fmt.Errorf("%w: %q", ErrUnknownEnvironment, name)
	}
	return e, nil
}

// Environments yields all environments that were read, in their configured
// order.
func (h *Hub) Environments() iter.Seq[*Environment] {
	return func(yield func(*Environment) bool) {
		for _, e := range slices.SortedFunc(maps.Values(*h.environments.Load()), byPosition) {
			if e.Head() != nil && !yield(e) {
				return
			}
		}
	}
}

func byPosition(a, b *Environment) int {
	return cmp.Or(cmp.Compare(a.position.Load(), b.position.Load()), cmp.Compare(a.name, b.name))
}

// Ready returns nil if every environment is known to be current, and else says
// which one is not and why.
func (h *Hub) Ready() error {
	environments := *h.environments.Load()
	if len(environments) == 0 {
		return h.because(ErrNotReady)
	}
	for _, e := range slices.SortedFunc(maps.Values(environments), byPosition) {
		if e.Head() == nil {
			return h.because(fmt.Errorf("environment %q: %w", e.name, ErrNotReady))
		}
		if fault := e.fault.Load(); fault != nil {
			return fmt.Errorf("environment %q: %w", e.name, *fault)
		}
		if err := e.lost(); err != nil {
			return fmt.Errorf("environment %q: %w", e.name, err)
		}
		if age := e.Age(); age > h.cfg.StaleAfter {
			return h.because(fmt.Errorf("environment %q: revision %d was last known to be the newest %s ago",
				e.name, e.Head().Revision(), age.Truncate(time.Second)))
		}
	}
	return nil
}

// because adds why the last look failed.
func (h *Hub) because(err error) error {
	if failure := h.failure.Load(); failure != nil {
		return fmt.Errorf("%w: %w", err, *failure)
	}
	return err
}

// lookOnce looks, and logs when that stops or starts to succeed: once each.
func (h *Hub) lookOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := h.look(ctx)
	h.counters.looks.Add(1)
	switch {
	case err == nil:
		h.failure.Store(nil)
		if h.warned {
			h.warned = false
			h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "revisions can be read again")
		}
	case errors.Is(err, context.Canceled):
		h.failure.Store(&err)
	default:
		h.counters.looksFailed.Add(1)
		h.failure.Store(&err)
		if !h.warned && !h.beginning() {
			h.warned = true
			h.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "cannot read revisions", slog.Any("error", err))
		}
	}
}

// beginning reports whether a relay has only just begun: that its upstream has
// said nothing yet is then no fault.
func (h *Hub) beginning() bool {
	return h.cfg.Upstream != nil && len(*h.environments.Load()) == 0 && h.cfg.Now().Sub(h.began) < lookTimeout
}

// look brings every environment up to the database. One that fails does not
// keep the others back.
func (h *Hub) look(ctx context.Context) error {
	listed, err := h.listed(ctx)
	if err != nil {
		return err
	}
	environments := *h.environments.Load()
	if len(environments) == 0 && h.cfg.Upstream == nil {
		if err := h.cfg.Store.NoteLineage(ctx); err != nil {
			return err
		}
	}
	version := int64(0)
	for _, row := range listed {
		version = max(version, row.KeysVersion)
	}
	refreshKeys := h.cfg.Upstream != nil || version != h.keysVersion || h.cfg.Now().Sub(h.keysAt) >= keysInterval
	var failures []error
	found := make(map[string]*Environment, len(listed))
	for position, row := range listed {
		e, ok := environments[row.Name]
		if !ok {
			e = newEnvironment(h, row.Name)
		}
		found[row.Name] = e
		e.position.Store(int64(position))
		if err := e.advance(ctx, row, refreshKeys || !ok); err != nil {
			failures = append(failures, fmt.Errorf("environment %q: %w", row.Name, err))
		}
	}
	for name, e := range environments {
		if _, ok := found[name]; !ok && e.Head() != nil {
			e.regress(fmt.Errorf("%w: it does not have the environment any more, of which revision %d was served", store.ErrNotRecovered, e.Head().Revision()))
			found[name] = e
		}
	}
	if refreshKeys && len(failures) == 0 {
		h.keysAt, h.keysVersion = h.cfg.Now(), version
	}
	h.environments.Store(&found)
	return errors.Join(failures...)
}
