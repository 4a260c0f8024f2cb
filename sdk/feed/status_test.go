package feed_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/guidon-flags/guidon/sdk/feed"
)

func TestStaleAfterFiveSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		var told []feed.State
		f, src, s := started(t, &h, feed.Config{Status: func(s feed.Status) {
			if len(told) == 0 || told[len(told)-1] != s.State {
				told = append(told, s.State)
			}
		}})
		s.fail <- errRefused
		time.Sleep(4999 * time.Millisecond)
		synctest.Wait()
		if got := f.Status(); got.State != feed.StateReady || got.Connected {
			t.Errorf("Status() = %+v just before 5s, want ready and not connected", got)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if got := f.Status(); got.State != feed.StateStale || got.LastError != errRefused.Error() {
			t.Errorf("Status() = %+v after 5s, want stale with the reason", got)
		}
		time.Sleep(30 * 24 * time.Hour)
		synctest.Wait()
		if got := f.Status(); !value(t, f, "checkout") || got.Age < 30*24*time.Hour || got.Revision != 1 {
			t.Errorf("Status() = %+v after a month, want the old values with their age", got)
		}
		s = <-src.opened
		s.send(t, hello(1))
		if got := f.Status(); got.State != feed.StateReady || got.LastError != "" || got.Age != 0 {
			t.Errorf("Status() = %+v after reconnecting, want ready", got)
		}
		if want := []feed.State{feed.StateConnecting, feed.StateReady, feed.StateStale, feed.StateReady}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// A server that has lost its own source says so, and its values are not taken for
// current: not when it says so first, nor on another stream, until it has news.
func TestStaleWithTheServer(t *testing.T) {
	t.Parallel()
	aged := func(e event, age time.Duration) event {
		if h := e.GetHello(); h != nil {
			h.Age = durationpb.New(age)
		} else {
			e.GetHeartbeat().Age = durationpb.New(age)
		}
		return e
	}
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		var told []feed.State
		f, src, s := started(t, &h, feed.Config{Status: func(s feed.Status) {
			if len(told) == 0 || told[len(told)-1] != s.State {
				told = append(told, s.State)
			}
		}})
		s.send(t, aged(heartbeat(1), 6*time.Second))
		s.send(t, aged(heartbeat(1), 21*time.Second))
		if got := f.Status(); got.State != feed.StateStale || !got.Connected || got.Age != 21*time.Second || got.LastError == "" {
			t.Errorf("Status() = %+v, want stale for 21s though connected, with the reason", got)
		}
		s.fail <- errRefused
		s = <-src.opened
		s.send(t, aged(hello(1), 40*time.Second))
		if got := f.Status(); got.State != feed.StateStale || got.Age != 40*time.Second {
			t.Errorf("Status() = %+v after another hello, want stale for 40s", got)
		}
		s.send(t, heartbeat(1))
		if got := f.Status(); got.State != feed.StateReady || got.Age != 0 || got.LastError != "" {
			t.Errorf("Status() = %+v, the server current again, want ready", got)
		}
		s.send(t, aged(heartbeat(1), 6*time.Second))
		h.put(false, "checkout")
		s.send(t, h.delta(t, 1, 2, "identity"))
		if got := f.Status(); got.State != feed.StateReady || value(t, f, "checkout") {
			t.Errorf("Status() = %+v after a change, want ready", got)
		}
		want := []feed.State{feed.StateConnecting, feed.StateReady, feed.StateStale, feed.StateReady, feed.StateStale, feed.StateReady}
		if !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// A stream that is up but brings nothing newer than what it must does not make
// old values current.
func TestOpenStreamAloneDoesNotEndStaleness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		f, src, s := started(t, &h, feed.Config{})
		s.fail <- errRefused
		s = <-src.opened
		s.send(t, hello(2))
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := f.Status(); got.State != feed.StateStale || !got.Connected {
			t.Errorf("Status() = %+v, want stale though connected", got)
		}
		h.put(false, "checkout")
		s.send(t, h.delta(t, 1, 2, "identity"))
		if got := f.Status(); got.State != feed.StateReady {
			t.Errorf("Status() = %+v, want ready", got)
		}
	})
}

func TestShortLossIsNotStale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		f, src, s := started(t, &h, feed.Config{})
		for range 3 { // losses do not add up
			s.fail <- errRefused
			s = <-src.opened
			time.Sleep(4 * time.Second)
			s.send(t, hello(1))
			if got := f.Status(); got.State != feed.StateReady {
				t.Fatalf("Status() = %+v, want ready", got)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := f.Status(); got.State != feed.StateReady {
			t.Errorf("Status() = %+v while connected, want ready", got)
		}
	})
}

func TestNeverStaleBeforeThereAreValues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		f := run(t, feed.Config{Source: src})
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := f.Status(); got.State != feed.StateConnecting || got.Age != 0 {
			t.Errorf("Status() = %+v, want connecting", got)
		}
	})
}

func TestWaitReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		src := newSource()
		f := run(t, feed.Config{Source: src})
		s := <-src.opened
		s.fail <- errRefused
		s = <-src.opened
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := f.WaitReady(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), errRefused.Error()) {
			t.Errorf("WaitReady without a server: %v, want the deadline and the last error", err)
		}
		s.send(t, hello(1))
		s.send(t, h.snapshot(t, 1, "identity", 1)...)
		if err := f.WaitReady(ctx); err != nil {
			t.Errorf("WaitReady with values: %v, want nil even though ctx has ended", err)
		}
	})
}

func TestEndedFeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := feed.New(feed.Config{Source: newSource()})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := f.Run(t.Context()); err == nil {
			t.Error("the second Run returned nil, want an error at once")
		}
		if err := f.WaitReady(t.Context()); !errors.Is(err, feed.ErrEnded) {
			t.Errorf("WaitReady: %v, want ErrEnded", err)
		}
		if _, err := f.FlagAt(t.Context(), "checkout", 1); !errors.Is(err, feed.ErrUnavailable) {
			t.Errorf("FlagAt: %v, want ErrUnavailable", err)
		}
	})
}

// Who reads the log learns of each loss and each recovery, not of each attempt.
func TestLogSaysWhatChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		src := newSource()
		var log bytes.Buffer
		run(t, feed.Config{Source: src, Log: slog.New(slog.NewTextHandler(&log, nil))})
		s := <-src.opened
		for range 3 {
			for range 5 {
				s.fail <- errRefused
				s = <-src.opened
			}
			s.send(t, hello(1))
			s.send(t, h.snapshot(t, 1, "identity", 1)...)
		}
		lost, current := strings.Count(log.String(), "level=WARN msg=\"stream of flags lost\""), strings.Count(log.String(), "flags are current")
		if lost != 3 || current != 3 || strings.Count(log.String(), "\n") != 6 {
			t.Errorf("%d losses and %d recoveries logged, want 3 and 3 and nothing else:\n%s", lost, current, log.String())
		}
	})
}
