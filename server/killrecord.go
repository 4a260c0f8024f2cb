package server

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

const (
	// killWatch is for how long it is noted how far a kill has come. Who has not
	// taken it by then was not there.
	killWatch = 10 * time.Minute
	// maxWatched bounds the kills of an environment that are followed at a time.
	maxWatched = 64
)

// killRecorder notes in the database how kills go. Each replica has one: of how
// far a kill has come the store keeps what the best informed one said, and of
// requests that a kill changed each notes those that it was told of.
type killRecorder struct {
	*Server
	noted  map[string]map[int64]*notedKill // by environment and revision
	failed bool
}

// notedKill is what this replica has noted of a kill.
type notedKill struct {
	at      time.Time // zero if its revision is not kept any more
	figures store.KillFigures
	pierced int64
}

// recordKills notes how kills go until ctx ends, and once more then.
func (s *Server) recordKills(ctx context.Context) {
	r := &killRecorder{Server: s, noted: map[string]map[int64]*notedKill{}}
	// The end of ctx cuts no look short: what it wrote would be counted again.
	look := func() {
		looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		r.record(store.Background(looking))
	}
	tick := time.NewTicker(s.cfg.KillRecord)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			look()
		case <-ctx.Done():
			look()
			return
		}
	}
}

// record looks at all environments once. A database that is away costs one line
// in the log, and one when it is back: what it was not told it is told then.
func (r *killRecorder) record(ctx context.Context) {
	var failed error
	for e := range r.hub.Environments() {
		if err := r.environment(ctx, e); err != nil {
			failed = err
		}
	}
	switch {
	case failed == nil && r.failed:
		r.log.LogAttrs(ctx, slog.LevelInfo, "how kills go is noted again")
	case failed != nil && !r.failed && ctx.Err() == nil:
		r.log.LogAttrs(ctx, slog.LevelWarn, "how kills go is not noted", slog.Any("error", failed))
	}
	r.failed = failed != nil
}

func (r *killRecorder) environment(ctx context.Context, e *hub.Environment) error {
	pierced := r.fleet.Told(e.Name())
	noted := r.noted[e.Name()]
	kills := killsOf(e)
	if len(kills) == 0 {
		return nil
	}
	if noted == nil {
		noted = map[int64]*notedKill{}
		r.noted[e.Name()] = noted
	}
	maps.DeleteFunc(noted, func(revision int64, _ *notedKill) bool {
		_, still := slices.BinarySearch(kills, revision)
		return !still
	})
	for i, revision := range slices.Backward(kills) {
		told := pierced[revision]
		recent := i >= len(kills)-maxWatched
		if !recent && told == 0 {
			continue
		}
		n := noted[revision]
		if n == nil {
			made, err := r.store.Revision(ctx, e.Name(), revision)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			n = &notedKill{at: made.Time}
			noted[revision] = n
		}
		if n.at.IsZero() { // collected: it was long ago
			continue
		}
		if err := r.kill(ctx, e.Name(), revision, n, told); err != nil {
			return err
		}
	}
	return nil
}

// killsOf are the revisions of an environment that killed, ascending.
func killsOf(e *hub.Environment) []int64 {
	var revisions []int64
	for k := range e.Snapshot().Emergencies().All() {
		revisions = append(revisions, k.Revision)
	}
	slices.Sort(revisions)
	return slices.Compact(revisions)
}

// kill notes what there is to say of one kill, if that is news.
func (r *killRecorder) kill(ctx context.Context, env string, revision int64, n *notedKill, told int64) error {
	figures := n.figures
	if r.now().Sub(n.at) < killWatch {
		var err error
		if figures, err = r.killFigures(ctx, env, revision, n.at); err != nil {
			return err
		}
	}
	n.pierced = min(n.pierced, told) // the fleet forgot, and counts anew
	if figures == n.figures && told == n.pierced {
		return nil
	}
	if err := r.store.RecordKill(ctx, env, revision, n.at, figures, told-n.pierced); err != nil {
		return err
	}
	n.figures, n.pierced = figures, told
	return nil
}

// killFigures is how far the kill that made a revision at a time has come, as
// far as instances have acknowledged. It is [store.ErrUnavailable] beside what
// this replica knows if the others cannot be asked.
func (s *Server) killFigures(ctx context.Context, env string, revision int64, at time.Time) (f store.KillFigures, err error) {
	acks, err := s.fleet.Acks(ctx, env, revision)
	var took []time.Duration
	for _, a := range acks {
		f.Connected++
		if !a.Held {
			continue
		}
		f.Reached++
		if !a.At.IsZero() {
			took = append(took, max(a.At.Sub(at), 0).Truncate(time.Microsecond)) // two clocks; as the store keeps it
		}
	}
	if slices.Sort(took); len(took) > 0 {
		f.Timed, f.P50, f.P99, f.Last = len(took), quantile(took, 50), quantile(took, 99), took[len(took)-1]
	}
	return f, err
}

// quantile returns the least of sorted durations that percent of them do not
// exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}
