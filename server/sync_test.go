package server_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

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
	if _, err := g.db.RevokeKey(t.Context(), store.Revocation{ID: key.ID, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	for f.stream.Receive() {
	}
	if err := f.stream.Err(); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("the stream of a revoked key ended with %v, want unauthenticated", err)
	}
}

// TestNewPropagationKeys: keys that change arrive on streams that are open.
func TestNewPropagationKeys(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	db := storetest.New(t)
	g := startOn(t, db, func(o *options) {
		o.hub.PollInterval = 5 * time.Millisecond
		o.hub.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), nil)
	f.reach(1)
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	if _, err := conn.Exec(t.Context(), `DELETE FROM propagation_keys`); err != nil {
		t.Fatal(err)
	}
	later.Store(int64(2 * time.Minute)) // the store makes a key where there is none, when it is asked again
	keys := f.receive().GetPropagationKeys()
	if old := f.hello.GetPropagationKeys(); keys.GetSigner() == "" || keys.GetSigner() == old.GetSigner() || len(keys.GetKeys()) != 1 {
		t.Errorf("got signer %q and %d keys, want one that is not %q", keys.GetSigner(), len(keys.GetKeys()), old.GetSigner())
	}
	f.reach(g.apply(t, "staging", putFlag("staging", "a", "on")))
}

// TestMaxStreams: one stream too many is refused, with its connection, and there
// is room again when another ends.
func TestMaxStreams(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.MaxStreams = 2 })
	key := g.key(t, store.KeyServer, "staging")
	f := g.follow(t, key, nil)
	f.reach(1)
	g.follow(t, key, nil).reach(1)
	sync := rpc{procedure: guidonv1connect.SyncServiceSyncProcedure, streams: true}
	if code := g.call(t, sync, "{}", "X-API-Key", key); code != "unavailable" {
		t.Errorf("the third of two streams: %s, want unavailable", code)
	}
	if s := dial(t, strings.TrimPrefix(g.url, "http://"), key); !strings.Contains(s.frame(), `"code":"unavailable"`) || !s.last {
		t.Error("the third of two streams has its connection still")
	}
	// Whatever its protocol, and who is refused hears when to come back.
	bulk := parsed(t, g.post(t, ofrepBulk, key, `{}`).body)
	uri := bulk["eventStreams"].([]any)[0].(map[string]any)["endpoint"].(map[string]any)["requestUri"].(string)
	if got := g.do(t, http.MethodGet, uri, ""); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("the third, of OFREP: %d %v %s, want 503 with Retry-After", got.status, got.header, got.body)
	}
	for _, d := range dialects {
		stream, err := g.flagdV2(t, d, key).EventStream(t.Context(), asked(&evaluationv2.EventStreamRequest{}))
		if err == nil && !stream.Receive() {
			err = stream.Err()
		}
		refused, ok := errors.AsType[*connect.Error](err)
		if !ok || refused.Code() != connect.CodeUnavailable || refused.Meta().Get("Retry-After") == "" {
			t.Errorf("the third, of flagd over %s: %v, want unavailable with Retry-After", d.name, err)
		}
	}
	f.close()
	storetest.Eventually(t, "there is room again", func() bool { return g.call(t, sync, "{}", "X-API-Key", key) == "ok" })
}

// TestDrain: a server that stops says so on each stream, and is not ready.
func TestDrain(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.Drain = 50 * time.Millisecond })
	key := g.key(t, store.KeyServer, "staging")
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	second := &http.Client{Transport: &http.Transport{Protocols: h2c}}
	t.Cleanup(second.CloseIdleConnections)
	followers := make([]*follower, 6)
	for i := range followers {
		followers[i] = g.followWith(t, []*http.Client{http.DefaultClient, second}[i%2], key, nil)
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
