package main

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/store/storetest"
)

// The short form of make mesh.
func TestMesh(t *testing.T) {
	t.Parallel()
	config := Config{
		Seed: 1, Evaluations: 40_000, Control: 10_000, Rate: 100, Lag: 2 * time.Second,
		Instances: 2, Concurrency: 8, Chaos: 500 * time.Millisecond, KillEvery: 400 * time.Millisecond,
	}
	report, err := config.run(t.Context(), startTestGuidon(t, nil))
	var text bytes.Buffer
	if err := report.Write(&text); err != nil {
		t.Error(err)
	}
	t.Logf("\n%s", &text)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.verdict(); err != nil {
		t.Error(err)
	}
	for _, r := range report.Results {
		for _, k := range kinds {
			if r.Counts[string(k)] == 0 {
				t.Errorf("mode %s: no call over %s", r.Mode, k)
			}
		}
		for _, what := range []string{"retries", "hedges", "redeliveries"} {
			if r.Counts[what] == 0 {
				t.Errorf("mode %s: no %s", r.Mode, what)
			}
		}
	}
}

func startTestGuidon(t *testing.T, adjust func(*server.Config)) *guidonServer {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	g, err := startGuidon(context.WithoutCancel(t.Context()), storetest.New(t), log, adjust)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Errorf("Guidon ended with %v", err)
		}
	})
	return g
}
