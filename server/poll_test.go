package server_test

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/store"
)

// A poll answers what a stream would begin with: at once to who lacks
// something, else with the next revision.
func TestPollBringsWhatAStreamWould(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	first := g.apply(t, "staging", putFlag("staging", "a", "on"), putFlag("staging", "b", "on"))
	have := &guidonv1.SyncServiceSyncRequest{Client: &guidonv1.Client{Service: "cart", Instance: "x"}}
	poll := func(wait time.Duration) []*guidonv1.SyncServiceSyncResponse {
		t.Helper()
		res, err := g.syncs(key).GetDelta(t.Context(), &guidonv1.SyncServiceGetDeltaRequest{Have: have, Wait: durationpb.New(wait)})
		if err != nil {
			t.Fatal(err)
		}
		if hello := res.GetEvents()[0].GetHello(); hello.GetEnvironment() != "staging" || hello.GetPropagationKeys().GetSigner() == "" {
			t.Errorf("the first event is %v, want a hello of staging with keys", res.GetEvents()[0])
		}
		return res.GetEvents()[1:]
	}
	events := poll(time.Hour) // is held to what the server allows
	snapshot := events[0].GetSnapshot()
	if len(events) != 1 || snapshot.GetRevision() != first || !snapshot.GetLast() {
		t.Fatalf("the first poll brings %v, want a snapshot of revision %d", events, first)
	}
	have.HaveRevision, have.HaveDigest = first, snapshot.GetDigest()
	if events := poll(time.Nanosecond); len(events) != 0 {
		t.Errorf("a poll without news brings %v", events)
	}
	_, seen := g.seen(t)
	if seen != "staging 1/1" {
		t.Errorf("the fleet is %q, want the one that polls", seen)
	}
	revisions := make(chan int64, 1)
	go func() { revisions <- g.apply(t, "staging", putFlag("staging", "a", "off")) }()
	events = poll(20 * time.Second)
	if d := events[0].GetDelta(); d.GetFromRevision() != first || d.GetToRevision() != <-revisions {
		t.Errorf("the poll that waited brings %v", events)
	}
}

// TestRefusedStreamsAreToldWhen: who comes too fast gets a time to come back,
// in the error of a stream as of a poll.
func TestRefusedStreamsAreToldWhen(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server = server.Config{Store: o.server.Store, Log: o.server.Log, StreamRate: 1} })
	key := g.key(t, store.KeyServer, "staging")
	var refused *connect.Error
	for range 20 {
		stream, err := g.syncs(key).Sync(t.Context(), &guidonv1.SyncServiceSyncRequest{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stream.Close() }()
		if !stream.Receive() {
			if e, ok := stream.Err().(*connect.Error); ok { //nolint:errorlint // nothing wraps it
				refused = e
			}
			break
		}
	}
	if refused == nil {
		t.Fatal("20 streams at once were let in by a server that takes one a second")
	}
	if after := refused.Meta().Get("Retry-After"); refused.Code() != connect.CodeUnavailable || strings.Trim(after, "0123456789") != "" || after == "" {
		t.Errorf("refused with %v and Retry-After %q, want unavailable and seconds", refused, after)
	}
}
