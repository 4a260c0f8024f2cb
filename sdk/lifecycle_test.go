package guidon_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// outage is a source whose stream is up or down, at a revision that stays; it
// needs no network, so that time can be the test's.
type outage struct {
	feed.Source
	server *server
	up     chan bool // what becomes of the stream, told to whichever attempt is next
}

var errDown = errors.New("the server is down")

func (o outage) Poll(context.Context, *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
	return nil, errDown
}

func (o outage) Ack(context.Context, *guidonv1.SyncServiceAckRequest) (*guidonv1.SyncServiceAckResponse, error) {
	return nil, errDown
}

func (o outage) Sync(ctx context.Context, have *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) {
		up := false
		select {
		case up = <-o.up:
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		for up {
			for _, event := range o.server.opening(have.GetHaveRevision()) {
				if !yield(event, nil) {
					return
				}
			}
			have.HaveRevision, _ = o.server.newest()
			select {
			case up = <-o.up:
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
				up = false
			}
		}
		yield(nil, errDown)
	}
}

// opening is what the server says to a client that holds a revision: everything
// it needs, or that there is nothing new.
func (s *server) opening(held int64) []*guidonv1.SyncServiceSyncResponse {
	newest, _ := s.newest()
	events := []*guidonv1.SyncServiceSyncResponse{{Event: &guidonv1.SyncServiceSyncResponse_Hello{Hello: &guidonv1.Hello{
		Environment: "production", Revision: newest, PropagationKeys: s.keys,
	}}}}
	if held == newest {
		return events
	}
	return append(events, &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Snapshot{Snapshot: &guidonv1.SnapshotChunk{
		Revision: newest, Digest: s.digest(newest), Encoding: "identity", Payload: marshal(&guidonv1.Rows{Upserts: wire(s.at(newest))}), Last: true,
	}}})
}

// story is an application's life in a bubble of its own time.
type story struct {
	*testing.T
	client *guidon.Client
	api    *openfeature.EvaluationAPI
	up     chan bool
	since  time.Time

	mu     sync.Mutex
	events []openfeature.EventType
}

func tell(t *testing.T, body func(*story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &story{T: t, api: isolated.NewAPI(), up: make(chan bool), since: time.Now()}
		server := newServer()
		server.put(boolean("checkout", true))
		client, err := guidon.Open(t.Context(), "http://guidon.invalid", guidon.WithSource(func(feed.Source) feed.Source {
			return outage{server: server, up: s.up}
		}))
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		s.client = client
		for _, eventType := range []openfeature.EventType{openfeature.ProviderReady, openfeature.ProviderStale, openfeature.ProviderError, openfeature.ProviderConfigChange} {
			handler := func(openfeature.EventDetails) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.events = append(s.events, eventType)
			}
			s.api.AddHandler(eventType, &handler)
		}
		body(s)
		if err := s.api.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := client.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// expect waits until a moment after the beginning, and checks all events so far
// and the state that OpenFeature is in.
func (s *story) expect(at time.Duration, state openfeature.State, events ...openfeature.EventType) {
	s.Helper()
	time.Sleep(time.Until(s.since.Add(at)))
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.events, events) {
		s.Fatalf("after %v the events are %v, want %v", at, s.events, events)
	}
	if got := s.api.NewClient().State(); got != state {
		s.Errorf("after %v the state is %s, want %s", at, got, state)
	}
}

const (
	isReady = openfeature.ProviderReady
	isStale = openfeature.ProviderStale
	isError = openfeature.ProviderError
)

// Each transition is told once: ready, stale five seconds after the loss, ready.
func TestRequirement_2_8_1(t *testing.T) {
	t.Parallel()
	tell(t, func(s *story) {
		s.up <- true
		if err := s.api.SetProviderAndWait(s.Context(), s.client.Provider()); err != nil {
			s.Fatalf("SetProviderAndWait: %v", err)
		}
		s.expect(time.Minute, openfeature.ReadyState, isReady)
		s.up <- false
		s.expect(time.Minute+4900*time.Millisecond, openfeature.ReadyState, isReady)
		s.expect(time.Minute+5100*time.Millisecond, openfeature.StaleState, isReady, isStale)
		s.expect(time.Hour, openfeature.StaleState, isReady, isStale)
		s.up <- true
		s.expect(2*time.Hour, openfeature.ReadyState, isReady, isStale, isReady)
	})
}

// Without a server initialisation fails after five seconds, though its caller
// named no time; READY follows when there are flags.
func TestRequirement_2_8_3(t *testing.T) {
	t.Parallel()
	tell(t, func(s *story) {
		if err := s.api.SetProvider(context.WithoutCancel(s.Context()), s.client.Provider()); err != nil {
			s.Fatalf("SetProvider: %v", err)
		}
		s.expect(4900*time.Millisecond, openfeature.NotReadyState)
		s.expect(5100*time.Millisecond, openfeature.ErrorState, isError)
		s.expect(time.Hour, openfeature.ErrorState, isError)
		s.up <- true
		s.expect(2*time.Hour, openfeature.ReadyState, isError, isReady)
	})
}

// A provider that is set when its flags are stale is ready, since it has flags;
// that they are stale is told as soon as go-sdk has told that it is ready.
func TestInitialisedWhileStale(t *testing.T) {
	t.Parallel()
	tell(t, func(s *story) {
		s.up <- true
		synctest.Wait()
		s.up <- false
		s.expect(time.Minute, openfeature.NotReadyState)
		if err := s.api.SetProviderAndWait(s.Context(), s.client.Provider()); err != nil {
			s.Fatalf("SetProviderAndWait: %v", err)
		}
		s.expect(2*time.Minute, openfeature.StaleState, isReady, isStale)
	})
}
