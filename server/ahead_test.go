package server_test

import (
	"strings"
	"testing"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// A client that holds a revision which the database does not have is told
// nothing older, and is counted once for whoever watches.
func TestClientAheadOfTheDatabaseIsReported(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) {
		o.server.Heartbeat = 20 * time.Millisecond
		o.server.Log = nil // it logs at Error, which here is what is wanted
	})
	key := g.key(t, store.KeyServer, "staging")
	newest := g.apply(t, "staging", putFlag("staging", "a", "on"))
	stream, err := g.syncs(key).Sync(t.Context(), &guidonv1.SyncServiceSyncRequest{HaveRevision: newest + 100, HaveDigest: "d"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	for beats := 0; beats < 3 && stream.Receive(); {
		switch event := stream.Msg(); {
		case event.GetHeartbeat() != nil:
			beats++
		case event.GetSnapshot() != nil, event.GetDelta() != nil:
			t.Fatalf("a client that is ahead was sent %v", event)
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if metrics := g.do(t, "GET", "/metrics", "").body; !strings.Contains(metrics, "\nguidon_sync_ahead_total 1\n") {
		t.Error("guidon_sync_ahead_total is not 1")
	}
}
