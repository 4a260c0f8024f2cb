package flagd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/flagd"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// revisions is an environment of one flag, which each revision turns.
type revisions struct {
	hub.Source
	mu     sync.Mutex
	newest int64
}

func (r *revisions) Listen(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

func (r *revisions) Environments(context.Context) ([]store.Environment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return []store.Environment{{Name: "production", Revision: r.newest}}, nil
}

func (r *revisions) row(revision int64) []eval.Row {
	return []eval.Row{{Kind: eval.KindFlag, Name: "checkout", From: revision, Document: fmt.Appendf(nil,
		`{"flag":{"defaultVariant":%q,"state":"ENABLED","variants":{"off":false,"on":true}},`+
			`"guidon":{"kind":"release","project":"default","scope":"request","type":"boolean"}}`, []string{"off", "on"}[revision%2])}}
}

func (r *revisions) SnapshotRows(_ context.Context, _ string, revision int64) ([]eval.Row, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if revision == 0 {
		revision = r.newest
	}
	return r.row(revision), revision, nil
}

func (r *revisions) Delta(_ context.Context, _ string, _, to int64) ([]eval.Row, []eval.Name, error) {
	return r.row(to), nil, nil
}

func (r *revisions) Keys(context.Context, string) (hub.Keys, error) { return hub.Keys{}, nil }

// publish makes the next revision, and returns once the hub has it.
func (r *revisions) publish(t *testing.T, e *hub.Environment) {
	t.Helper()
	r.mu.Lock()
	r.newest++
	next := r.newest
	r.mu.Unlock()
	if err := e.Await(t.Context(), next); err != nil {
		t.Error(err)
	}
}

// wire is the connection of a stream: what was flushed to the client, and when.
type wire struct {
	header  http.Header
	pending []byte
	// before is called once, when the first message is about to be written.
	before func()

	mu     sync.Mutex
	events []event
}

type event struct {
	after time.Duration
	text  string
}

func (w *wire) Header() http.Header              { return w.header }
func (w *wire) WriteHeader(int)                  {}
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
func (w *wire) Write(b []byte) (int, error) {
	if w.before != nil {
		w.before()
		w.before = nil
	}
	w.pending = append(w.pending, b...)
	return len(b), nil
}

func (w *wire) flush(since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.pending) >= 5 {
		n := 5 + int(binary.BigEndian.Uint32(w.pending[1:]))
		var said struct {
			Type string
			Data struct {
				Flags map[string]struct{ Type string }
			}
		}
		_ = json.Unmarshal(w.pending[5:n], &said) // the last message is not an event
		text := said.Type
		if change, ok := said.Data.Flags["checkout"]; ok {
			text += " checkout " + change.Type
		}
		w.events = append(w.events, event{time.Since(since), text})
		w.pending = w.pending[n:]
	}
}

func (w *wire) said() []event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

// flusher is a wire whose flushes are timed.
type flusher struct {
	*wire
	since time.Time
}

func (f flusher) Flush() { f.flush(f.since) }

// TestEventStreamInTime: provider_ready is there at once; a change that is
// published while it is being sent is not lost; a silent stream says every 20
// seconds that it lives; and a server that stops says so last.
func TestEventStreamInTime(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v2"} {
		synctest.Test(t, func(t *testing.T) {
			source := &revisions{newest: 1}
			h := hub.New(hub.Config{Upstream: source})
			ctx, cancel := context.WithCancel(t.Context())
			draining, drain := context.WithCancel(t.Context())
			defer cancel()
			defer drain()
			go func() { _ = h.Run(ctx) }()
			synctest.Wait()
			e, err := h.Environment("production")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			w := &wire{header: http.Header{}, before: func() { source.publish(t, e) }}
			s := flagd.New(flagd.Config{
				Caller:  func(context.Context) (flagd.Caller, error) { return flagd.Caller{Environment: e}, nil },
				Hold:    func(context.Context) *auth.Hold { return auth.New(auth.Config{}).Hold(auth.Principal{}, time.Second) },
				Enter:   func(context.Context, string) (func(), error) { return func() {}, nil },
				Control: func(context.Context) *http.ResponseController { return http.NewResponseController(flusher{w, began}) },
				Leave:   func(context.Context) error { return nil }, Draining: draining,
			})
			path := "/flagd.evaluation." + version + ".Service/"
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, path+"EventStream", bytes.NewReader([]byte("\x00\x00\x00\x00\x02{}")))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/connect+json")
			ended := make(chan struct{})
			go func() {
				s.Routes()[path].ServeHTTP(flusher{w, began}, request)
				close(ended)
			}()
			synctest.Wait()
			want := []event{{0, "provider_ready"}, {0, "configuration_change checkout update"}}
			expect := func(what string) {
				t.Helper()
				synctest.Wait()
				if got := w.said(); !slices.Equal(got, want) {
					t.Fatalf("%s %s: %v, want %v", version, what, got, want)
				}
			}
			expect("at once")
			time.Sleep(19 * time.Second)
			expect("within 20 seconds")
			time.Sleep(22 * time.Second)
			want = append(want, event{20 * time.Second, "keep_alive"}, event{40 * time.Second, "keep_alive"})
			expect("of a silent stream")
			source.publish(t, e)
			want = append(want, event{41 * time.Second, "configuration_change checkout update"})
			expect("after a change")
			drain()
			<-ended
			got := w.said()
			if last := got[len(want)]; last.text != "provider_shutdown" || !strings.HasPrefix(w.header.Get("Content-Type"), "application/connect+json") {
				t.Errorf("%s: the server stops with %v", version, got[len(want):])
			}
			cancel()
		})
	}
}
