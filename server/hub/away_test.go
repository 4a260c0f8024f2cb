package hub_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/relay"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// silent is an upstream that has not said anything.
type silent struct{ hub.Source }

func (silent) Listen(ctx context.Context, _ func()) error { <-ctx.Done(); return ctx.Err() }

func (silent) Environments(context.Context) ([]store.Environment, error) { return nil, relay.ErrLost }

// TestRelayBeginsInSilence: that an upstream has not answered yet is no news; that
// it does not for long is, and has nothing to do with a database.
func TestRelayBeginsInSilence(t *testing.T) {
	t.Parallel()
	var log storetest.Log
	var passed atomic.Int64
	h := hub.New(hub.Config{
		Upstream: silent{}, Log: slog.New(slog.NewTextHandler(&log, nil)), PollInterval: time.Millisecond,
		Now: func() time.Time { return time.Unix(1_000_000+passed.Load(), 0) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v, want context.Canceled", err)
		}
	}()
	storetest.Eventually(t, "the hub has looked a few times", func() bool { return h.Stats().LooksFailed > 3 })
	if log.String() != "" {
		t.Errorf("before the first answer the log says %q, want nothing", log.String())
	}
	if !h.Away() {
		t.Error("the upstream is not away, though it does not answer")
	}
	if said := h.Ready().Error(); !strings.Contains(said, "the upstream is lost") || strings.Contains(said, "database") {
		t.Errorf("Ready says %q, want that the upstream is lost, and nothing of a database", said)
	}
	passed.Store(60)
	storetest.Eventually(t, "the log says that nothing can be read", func() bool { return log.String() != "" })
	if said := log.String(); !strings.Contains(said, "the upstream is lost") || strings.Contains(said, "database") {
		t.Errorf("after a minute the log says %q, want that the upstream is lost, and nothing of a database", said)
	}
}
