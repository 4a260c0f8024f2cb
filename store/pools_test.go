package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestBusyConnections: while all connections of one kind are in use, callers
// learn it soon, and the other kinds go on.
func TestBusyConnections(t *testing.T) {
	t.Parallel()
	storetest.New(t)
	db, err := store.Open(t.Context(), store.Config{
		DatabaseURL: storetest.URL(t), MaxReads: 1, MaxWrites: 1, MaxJobs: 1,
		AcquireTimeout: 50 * time.Millisecond, LockTimeout: time.Minute, StatementTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE fleet, audit_entries; SELECT FROM environments WHERE name = 'staging' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}

	slow := make(chan error, 3)
	go func() {
		_, err := db.Apply(t.Context(), change(put("staging", "a", onOff)))
		slow <- err
	}()
	go func() {
		_, err := db.TouchFleet(store.Background(t.Context()), "r", 1)
		slow <- err
	}()
	storetest.Eventually(t, "the writer and the job wait", func() bool { return waiting(t, tx) == 2 })
	busy := func(doing string, err error) {
		t.Helper()
		if !errors.Is(err, store.ErrBusy) || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrBusy", doing, err)
		}
	}
	_, err = db.Apply(t.Context(), change(put("production", "a", onOff)))
	busy("a write", err)
	_, err = db.Revisions(store.Background(t.Context()))
	busy("a job", err)
	if _, err := db.Revisions(t.Context()); err != nil {
		t.Errorf("a read while writes and jobs are busy: %v", err)
	}
	go func() {
		_, err := db.Fleet(t.Context(), "r")
		slow <- err
	}()
	storetest.Eventually(t, "the reader waits", func() bool { return db.Stats().Reads == 1 })
	_, err = db.Revisions(t.Context())
	busy("a read", err)
	if n := db.Stats().Busy; n != 3 {
		t.Errorf("%d counted, want 3", n)
	}

	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-slow; err != nil {
			t.Errorf("what waited for its lock: %v", err)
		}
	}
}

// waiting is how many sessions of the test's database wait for a lock.
func waiting(t *testing.T, tx pgx.Tx) (n int) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), `SELECT pg_stat_clear_snapshot()`); err != nil { // else it is that of the first look
		t.Fatal(err)
	}
	const sql = `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`
	if err := tx.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
