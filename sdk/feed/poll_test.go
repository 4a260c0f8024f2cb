package feed_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// polled is a server whose streams something on the way kills. It answers polls
// with what a stream would begin with, and counts them.
type polled struct {
	mu    sync.Mutex
	h     history
	asked int
}

func (p *polled) put(on bool, keys ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.h.put(on, keys...)
}

func (p *polled) polls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *polled) answer(t testing.TB) func(context.Context, *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
	return func(ctx context.Context, want *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
		p.mu.Lock()
		p.asked++
		h := p.h
		p.mu.Unlock()
		newest := int64(len(h))
		events := []event{hello(newest)}
		switch have := want.GetHave().GetHaveRevision(); have {
		case 0:
			events = append(events, h.snapshot(t, newest, "gzip", 2)...)
		case newest:
			select {
			case <-time.After(want.GetWait().AsDuration()):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		default:
			events = append(events, h.delta(t, have, newest, "gzip"))
		}
		return &guidonv1.SyncServiceGetDeltaResponse{Events: events}, nil
	}
}

func TestPollsWhereStreamsAreKilled(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(*testing.T, *stream){
		"cut at once": func(_ *testing.T, s *stream) { s.fail <- nil },
		"never a word": func(_ *testing.T, s *stream) {
			<-s.over // the feed gives up by itself
		},
		"cut after hello": func(t *testing.T, s *stream) {
			t.Helper()
			s.send(t, hello(1))
			s.fail <- errors.New("unexpected EOF")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src, server := newSource(), &polled{}
				server.put(true, "checkout")
				src.poll = server.answer(t)
				f := run(t, feed.Config{Source: src})
				for range 3 {
					kill(t, <-src.opened)
				}
				if err := f.WaitReady(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // it is ready a moment before it says so
				if !value(t, f, "checkout") || f.Status().State != feed.StateReady {
					t.Errorf("Status() = %+v after polls, want ready and the flag on", f.Status())
				}
				server.put(false, "checkout")
				time.Sleep(30 * time.Second)
				synctest.Wait()
				if value(t, f, "checkout") {
					t.Error("the second revision did not arrive by polls")
				}
				before := server.polls()
				time.Sleep(4 * time.Minute)
				synctest.Wait()
				if n := server.polls() - before; n < 8 || n > 11 || f.Status().State != feed.StateReady {
					t.Errorf("%d polls in 4 minutes without news, and %s; want about 10, and ready", n, f.Status().State)
				}
				// Every now and then a stream is tried, and followed if it stays.
				s := <-src.opened
				s.send(t, hello(2))
				before = server.polls()
				for range 40 {
					time.Sleep(15 * time.Second)
					s.send(t, heartbeat(2))
				}
				if n := server.polls() - before; n != 0 {
					t.Errorf("%d polls beside a stream that stays", n)
				}
			})
		})
	}
}

// A poll that fails costs a slot like any other attempt, and a stream is next.
func TestPollThatFailsIsFollowedByAStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		src := newSource()
		src.poll = func(context.Context, *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
			asked.Add(1)
			return &guidonv1.SyncServiceGetDeltaResponse{}, nil // not even a hello
		}
		f := run(t, feed.Config{Source: src})
		for range 9 {
			(<-src.opened).fail <- nil
		}
		<-src.opened
		if n := asked.Load(); n != 3 {
			t.Errorf("%d polls among 9 streams that were killed, want one after each three", n)
		}
		if got := f.Stats().Malformed.Load(); got != 3 {
			t.Errorf("Malformed = %d, want 3", got)
		}
	})
}
