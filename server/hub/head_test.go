package hub

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

func flagRow(key string, from int64, state string) eval.Row {
	return eval.Row{Kind: eval.KindFlag, Name: key, From: from, Document: []byte(
		`{"flag":{"defaultVariant":"on","state":"` + state + `","variants":{"off":false,"on":true}},` +
			`"guidon":{"kind":"release","project":"default","scope":"request","type":"boolean"}}`)}
}

// grow publishes a random change after h.
func grow(t testing.TB, random *rand.Rand, h *Head, limit int) *Head {
	t.Helper()
	next := h.Revision() + 1
	var upserts []eval.Row
	var deletes []eval.Name
	for range 1 + random.IntN(3) {
		key := fmt.Sprintf("flag%d", random.IntN(40))
		if random.IntN(4) == 0 {
			deletes = append(deletes, eval.Name{Kind: eval.KindFlag, Name: key})
			continue
		}
		upserts = append(upserts, flagRow(key, next, []string{"ENABLED", "DISABLED"}[random.IntN(2)]))
	}
	s, err := h.snapshot.With(next, upserts, deletes)
	if err != nil {
		t.Fatal(err)
	}
	return h.followedBy(s, upserts, deletes, limit)
}

// decode returns the rows that events carry, and whether they are a delta.
func decode(t testing.TB, events []*Event) (rows *guidonv1.Rows, delta *guidonv1.Delta) {
	t.Helper()
	var payload []byte
	encoding := ""
	for _, event := range events {
		if delta = event.GetDelta(); delta != nil {
			payload, encoding = delta.GetPayload(), delta.GetEncoding()
			break
		}
		payload, encoding = append(payload, event.GetSnapshot().GetPayload()...), event.GetSnapshot().GetEncoding()
	}
	if encoding == "gzip" {
		r, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			t.Fatal(err)
		}
		if payload, err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	rows = &guidonv1.Rows{}
	if err := proto.Unmarshal(payload, rows); err != nil {
		t.Fatal(err)
	}
	return rows, delta
}

func applied(t testing.TB, s *eval.Snapshot, revision int64, rows *guidonv1.Rows) *eval.Snapshot {
	t.Helper()
	var upserts []eval.Row
	for _, r := range rows.GetUpserts() {
		upserts = append(upserts, eval.Row{Kind: eval.KindFlag, Name: r.GetName(), From: r.GetFromRevision(), Document: r.GetDocument()})
	}
	var deletes []eval.Name
	for _, n := range rows.GetDeletes() {
		deletes = append(deletes, eval.Name{Kind: eval.KindFlag, Name: n.GetName()})
	}
	out, err := s.With(revision, upserts, deletes)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSinceLeadsToHead: from any older revision, the events lead to the
// digest of the head, by one merged delta wherever that is known.
func TestSinceLeadsToHead(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	empty, err := eval.Compile(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	heads := []*Head{newHead(empty)}
	for range 60 {
		heads = append(heads, grow(t, random, heads[len(heads)-1], 1<<20))
	}
	deltas := 0
	for i, head := range heads {
		want := head.snapshot.Digest()
		for _, older := range heads[:i] {
			events := head.Since(older.Revision(), older.snapshot.Digest().String())
			rows, delta := decode(t, events)
			from := empty
			if delta != nil {
				deltas++
				from = older.snapshot
				if delta.GetFromRevision() != older.Revision() || delta.GetToRevision() != head.Revision() || len(events) != 1 {
					t.Errorf("delta [%d, %d] in %d events, want [%d, %d] in 1", delta.GetFromRevision(), delta.GetToRevision(), len(events), older.Revision(), head.Revision())
				}
			}
			if got := applied(t, from, head.Revision(), rows).Digest(); got != want {
				t.Errorf("from revision %d to %d: digest %s, want %s", older.Revision(), head.Revision(), got, want)
			}
		}
		if events := head.Since(head.Revision(), want.String()); events != nil {
			t.Errorf("a client at revision %d was sent %d events", head.Revision(), len(events))
		}
		if events := head.Since(head.Revision()+1, want.String()); events != nil {
			t.Errorf("a client ahead of revision %d was sent %d events", head.Revision(), len(events))
		}
		if _, delta := decode(t, head.Since(head.Revision(), "another digest")); delta != nil {
			t.Error("a client with another digest was sent a delta")
		}
	}
	if deltas < 200 {
		t.Errorf("%d deltas only: snapshots were sent where deltas are smaller", deltas)
	}
}

// Changes that are more than an SDK takes in one message, each of which was not,
// come as a snapshot, whose chunks are small.
func TestDeltaThatIsTooLarge(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	large := func(key string, from int64) eval.Row {
		note := make([]byte, 1<<20)
		for i := range note {
			note[i] = byte('!' + random.IntN(2) + 2*random.IntN(46)) // hardly to be compressed
		}
		row := flagRow(key, from, "ENABLED")
		row.Document = bytes.Replace(row.Document, []byte(`"state"`), fmt.Appendf(nil, `"metadata":{"note":%q},"state"`, note), 1)
		return row
	}
	var rows []eval.Row
	for i := range 60 {
		rows = append(rows, flagRow(fmt.Sprintf("flag%d", i), 1, "ENABLED"))
	}
	s, err := eval.Compile(1, rows)
	if err != nil {
		t.Fatal(err)
	}
	first := newHead(s)
	head := first
	for revision := int64(2); revision <= 3; revision++ {
		var upserts []eval.Row
		for i := range 10 {
			upserts = append(upserts, large(fmt.Sprintf("flag%d", 10*(revision-2)+int64(i)), revision))
		}
		if s, err = s.With(revision, upserts, nil); err != nil {
			t.Fatal(err)
		}
		before := head
		head = head.followedBy(s, upserts, nil, 1<<20)
		if _, delta := decode(t, head.Since(before.Revision(), before.Digest())); delta == nil {
			t.Errorf("revision %d alone is not a delta", revision)
		}
	}
	events := head.Since(first.Revision(), first.Digest())
	got, delta := decode(t, events)
	if delta != nil || len(events) < 2 || len(got.GetUpserts()) != 60 {
		t.Fatalf("both revisions are %d events with %d rows, want a snapshot of 60 in chunks", len(events), len(got.GetUpserts()))
	}
}

func TestSinceEncodesOnce(t *testing.T) {
	t.Parallel()
	empty, err := eval.Compile(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	head := grow(t, rand.New(rand.NewPCG(5, 6)), newHead(empty), 1<<20)
	for have, digest := range map[int64]string{0: "", 1: empty.Digest().String()} {
		first, second := head.Since(have, digest), head.Since(have, digest)
		if len(first) != 1 || first[0] != second[0] {
			t.Errorf("two clients at revision %d got events of their own", have)
		}
	}
}

// TestStepsAreBounded: what is kept to make deltas from stays within its bound,
// and a client further behind gets a snapshot.
func TestStepsAreBounded(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	empty, err := eval.Compile(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 2000
	head := newHead(empty)
	old := head
	for range 500 {
		head = grow(t, random, head, limit)
		size := 0
		for _, s := range head.steps {
			size += s.bytes()
		}
		if size > limit {
			t.Fatalf("%d bytes of steps at revision %d, bound %d", size, head.Revision(), limit)
		}
		if head.Revision() == 100 {
			old = head
		}
	}
	if len(head.steps) == 0 {
		t.Error("no steps are kept")
	}
	if _, delta := decode(t, head.Since(old.Revision(), old.snapshot.Digest().String())); delta != nil {
		t.Error("a delta over 400 revisions, most of which must be forgotten")
	}
}

func TestLargeSnapshotComesInChunks(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{9})
	var rows []eval.Row
	for i := range 40 {
		noise := make([]byte, 10<<10)
		_, _ = random.Read(noise)
		row := flagRow(fmt.Sprintf("flag%02d", i), 1, "ENABLED")
		row.Document = []byte(strings.Replace(string(row.Document), `"kind"`, fmt.Sprintf(`"a":"%x","kind"`, noise), 1))
		rows = append(rows, row)
	}
	s, err := eval.Compile(2, rows)
	if err != nil {
		t.Fatal(err)
	}
	events := newHead(s).Since(0, "")
	if len(events) < 2 {
		t.Fatalf("%d chunks, want several", len(events))
	}
	for i, event := range events {
		chunk := event.GetSnapshot()
		if len(chunk.GetPayload()) > chunkBytes || chunk.GetLast() != (i == len(events)-1) || chunk.GetRevision() != 2 {
			t.Errorf("chunk %d of %d: %d bytes, last %v", i, len(events), len(chunk.GetPayload()), chunk.GetLast())
		}
	}
	decoded, _ := decode(t, events)
	empty, err := eval.Compile(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := applied(t, empty, 2, decoded).Digest(); got != s.Digest() {
		t.Errorf("digest %s, want %s", got, s.Digest())
	}
}

// TestWatch: a watcher sees the newest at once, skips what it was too slow for,
// is reminded when nothing is new, and ends with its context.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 1))
		empty, err := eval.Compile(1, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := newEnvironment(New(Config{}), "staging")
		e.publish(newHead(empty))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var seen []int64
		var at []time.Duration
		start := time.Now()
		for head := range e.Watch(ctx, time.Second) {
			seen, at = append(seen, head.Revision()), append(at, time.Since(start))
			switch len(seen) {
			case 1:
				for range 5 { // while this watcher is busy
					e.publish(grow(t, random, e.Head(), 1<<20))
				}
			case 2:
				go func() {
					time.Sleep(2500 * time.Millisecond)
					e.publish(grow(t, random, e.Head(), 1<<20))
				}()
			case 5:
				cancel()
			}
		}
		if fmt.Sprint(seen) != "[1 6 6 6 7]" || fmt.Sprint(at) != "[0s 0s 1s 2s 2.5s]" {
			t.Errorf("saw revisions %v at %v, want [1 6 6 6 7] at [0s 0s 1s 2s 2.5s]", seen, at)
		}
	})
}

func TestAwait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 1))
		empty, err := eval.Compile(1, nil)
		if err != nil {
			t.Fatal(err)
		}
		h := New(Config{})
		e := newEnvironment(h, "staging")
		e.publish(newHead(empty))
		if err := e.Await(t.Context(), 1); err != nil || len(h.poke) != 0 {
			t.Errorf("Await of what is here: %v, and %d looks asked for, want nil and none", err, len(h.poke))
		}
		go func() {
			for range 2 {
				time.Sleep(time.Minute)
				e.publish(grow(t, random, e.Head(), 1<<20))
			}
		}()
		if err := e.Await(t.Context(), 3); err != nil || len(h.poke) != 1 {
			t.Errorf("Await of what comes: %v, and %d looks asked for, want nil and one", err, len(h.poke))
		}
		if err := e.Reach(t.Context(), 4); err == nil || !strings.Contains(err.Error(), "4 of environment") || !strings.Contains(err.Error(), "at 3") {
			t.Errorf("Reach of what does not come: %v, want ErrBehind with both numbers", err)
		}
	})
}
