package feed

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// emergencies is the newest emergency log that was asked of the server, which
// may be ahead of the newest snapshot, and the questions under way.
type emergencies struct {
	newest atomic.Pointer[eval.Emergencies]

	mu      sync.Mutex                       // of those who replace it
	flights flights[int64, eval.Emergencies] // by the revision asked for
}

// Emergencies is the newest emergency log that this process knows: that of the
// newest snapshot, or one that [Feed.EmergenciesAt] has fetched ahead of it. It
// never goes back.
func (f *Feed) Emergencies() eval.Emergencies {
	var held eval.Emergencies
	if snapshot := f.Snapshot(); snapshot != nil {
		held = snapshot.Emergencies()
	}
	if asked := f.emergencies.newest.Load(); asked != nil && asked.Revision() > held.Revision() {
		return *asked
	}
	return held
}

// EmergenciesAt is the emergency log, complete up to a revision at least. If
// that is ahead of this process it waits for the stream, then asks the server,
// once however many callers wait; within [Config.Budget], as [Feed.FlagAt] does.
func (f *Feed) EmergenciesAt(ctx context.Context, revision int64) (eval.Emergencies, error) {
	if log := f.Emergencies(); log.Revision() >= revision {
		return log, nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.config.Budget)
	defer cancel()
	if f.ahead(revision) && f.waitFor(ctx, revision) {
		return f.Emergencies(), nil
	}
	log, err := f.emergencies.flights.fetch(ctx, revision, f.askEmergencies)
	if err != nil {
		return log, fmt.Errorf("emergencies up to revision %d: %w", revision, err)
	}
	return log, nil
}

// askEmergencies asks the server for the log, and keeps it.
func (f *Feed) askEmergencies(ctx context.Context, revision int64) (eval.Emergencies, error) {
	f.stats.Fetches.Add(1)
	log, err := f.fetchedEmergencies(ctx, revision)
	if err != nil {
		f.stats.FetchFailures.Add(1)
		return log, err
	}
	f.emergencies.take(log)
	return log, nil
}

func (f *Feed) fetchedEmergencies(ctx context.Context, revision int64) (eval.Emergencies, error) {
	answer, err := f.config.Source.Emergencies(ctx, &guidonv1.SyncServiceGetEmergenciesRequest{
		Environment: f.condition.Load().environment, Revision: revision,
	})
	if err != nil {
		return eval.Emergencies{}, err
	}
	log, err := decodeEmergencies(answer, revision)
	if err != nil {
		f.stats.Malformed.Add(1)
	}
	return log, err
}

func decodeEmergencies(answer *guidonv1.SyncServiceGetEmergenciesResponse, revision int64) (eval.Emergencies, error) {
	if answer.GetRevision() < revision {
		return eval.Emergencies{}, malformed("emergencies up to revision %d: the answer ends at %d", revision, answer.GetRevision())
	}
	rows, err := evalRows(answer.GetRows())
	if err != nil {
		return eval.Emergencies{}, fmt.Errorf("emergencies up to revision %d: %w", revision, err)
	}
	for _, row := range rows {
		if row.Kind != eval.KindEmergency {
			return eval.Emergencies{}, malformed("emergencies up to revision %d: the answer has a row of kind %s", revision, row.Kind)
		}
	}
	if err := within(rows, 0, answer.GetRevision()); err != nil {
		return eval.Emergencies{}, err
	}
	snapshot, err := eval.Compile(answer.GetRevision(), rows)
	if err != nil {
		return eval.Emergencies{}, malformed("emergencies up to revision %d: %w", revision, err)
	}
	return snapshot.Emergencies(), nil
}

// take keeps a log that is ahead of the snapshot, if it is the newest.
func (e *emergencies) take(log eval.Emergencies) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if held := e.newest.Load(); held == nil || held.Revision() < log.Revision() {
		e.newest.Store(&log)
	}
}
