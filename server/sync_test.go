package server_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// follower is a client of Sync that keeps a snapshot, as an SDK does.
type follower struct {
	t        testing.TB
	stream   *connect.ServerStreamForClient[guidonv1.SyncServiceSyncResponse]
	hello    *guidonv1.Hello
	snapshot *eval.Snapshot
	pending  []byte // chunks of a snapshot that is not complete
	// what arrived
	snapshots, deltas, heartbeats int
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
	t.Cleanup(func() {
		cancel()
		_ = stream.Close()
	})
	f := &follower{t: t, stream: stream, snapshot: have}
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
	for f.snapshot == nil || f.snapshot.Revision() < revision {
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

func TestSyncSnapshotThenDeltas(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	first := g.apply(t, "staging", putFlag("staging", "a", "on"), putFlag("staging", "b", "off"))

	f := g.follow(t, key, nil)
	if f.hello.GetEnvironment() != "staging" || f.hello.GetRevision() != first || !f.hello.GetServerTime().IsValid() {
		t.Errorf("hello is %v, want staging at revision %d", f.hello, first)
	}
	if keys := f.hello.GetPropagationKeys(); keys.GetSigner() == "" || len(keys.GetKeys()) == 0 || len(keys.GetKeys()[0].GetSecret()) != 32 {
		t.Errorf("hello carries signer %q and %d keys, want at least one of 32 bytes", keys.GetSigner(), len(keys.GetKeys()))
	}
	f.reach(first)
	if f.snapshots != 1 || f.snapshot.Len() != 2 {
		t.Fatalf("%d snapshots with %d flags, want 1 with 2", f.snapshots, f.snapshot.Len())
	}
	for i, state := range []string{"DISABLED", "ENABLED", "DISABLED"} {
		revision := g.apply(t, "staging", setState("staging", "a", state))
		f.reach(revision)
		if got := f.snapshot.Flag("a").State(); got != state || f.deltas != i+1 || f.snapshots != 1 {
			t.Errorf("after revision %d: state %s, %d deltas, %d snapshots, want %s, %d, 1", revision, got, f.deltas, f.snapshots, state, i+1)
		}
	}
	g.apply(t, "production", putFlag("production", "a", "on"))
	last := g.apply(t, "staging", setState("staging", "a", "ENABLED"))
	f.reach(last)
	if f.deltas != 4 {
		t.Errorf("%d deltas: a change to another environment arrived", f.deltas)
	}
}

// TestSyncReconnect: what a client has decides what it gets.
func TestSyncReconnect(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	g.apply(t, "staging", putFlag("staging", "a", "on"), putFlag("staging", "b", "on"))
	f := g.follow(t, key, nil)
	f.reach(2)
	old := f.snapshot
	g.apply(t, "staging", setState("staging", "a", "DISABLED"))
	newest := g.apply(t, "staging", setState("staging", "b", "DISABLED"))

	behind := g.follow(t, key, old)
	behind.reach(newest)
	if behind.snapshots != 0 || behind.deltas != 1 {
		t.Errorf("two revisions behind: %d snapshots, %d deltas, want one merged delta", behind.snapshots, behind.deltas)
	}

	current := g.follow(t, key, behind.snapshot)
	next := g.apply(t, "staging", setState("staging", "a", "ENABLED"))
	current.reach(next)
	if current.snapshots != 0 || current.deltas != 1 {
		t.Errorf("up to date: %d snapshots, %d deltas, want nothing but the next delta", current.snapshots, current.deltas)
	}

	// The same revision with another content: the server's word counts.
	fork, err := old.With(old.Revision(), []eval.Row{{Kind: eval.KindSegment, Name: "x", From: 2, Document: []byte(`{"guidon":{},"segment":true}`)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	forked := g.follow(t, key, fork)
	forked.reach(next)
	if forked.snapshots != 1 || forked.deltas != 0 {
		t.Errorf("another digest: %d snapshots, %d deltas, want one snapshot", forked.snapshots, forked.deltas)
	}
}

// TestSyncAheadOfServer: a client that has seen a newer revision, from another
// replica, is left alone until this one is there too.
func TestSyncAheadOfServer(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.Heartbeat = 20 * time.Millisecond })
	ahead, err := eval.Compile(9, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), ahead)
	if f.hello.GetRevision() != 1 {
		t.Errorf("hello says revision %d, want 1", f.hello.GetRevision())
	}
	for f.heartbeats < 3 {
		f.step()
	}
	if f.snapshot != ahead {
		t.Errorf("a client at revision 9 was sent revision %d", f.snapshot.Revision())
	}
}

func TestSyncHeartbeat(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.Heartbeat = 20 * time.Millisecond })
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), nil)
	if got := f.hello.GetHeartbeatInterval().AsDuration(); got != 20*time.Millisecond {
		t.Errorf("hello announces a heartbeat every %s, want 20ms", got)
	}
	for f.heartbeats < 3 {
		f.step()
	}
}

// TestSyncProtocols: the stream is the same over every protocol and version of
// HTTP.
func TestSyncProtocols(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	revision := g.apply(t, "staging", putFlag("staging", "a", "on"))
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	for name, tt := range map[string]struct {
		client  *http.Client
		options []connect.ClientOption
	}{
		"Connect, HTTP/1.1":       {&http.Client{Transport: &http.Transport{}}, nil},
		"Connect JSON, HTTP/1.1":  {&http.Client{Transport: &http.Transport{}}, []connect.ClientOption{connect.WithProtoJSON()}},
		"Connect, h2c":            {&http.Client{Transport: &http.Transport{Protocols: h2c}}, nil},
		"gRPC, h2c":               {&http.Client{Transport: &http.Transport{Protocols: h2c}}, []connect.ClientOption{connect.WithGRPC()}},
		"gRPC-Web, HTTP/1.1":      {&http.Client{Transport: &http.Transport{}}, []connect.ClientOption{connect.WithGRPCWeb()}},
		"gRPC, gzip asked for":    {&http.Client{Transport: &http.Transport{Protocols: h2c}}, []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}},
		"Connect, gzip asked for": {&http.Client{Transport: &http.Transport{}}, []connect.ClientOption{connect.WithSendGzip()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(tt.client.CloseIdleConnections)
			f := g.followWith(t, tt.client, key, nil, tt.options...)
			f.reach(revision)
			if f.snapshot.Flag("a") == nil {
				t.Error("the flag did not arrive")
			}
			evaluations := guidonv1connect.NewEvaluationServiceClient(tt.client, g.url, append(tt.options, withKey(key))...)
			res, err := evaluations.Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{Key: "a"})
			if err != nil || res.GetResolution().GetVariant() != "on" {
				t.Errorf("Evaluate = %v, %v, want variant on", res, err)
			}
		})
	}
}

// narrow are clients that hold little of what they do not read. With narrowly,
// one large event keeps the server waiting for them.
func narrow(t *testing.T) map[string]*http.Client {
	t.Helper()
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	dialer := &net.Dialer{Control: buffer(syscall.SO_RCVBUF)}
	clients := map[string]*http.Client{
		"HTTP/1.1": {Transport: &http.Transport{DialContext: dialer.DialContext}},
		"h2c":      {Transport: &http.Transport{Protocols: h2c, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}},
	}
	t.Cleanup(func() {
		for _, c := range clients {
			c.CloseIdleConnections()
		}
	})
	return clients
}

// narrowly makes a server hold little of what its clients do not read.
func narrowly(o *options) { o.listen.Control = buffer(syscall.SO_SNDBUF) }

// buffer makes one of a socket's buffers small.
func buffer(which int) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, which, 4096) })
		return cmp.Or(err, failed)
	}
}

// TestSlowClientCoalesces: a client that does not read while changes are made
// gets the newest at last, and few of those in between; others do not wait.
func TestSlowClientCoalesces(t *testing.T) {
	t.Parallel()
	for name, client := range narrow(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, narrowly)
			g.apply(t, "staging", putFlag("staging", "a", "on"))
			key := g.key(t, store.KeyServer, "staging")
			slow, quick := g.followWith(t, client, key, nil), g.follow(t, key, nil)
			slow.reach(2)
			quick.reach(2)
			// The server is stuck in the first of these, for the slow one.
			newest := g.apply(t, "staging", putNoise(1))
			const changes = 20
			for i := range changes {
				newest = g.apply(t, "staging", setState("staging", "a", []string{"DISABLED", "ENABLED"}[i%2]))
				quick.reach(newest)
			}
			if quick.deltas != changes+1 {
				t.Errorf("the quick client got %d deltas, want %d: it waited for the slow one", quick.deltas, changes+1)
			}
			slow.reach(newest)
			if slow.deltas > 3 {
				t.Errorf("the slow client got %d deltas, want at most 3: the large one, one under way, and the rest as one", slow.deltas)
			}
			if slow.snapshot.Digest() != quick.snapshot.Digest() {
				t.Error("the slow client ended with another digest")
			}
		})
	}
}

// TestStalledClientIsCut: one that never reads again does not stay for ever.
func TestStalledClientIsCut(t *testing.T) {
	t.Parallel()
	for name, client := range narrow(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, narrowly, func(o *options) { o.server.Progress = 100 * time.Millisecond })
			f := g.followWith(t, client, g.key(t, store.KeyServer, "staging"), nil)
			f.reach(1)
			g.apply(t, "staging", putNoise(1))
			eventually(t, "the stream is cut", func() bool {
				metrics := g.do(t, http.MethodGet, "/metrics", "").body
				return strings.Contains(metrics, "guidon_sync_stalled_total 1") &&
					strings.Contains(metrics, `guidon_sync_streams{environment="staging"} 0`)
			})
		})
	}
}

// putNoise puts a flag of 400 KB that does not compress, another one for each i.
func putNoise(i int) *guidonv1.Operation {
	noise := make([]byte, 300<<10)
	_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(noise)
	return putDefinition("staging", "noise", map[string]any{
		"state": "ENABLED", "defaultVariant": "on", "variants": map[string]any{"on": base64.StdEncoding.EncodeToString(noise)},
	})
}

// TestRevokedStreamEnds: a stream does not outlive its key.
func TestRevokedStreamEnds(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.Recheck = 50 * time.Millisecond })
	key, text, err := g.db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyServer, Environment: "staging", Name: "short", Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	f := g.follow(t, text.Reveal(), nil)
	f.reach(1)
	if _, err := g.db.RevokeKey(t.Context(), key.ID, "test", ""); err != nil {
		t.Fatal(err)
	}
	for f.stream.Receive() {
	}
	if err := f.stream.Err(); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("the stream of a revoked key ended with %v, want unauthenticated", err)
	}
}

// TestDrain: a server that stops says so on each stream, and is not ready.
func TestDrain(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.Drain = 50 * time.Millisecond })
	key := g.key(t, store.KeyServer, "staging")
	followers := make([]*follower, 5)
	for i := range followers {
		followers[i] = g.follow(t, key, nil)
		followers[i].reach(1)
	}
	stopped := make(chan struct{})
	go func() { g.stop(); close(stopped) }()
	for _, f := range followers {
		if away := f.receive().GetGoingAway(); away == nil || !away.GetRetryAfter().IsValid() {
			t.Errorf("got %v, want going_away", f.stream.Msg())
		}
		if f.stream.Receive() || connect.CodeOf(f.stream.Err()) != connect.CodeUnavailable {
			t.Errorf("the stream ended with %v, want unavailable", f.stream.Err())
		}
	}
	<-stopped
}

func TestGetDefinitionAndSnapshot(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	created := g.apply(t, "staging", putFlag("staging", "a", "on"))
	other := g.apply(t, "staging", putFlag("staging", "b", "on"))
	changed := g.apply(t, "staging", setState("staging", "a", "DISABLED"))
	client := guidonv1connect.NewSyncServiceClient(http.DefaultClient, g.url, withKey(key))
	for _, tt := range []struct {
		key          string
		at, from, to int64
		rows         int
		state        string
	}{
		{"a", 0, changed, 0, 1, "DISABLED"},
		{"a", changed, changed, 0, 1, "DISABLED"},
		{"a", created, created, changed, 1, "ENABLED"},
		{"a", other, created, changed, 1, "ENABLED"},
		{"a", 1, 1, created, 0, ""},
		{"b", changed, other, 0, 1, "ENABLED"},
		{"nothing", changed, changed, 0, 0, ""},
	} {
		res, err := client.GetDefinition(t.Context(), &guidonv1.SyncServiceGetDefinitionRequest{Key: tt.key, Revision: tt.at})
		if err != nil {
			t.Fatal(err)
		}
		if res.GetFromRevision() != tt.from || res.GetToRevision() != tt.to || len(res.GetRows()) != tt.rows {
			t.Errorf("GetDefinition(%s, %d) = [%d, %d) with %d rows, want [%d, %d) with %d",
				tt.key, tt.at, res.GetFromRevision(), res.GetToRevision(), len(res.GetRows()), tt.from, tt.to, tt.rows)
		}
		s, err := eval.Compile(tt.at, upserts(t, &guidonv1.Rows{Upserts: res.GetRows()}))
		if err != nil {
			t.Fatal(err)
		}
		if f := s.Flag(tt.key); tt.rows > 0 && (f == nil || f.State() != tt.state) {
			t.Errorf("GetDefinition(%s, %d) gives %v, want state %s", tt.key, tt.at, f, tt.state)
		}
	}
	if _, err := client.GetDefinition(t.Context(), &guidonv1.SyncServiceGetDefinitionRequest{Key: "a", Revision: 99}); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("GetDefinition of the future: %v, want unavailable: another replica may have it", err)
	}
	old, err := client.GetSnapshot(t.Context(), &guidonv1.SyncServiceGetSnapshotRequest{Revision: other})
	if err != nil {
		t.Fatal(err)
	}
	s, err := eval.Compile(other, upserts(t, &guidonv1.Rows{Upserts: old.GetRows()}))
	if err != nil {
		t.Fatal(err)
	}
	if s.Digest().String() != old.GetDigest() || old.GetRevision() != other || s.Flag("a").State() != "ENABLED" {
		t.Errorf("GetSnapshot(%d) = revision %d, digest %s, want %s", other, old.GetRevision(), old.GetDigest(), s.Digest())
	}
}
