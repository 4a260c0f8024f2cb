package feed_test

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// A row of a kind that this version does not know, and that is of one flag, makes
// that flag an error, is kept in the file, and is gone when the server says so.
func TestNewerKindOfRow(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "flags")
	var h history
	h.put(true, "checkout")
	h.put(true, "search")
	synctest.Test(t, func(t *testing.T) {
		f, _, s := started(t, &h, feed.Config{Cache: cache})
		h = append(h, append(h.rows(2)[:2:2], eval.Row{Kind: "flag/novel", Name: "search", From: 3, Document: []byte(`{"novel":1}`)}))
		s.send(t, h.delta(t, 2, 3, "gzip"))
		if got := f.Status(); got.Revision != 3 || got.State != feed.StateReady || f.Stats().Newer.Load() != 1 || f.Stats().TooNew.Load() != 0 {
			t.Fatalf("Status() = %+v with %d newer rows, want revision 3 with one", got, f.Stats().Newer.Load())
		}
		if r := f.Snapshot().Evaluate("search", nil, 0); !value(t, f, "checkout") || r.ErrorCode() != eval.CodeParseError {
			t.Errorf("search is %s %q, want PARSE_ERROR; and checkout on", r.ErrorCode(), r.Message())
		}
		if old, err := f.FlagAt(t.Context(), "search", 2); err != nil || !valueOf(t, old) {
			t.Errorf("search at the revision before: %v, %v, want on", old, err)
		}
		time.Sleep(2 * time.Second) // until it is saved
	})
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		f := run(t, feed.Config{Cache: cache, Source: src})
		if r := f.Snapshot().Evaluate("search", nil, 0); r.ErrorCode() != eval.CodeParseError || f.Snapshot().Digest().String() != h.digest(t, 3) {
			t.Errorf("after a restart search is %s %q of digest %s", r.ErrorCode(), r.Message(), f.Snapshot().Digest())
		}
		s := <-src.opened
		h = append(h, append(h.rows(2)[:1:1], flag("search", 4, true)))
		s.send(t, hello(4), h.snapshot(t, 4, "gzip", 1)[0])
		if !value(t, f, "search") || f.Status().State != feed.StateReady {
			t.Errorf("without the row: %+v", f.Status())
		}
	})
}

// A row that any flag may depend on keeps the values where they are, for as long
// as it is there, and everybody hears of it.
func TestNewerKindThatMayChangeAnything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		h.put(false, "search")
		var told []feed.State
		f, src, s := started(t, &h, feed.Config{Status: func(s feed.Status) { told = append(told, s.State) }})
		digest := strings.Repeat("0", 64) // whatever a newer version makes of it
		for _, kind := range []string{"spell", "flags/novel"} {
			rows := append(wire(h.rows(2)), wire([]eval.Row{{Kind: eval.Kind(kind), Name: "x", From: 3, Document: []byte(`{}`)}})...)
			s.send(t, hello(3), snapshotOf(t, 3, digest, rows))
			if got := f.Status(); got.Connected || got.Revision != 2 || !strings.Contains(got.LastError, kind) || !strings.Contains(got.LastError, "a newer version is needed") {
				t.Errorf("Status() = %+v, want revision 2 and what is not known", got)
			}
			s = <-src.opened
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := f.Stats().TooNew.Load(); got != 2 || f.Status().State != feed.StateStale || told[len(told)-1] != feed.StateStale || !value(t, f, "checkout") {
			t.Errorf("%d refused, %+v, want 2 and stale", got, f.Status())
		}
		h.put(true, "search")
		h.put(true, "search")
		s.send(t, hello(4), h.snapshot(t, 4, "gzip", 1)[0])
		if !value(t, f, "search") || f.Status().State != feed.StateReady {
			t.Errorf("without the row: %+v", f.Status())
		}
	})
}
