package collector

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/guidon-flags/guidon/store"
)

// Config says where to collect, and how often.
type Config struct {
	// Store is what grows. Required by Run.
	Store *store.DB
	// Log gets one line when the database is lost, and one for each round that
	// removed anything. Defaults to discarding.
	Log *slog.Logger
	// Interval is how often to look, half more or less. Defaults to 10m.
	Interval time.Duration
}

const (
	// roundTimeout bounds one round; the next one goes on from there.
	roundTimeout = time.Minute
	// pause leaves the database to others between two steps.
	pause = 50 * time.Millisecond
)

// Collector removes old revisions. Its methods are safe for concurrent use.
type Collector struct {
	cfg                                       Config
	rounds, failed, versions, revisions, keys atomic.Int64
}

// Stats counts what a collector did since it was made.
type Stats struct {
	// Rounds is how often it looked, Failed how many of these the database
	// did not let it finish.
	Rounds, Failed int64
	// Versions and Revisions are the rows that it removed.
	Versions, Revisions int64
	// Keys are the header keys that it removed, retired too long to matter.
	Keys int64
}

// New returns a collector. It starts nothing; see [Collector.Run].
func New(cfg Config) *Collector {
	cfg.Interval = cmp.Or(cfg.Interval, 10*time.Minute)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Collector{cfg: cfg}
}

// Stats returns the counts so far.
func (c *Collector) Stats() Stats {
	return Stats{Rounds: c.rounds.Load(), Failed: c.failed.Load(), Versions: c.versions.Load(), Revisions: c.revisions.Load(), Keys: c.keys.Load()}
}

// Run collects until ctx ends, and returns nil. A database that is away is tried
// again in the next round.
func (c *Collector) Run(ctx context.Context) error {
	failed := false
	for {
		err := c.round(store.Background(ctx))
		c.rounds.Add(1)
		if err != nil && ctx.Err() == nil {
			c.failed.Add(1)
		}
		switch {
		case err == nil && failed:
			c.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "old revisions can be collected again")
		case err != nil && !failed && ctx.Err() == nil:
			c.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "cannot collect old revisions", slog.Any("error", err))
		}
		failed = err != nil
		if !wait(ctx, c.cfg.Interval/2+rand.N(c.cfg.Interval)) { //nolint:gosec // spreads load, guards nothing
			return nil
		}
	}
}

// round takes steps while there is something to remove.
func (c *Collector) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	before := c.Stats()
	defer func() {
		after := c.Stats()
		versions, revisions, keys := after.Versions-before.Versions, after.Revisions-before.Revisions, after.Keys-before.Keys
		if versions+revisions+keys > 0 {
			c.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "collected old revisions",
				slog.Int64("versions", versions), slog.Int64("revisions", revisions), slog.Int64("keys", keys))
		}
	}()
	removed, err := c.cfg.Store.RemovePropagationKeys(ctx)
	if c.keys.Add(int64(removed)); err != nil {
		return err
	}
	for {
		did, err := c.cfg.Store.Collect(ctx)
		c.versions.Add(did.Versions)
		c.revisions.Add(did.Revisions)
		if err != nil || !did.More || !wait(ctx, pause) {
			return err
		}
	}
}

// wait reports whether d passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
