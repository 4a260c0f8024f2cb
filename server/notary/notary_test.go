package notary_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/server/notary"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func run(t *testing.T, cfg notary.Config) *notary.Notary {
	t.Helper()
	n := notary.New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return n
}

func change(t *testing.T, db *store.DB, key string) {
	t.Helper()
	_, err := db.Apply(t.Context(), store.ChangeSet{Actor: "test", Operations: []store.Operation{store.PutFlag{
		Environment: "staging", Key: key, Definition: []byte(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`),
	}}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNotarySignsWhatWaits(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	log := &storetest.Log{}
	n := run(t, notary.Config{
		Store: db, Log: slog.New(slog.NewJSONHandler(log, nil)), Entries: 1, Wait: time.Hour, Interval: 10 * time.Millisecond,
	})
	newest := func(remembered int64) *notary.Checkpoint { return n.Newest(t.Context(), "staging", remembered) }
	change(t, db, "a")
	change(t, db, "b")
	storetest.Eventually(t, "two entries are signed", func() bool { c := newest(0); return c != nil && c.Size() == 2 })
	first, err := checkpoint.Open(newest(0).Note, newest(0).Verifier)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `"msg":"audit checkpoint","environment":"staging","entries":2,"note":"guidon-`) {
		t.Error("the checkpoint is not in the log")
	}
	for i := range 4 {
		change(t, db, fmt.Sprintf("later-%d", i))
	}
	storetest.Eventually(t, "six entries are signed", func() bool { return newest(0).Size() == 6 })
	c := newest(0)
	second, err := checkpoint.Open(c.Note, c.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // made, and remembered
		proof, ok := n.Prove(t.Context(), "staging", c, first.Size)
		if err := second.Extends(first, proof); !ok || err != nil {
			t.Errorf("Prove = %v: %v", ok, err)
		}
	}
	if n.Newest(t.Context(), "production", 0) != nil {
		t.Error("a chain without entries has a checkpoint")
	}
	// Another replica has seen nothing; whoever remembers more makes it look.
	other := notary.New(notary.Config{Store: db})
	if other.Newest(t.Context(), "staging", 0) != nil {
		t.Error("a replica that never looked has a checkpoint")
	}
	if c := other.Newest(t.Context(), "staging", 6); c == nil || c.Size() != 6 {
		t.Errorf("a replica that is asked for 6 entries has %+v", c)
	}
	if made := n.Stats().Made; made < 2 {
		t.Errorf("%d made, want 2 or more", made)
	}
}

func TestNotarySignsNoBrokenChain(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	log := &storetest.Log{}
	change(t, db, "a")
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `ALTER TABLE audit_entries DISABLE TRIGGER USER; UPDATE audit_entries SET payload = '{}' WHERE environment = 'staging'`); err != nil {
		t.Fatal(err)
	}
	n := run(t, notary.Config{Store: db, Log: slog.New(slog.NewJSONHandler(log, nil)), Entries: 1, Interval: 10 * time.Millisecond})
	storetest.Eventually(t, "the notary says so", func() bool { return strings.Contains(log.String(), "audit log is broken and is not signed any more") })
	storetest.Eventually(t, "it tries again", func() bool { return n.Stats().Failed > 1 })
	if c := n.Newest(t.Context(), "staging", 0); c != nil {
		t.Errorf("a broken chain was signed at %d entries", c.Size())
	}
}
