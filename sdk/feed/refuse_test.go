package feed_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// Whatever a server sends, the values stay, the stream is opened again, and a
// counter says why.
func TestGarbageChangesNothing(t *testing.T) {
	t.Parallel()
	var h history
	h.put(true, "checkout", "search")
	h.put(false, "checkout")
	h.put(true, "basket")
	const held = 2
	rows := func(rows ...*guidonv1.Row) []byte { return encode(t, "identity", &guidonv1.Rows{Upserts: rows}) }
	delta := func(change func(*guidonv1.Delta)) []event {
		e := h.delta(t, held, 3, "gzip")
		change(e.GetDelta())
		return []event{e}
	}
	snapshot := func(change func(*guidonv1.SnapshotChunk)) []event {
		events := h.snapshot(t, 3, "gzip", 2)
		change(events[0].GetSnapshot())
		return events
	}
	cases := map[string]struct {
		events    []event
		lastError string
	}{
		"truncated gzip": {delta(func(d *guidonv1.Delta) { d.Payload = d.GetPayload()[:len(d.GetPayload())/2] }), "payload"},
		"not gzip":       {delta(func(d *guidonv1.Delta) { d.Payload = []byte("<html>") }), "payload"},
		"no payload":     {delta(func(d *guidonv1.Delta) { d.Payload = nil }), "payload"},
		"unknown encoding": {
			delta(func(d *guidonv1.Delta) { d.Encoding = "br" }), `unknown encoding "br"`,
		},
		"not rows":         {delta(func(d *guidonv1.Delta) { d.Encoding, d.Payload = "identity", bytes.Repeat([]byte{0xff}, 64) }), "rows"},
		"a gap":            {delta(func(d *guidonv1.Delta) { d.FromRevision, d.ToRevision = 3, 4 }), "delta from revision 3, and 2 is held"},
		"delta from older": {[]event{h.delta(t, 1, 3, "gzip")}, "delta from revision 1, and 2 is held"},
		"unknown kind": {
			delta(func(d *guidonv1.Delta) {
				d.Encoding, d.Payload = "identity", rows(&guidonv1.Row{Kind: "spell", Name: "x", FromRevision: 3})
			}), "spell",
		},
		"row twice": {snapshot(func(c *guidonv1.SnapshotChunk) {
			row := wire(h.rows(3))[0]
			c.Revision, c.Encoding, c.Payload, c.Last = 3, "identity", rows(row, row), true
		}), "twice"},
		"row from the future": {
			delta(func(d *guidonv1.Delta) {
				d.Encoding, d.Payload = "identity", rows(wire(h.rows(3))[0], &guidonv1.Row{Kind: "flag", Name: "x", FromRevision: 9})
			}), "revision",
		},
		"deletes in a snapshot": {snapshot(func(c *guidonv1.SnapshotChunk) {
			c.Encoding, c.Last = "identity", true
			c.Payload = encode(t, "identity", &guidonv1.Rows{Deletes: []*guidonv1.RowName{{Kind: "flag", Name: "search"}}})
		}), "deletes rows"},
		"mixed chunks":        {snapshot(func(c *guidonv1.SnapshotChunk) { c.Revision = 4 }), "in one snapshot"},
		"another environment": {[]event{otherEnvironment()}, `environment "staging"`},
		"an empty snapshot":   {emptied(t), "no flags"},
		"wrong digest": {
			delta(func(d *guidonv1.Delta) { d.Digest = strings.Repeat("0", 64) }), "digest",
		},
		"no digest": {delta(func(d *guidonv1.Delta) { d.Digest = "" }), "digest"},
		"wrong content": {delta(func(d *guidonv1.Delta) {
			d.Encoding, d.Payload = "identity", rows(wire([]eval.Row{flag("basket", 3, false)})...)
		}), "digest"},
		"snapshot digest": {snapshotWithDigest(t, &h), "digest"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				before := h[:held]
				f, src, s := started(t, &before, feed.Config{})
				kept := f.Snapshot()
				s.send(t, c.events...)
				if f.Snapshot() != kept {
					t.Fatalf("revision %d was replaced by %d", kept.Revision(), f.Snapshot().Revision())
				}
				got := f.Status()
				if got.Connected || !strings.Contains(got.LastError, c.lastError) {
					t.Errorf("Status() = %+v, want disconnected by an error with %q", got, c.lastError)
				}
				stats := f.Stats()
				if n := stats.Malformed.Load() + stats.DigestMismatches.Load(); n != 1 {
					t.Errorf("%d events counted as refused, want 1", n)
				}
				s = <-src.opened
				s.send(t, hello(3))
				s.send(t, h.snapshot(t, 3, "gzip", 2)...)
				if f.Status().State != feed.StateReady || !value(t, f, "basket") {
					t.Errorf("Status() = %+v after a good snapshot, want ready", f.Status())
				}
			})
		})
	}
}

func otherEnvironment() event {
	e := hello(3)
	e.GetHello().Environment = "staging"
	return e
}

// emptied is a snapshot of a newer revision that is right in itself, and empty.
func emptied(t *testing.T) []event {
	t.Helper()
	h := history{nil, nil, nil}
	return h.snapshot(t, 3, "identity", 1)
}

func snapshotWithDigest(t *testing.T, h *history) []event {
	t.Helper()
	events := h.snapshot(t, 3, "gzip", 2)
	for _, e := range events {
		e.GetSnapshot().Digest = h.digest(t, 2)
	}
	return events
}

func TestDigestMismatchAsksForEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(false, "checkout")
		h.put(true, "checkout")
		before := h[:1]
		f, src, s := started(t, &before, feed.Config{})
		wrong := h.delta(t, 1, 2, "identity")
		wrong.GetDelta().Digest = h.digest(t, 1)
		s.send(t, wrong)
		s = <-src.opened
		if s.have.GetHaveRevision() != 0 || s.have.GetHaveDigest() != "" {
			t.Errorf("after a mismatch the stream says it has %v, want nothing", s.have)
		}
		if value(t, f, "checkout") {
			t.Error("a delta with the wrong digest was applied")
		}
		s.send(t, hello(2))
		s.send(t, h.snapshot(t, 2, "identity", 1)...)
		s.fail <- nil
		if s = <-src.opened; s.have.GetHaveRevision() != 2 {
			t.Errorf("after a good snapshot the stream says it has %v, want revision 2", s.have)
		}
		if !value(t, f, "checkout") || f.Stats().DigestMismatches.Load() != 1 {
			t.Errorf("%d mismatches, want 1", f.Stats().DigestMismatches.Load())
		}
	})
}

// The order is that of revisions alone: a server that lags, or whose history
// was set back, changes nothing and does not end the stream.
func TestLowerRevisionsAreIgnored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(false, "checkout")
		h.put(true, "checkout")
		h.put(false, "checkout")
		f, src, s := started(t, &h, feed.Config{})
		s.fail <- nil
		s = <-src.opened
		s.send(t, hello(1))
		s.send(t, h.snapshot(t, 1, "identity", 1)...)
		s.send(t, h.delta(t, 1, 2, "identity"), heartbeat(2))
		if f.Snapshot().Revision() != 3 || value(t, f, "checkout") {
			t.Errorf("revision %d is held, want 3", f.Snapshot().Revision())
		}
		if got := f.Stats().Lower.Load(); got != 2 {
			t.Errorf("%d lower revisions counted, want 2", got)
		}
		if !f.Status().Connected {
			t.Error("the stream was given up")
		}
		s.send(t, heartbeat(3))
		if got := f.Status(); got.State != feed.StateReady || got.LastError != "" {
			t.Errorf("Status() = %+v once the server has caught up, want ready", got)
		}
	})
}

// A delete that names the last flag is believed; an answer that is merely empty
// is not.
func TestLastFlagCanBeDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(true, "checkout")
		f, _, s := started(t, &h, feed.Config{})
		h.remove("checkout")
		s.send(t, h.delta(t, 1, 2, "identity"))
		if f.Snapshot().Len() != 0 || f.Status().State != feed.StateReady {
			t.Errorf("%d flags, status %+v", f.Snapshot().Len(), f.Status())
		}
	})
}
