package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// follower is a client of Sync that keeps a snapshot, as an SDK does.
type follower struct {
	t        testing.TB
	stream   *connect.ServerStreamForClient[guidonv1.SyncServiceSyncResponse]
	hello    *guidonv1.Hello
	snapshot *eval.Snapshot
	pending  []byte // chunks of a snapshot that is not complete
	close    func()
	// what arrived
	snapshots, deltas, heartbeats, emergencies int
}

// follow opens a stream with what the client has, and reads the hello.
func (g *guidon) follow(t testing.TB, key string, have *eval.Snapshot) *follower {
	t.Helper()
	return g.followWith(t, http.DefaultClient, key, have)
}

func (g *guidon) followWith(t testing.TB, client *http.Client, key string, have *eval.Snapshot, options ...connect.ClientOption) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request := &guidonv1.SyncServiceSyncRequest{}
	if have != nil {
		request.HaveRevision, request.HaveDigest = have.Revision(), have.Digest().String()
	}
	stream, err := guidonv1connect.NewSyncServiceClient(client, g.url, append(options, withKey(key))...).Sync(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{t: t, stream: stream, snapshot: have, close: func() {
		cancel()
		_ = stream.Close()
	}}
	t.Cleanup(f.close)
	if f.hello = f.receive().GetHello(); f.hello == nil {
		t.Fatal("the first event is not a hello")
	}
	return f
}

func (f *follower) receive() *guidonv1.SyncServiceSyncResponse {
	f.t.Helper()
	if !f.stream.Receive() {
		f.t.Fatalf("the stream ended: %v", f.stream.Err())
	}
	return f.stream.Msg()
}

// step reads one event and applies it. It fails the test if the digest that
// the server announces is not that of the result.
func (f *follower) step() {
	f.t.Helper()
	switch event := f.receive().GetEvent().(type) {
	case *guidonv1.SyncServiceSyncResponse_Snapshot:
		chunk := event.Snapshot
		if len(chunk.GetPayload()) > 256<<10 {
			f.t.Errorf("a chunk of %d bytes, want at most 256 KiB", len(chunk.GetPayload()))
		}
		if f.pending = append(f.pending, chunk.GetPayload()...); !chunk.GetLast() {
			return
		}
		rows := f.unpack(chunk.GetEncoding(), f.pending)
		f.pending = nil
		f.snapshots++
		s, err := eval.Compile(chunk.GetRevision(), upserts(f.t, rows))
		f.become(s, err, chunk.GetDigest())
	case *guidonv1.SyncServiceSyncResponse_Delta:
		d := event.Delta
		if f.snapshot == nil || f.snapshot.Revision() != d.GetFromRevision() {
			f.t.Fatalf("a delta from revision %d to a client that has %v", d.GetFromRevision(), f.snapshot)
		}
		f.deltas++
		rows := f.unpack(d.GetEncoding(), d.GetPayload())
		s, err := f.snapshot.With(d.GetToRevision(), upserts(f.t, rows), deletes(f.t, rows))
		f.become(s, err, d.GetDigest())
	case *guidonv1.SyncServiceSyncResponse_Heartbeat:
		f.heartbeats++
	case *guidonv1.SyncServiceSyncResponse_Emergencies:
		f.emergencies++ // they are part of what follows
	default:
		f.t.Fatalf("unexpected event %v", event)
	}
}

func (f *follower) become(s *eval.Snapshot, err error, digest string) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	if f.snapshot != nil && s.Revision() <= f.snapshot.Revision() {
		f.t.Errorf("revision %d came after %d", s.Revision(), f.snapshot.Revision())
	}
	if got := s.Digest().String(); got != digest {
		f.t.Fatalf("digest of revision %d is %s, the server says %s", s.Revision(), got, digest)
	}
	f.snapshot = s
}

// reach reads until the snapshot is at revision or a newer one.
func (f *follower) reach(revision int64) {
	f.t.Helper()
	for deadline := time.Now().Add(time.Minute); f.snapshot == nil || f.snapshot.Revision() < revision; {
		if time.Now().After(deadline) {
			f.t.Fatalf("revision %d did not come in a minute", revision)
		}
		f.step()
	}
}

func (f *follower) unpack(encoding string, payload []byte) *guidonv1.Rows {
	f.t.Helper()
	if encoding == "gzip" {
		r, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			f.t.Fatal(err)
		}
		if payload, err = io.ReadAll(r); err != nil {
			f.t.Fatal(err)
		}
	}
	rows := &guidonv1.Rows{}
	if err := proto.Unmarshal(payload, rows); err != nil {
		f.t.Fatal(err)
	}
	return rows
}

func upserts(t testing.TB, rows *guidonv1.Rows) []eval.Row {
	t.Helper()
	var out []eval.Row
	for _, r := range rows.GetUpserts() {
		kind, err := eval.ParseKind(r.GetKind())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, eval.Row{Kind: kind, Name: r.GetName(), From: r.GetFromRevision(), Document: r.GetDocument()})
	}
	return out
}

func deletes(t testing.TB, rows *guidonv1.Rows) []eval.Name {
	t.Helper()
	var out []eval.Name
	for _, r := range rows.GetDeletes() {
		kind, err := eval.ParseKind(r.GetKind())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, eval.Name{Kind: kind, Name: r.GetName()})
	}
	return out
}
