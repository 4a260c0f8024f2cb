package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// interrupt cuts short each wait for a standby in the test's database, as an
// administrator does who has lost patience, until the test ends.
func interrupt(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { <-ended })
	go func() {
		defer close(ended)
		defer conn.Close(context.WithoutCancel(t.Context()))
		for t.Context().Err() == nil {
			_, _ = conn.Exec(t.Context(), `
				SELECT pg_cancel_backend(pid), pg_sleep(0.01) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event = 'SyncRep'`)
		}
	}()
}

func TestChangeThatNoStandbyHasIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	direct := storetest.New(t)
	refused := func(url, why string) {
		t.Helper()
		_, err := store.Open(t.Context(), store.Config{DatabaseURL: url, RequireSyncReplication: true})
		if want := store.ErrNotReplicated.Error() + ": " + why; !errors.Is(err, store.ErrNotReplicated) || err.Error() != want {
			t.Errorf("Open = %v, want %s", err, want)
		}
	}
	refused(storetest.URL(t)+"&synchronous_commit=on", "synchronous_standby_names is empty")
	db, end := storetest.Replicated(t)
	refused(storetest.URL(t)+"&synchronous_commit=local", "synchronous_commit is local")
	refused(storetest.URL(t), "synchronous_commit is off")
	if err := db.Replicating(); err != nil {
		t.Errorf("Replicating = %v, want nil", err)
	}

	interrupt(t)
	cs := change(put("staging", "a", onOff))
	cs.IdempotencyKey = "once"
	var revision int64
	for deadline := time.Now().Add(time.Minute); ; { // Postgres begins to wait a moment after the setting
		applied, err := db.Apply(t.Context(), cs)
		if errors.Is(err, store.ErrUnknownDurability) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("Apply = %+v, %v, want an unknown durability", applied, err)
		}
	}
	if revision = state(t, direct, "staging").Revision; revision != 2 {
		t.Errorf("staging is at %d, want the change made, once", revision)
	}
	unchanged := change(put("staging", "a", onOff))
	for name, again := range map[string]store.ChangeSet{"retry": cs, "same content": unchanged} {
		if applied, err := db.Apply(t.Context(), again); !errors.Is(err, store.ErrUnknownDurability) {
			t.Errorf("%s: Apply = %+v, %v, want an unknown durability still", name, applied, err)
		}
	}
	tx := hold(t, "staging") // a retry that does not wait for the lock would not wait for the standby
	answer := make(chan error, 1)
	go func() {
		_, err := db.Apply(t.Context(), cs)
		answer <- err
	}()
	storetest.Eventually(t, "it waits for the lock, or does not", func() bool { return waiting(t, tx) == 1 || len(answer) == 1 })
	release(t, tx)
	if err := <-answer; !errors.Is(err, store.ErrUnknownDurability) {
		t.Errorf("retry while somebody holds staging: %v, want an unknown durability still", err)
	}
	unchanged.DryRun = true
	if _, err := db.Apply(t.Context(), unchanged); err != nil {
		t.Errorf("dry run: %v", err)
	}
	if n := db.Stats().Unreplicated; n < 4 {
		t.Errorf("%d unknown durabilities counted, want 4 or more", n)
	}

	end()
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := db.Apply(t.Context(), change(put("staging", "b", onOff)))
		if errors.Is(err, store.ErrNotReplicated) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Apply = %v, want it refused", err)
		}
	}
	if err := db.Replicating(); !errors.Is(err, store.ErrNotReplicated) {
		t.Errorf("Replicating = %v, want why it is not", err)
	}
	applied, err := direct.Apply(t.Context(), cs)
	if err != nil || applied.Unchanged || applied.Revisions["staging"] != revision {
		t.Errorf("the retry, without a requirement = %+v, %v, want revision %d", applied, err, revision)
	}
}
