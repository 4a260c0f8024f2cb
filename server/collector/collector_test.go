package collector_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/server/collector"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestRun: two replicas collect what is old, and go on when the database is away.
func TestRun(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for n := range 3 {
		_, err := db.Apply(t.Context(), store.ChangeSet{Actor: "ada", Reason: "because", Operations: []store.Operation{store.PutFlag{
			Environment: "staging", Key: "a", Definition: fmt.Appendf(nil, `{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}`, n),
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `UPDATE revisions SET created_at = created_at - interval '91 days'`); err != nil {
		t.Fatal(err)
	}

	log := &storetest.Log{}
	var replicas []*collector.Collector
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	for range 2 {
		c := collector.New(collector.Config{Store: db, Log: slog.New(slog.NewTextHandler(log, nil)), Interval: time.Millisecond})
		replicas = append(replicas, c)
		running.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	sum := func(of func(collector.Stats) int64) int64 { return of(replicas[0].Stats()) + of(replicas[1].Stats()) }
	// 1 named no version, 2 and 3 named those that 4 and 3 ended: 4 keeps the last.
	storetest.Eventually(t, "the collection", func() bool {
		return sum(func(s collector.Stats) int64 { return s.Revisions }) == 2 && sum(func(s collector.Stats) int64 { return s.Versions }) == 1
	})
	if rows, revision, err := db.SnapshotRows(t.Context(), "staging", 0); err != nil || revision != 4 || len(rows) != 1 {
		t.Errorf("the newest revision is %d with %d rows (%v), want 4 with 1", revision, len(rows), err)
	}

	db.Close()
	for _, c := range replicas {
		storetest.Eventually(t, "going on without the database", func() bool { return c.Stats().Failed >= 3 })
	}
	cancel()
	running.Wait()
	if n := strings.Count(log.String(), "cannot collect"); n != 2 {
		t.Errorf("%d lines say that the database is away, want one of each replica", n)
	}
}
