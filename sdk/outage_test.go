package guidon_test

import (
	"strings"
	"testing"

	"github.com/open-feature/go-sdk/openfeature"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/store/storetest"
)

// The server dies, is missed after five seconds, and comes back with news.
func TestValuesOutliveTheServer(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	client := ready(t, s)
	api := connected(t, client)
	stale := handle(api, openfeature.ProviderStale)
	flags := api.NewClient()
	on := func() bool { return flags.Boolean(t.Context(), "checkout", false, openfeature.EvaluationContext{}) }

	s.kill()
	waitFor(t, stale, "STALE")
	if !on() || flags.State() != openfeature.StaleState {
		t.Errorf("checkout is %v in state %s, want it on and STALE", on(), flags.State())
	}
	if got := client.Status(); got.State != feed.StateStale || got.Connected || got.Age == 0 || got.LastError == "" {
		t.Errorf("Status() = %+v, want stale with age and reason", got)
	}

	newest := s.put(boolean("checkout", false), boolean("search", true))
	ready := handle(api, openfeature.ProviderReady)
	changed := handle(api, openfeature.ProviderConfigChange)
	s.start(t)
	waitFor(t, ready, "READY")
	if got := waitFor(t, changed, "CONFIGURATION_CHANGED"); strings.Join(got.FlagChanges, " ") != "checkout search" || got.EventMetadata["revision"] != newest {
		t.Errorf("CONFIGURATION_CHANGED with %v, %v, want checkout and search at revision %d", got.FlagChanges, got.EventMetadata, newest)
	}
	if on() || flags.State() != openfeature.ReadyState {
		t.Errorf("checkout is %v in state %s, want it off and READY", on(), flags.State())
	}
}

// A server that sends nonsense for a while costs freshness, never a value.
func TestGarbageFromTheServer(t *testing.T) {
	t.Parallel()
	spoil := map[string]func(*guidonv1.Delta){
		"payload": func(d *guidonv1.Delta) { d.Payload = []byte("<html>502 Bad Gateway</html>") },
		"nothing": func(d *guidonv1.Delta) { d.Payload = nil },
		"digest":  func(d *guidonv1.Delta) { d.Digest = strings.Repeat("0", 64) },
	}
	for name, sabotage := range spoil {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, boolean("checkout", true), boolean("search", true))
			client := ready(t, s)
			kept := client.Snapshot()
			s.spoil(func(event *guidonv1.SyncServiceSyncResponse) {
				if delta := event.GetDelta(); delta != nil {
					sabotage(delta)
				}
				if chunk := event.GetSnapshot(); chunk != nil { // a digest mismatch asks for one
					chunk.Digest = strings.Repeat("0", 64)
				}
			})
			newest := s.put(boolean("checkout", false))
			storetest.Eventually(t, "a refusal in the status", func() bool { return client.Status().LastError != "" })
			if client.Snapshot() != kept {
				t.Errorf("revision %d was taken from garbage", client.Snapshot().Revision())
			}
			s.spoil(nil)
			storetest.Eventually(t, "the newest revision", func() bool { return client.Snapshot().Revision() == newest })
			if got := client.Snapshot().Len(); got != 2 {
				t.Errorf("%d flags, want 2", got)
			}
		})
	}
}
