package guidon_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/store/storetest"
)

// What a process holds is told, and nothing that is a secret.
func TestDebugHandler(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", false))
	client := ready(t, s)
	s.put(eval.Row{Kind: eval.KindEmergency, Name: "checkout", Document: []byte(`{"active":true,"log":[{"revision":2,"value":false,"variant":"off"}]}`)})
	storetest.Eventually(t, "the kill", func() bool { return client.Snapshot().Revision() == 2 })
	_ = client.Propagator().Evaluate(t.Context(), "checkout", eval.Boolean, nil)
	w := httptest.NewRecorder()
	client.DebugHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/guidon", nil))
	var got struct {
		Environment, State, Digest, Mode, SigningKey string
		Revision                                     int64
		Emergencies                                  []struct{ Flag, Variant string }
		Events, Headers, Overrides                   map[string]uint64
		FlagEvents                                   map[string]map[string]uint64
		Feed                                         map[string]int64
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	if got.State != "ready" || got.Revision != 2 || got.Digest != client.Snapshot().Digest().String() || got.Mode != "edge" || len(got.Emergencies) != 1 ||
		got.FlagEvents["no_state"]["checkout"] != 1 || got.Feed["Snapshots"] != 1 || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("the handler answers %s", w.Body)
	}
	if strings.Contains(w.Body.String(), serverKey) {
		t.Error("the key is shown")
	}
	w = httptest.NewRecorder()
	client.DebugHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/debug/guidon", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST gives %d", w.Code)
	}
}

// Requests have the same key while the flags are the same for them.
func TestCacheKey(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", false), boolean("search", true))
	client := ready(t, s)
	p := client.Propagator()
	first := client.CacheKey(p.Root(t.Context(), nil), nil, "checkout", "search")
	if again := client.CacheKey(p.Root(t.Context(), map[string]any{"targetingKey": "u"}), nil, "search", "checkout", "search"); again != first || len(first) != 24 {
		t.Errorf("another request has the key %q, want %q", again, first)
	}
	pinned := p.Root(t.Context(), nil)
	before := client.CacheKey(pinned, nil, "checkout")
	s.put(boolean("checkout", true))
	storetest.Eventually(t, "the change", func() bool { return client.Snapshot().Revision() == 2 })
	if now := client.CacheKey(p.Root(t.Context(), nil), nil, "checkout", "search"); now == first {
		t.Error("another variant has the same key")
	}
	if after := client.CacheKey(pinned, nil, "checkout"); after != before {
		t.Error("the key of a request changes under way")
	}
	if client.CacheKey(pinned, nil, "search") == client.CacheKey(pinned, nil, "nothing") {
		t.Error("a flag and none have the same key")
	}
}

// Records of a request name it, others are left alone.
func TestLogHandler(t *testing.T) {
	t.Parallel()
	client := ready(t, startServer(t, boolean("checkout", false)))
	p := client.Propagator()
	var text bytes.Buffer
	log := slog.New(guidon.LogHandler(slog.NewTextHandler(&text, nil))).With(slog.String("service", "shop"))
	ctx := p.Root(t.Context(), nil)
	log.InfoContext(ctx, "open")
	_ = p.Evaluate(ctx, "checkout", eval.Boolean, nil)
	log.InfoContext(ctx, "sealed")
	log.InfoContext(t.Context(), "nobody's")
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	id := "correlation_id=" + propagate.CorrelationID(ctx)
	if len(lines) != 3 || !strings.Contains(lines[0], id) || strings.Contains(lines[0], "guidon_revision") ||
		!strings.Contains(lines[1], id+" guidon_revision=1") || !strings.Contains(lines[1], "service=shop") || strings.Contains(lines[2], "correlation_id") {
		t.Errorf("logged:\n%s", &text)
	}
}
