package notary_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/server/notary"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// lines is a log that a test may read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

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

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited a minute in vain until %s", what)
		}
	}
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
	log := &lines{}
	n := run(t, notary.Config{
		Store: db, Log: slog.New(slog.NewJSONHandler(log, nil)), Entries: 1, Wait: time.Hour, Interval: 10 * time.Millisecond,
	})
	newest := func(remembered int64) *notary.Checkpoint { return n.Newest(t.Context(), "staging", remembered) }
	change(t, db, "a")
	change(t, db, "b")
	eventually(t, "two entries are signed", func() bool { c := newest(0); return c != nil && c.Size() == 2 })
	first, err := checkpoint.Open(newest(0).Note, newest(0).Verifier)
	if err != nil {
		t.Fatal(err)
	}
	if !log.has(`"msg":"audit checkpoint","environment":"staging","entries":2,"note":"guidon-`) {
		t.Error("the checkpoint is not in the log")
	}
	for i := range 4 {
		change(t, db, fmt.Sprintf("later-%d", i))
	}
	eventually(t, "six entries are signed", func() bool { return newest(0).Size() == 6 })
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
	log := &lines{}
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
	eventually(t, "the notary says so", func() bool { return log.has("audit log is broken and is not signed any more") })
	eventually(t, "it tries again", func() bool { return n.Stats().Failed > 1 })
	if c := n.Newest(t.Context(), "staging", 0); c != nil {
		t.Errorf("a broken chain was signed at %d entries", c.Size())
	}
}
