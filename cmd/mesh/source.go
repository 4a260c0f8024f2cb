package main

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// maxDelayed bounds the events that wait in a delayed stream.
const maxDelayed = 10_000

var errCut = errors.New("the network is cut")

// A network is what lies between one instance and Guidon: it is slow, and it can
// be cut. Definitions pass at full speed, and not at all where it is cut whole.
type network struct {
	feed.Source
	lag     time.Duration
	fetched func(time.Duration)

	mu    sync.Mutex
	whole chan struct{} // closed while cut
	all   bool          // definitions too
}

func newNetwork(lag time.Duration, fetched func(time.Duration)) *network {
	return &network{lag: lag, fetched: fetched, whole: make(chan struct{})}
}

// Cut ends streams and lets none begin until Mend. With all, definitions cannot
// be had either.
func (n *network) Cut(all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = all
	select {
	case <-n.whole:
	default:
		close(n.whole)
	}
}

// Mend ends what Cut began.
func (n *network) Mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = false
	select {
	case <-n.whole:
		n.whole = make(chan struct{})
	default:
	}
}

func (n *network) state() (whole <-chan struct{}, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.whole, n.all
}

// Definition implements feed.Source.
func (n *network) Definition(ctx context.Context, want *guidonv1.SyncServiceGetDefinitionRequest) (*guidonv1.SyncServiceGetDefinitionResponse, error) {
	if _, all := n.state(); all {
		return nil, errCut
	}
	begin := time.Now()
	got, err := n.Source.Definition(ctx, want)
	if err == nil && n.fetched != nil {
		n.fetched(time.Since(begin))
	}
	return got, err
}

// Emergencies implements feed.Source.
func (n *network) Emergencies(ctx context.Context, want *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error) {
	if _, all := n.state(); all {
		return nil, errCut
	}
	return n.Source.Emergencies(ctx, want)
}

// Sync implements feed.Source: each event of the stream, later and in order. A
// snapshot, which a stream begins with, is not held back.
func (n *network) Sync(ctx context.Context, have *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	type arrived struct {
		event *guidonv1.SyncServiceSyncResponse
		err   error
		due   time.Time
	}
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		waiting := make(chan arrived, maxDelayed)
		var reading sync.WaitGroup
		defer func() { cancel(); reading.Wait() }()
		reading.Go(func() {
			defer close(waiting)
			for event, err := range n.Source.Sync(ctx, have) {
				a := arrived{event, err, time.Now()}
				if event.GetDelta() != nil {
					a.due = a.due.Add(n.lag)
				}
				select {
				case waiting <- a:
				case <-ctx.Done():
					return
				}
			}
		})
		cut, _ := n.state()
		for {
			select {
			case a, more := <-waiting:
				if !more {
					return
				}
				if err := pause(ctx, cut, time.Until(a.due)); err != nil {
					yield(nil, err)
					return
				}
				if !yield(a.event, a.err) {
					return
				}
			case <-cut:
				yield(nil, errCut)
				return
			}
		}
	}
}

// pause waits, unless ctx ends or the network is cut before.
func pause(ctx context.Context, cut <-chan struct{}, d time.Duration) error {
	select {
	case <-cut:
		return errCut
	default:
	}
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-cut:
		return errCut
	case <-t.C:
		return nil
	}
}
