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

	mu      sync.Mutex
	flights map[int64]*logCall // by the revision asked for
	ended   bool
	pending sync.WaitGroup
}

// logCall is a question under way; its results are set before done is closed.
type logCall struct {
	cancel context.CancelFunc
	done   chan struct{}
	log    eval.Emergencies
	err    error
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
	return f.emergencies.fetch(ctx, revision, f.askEmergencies)
}

// askEmergencies asks the server for the log.
func (f *Feed) askEmergencies(ctx context.Context, revision int64) (eval.Emergencies, error) {
	f.stats.Fetches.Add(1)
	log, err := f.fetchedEmergencies(ctx, revision)
	if err != nil {
		f.stats.FetchFailures.Add(1)
	}
	return log, err
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

// fetch asks and waits for the answer until ctx ends. Callers with the same
// question share one; it goes on when they have left.
func (e *emergencies) fetch(ctx context.Context, revision int64, ask func(context.Context, int64) (eval.Emergencies, error)) (eval.Emergencies, error) {
	e.mu.Lock()
	if e.ended {
		e.mu.Unlock()
		return eval.Emergencies{}, fmt.Errorf("%w: %w", ErrUnavailable, errEnded)
	}
	current, shared := e.flights[revision]
	if !shared {
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchWithin)
		current = &logCall{cancel: cancel, done: make(chan struct{})}
		e.flights[revision] = current
		e.pending.Go(func() { e.answer(asking, revision, current, ask) })
	}
	e.mu.Unlock()
	select {
	case <-current.done:
		return current.log, current.err
	case <-ctx.Done():
		return eval.Emergencies{}, fmt.Errorf("%w: emergencies up to %d: %w", ErrUnavailable, revision, ctx.Err())
	}
}

// answer asks the server and gives all who wait the result. Failures are not
// kept: the next caller asks again.
func (e *emergencies) answer(ctx context.Context, revision int64, c *logCall, ask func(context.Context, int64) (eval.Emergencies, error)) {
	defer c.cancel()
	log, err := ask(ctx, revision)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.flights, revision)
	if err != nil {
		c.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	} else {
		c.log = log
		e.keep(log)
	}
	close(c.done)
}

// take keeps a log that the stream brought ahead of its snapshot.
func (e *emergencies) take(log eval.Emergencies) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keep(log)
}

// keep keeps the newer one; under the lock, so that it never goes back.
func (e *emergencies) keep(log eval.Emergencies) {
	if held := e.newest.Load(); held == nil || held.Revision() < log.Revision() {
		e.newest.Store(&log)
	}
}

// end refuses further questions, stops those under way and waits for them.
func (e *emergencies) end() {
	e.mu.Lock()
	e.ended = true
	for _, under := range e.flights {
		under.cancel()
	}
	e.mu.Unlock()
	e.pending.Wait()
}
