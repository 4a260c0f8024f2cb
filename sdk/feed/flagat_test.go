package feed_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// defined answers as the server does, from a history, and counts.
func defined(h *history, asked *atomic.Int64) func(context.Context, question) (answer, error) {
	return func(_ context.Context, want question) (answer, error) {
		asked.Add(1)
		if want.GetRevision() > int64(len(*h)) {
			return nil, errors.New("no such revision")
		}
		response := &guidonv1.SyncServiceGetDefinitionResponse{}
		at := func(revision int64) *eval.Row {
			for _, row := range h.rows(revision) {
				if row.Name == want.GetKey() {
					return &row
				}
			}
			return nil
		}
		same := func(a, b *eval.Row) bool { return (a == nil) == (b == nil) && (a == nil || a.From == b.From) }
		row := at(want.GetRevision())
		if row != nil {
			response.Rows = wire([]eval.Row{*row})
		}
		from, to := want.GetRevision(), want.GetRevision()+1
		for from > 1 && same(at(from-1), row) {
			from--
		}
		for to <= int64(len(*h)) && same(at(to), row) {
			to++
		}
		if to > int64(len(*h)) {
			to = 0
		}
		response.FromRevision, response.ToRevision = from, to
		return response, nil
	}
}

// at is the value of checkout at a revision.
func at(t *testing.T, f *feed.Feed, revision int64) bool {
	t.Helper()
	flag, err := f.FlagAt(t.Context(), "checkout", revision)
	if err != nil {
		t.Fatalf("FlagAt(%d): %v", revision, err)
	}
	return valueOf(t, flag)
}

// flips is a history in which checkout changes at each revision, on at even
// ones, beside flags that never do.
func flips(revisions int) *history {
	var h history
	h.put(false, "checkout", "search")
	for r := 2; r <= revisions; r++ {
		h.put(r%2 == 0, "checkout")
	}
	return &h
}

func TestFlagAtFromTheNewestSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, _, _ := started(t, flips(5), feed.Config{})
		for revision := int64(1); revision <= 5; revision++ {
			if flag, err := f.FlagAt(t.Context(), "search", revision); err != nil || flag != f.Snapshot().Flag("search") {
				t.Errorf("FlagAt(search, %d) = %v, %v, want the newest", revision, flag, err)
			}
		}
		if at(t, f, 5) {
			t.Error("checkout is on at revision 5")
		}
		if flag, err := f.FlagAt(t.Context(), "nothing", 5); flag != nil || err != nil {
			t.Errorf("FlagAt(nothing, 5) = %v, %v, want nil: the newest snapshot knows", flag, err)
		}
		if got := f.Stats().Fetches.Load(); got != 0 {
			t.Errorf("%d fetches, want none", got)
		}
	})
}

// What a delta replaces is kept: pins under way find it without asking.
func TestFlagAtFromWhatWasSuperseded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := flips(1)
		f, _, s := started(t, h, feed.Config{})
		for revision := int64(2); revision <= 6; revision++ {
			h.put(revision%2 == 0, "checkout")
			s.send(t, h.delta(t, revision-1, revision, "identity"))
		}
		for revision := int64(1); revision <= 6; revision++ {
			if got := at(t, f, revision); got != (revision%2 == 0) {
				t.Errorf("checkout at revision %d is %v", revision, got)
			}
		}
		h.put(true, "fresh")
		s.send(t, h.delta(t, 6, 7, "identity"))
		if flag, err := f.FlagAt(t.Context(), "fresh", 6); flag != nil || err != nil {
			t.Errorf("FlagAt(fresh, 6) = %v, %v, want nil: it did not exist", flag, err)
		}
		h.remove("search")
		s.send(t, h.delta(t, 7, 8, "identity"))
		if flag, err := f.FlagAt(t.Context(), "search", 7); err != nil || !flag.Archived() && flag.Key() != "search" {
			t.Errorf("FlagAt(search, 7) = %v, %v, want it as it was", flag, err)
		}
		if got := f.Stats().Fetches.Load(); got != 0 {
			t.Errorf("%d fetches, want none", got)
		}
	})
}

// A stream that skips revisions leaves a hole, of which nothing may be guessed.
func TestFlagAtAsksForSkippedRevisions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := flips(8)
		src := newSource()
		src.define = defined(h, &asked)
		first := (*h)[:3]
		f, _, s := started(t, &first, feed.Config{Source: src})
		s.send(t, h.delta(t, 3, 8, "identity"))
		for range 2 {
			for revision := int64(1); revision <= 8; revision++ {
				if got := at(t, f, revision); got != (revision%2 == 0) {
					t.Errorf("checkout at revision %d is %v", revision, got)
				}
			}
		}
		if got := asked.Load(); got != 6 { // all but 3, which was held, and 8, which is
			t.Errorf("the server was asked %d times, want 6", got)
		}
	})
}

func TestFlagAtOfWhatDoesNotExist(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := flips(6)
		h.remove("search")
		h.put(true, "checkout")
		src := newSource()
		src.define = defined(h, &asked)
		f, _, _ := started(t, h, feed.Config{Source: src})
		if flag, err := f.FlagAt(t.Context(), "search", 7); flag != nil || err != nil {
			t.Errorf("FlagAt(search, 7) = %v, %v, want nil: it was deleted", flag, err)
		}
		for revision := int64(6); revision > 0; revision-- {
			if flag, err := f.FlagAt(t.Context(), "search", revision); err != nil || flag == nil {
				t.Errorf("FlagAt(search, %d) = %v, %v, want it as it was", revision, flag, err)
			}
		}
		if got := asked.Load(); got != 2 {
			t.Errorf("the server was asked %d times, want 2: one answer holds for many revisions", got)
		}
	})
}

func TestFlagAtAsksOnceForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := flips(4)
		src := newSource()
		answers := defined(h, &asked)
		src.define = func(ctx context.Context, want question) (answer, error) {
			time.Sleep(30 * time.Millisecond)
			return answers(ctx, want)
		}
		f, _, _ := started(t, h, feed.Config{Source: src})
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				if flag, err := f.FlagAt(t.Context(), "checkout", 2); err != nil || !valueOf(t, flag) {
					t.Errorf("FlagAt: %v", err)
				}
			})
		}
		callers.Wait()
		if asked.Load() != 1 || f.Stats().Fetches.Load() != 1 {
			t.Errorf("the server was asked %d times, want once", asked.Load())
		}
	})
}

// The caller is let go in time; the answer it did not wait for serves the next.
func TestFlagAtKeepsToItsBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := flips(4)
		src := newSource()
		answers := defined(h, &asked)
		src.define = func(ctx context.Context, want question) (answer, error) {
			select {
			case <-time.After(300 * time.Millisecond):
				return answers(ctx, want)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		f, _, _ := started(t, h, feed.Config{Source: src})
		began := time.Now()
		if _, err := f.FlagAt(t.Context(), "checkout", 2); !errors.Is(err, feed.ErrUnavailable) || time.Since(began) != 50*time.Millisecond {
			t.Errorf("FlagAt: %v after %v, want ErrUnavailable after 50ms", err, time.Since(began))
		}
		sooner, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		began = time.Now()
		if _, err := f.FlagAt(sooner, "checkout", 2); !errors.Is(err, feed.ErrUnavailable) || time.Since(began) != 10*time.Millisecond {
			t.Errorf("FlagAt: %v after %v, want ErrUnavailable after the caller's 10ms", err, time.Since(began))
		}
		time.Sleep(time.Second)
		began = time.Now()
		if !at(t, f, 2) || time.Since(began) != 0 || asked.Load() != 1 {
			t.Errorf("FlagAt took %v and the server was asked %d times, want the answer that came late", time.Since(began), asked.Load())
		}
	})
}

func TestFlagAtFailures(t *testing.T) {
	t.Parallel()
	row := func(key string, from int64) []*guidonv1.Row { return wire([]eval.Row{flag(key, from, true)}) }
	cases := map[string]struct {
		answer *guidonv1.SyncServiceGetDefinitionResponse
		err    error
	}{
		"refused":                      {nil, errRefused},
		"for a later span":             {&guidonv1.SyncServiceGetDefinitionResponse{Rows: row("checkout", 3), FromRevision: 3}, nil},
		"for an earlier span":          {&guidonv1.SyncServiceGetDefinitionResponse{Rows: row("checkout", 1), FromRevision: 1, ToRevision: 2}, nil},
		"of another revision, unasked": {&guidonv1.SyncServiceGetDefinitionResponse{Rows: row("checkout", 3), FromRevision: 3, NearestRevision: 3}, nil},
		"another flag":                 {&guidonv1.SyncServiceGetDefinitionResponse{Rows: row("search", 2), FromRevision: 2, ToRevision: 3}, nil},
		"a row of the future":          {&guidonv1.SyncServiceGetDefinitionResponse{Rows: row("checkout", 9), FromRevision: 2, ToRevision: 3}, nil},
		"an unknown kind":              {&guidonv1.SyncServiceGetDefinitionResponse{Rows: []*guidonv1.Row{{Kind: "spell"}}, FromRevision: 2, ToRevision: 3}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				h := flips(4)
				src := newSource()
				src.define = func(context.Context, question) (answer, error) { return c.answer, c.err }
				f, _, _ := started(t, h, feed.Config{Source: src})
				if flag, err := f.FlagAt(t.Context(), "checkout", 2); flag != nil || !errors.Is(err, feed.ErrUnavailable) {
					t.Errorf("FlagAt = %v, %v, want ErrUnavailable", flag, err)
				}
				if f.Stats().FetchFailures.Load() != 1 {
					t.Errorf("%d failures counted, want 1", f.Stats().FetchFailures.Load())
				}
				src.define = defined(h, &asked) // a failure is not remembered
				if !at(t, f, 2) {
					t.Error("checkout is off at revision 2")
				}
			})
		})
	}
}

// A pin that is ahead of the stream waits for it, which may be a moment late.
// Once that was in vain the process lags, and asks until it has caught up.
func TestFlagAtAheadOfTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := flips(3)
		src := newSource()
		src.define = defined(h, &asked)
		f, _, s := started(t, h, feed.Config{Source: src})
		h.put(true, "checkout")
		go func() {
			time.Sleep(20 * time.Millisecond)
			s.events <- h.delta(t, 3, 4, "identity")
		}()
		began := time.Now()
		if !at(t, f, 4) || time.Since(began) != 20*time.Millisecond || asked.Load() != 0 {
			t.Errorf("took %v and asked %d times, want the stream's after 20ms", time.Since(began), asked.Load())
		}

		h.put(false, "checkout") // which the stream does not bring
		began = time.Now()
		if at(t, f, 5) || time.Since(began) != 25*time.Millisecond || asked.Load() != 1 {
			t.Errorf("took %v and asked %d times, want the server's after half the budget", time.Since(began), asked.Load())
		}
		began = time.Now()
		if _, err := f.FlagAt(t.Context(), "search", 5); err != nil || time.Since(began) != 0 || asked.Load() != 2 {
			t.Errorf("took %v and asked %d times (%v), want no second wait for the same revision", time.Since(began), asked.Load(), err)
		}
		h.put(true, "checkout")
		began = time.Now()
		if !at(t, f, 6) || time.Since(began) != 0 || asked.Load() != 3 {
			t.Errorf("took %v and asked %d times, want no wait while revision 5 is owed", time.Since(began), asked.Load())
		}
		if _, err := f.FlagAt(t.Context(), "checkout", 99); !errors.Is(err, feed.ErrUnavailable) {
			t.Errorf("FlagAt above the server's head: %v, want ErrUnavailable", err)
		}
		s.send(t, h.delta(t, 4, 6, "identity"))
		h.put(false, "checkout")
		began = time.Now()
		if at(t, f, 7) || time.Since(began) != 25*time.Millisecond || f.Stats().Waits.Load() != 3 {
			t.Errorf("took %v, and %d waits in all, want a wait again after catching up", time.Since(began), f.Stats().Waits.Load())
		}
		s.fail <- errRefused
		synctest.Wait()
		began = time.Now()
		if _, err := f.FlagAt(t.Context(), "checkout", 100); !errors.Is(err, feed.ErrUnavailable) || time.Since(began) != 0 {
			t.Errorf("FlagAt without a stream: %v after %v, want no wait", err, time.Since(began))
		}
	})
}

// What the server knows to hold up to a revision is not asked for again below
// it; above it, it may have changed.
func TestFlagAtAsFarAsTheServerKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		var asked []int64
		src.define = func(_ context.Context, q question) (answer, error) {
			asked = append(asked, q.GetRevision())
			return &guidonv1.SyncServiceGetDefinitionResponse{
				Rows: wire([]eval.Row{flag("checkout", 4, true)}), FromRevision: 4, KnownRevision: max(7, q.GetRevision()),
			}, nil
		}
		f, _, _ := started(t, flips(3), feed.Config{Source: src})
		for _, revision := range []int64{5, 7, 6, 4, 8, 8} {
			if flag, err := f.FlagAt(t.Context(), "checkout", revision); err != nil || !valueOf(t, flag) {
				t.Errorf("FlagAt(%d) = %v, %v, want on", revision, flag, err)
			}
		}
		if want := []int64{5, 8}; !slices.Equal(asked, want) {
			t.Errorf("the server was asked for %d, want %d", asked, want)
		}
	})
}

// kept is what a feed says that the first checkout of a history takes, once it is
// superseded.
func kept(t *testing.T, h *history) int {
	t.Helper()
	own := slices.Clone((*h)[:1])
	f, _, s := started(t, &own, feed.Config{})
	own.put(true, "checkout")
	s.send(t, own.delta(t, 1, 2, "identity"))
	if f.SupersededBytes() == 0 {
		t.Fatal("nothing is kept of what was superseded")
	}
	return int(f.SupersededBytes())
}

func TestSupersededFlagsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := flips(1)
		src := newSource()
		src.define = defined(h, &asked)
		f, _, s := started(t, h, feed.Config{Source: src, SupersededBytes: 3 * kept(t, h)})
		for revision := int64(2); revision <= 10; revision++ {
			h.put(revision%2 == 0, "checkout")
			s.send(t, h.delta(t, revision-1, revision, "identity"))
		}
		for _, revision := range []int64{7, 8, 9} {
			at(t, f, revision)
		}
		if asked.Load() != 0 || f.Stats().Evicted.Load() != 6 {
			t.Errorf("asked %d times and evicted %d, want the last three kept", asked.Load(), f.Stats().Evicted.Load())
		}
		at(t, f, 7) // used last, so that 8 goes when 1 comes
		if at(t, f, 1); asked.Load() != 1 {
			t.Errorf("asked %d times, want once for what was dropped", asked.Load())
		}
		at(t, f, 7)
		if at(t, f, 8); !at(t, f, 8) || asked.Load() != 2 {
			t.Errorf("asked %d times, want the least recently used to have been dropped", asked.Load())
		}
	})
}

// Definitions as large as they may be written stay within the same bound as small
// ones: what goes is asked of the server.
func TestSupersededFlagsAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	const most = 512 << 10 // of one definition
	large := func(h *history, on bool) {
		revision := h.put(on, "checkout")
		rows := (*h)[revision-1]
		for i, row := range rows {
			if row.Name == "checkout" {
				text := strings.Repeat("x", most-len(row.Document)-len(`"metadata":{"note":""},`))
				rows[i].Document = bytes.Replace(row.Document, []byte(`"state"`), []byte(`"metadata":{"note":"`+text+`"},"state"`), 1)
			}
		}
	}
	for name, c := range map[string]struct {
		bound         int // 0 is the feed's own
		flips         int64
		kept, evicted int64
	}{
		"by default":           {0, 20, 15, 5},
		"no larger than one":   {most, 3, 0, 3},
		"of hardly more bytes": {5 << 20 / 2, 6, 2, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				h := &history{}
				large(h, false)
				src := newSource()
				src.define = defined(h, &asked)
				f, _, s := started(t, h, feed.Config{Source: src, SupersededBytes: c.bound})
				for revision := int64(2); revision <= 1+c.flips; revision++ {
					large(h, revision%2 == 0)
					s.send(t, h.delta(t, revision-1, revision, "gzip"))
					if bound := cmp.Or(int64(c.bound), 16<<20); f.SupersededBytes() > bound {
						t.Fatalf("at revision %d %d bytes are kept, more than %d", revision, f.SupersededBytes(), bound)
					}
				}
				if got := f.Stats().Evicted.Load(); got != c.evicted {
					t.Errorf("%d flags were let go of, want %d", got, c.evicted)
				}
				for revision := 1 + c.flips; revision > c.flips-c.kept; revision-- {
					if got := at(t, f, revision); got != (revision%2 == 0) || asked.Load() != 0 {
						t.Errorf("checkout at revision %d is %v, and the server was asked %d times", revision, got, asked.Load())
					}
				}
				if got := at(t, f, 1); got || asked.Load() != 1 {
					t.Errorf("checkout at revision 1 is %v, and the server was asked %d times, want once", got, asked.Load())
				}
			})
		})
	}
}

// Ending the feed ends the questions under way.
func TestEndDoesNotWaitForAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := flips(4)
		src := newSource()
		src.define = func(ctx context.Context, _ question) (answer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		f := feed.New(feed.Config{Source: src})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		s := <-src.opened
		s.send(t, hello(4))
		s.send(t, h.snapshot(t, 4, "identity", 1)...)
		failed := make(chan error)
		go func() {
			_, err := f.FlagAt(context.Background(), "checkout", 2)
			failed <- err
		}()
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-failed; !errors.Is(err, feed.ErrUnavailable) {
			t.Errorf("FlagAt: %v, want ErrUnavailable", err)
		}
		if err := <-ended; err != nil || time.Since(began) != 0 {
			t.Errorf("Run: %v after %v, want nil at once", err, time.Since(began))
		}
	})
}

// Readers and the stream at the same time: for the race detector.
func TestConcurrentSafe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := flips(60)
		src := newSource()
		src.define = defined(h, &asked)
		first := (*h)[:1]
		f, _, s := started(t, &first, feed.Config{Source: src, SupersededBytes: 8 * kept(t, h)})
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for revision := int64(1); revision <= 60; revision++ {
					flag, err := f.FlagAt(t.Context(), "checkout", revision)
					if err != nil || valueOf(t, flag) != (revision%2 == 0) {
						t.Errorf("checkout at revision %d: %v", revision, err)
					}
					if newest := f.Snapshot(); newest.Revision() != f.Status().Revision && newest.Revision() > f.Status().Revision {
						t.Error("the revision went back")
					}
				}
			})
		}
		for revision := int64(2); revision <= 60; revision++ {
			s.events <- h.delta(t, revision-1, revision, "identity")
		}
		readers.Wait()
	})
}

func BenchmarkFlagAt(b *testing.B) {
	b.Run("newest", func(b *testing.B) { benchmarkFlagAt(b, "search", 2) })
	b.Run("superseded", func(b *testing.B) { benchmarkFlagAt(b, "checkout", 2) })
}

func benchmarkFlagAt(b *testing.B, key string, revision int64) {
	var asked atomic.Int64
	h := flips(4)
	src := newSource()
	src.define = defined(h, &asked)
	f := run(b, feed.Config{Source: src})
	s := <-src.opened
	for _, e := range append([]event{hello(4)}, h.snapshot(b, 4, "identity", 1)...) {
		s.events <- e
	}
	if err := f.WaitReady(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.FlagAt(b.Context(), key, revision); err != nil {
			b.Fatal(fmt.Errorf("FlagAt: %w", err))
		}
	}
}
