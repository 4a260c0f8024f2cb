package feed

import (
	"context"
	"maps"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

const (
	// ackApart is the least time between two acknowledgements.
	ackApart = time.Second
	// ackEvery is how often what is held is told again without news: the server
	// forgets.
	ackEvery = time.Minute
	// ackWithin bounds one of them.
	ackWithin = 5 * time.Second
	// mostSpread bounds the time over which a server asks for them to be spread.
	mostSpread = time.Minute
)

// acker tells the server what is held. Nothing waits for it: one that fails is
// counted, and the next tells as much.
type acker struct {
	feed *Feed
	// news has room for one: that there is something to tell, not what.
	news chan struct{}
	// pierced is what was counted and not told yet. Used by run alone.
	pierced map[int64]int64
}

// wake makes it tell soon.
func (a *acker) wake() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// run tells what is held, soon after each piece of news and every now and then,
// until ctx ends.
func (a *acker) run(ctx context.Context) {
	var last time.Time
	again := time.NewTimer(ackEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.news:
		case <-again.C:
		}
		spread := min(max(time.Duration(a.feed.ackSpread.Load()), 0), mostSpread)
		// Where changes come one after the other, each instance tells once in the
		// time that the server named, and not after each of them.
		apart := max(ackApart, spread)
		wait := max(rand.N(spread+1), time.Until(last.Add(apart))) //nolint:gosec // spreads load, guards nothing
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		select { // what came while it waited is told now
		case <-a.news:
		default:
		}
		a.tell(ctx)
		last = time.Now()
		again.Reset(ackEvery + rand.N(ackEvery/4)) //nolint:gosec // see above
	}
}

// tell acknowledges once, if there is a stream, and so a server that listens.
func (a *acker) tell(ctx context.Context) {
	f := a.feed
	snapshot, c := f.Snapshot(), f.condition.Load()
	if snapshot == nil || !c.connected {
		return
	}
	for revision, n := range f.config.Pierced() {
		if a.pierced == nil {
			a.pierced = map[int64]int64{}
		}
		a.pierced[revision] += n
	}
	ctx, cancel := context.WithTimeout(ctx, ackWithin)
	defer cancel()
	answer, err := f.config.Source.Ack(ctx, &guidonv1.SyncServiceAckRequest{
		Environment: c.environment, Client: f.config.Client, Revision: snapshot.Revision(), Digest: snapshot.Digest().String(),
		Age:               durationpb.New(max(time.Since(time.Unix(0, f.appliedAt.Load())), 0)),
		PropagationKeyIds: *f.keysHeld.Load(), Pierced: maps.Clone(a.pierced),
	})
	if err != nil {
		f.stats.AckFailures.Add(1)
		return
	}
	f.stats.Acks.Add(1)
	if spread := answer.GetAckSpread(); spread != nil {
		f.ackSpread.Store(int64(spread.AsDuration()))
	}
	clear(a.pierced)
}

// takeKeys passes keys on, and notes the ids of those that are in force.
func (f *Feed) takeKeys(keys *guidonv1.PropagationKeys) {
	if !f.config.Keys(keys) {
		return
	}
	held := make([]string, 0, len(keys.GetKeys()))
	for _, key := range keys.GetKeys() {
		held = append(held, key.GetId())
	}
	f.keysHeld.Store(&held)
	f.keys.Store(keys)
	f.acks.wake()
	f.saves.wake()
}

// takeOverrideKeys passes on what verifies override tokens.
func (f *Feed) takeOverrideKeys(keys *guidonv1.OverrideKeys) {
	f.config.OverrideKeys(keys)
	f.overrides.Store(keys)
	f.saves.wake()
}

// takeAPIKeys passes on what a relay knows its clients by.
func (f *Feed) takeAPIKeys(keys *guidonv1.APIKeys) {
	f.config.APIKeys(keys)
	f.apiKeys.Store(keys)
	f.saves.wake()
}
