package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestDrainDelay: a server that stops says that it is not ready, and answers all
// calls that come before everybody has seen it, but takes no more streams.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.DrainDelay = 8 * time.Second })
	key := g.key(t, store.KeyServer, "staging")
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	f := g.follow(t, key, nil)
	f.reach(2)
	stopped := make(chan struct{})
	go func() { g.stop(); close(stopped) }()
	storetest.Eventually(t, "it says that it is not ready", func() bool {
		return g.do(t, http.MethodGet, "/readyz", "").status == http.StatusServiceUnavailable
	})
	if f.receive().GetGoingAway() == nil || f.stream.Receive() {
		t.Errorf("the stream ended with %v, want going_away", f.stream.Err())
	}
	if a := g.post(t, "/ofrep/v1/evaluate/flags/a", key, "{}"); a.status != http.StatusOK {
		t.Errorf("OFREP: %d %s, want an answer", a.status, a.body)
	}
	if _, err := g.evaluations(key).Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{Key: "a"}); err != nil {
		t.Errorf("Evaluate: %v", err)
	}
	more, err := guidonv1connect.NewSyncServiceClient(http.DefaultClient, g.url, withKey(key)).Sync(t.Context(), &guidonv1.SyncServiceSyncRequest{})
	if err == nil && !more.Receive() {
		err = more.Err()
	}
	if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("a stream that comes late: %v, want unavailable: this server is stopping", err)
	}
	if a := g.do(t, http.MethodGet, "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("/healthz: %d, want 200", a.status)
	}
	<-stopped
}
