package main

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/feed"
)

var errEnded = errors.New("ended")

// A scriptedSource yields a snapshot at once, then a delta every 100 ms up to
// revision last, and then fails; with last 0 it stays silent until ctx ends.
type scriptedSource struct {
	feed.Source
	last int64
}

func (s scriptedSource) Sync(ctx context.Context, _ *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) {
		snapshot := &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Snapshot{
			Snapshot: &guidonv1.SnapshotChunk{Revision: 1, Last: true},
		}}
		if !yield(snapshot, nil) {
			return
		}
		if s.last == 0 {
			<-ctx.Done()
			return
		}
		for r := int64(2); r <= s.last; r++ {
			if pause(ctx, 100*time.Millisecond) != nil {
				return
			}
			delta := &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Delta{
				Delta: &guidonv1.Delta{FromRevision: r - 1, ToRevision: r},
			}}
			if r%2 == 0 {
				delta.GetDelta().CommittedAt = timestamppb.New(time.Now().Add(-time.Millisecond))
			}
			if !yield(delta, nil) {
				return
			}
		}
		yield(nil, errEnded)
	}
}

// Every event of a delayed stream comes as much later as it should, in order;
// the time of the commit is known at once.
func TestLateSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		type sight struct {
			Revision int64
			After    time.Duration
		}
		var committed, seen []sight
		source := lateSource{Source: scriptedSource{last: 4}, lag: 250 * time.Millisecond, committed: func(r int64, at time.Time) {
			committed = append(committed, sight{r, at.Sub(start)})
		}}
		var end error
		for event, err := range source.Sync(t.Context(), nil) {
			if err != nil {
				end = err
				seen = append(seen, sight{0, time.Since(start)})
				continue
			}
			seen = append(seen, sight{max(event.GetSnapshot().GetRevision(), event.GetDelta().GetToRevision()), time.Since(start)})
		}
		const ms = time.Millisecond
		if diff := cmp.Diff([]sight{{1, 0}, {2, 350 * ms}, {3, 450 * ms}, {4, 550 * ms}, {0, 550 * ms}}, seen); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if !errors.Is(end, errEnded) {
			t.Errorf("the stream ended with %v, want %v", end, errEnded)
		}
		// Revision 3 comes without a time: its first sight stands in.
		if diff := cmp.Diff([]sight{{2, 99 * ms}, {3, 200 * ms}, {4, 299 * ms}}, committed); diff != "" {
			t.Errorf("commits (-want +got):\n%s", diff)
		}
	})
}

// A receiver that stops, or whose context ends, leaves no goroutine behind:
// synctest fails if it does.
func TestLateSourceEnds(t *testing.T) {
	t.Parallel()
	ignore := func(int64, time.Time) {}
	synctest.Test(t, func(t *testing.T) {
		for _, err := range (lateSource{Source: scriptedSource{last: 9}, lag: time.Hour, committed: ignore}).Sync(t.Context(), nil) {
			if err != nil {
				t.Errorf("the snapshot came with %v", err)
			}
			break
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var n int
		for _, err := range (lateSource{Source: scriptedSource{}, lag: time.Hour, committed: ignore}).Sync(ctx, nil) {
			if err != nil {
				t.Errorf("a silent stream whose context ended yielded %v", err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("a silent stream whose context ended yielded %d events, want 1", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var end error
		for _, err := range (lateSource{Source: scriptedSource{last: 9}, lag: time.Hour, committed: ignore}).Sync(ctx, nil) {
			end = err
		}
		if !errors.Is(end, context.DeadlineExceeded) {
			t.Errorf("a delayed stream whose context ended: %v, want %v", end, context.DeadlineExceeded)
		}
	})
}
