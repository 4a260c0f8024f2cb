package main

import (
	"context"
	"iter"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// maxDelayed bounds the events that wait in a delayed stream. When it is full
// the stream is read no further until the oldest one is due.
const maxDelayed = 10_000

// A lateSource hands on each event of a stream a while after it came, in the
// same order. It makes visible what a slow network does to services. What a
// stream begins with, a snapshot, is not held back, and neither is Definition:
// only the news come late.
type lateSource struct {
	feed.Source
	lag time.Duration
	// committed is told when a revision was committed, as soon as it is known.
	committed func(revision int64, at time.Time)
}

// Sync is the stream of the source within, later.
func (s lateSource) Sync(ctx context.Context, have *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	type arrived struct {
		event *guidonv1.SyncServiceSyncResponse
		err   error
		due   time.Time
	}
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		waiting, done := make(chan arrived, maxDelayed), make(chan struct{})
		defer func() { cancel(); <-done }()
		go func() {
			defer close(done)
			defer close(waiting)
			var lag time.Duration
			for event, err := range s.Source.Sync(ctx, have) {
				now := time.Now()
				if d := event.GetDelta(); d != nil {
					lag = s.lag
					at := now
					if d.GetCommittedAt().IsValid() {
						at = d.GetCommittedAt().AsTime()
					}
					s.committed(d.GetToRevision(), at)
				}
				select {
				case waiting <- arrived{event, err, now.Add(lag)}:
				case <-ctx.Done():
					return
				}
			}
		}()
		for a := range waiting {
			if err := pause(ctx, time.Until(a.due)); err != nil {
				yield(nil, err)
				return
			}
			if !yield(a.event, a.err) {
				return
			}
		}
	}
}
