package feed_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
)

type (
	event    = *guidonv1.SyncServiceSyncResponse
	question = *guidonv1.SyncServiceGetDefinitionRequest
	answer   = *guidonv1.SyncServiceGetDefinitionResponse
)

// flag is the row of a boolean flag, written by a revision, whose value is on.
func flag(key string, from int64, on bool) eval.Row {
	variant := map[bool]string{false: "off", true: "on"}[on]
	return eval.Row{Kind: eval.KindFlag, Name: key, From: from, Document: fmt.Appendf(nil,
		`{"flag":{"defaultVariant":%q,"state":"ENABLED","variants":{"off":false,"on":true}},`+
			`"guidon":{"kind":"release","project":"shop","scope":"request","type":"boolean"}}`, variant)}
}

// history is an environment's revisions: the rows of each, from revision 1 on.
type history [][]eval.Row

// put makes the next revision, in which those flags are new or different.
func (h *history) put(on bool, keys ...string) int64 {
	revision := int64(len(*h)) + 1
	var rows []eval.Row
	if revision > 1 {
		rows = slices.Clone((*h)[revision-2])
	}
	for _, key := range keys {
		rows = slices.DeleteFunc(rows, func(r eval.Row) bool { return r.Name == key })
		rows = append(rows, flag(key, revision, on))
	}
	*h = append(*h, rows)
	return revision
}

// remove makes the next revision, which is without the flag.
func (h *history) remove(key string) int64 {
	rows := slices.DeleteFunc(slices.Clone((*h)[len(*h)-1]), func(r eval.Row) bool { return r.Name == key })
	*h = append(*h, rows)
	return int64(len(*h))
}

func (h *history) rows(revision int64) []eval.Row {
	if revision == 0 {
		return nil
	}
	return (*h)[revision-1]
}

func (h *history) digest(t testing.TB, revision int64) string {
	t.Helper()
	snapshot, err := eval.Compile(revision, h.rows(revision))
	if err != nil {
		t.Fatalf("Compile(%d): %v", revision, err)
	}
	return snapshot.Digest().String()
}

// snapshot is a revision in as many chunks as asked for.
func (h *history) snapshot(t testing.TB, revision int64, encoding string, parts int) []event {
	t.Helper()
	payload := encode(t, encoding, &guidonv1.Rows{Upserts: wire(h.rows(revision))})
	var events []event
	size := len(payload)/parts + 1
	for part := range slices.Chunk(payload, size) {
		events = append(events, chunk(&guidonv1.SnapshotChunk{Revision: revision, Digest: h.digest(t, revision), Encoding: encoding, Payload: part}))
	}
	if len(events) == 0 {
		events = []event{chunk(&guidonv1.SnapshotChunk{Revision: revision, Digest: h.digest(t, revision), Encoding: encoding})}
	}
	events[len(events)-1].GetSnapshot().Last = true
	return events
}

// snapshotOf is a snapshot of any rows that says it has a digest.
func snapshotOf(t testing.TB, revision int64, digest string, rows []*guidonv1.Row) event {
	t.Helper()
	payload := encode(t, "identity", &guidonv1.Rows{Upserts: rows})
	return chunk(&guidonv1.SnapshotChunk{Revision: revision, Digest: digest, Encoding: "identity", Payload: payload, Last: true})
}

// delta leads from one revision to another.
func (h *history) delta(t testing.TB, from, to int64, encoding string) event {
	t.Helper()
	rows := &guidonv1.Rows{}
	for _, row := range h.rows(to) {
		if row.From > from {
			rows.Upserts = append(rows.Upserts, wire([]eval.Row{row})...)
		}
	}
	for _, row := range h.rows(from) {
		if !slices.ContainsFunc(h.rows(to), func(r eval.Row) bool { return r.Name == row.Name }) {
			rows.Deletes = append(rows.Deletes, &guidonv1.RowName{Kind: row.Kind.String(), Name: row.Name})
		}
	}
	return deltaOf(&guidonv1.Delta{FromRevision: from, ToRevision: to, Digest: h.digest(t, to), Encoding: encoding, Payload: encode(t, encoding, rows)})
}

func wire(rows []eval.Row) []*guidonv1.Row {
	sent := make([]*guidonv1.Row, 0, len(rows))
	for _, row := range rows {
		sent = append(sent, &guidonv1.Row{Kind: row.Kind.String(), Name: row.Name, FromRevision: row.From, Document: row.Document})
	}
	return sent
}

func encode(t testing.TB, encoding string, rows *guidonv1.Rows) []byte {
	t.Helper()
	payload, err := proto.Marshal(rows)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	if encoding != "gzip" {
		return payload
	}
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	if _, err := zip.Write(payload); err != nil {
		t.Fatalf("gzip: %v", err)
	}
	if err := zip.Close(); err != nil {
		t.Fatalf("gzip: %v", err)
	}
	return zipped.Bytes()
}

func hello(revision int64) event {
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Hello{Hello: &guidonv1.Hello{
		Environment: "production", Revision: revision, HeartbeatInterval: durationpb.New(15 * time.Second),
	}}}
}

func heartbeat(revision int64) event {
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Heartbeat{Heartbeat: &guidonv1.Heartbeat{Revision: revision}}}
}

func goingAway(retryAfter time.Duration) event {
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_GoingAway{GoingAway: &guidonv1.GoingAway{RetryAfter: durationpb.New(retryAfter)}}}
}

func keysEvent(signer string) event {
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_PropagationKeys{PropagationKeys: &guidonv1.PropagationKeys{Signer: signer}}}
}

func chunk(c *guidonv1.SnapshotChunk) event {
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Snapshot{Snapshot: c}}
}

func deltaOf(d *guidonv1.Delta) event {
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Delta{Delta: d}}
}

// source is a server whose every move is the test's.
type source struct {
	opened chan *stream
	define func(context.Context, question) (answer, error)
	poll   func(context.Context, *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error)
	ack    func(context.Context, *guidonv1.SyncServiceAckRequest) error
	// ackSpread is what an ack is answered with.
	ackSpread *durationpb.Duration
	log       func(context.Context, *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error)
}

// stream is one that the feed opened.
type stream struct {
	have   *guidonv1.SyncServiceSyncRequest
	events chan event
	fail   chan error // nil closes it without an error
	over   chan struct{}
}

func newSource() *source {
	return &source{opened: make(chan *stream), define: func(context.Context, question) (answer, error) {
		return nil, errors.New("no such server")
	}, ack: func(context.Context, *guidonv1.SyncServiceAckRequest) error {
		return nil
	}, log: func(context.Context, *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error) {
		return nil, errors.New("no such server")
	}, poll: func(context.Context, *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
		return nil, errors.New("no such server")
	}}
}

func (s *source) Sync(ctx context.Context, have *guidonv1.SyncServiceSyncRequest) iter.Seq2[event, error] {
	return func(yield func(event, error) bool) {
		opened := &stream{have: have, events: make(chan event), fail: make(chan error), over: make(chan struct{})}
		defer close(opened.over)
		select {
		case s.opened <- opened:
		case <-ctx.Done():
			yield(nil, ctx.Err())
			return
		}
		for {
			select {
			case e := <-opened.events:
				if !yield(e, nil) {
					return
				}
			case err := <-opened.fail:
				if err != nil {
					yield(nil, err)
				}
				return
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
		}
	}
}

func (s *source) Definition(ctx context.Context, want question) (answer, error) {
	return s.define(ctx, want)
}

func (s *source) Emergencies(ctx context.Context, want *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error) {
	return s.log(ctx, want)
}

func (s *source) Poll(ctx context.Context, want *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
	return s.poll(ctx, want)
}

func (s *source) Ack(ctx context.Context, held *guidonv1.SyncServiceAckRequest) (*guidonv1.SyncServiceAckResponse, error) {
	return &guidonv1.SyncServiceAckResponse{AckSpread: s.ackSpread}, s.ack(ctx, held)
}

// send gives the feed those events, as many as it wants; it has applied them
// when send returns.
func (s *stream) send(t testing.TB, events ...event) {
	t.Helper()
	for _, e := range events {
		select {
		case s.events <- e:
		case <-s.over:
		}
	}
	synctest.Wait()
}

// run starts a feed that ends with the test.
func run(t testing.TB, config feed.Config) *feed.Feed {
	t.Helper()
	f := feed.New(config)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

// started is a feed that holds the newest revision of h, over an open stream.
func started(t testing.TB, h *history, config feed.Config) (*feed.Feed, *source, *stream) {
	t.Helper()
	src, ok := config.Source.(*source)
	if !ok {
		src = newSource()
		config.Source = src
	}
	f := run(t, config)
	newest := int64(len(*h))
	s := <-src.opened
	s.send(t, hello(newest))
	s.send(t, h.snapshot(t, newest, "identity", 1)...)
	if got := f.Status(); got.State != feed.StateReady || got.Revision != newest {
		t.Fatalf("Status() = %+v, want ready at revision %d", got, newest)
	}
	return f, src, s
}

// value evaluates a boolean flag of the newest snapshot.
func value(t testing.TB, f *feed.Feed, key string) bool {
	t.Helper()
	return valueOf(t, f.Snapshot().Flag(key))
}

func valueOf(t testing.TB, flag *eval.Flag) bool {
	t.Helper()
	if flag == nil {
		t.Fatal("the flag does not exist")
	}
	on, ok := flag.Evaluate(nil, 0).Boolean()
	if !ok {
		t.Fatalf("flag %q has no boolean value: %s", flag.Key(), flag.Evaluate(nil, 0).Message())
	}
	return on
}
