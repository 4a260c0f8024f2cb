package feed_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// ledger is the audit log of a server: entries, and the key that signs it.
type ledger struct {
	key     checkpoint.Key
	entries []string
}

func newLedger(t testing.TB, seed byte, entries ...string) ledger {
	t.Helper()
	key, err := checkpoint.NewKey("guidon-test", [32]byte{seed})
	if err != nil {
		t.Fatal(err)
	}
	return ledger{key, entries}
}

// hello begins a stream for somebody who remembers a number of entries.
func (l ledger) hello(t testing.TB, environment string, remembered int64) event {
	t.Helper()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for i, e := range l.entries {
		hashes, err := tlog.StoredHashes(int64(i), []byte(e), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	size := int64(len(l.entries))
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		t.Fatal(err)
	}
	note, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: checkpoint.Origin(l.key.Name(), environment), Size: size, Root: root}, l.key)
	if err != nil {
		t.Fatal(err)
	}
	shown := &guidonv1.AuditCheckpoint{Note: note, Verifier: l.key.VerifierText(), Proven: true}
	if remembered > 0 && remembered < size {
		proof, err := tlog.ProveTree(size, remembered, reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range proof {
			shown.Proof = append(shown.Proof, h[:])
		}
	}
	out := hello(1)
	out.GetHello().AuditCheckpoint = shown
	return out
}

// failures are what was logged for somebody to act on.
type failures []error

func (*failures) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (f *failures) WithAttrs([]slog.Attr) slog.Handler             { return f }
func (f *failures) WithGroup(string) slog.Handler                  { return f }

func (f *failures) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			*f = append(*f, err)
		}
		return true
	})
	return nil
}

// TestRestartRemembersTheAuditLog starts a second feed from the file of the
// first: a log that was rewritten while nobody looked is noticed.
func TestRestartRemembersTheAuditLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environment string
		entries     []string
		failures    int64
	}{
		"it grew":                 {"production", []string{"a", "b", "c", "d"}, 0},
		"it was rewritten":        {"production", []string{"a", "x", "c", "d"}, 1},
		"it was cut off":          {"production", []string{"a", "b"}, 1},
		"another environment now": {"staging", []string{"s"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file")
			var h history
			h.put(true, "checkout")
			synctest.Test(t, func(t *testing.T) {
				src := newSource()
				f := run(t, feed.Config{Source: src, Cache: path})
				s := <-src.opened
				s.send(t, newLedger(t, 1, "a", "b", "c").hello(t, "production", 0))
				s.send(t, h.snapshot(t, 1, "identity", 1)...)
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if f.Stats().CacheSaves.Load() == 0 {
					t.Fatal("nothing was saved")
				}
			})
			synctest.Test(t, func(t *testing.T) {
				var told failures
				src := newSource()
				f := run(t, feed.Config{Source: src, Cache: path, Log: slog.New(&told)})
				s := <-src.opened
				if got := s.have.GetHaveCheckpoint(); got != 3 {
					t.Errorf("the feed remembers %d entries, want 3", got)
				}
				first := newLedger(t, 1, c.entries...).hello(t, c.environment, 3)
				first.GetHello().Environment = c.environment
				s.send(t, first)
				if c.environment != "production" { // what the file says is of no use: the next stream begins anew
					s = <-src.opened
					if got := s.have.GetHaveCheckpoint(); got != 0 {
						t.Errorf("the feed remembers %d entries of another environment", got)
					}
					s.send(t, first)
				}
				if got := f.Stats().CheckpointFailures.Load(); got != c.failures || int64(len(told)) != c.failures {
					t.Errorf("%d failures, told %v, want %d", got, told, c.failures)
				}
				for _, err := range told {
					if !errors.Is(err, checkpoint.ErrInconsistent) {
						t.Errorf("told %v, want ErrInconsistent", err)
					}
				}
			})
		})
	}
}

// TestFeedRemembersTheAuditLog reconnects to a server whose log grows, and to
// others whose log is not the one that was shown before. The flags go on.
func TestFeedRemembersTheAuditLog(t *testing.T) {
	t.Parallel()
	unproven := newLedger(t, 1, "a", "b", "c", "d", "e").hello(t, "production", 0)
	unproven.GetHello().AuditCheckpoint.Proven = false
	for name, c := range map[string]struct {
		shown    event
		failures int64
		err      error // nil for any
	}{
		"it grew":            {newLedger(t, 1, "a", "b", "c", "d", "e").hello(t, "production", 3), 0, nil},
		"it is the same":     {newLedger(t, 1, "a", "b", "c").hello(t, "production", 3), 0, nil},
		"no proof now":       {unproven, 0, nil},
		"it was rewritten":   {newLedger(t, 1, "a", "x", "c", "d").hello(t, "production", 3), 1, checkpoint.ErrInconsistent},
		"it was changed":     {newLedger(t, 1, "a", "x", "c").hello(t, "production", 3), 1, checkpoint.ErrInconsistent},
		"it was cut off":     {newLedger(t, 1, "a", "b").hello(t, "production", 3), 1, checkpoint.ErrInconsistent},
		"another key signed": {newLedger(t, 2, "a", "b", "c", "d").hello(t, "production", 3), 1, nil},
		"another chain":      {newLedger(t, 1, "a", "b", "c", "d").hello(t, "staging", 3), 1, checkpoint.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var h history
				h.put(true, "checkout")
				var told failures
				src := newSource()
				f := run(t, feed.Config{Source: src, Log: slog.New(&told)})
				s := <-src.opened
				s.send(t, newLedger(t, 1, "a", "b", "c").hello(t, "production", s.have.GetHaveCheckpoint()))
				s.send(t, h.snapshot(t, 1, "identity", 1)...)
				s.fail <- nil
				s = <-src.opened
				if got := s.have.GetHaveCheckpoint(); got != 3 {
					t.Errorf("the feed remembers %d entries, want 3", got)
				}
				s.send(t, c.shown)
				if got := f.Stats().CheckpointFailures.Load(); got != c.failures || int64(len(told)) != c.failures {
					t.Errorf("%d failures, told %v, want %d", got, told, c.failures)
				}
				if c.err != nil && (len(told) != 1 || !errors.Is(told[0], c.err)) {
					t.Errorf("told %v, want %v", told, c.err)
				}
				if got := f.Status(); got.State != feed.StateReady || !value(t, f, "checkout") {
					t.Errorf("Status() = %+v, want flags that go on", got)
				}
			})
		})
	}
}
