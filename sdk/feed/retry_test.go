package feed_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/sdk/feed"
)

var errRefused = errors.New("connection refused")

// gap is how long the feed waits before it opens the next stream.
func gap(t *testing.T, src *source) (time.Duration, *stream) {
	t.Helper()
	lost := time.Now()
	s := <-src.opened
	return time.Since(lost), s
}

func TestRetriesForEverInGrowingWindows(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"unreachable": errRefused,
		"wrong key":   connect.NewError(connect.CodeUnauthenticated, errors.New("no such key")),
		"not allowed": connect.NewError(connect.CodePermissionDenied, errors.New("not for you")),
		"no such rpc": connect.NewError(connect.CodeUnimplemented, errors.New("404")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src := newSource()
				f := run(t, feed.Config{Source: src})
				s := <-src.opened
				window, longest := 100*time.Millisecond, time.Duration(0)
				for attempt := range 200 {
					s.fail <- err
					var waited time.Duration
					waited, s = gap(t, src)
					if waited >= window {
						t.Fatalf("attempt %d came after %v, want less than %v", attempt, waited, window)
					}
					longest = max(longest, waited)
					window = min(2*window, 30*time.Second)
				}
				if longest < 15*time.Second {
					t.Errorf("the longest of 200 waits was %v, want jitter over 30s", longest)
				}
				if f.Status().LastError != err.Error() {
					t.Errorf("LastError = %q, want %q", f.Status().LastError, err)
				}
				if got := f.Stats().Lost.Load(); got != 200 {
					t.Errorf("%d streams counted as lost, want 200", got)
				}
			})
		})
	}
}

func TestBackoffStartsAgainAfterAMinuteOfHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		_, src, s := started(t, &h, feed.Config{})
		var longest time.Duration
		for range 40 { // streams that die young do not count as health
			s.send(t, hello(1))
			time.Sleep(14 * time.Second)
			s.fail <- errRefused
			var waited time.Duration
			waited, s = gap(t, src)
			longest = max(longest, waited)
		}
		if longest < 10*time.Second {
			t.Errorf("the longest of 40 waits was %v, want the window to have grown to 30s", longest)
		}
		for range 20 {
			s.send(t, hello(1))
			for range 6 {
				time.Sleep(10 * time.Second)
				s.send(t, heartbeat(1))
			}
			s.fail <- errRefused
			var waited time.Duration
			if waited, s = gap(t, src); waited >= 100*time.Millisecond {
				t.Fatalf("after a minute of health the next stream came after %v, want the first window", waited)
			}
		}
	})
}

func TestHonoursWhatTheServerAsksFor(t *testing.T) {
	t.Parallel()
	after := func(value string) func(*testing.T, *stream) {
		return func(_ *testing.T, s *stream) {
			err := connect.NewError(connect.CodeUnavailable, errors.New("full"))
			err.Meta().Set("Retry-After", value)
			s.fail <- err
		}
	}
	leave := func(d time.Duration) func(*testing.T, *stream) {
		return func(t *testing.T, s *stream) {
			t.Helper()
			s.send(t, hello(0), goingAway(d))
		}
	}
	cases := map[string]struct {
		end         func(*testing.T, *stream)
		least, most time.Duration
	}{
		"Retry-After in seconds": {after("7"), 7 * time.Second, 7100 * time.Millisecond},
		"Retry-After of a year":  {after("31536000"), 5 * time.Minute, 301 * time.Second},
		"Retry-After nonsense":   {after("-1"), 0, 100 * time.Millisecond},
		"going away":             {leave(3 * time.Second), 3 * time.Second, 3100 * time.Millisecond},
		"going away in the past": {leave(-time.Hour), 0, 100 * time.Millisecond},
		"Retry-After as a date": {func(t *testing.T, s *stream) {
			t.Helper()
			after(time.Now().Add(20*time.Second).UTC().Format(http.TimeFormat))(t, s)
		}, 19 * time.Second, 21 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src := newSource()
				run(t, feed.Config{Source: src})
				s := <-src.opened
				c.end(t, s)
				if waited, _ := gap(t, src); waited < c.least || waited > c.most {
					t.Errorf("the next stream came after %v, want %v to %v", waited, c.least, c.most)
				}
			})
		})
	}
}

// TestGoodbyesAreNoFailures: servers that are replaced one after the other, as
// in a deployment, cost neither growing waits nor the stream.
func TestGoodbyesAreNoFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		f, src, s := started(t, &h, feed.Config{})
		for range 20 {
			s.send(t, hello(1))
			time.Sleep(2 * time.Second)
			s.send(t, goingAway(0))
			var waited time.Duration
			if waited, s = gap(t, src); waited >= 100*time.Millisecond {
				t.Fatalf("the next stream came after %v, want the first window", waited)
			}
		}
		if n := f.Stats().Polls.Load(); n != 0 {
			t.Errorf("it polled %d times", n)
		}
		// A server that does nothing but say goodbye is no better than one that fails.
		var longest time.Duration
		for range 40 {
			s.send(t, goingAway(0))
			var waited time.Duration
			waited, s = gap(t, src)
			longest = max(longest, waited)
		}
		if longest < 10*time.Second {
			t.Errorf("the longest of 40 waits was %v, want the window to have grown to 30s", longest)
		}
	})
}

// A connection that is open on this side only brings nothing, not even its end.
func TestSilenceEndsAStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		f, src, s := started(t, &h, feed.Config{})
		for range 3 {
			time.Sleep(44 * time.Second)
			s.send(t, heartbeat(1))
		}
		if !f.Status().Connected {
			t.Fatalf("Status() = %+v, want connected: heartbeats arrive", f.Status())
		}
		silent, _ := gap(t, src)
		if silent < 45*time.Second || silent > 46*time.Second {
			t.Errorf("the next stream came %v after the last heartbeat, want 45s and the first wait", silent)
		}
		if f.Stats().Silent.Load() != 1 || !strings.Contains(f.Status().LastError, "heartbeat") {
			t.Errorf("%d silent streams, last error %q", f.Stats().Silent.Load(), f.Status().LastError)
		}
	})
}

func TestHelloIsDueAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		f := run(t, feed.Config{Source: src})
		<-src.opened
		if silent, _ := gap(t, src); silent < 10*time.Second || silent >= 10100*time.Millisecond {
			t.Errorf("a stream without hello was given up after %v, want 10s", silent)
		}
		if f.Status().Connected {
			t.Error("connected without hello")
		}
	})
}

func TestAStreamMustBeginWithHello(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		src := newSource()
		f := run(t, feed.Config{Source: src})
		s := <-src.opened
		s.send(t, h.snapshot(t, 1, "identity", 1)...)
		if f.Snapshot() != nil || f.Stats().Malformed.Load() != 1 {
			t.Errorf("a snapshot before hello was taken; %d malformed events counted", f.Stats().Malformed.Load())
		}
	})
}

// Heartbeats tell a stream that lost its place: one may overtake a delta that is
// being made, two may not.
func TestFallingBehindEndsAStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		f, src, s := started(t, &h, feed.Config{})
		h.put(false, "checkout")
		s.send(t, heartbeat(2))
		s.send(t, h.delta(t, 1, 2, "identity"))
		s.send(t, heartbeat(3))
		if !f.Status().Connected {
			t.Fatalf("Status() = %+v after one heartbeat ahead, want connected", f.Status())
		}
		s.send(t, heartbeat(3))
		if f.Status().Connected {
			t.Fatal("connected after two heartbeats ahead with nothing between")
		}
		if s = <-src.opened; s.have.GetHaveRevision() != 2 {
			t.Errorf("opened again with %v, want revision 2", s.have)
		}
	})
}
