package feed_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// heard is what a feed acknowledged.
type heard struct {
	mu    sync.Mutex
	deaf  bool // acks fail
	said  []*guidonv1.SyncServiceAckRequest
	count map[int64]int64 // what emergencies pierced since it was last asked
}

func (h *heard) acks() []*guidonv1.SyncServiceAckRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.said)
}

func (h *heard) set(deaf bool, count map[int64]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf, h.count = deaf, count
}

func (h *heard) pierced() map[int64]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.count = nil }()
	return h.count
}

// acknowledging is a feed whose acks are heard.
func acknowledging(t testing.TB, src *source, config feed.Config) (*feed.Feed, *heard) {
	t.Helper()
	h := &heard{}
	src.ack = func(_ context.Context, held *guidonv1.SyncServiceAckRequest) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.deaf {
			return errors.New("lost")
		}
		h.said = append(h.said, held)
		return nil
	}
	config.Pierced = h.pierced
	config.Source, config.Client = src, &guidonv1.Client{Service: "checkout", Instance: "one"}
	return run(t, config), h
}

func TestAcksTellWhatIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		h.put(false, "checkout")
		src := newSource()
		f, said := acknowledging(t, src, feed.Config{Keys: func(k *guidonv1.PropagationKeys) bool { return k.GetSigner() != "bad" }})
		s := <-src.opened
		first := hello(1)
		first.GetHello().PropagationKeys = &guidonv1.PropagationKeys{Signer: "a", Keys: []*guidonv1.PropagationKey{{Id: "a"}}}
		s.send(t, first)
		s.send(t, h.snapshot(t, 1, "identity", 1)...)
		time.Sleep(2 * time.Second)
		synctest.Wait()

		said.set(false, map[int64]int64{7: 3})
		s.send(t, keysEvent("bad")) // is not in force, so it is not told
		s.send(t, h.delta(t, 1, 2, "identity"))
		time.Sleep(2 * time.Second)
		synctest.Wait()

		held := func(revision int64, pierced map[int64]int64) *guidonv1.SyncServiceAckRequest {
			return &guidonv1.SyncServiceAckRequest{
				Environment: "production", Client: &guidonv1.Client{Service: "checkout", Instance: "one"},
				Revision: revision, Digest: h.digest(t, revision), PropagationKeyIds: []string{"a"}, Pierced: pierced,
			}
		}
		want := []*guidonv1.SyncServiceAckRequest{held(1, nil), held(2, map[int64]int64{7: 3})}
		if diff := cmp.Diff(want, said.acks(), protocmp.Transform(), protocmp.IgnoreFields(&guidonv1.SyncServiceAckRequest{}, "age")); diff != "" {
			t.Errorf("acks (-want +got):\n%s", diff)
		}
		if got := f.Stats().Acks.Load(); got != 2 {
			t.Errorf("Acks = %d, want 2", got)
		}
	})
}

// However many revisions come, there is one ack a second at most, and one a
// minute or so when none come.
func TestAcksAreFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		for range 101 {
			h.put(true, "checkout")
		}
		src := newSource()
		_, said := acknowledging(t, src, feed.Config{})
		s := <-src.opened
		s.send(t, hello(1))
		s.send(t, h.snapshot(t, 1, "identity", 1)...)
		for revision := int64(1); revision <= 100; revision++ {
			s.send(t, h.delta(t, revision, revision+1, "identity"))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		busy := len(said.acks())
		if busy > 13 {
			t.Errorf("%d acks in 12 s, want one a second at most", busy)
		}
		if last := said.acks()[busy-1]; last.GetRevision() != 101 {
			t.Errorf("the last ack is of revision %d, want 101", last.GetRevision())
		}
		for range 40 {
			time.Sleep(15 * time.Second)
			s.send(t, heartbeat(101))
		}
		if idle := len(said.acks()) - busy; idle < 7 || idle > 10 {
			t.Errorf("%d acks in 10 minutes without news, want 8 to 10", idle)
		}
	})
}

func TestAcksAreSpreadAsTheServerAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		later := 0
		for range 20 {
			src := newSource()
			start := time.Now()
			var acked atomic.Int64
			src.ack = func(context.Context, *guidonv1.SyncServiceAckRequest) error {
				acked.CompareAndSwap(0, int64(time.Since(start)))
				return nil
			}
			run(t, feed.Config{Source: src, Client: &guidonv1.Client{Instance: "one"}})
			s := <-src.opened
			first := hello(1)
			first.GetHello().AckSpread = durationpb.New(10 * time.Second)
			s.send(t, first)
			s.send(t, h.snapshot(t, 1, "identity", 1)...)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if acked.Load() == 0 {
				t.Fatal("no ack within the spread")
			}
			if acked.Load() > int64(time.Second) {
				later++
			}
		}
		if later < 10 {
			t.Errorf("%d of 20 acks came after the first second of ten, want most", later)
		}
	})
}

// With changes one after the other each instance tells once in the time that the
// server named last: what hello named was for the clients of then.
func TestAcksFollowTheLastAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		for range 101 {
			h.put(true, "checkout")
		}
		src := newSource()
		src.ackSpread = durationpb.New(20 * time.Second)
		_, said := acknowledging(t, src, feed.Config{})
		s := <-src.opened
		s.send(t, hello(1)) // names none
		s.send(t, h.snapshot(t, 1, "identity", 1)...)
		for revision := int64(1); revision <= 100; revision++ {
			s.send(t, h.delta(t, revision, revision+1, "identity"))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if got := len(said.acks()); got < 3 || got > 7 {
			t.Errorf("%d acks in 100 s of changes, want one at first and then one in 20 s", got)
		}
	})
}

// What could not be told is told with the next one.
func TestAckThatFailsLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		src := newSource()
		f, said := acknowledging(t, src, feed.Config{})
		said.set(true, map[int64]int64{5: 1})
		s := <-src.opened
		s.send(t, hello(1))
		s.send(t, h.snapshot(t, 1, "identity", 1)...)
		time.Sleep(time.Second)
		synctest.Wait()
		said.set(false, map[int64]int64{5: 2, 6: 1})
		for range 10 {
			time.Sleep(15 * time.Second)
			s.send(t, heartbeat(1))
		}
		if got := f.Stats().AckFailures.Load(); got != 1 {
			t.Errorf("AckFailures = %d, want 1", got)
		}
		if len(said.acks()) == 0 {
			t.Fatal("no ack after the one that failed")
		}
		if diff := cmp.Diff(map[int64]int64{5: 3, 6: 1}, said.acks()[0].GetPierced()); diff != "" {
			t.Errorf("pierced (-want +got):\n%s", diff)
		}
	})
}
